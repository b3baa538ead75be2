//! The agent: inputs, pipeline and host put together. The only place beside `cli` that names adapters.

mod host;
mod sources;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::frr::files::FrrFiles;
use crate::frr::render::Renderer;
use crate::frr::service::FrrService;
use crate::frr::vty::Vty;
use crate::input::{ObjectSource, OperatorFile};
use crate::link::LinkProblem;
use crate::link::netlink::Netlink;
use crate::model::IfName;
use crate::reconcile::{Inputs, Limits, Pipeline, Ports, Reporter};
use crate::state::Store;
use crate::trigger::Trigger;
use crate::trigger::debounce::RunResult;
use crate::trigger::drift::Effect;
use crate::trigger::timing::{Due, Timing};
use host::{HostConfig, HostPipeline};

/// The unit that runs FRR.
const UNIT: &str = "frr.service";
/// After SIGTERM a run may go on for so long; then it is left where it is, and the next start goes on from there.
const GRACE: Duration = Duration::from_secs(25);

/// What `run` is told.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The operator file.
    pub operator_file: PathBuf,
    /// frr.conf.
    pub frr_config: PathBuf,
    /// Name of the node.
    pub node_name: String,
    /// Objects from files instead of the API server.
    pub manifests: Option<PathBuf>,
    /// Section templates that override the built-in ones.
    pub templates: Option<PathBuf>,
    /// Window of the debounce.
    pub debounce: Duration,
    /// How long a reload of FRR may take.
    pub reload_limit: Duration,
    /// How often to look for what no event tells; zero for never.
    pub check_interval: Duration,
    /// How often in a minute the node may be put back.
    pub repairs_per_minute: u32,
}

/// Runs until it is cancelled. Nothing on the node changes when it ends.
///
/// # Errors
/// What keeps it from beginning: no netlink socket, section templates that do not compile, no way to the API server.
pub async fn run(config: AgentConfig, cancel: CancellationToken) -> anyhow::Result<()> {
    let files = FrrFiles::new(&config.frr_config);
    let renderer = Renderer::new(config.templates.as_deref()).context("section templates")?;
    let sources = sources::start(&config, files.template(), UNIT, &cancel).await?;
    let sources::Sources { triggers, objects, underlay, files: mut watcher, files_cancel } = sources;
    let store = Arc::new(Store::open(std::path::Path::new("/var/lib/network-operator"))?);
    let state = store.load()?;
    let ports = Ports {
        links: Netlink::connect()?,
        config: HostConfig { files: files.clone(), store: store.clone() },
        service: FrrService::new(UNIT, config.reload_limit),
        daemons: Vty::default(),
    };
    let agent = Agent {
        node_name: config.node_name,
        files,
        operator_file: OperatorFile::new(config.operator_file),
        objects,
        underlay,
        pipeline: Pipeline::new(ports, renderer, Limits::default(), state.facts.tolerated.clone()),
        reporter: Reporter::default(),
        last: None,
        inputs_read: false,
        last_error: None,
    };
    tracing::info!(node = %agent.node_name, version = env!("CARGO_PKG_VERSION"), "network-operator runs");
    let serve = agent.serve(Timing::new(config.debounce, config.repairs_per_minute), triggers, cancel.clone());
    tokio::select! {
        () = serve => {
            files_cancel.cancel();
            watcher.await.context("watch files")??;
        }
        // One that is deaf to its files must not look alive.
        ended = &mut watcher => ended.context("watch files")??,
    }
    tracing::info!("network-operator ends; the node stays as it is");
    Ok(())
}

/// What lives as long as the agent.
struct Agent {
    node_name: String,
    files: FrrFiles,
    operator_file: OperatorFile,
    objects: ObjectSource,
    underlay: watch::Sender<Option<IfName>>,
    pipeline: HostPipeline,
    reporter: Reporter,
    last: Option<LastRun>,
    /// The inputs could be read when that was last tried.
    inputs_read: bool,
    last_error: Option<String>,
}

/// What the last run for a change went by.
struct LastRun {
    inputs: Inputs,
    /// What was in its way; `None` where the node has never been as these inputs say.
    problems: Option<Vec<LinkProblem>>,
}

/// Triggers that no run has answered yet.
#[derive(Default)]
struct Causes(BTreeSet<Trigger>);

impl Causes {
    fn add(&mut self, trigger: Trigger, timing: &mut Timing) {
        let now = Instant::now();
        timing.ask(trigger, now);
        if trigger != Trigger::ServiceMoves && self.0.insert(trigger) {
            tracing::debug!(%trigger, "asked for a run");
        }
        if let Some(until) = timing.held_back(now) {
            let seconds = until.duration_since(now).as_secs();
            tracing::warn!(
                seconds,
                "the node was put back as often as `--repairs-per-minute` allows, and moves again: who does that? It is left alone for a while"
            );
        }
    }

    /// What a run answers, in words.
    fn take(&mut self, due: Due) -> String {
        let (now, later) =
            std::mem::take(&mut self.0).into_iter().partition(|cause| due == Due::Change || !cause.is_change());
        self.0 = later;
        let now: BTreeSet<Trigger> = now;
        now.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl Agent {
    async fn serve(
        mut self,
        mut timing: Timing,
        mut incoming: mpsc::UnboundedReceiver<Trigger>,
        cancel: CancellationToken,
    ) {
        let mut causes = Causes::default();
        loop {
            let deadline = timing.deadline();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                Some(trigger) = incoming.recv() => causes.add(trigger, &mut timing),
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let Some(due) = timing.due(Instant::now()) else { continue };
                    timing.run_started(due);
                    let asked = causes.take(due);
                    let run = self.run_once(due, &asked);
                    let mut run = std::pin::pin!(run);
                    let mut end = None;
                    let ended = loop {
                        tokio::select! {
                            ended = &mut run => break Some(ended),
                            Some(trigger) = incoming.recv() => causes.add(trigger, &mut timing),
                            () = cancel.cancelled(), if end.is_none() => end = Some(Instant::now() + GRACE),
                            () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break None,
                        }
                    };
                    let Some((result, effect)) = ended else {
                        tracing::warn!("a run did not end in time; the next start goes on from here");
                        return;
                    };
                    timing.run_finished(Instant::now(), result, effect);
                }
            }
        }
    }

    async fn run_once(&mut self, due: Due, causes: &str) -> (RunResult, Effect) {
        let begin = Instant::now();
        match self.try_run(due, causes).await {
            Ok(ended) => {
                if self.inputs_read && self.last_error.take().is_some() {
                    tracing::info!("the run succeeds again");
                }
                tracing::debug!(%causes, ?due, seconds = begin.elapsed().as_secs_f32(), "run ended");
                ended
            }
            Err(error) => {
                let words = format!("{error:#}");
                if self.last_error.as_ref() != Some(&words) {
                    tracing::error!(%causes, error = %words, "run failed; it is tried again");
                    self.last_error = Some(words);
                }
                (RunResult::Failed, Effect::None)
            }
        }
    }

    async fn try_run(&mut self, due: Due, causes: &str) -> anyhow::Result<(RunResult, Effect)> {
        if due == Due::Change {
            self.inputs_read = false;
            let inputs = self.read_inputs()?;
            self.inputs_read = true;
            // No answer is not "no objects": the node keeps what it has.
            let Some(inputs) = inputs else { return Ok((RunResult::Good, Effect::None)) };
            self.last = Some(LastRun { inputs, problems: None });
        }
        let Some(last) = &mut self.last else { return Ok((RunResult::Good, Effect::None)) };
        let prepared = self.pipeline.prepare(&last.inputs).await?;
        self.reporter.left_out(&prepared.rejections, &prepared.links.problems);
        let outcome = self.pipeline.carry_out(&prepared).await?;
        // What is done for the first time is no repair, whoever asked for it.
        let known = last.problems.replace(prepared.links.problems.clone());
        let repaired = due == Due::Drift && !outcome.unchanged();
        let effect = if repaired { Effect::Repaired } else { Effect::None };
        if repaired && known.as_ref() == Some(&prepared.links.problems) {
            outcome.report_repair(causes);
        } else {
            outcome.report(prepared.rejections.len());
        }
        // Nobody tells when what was in the way of a VRF has gone.
        let result = if prepared.links.problems.is_empty() { RunResult::Good } else { RunResult::Incomplete };
        Ok((result, effect))
    }

    fn read_inputs(&mut self) -> anyhow::Result<Option<Inputs>> {
        let config = self.operator_file.current()?;
        self.underlay.send_if_modified(|known| {
            let new = Some(config.underlay_interface.clone());
            let modified = *known != new;
            *known = new;
            modified
        });
        let Some(objects) = self.objects.current()? else { return Ok(None) };
        if self.files.ensure_template()? {
            tracing::info!(template = %self.files.template().display(), "made the template of frr.conf");
        }
        let template = self.files.read_template()?;
        Ok(Some(Inputs { objects, config, template, hostname: self.node_name.clone() }))
    }
}
