//! The agent: inputs, pipeline and host put together. The only place beside `cli` that names adapters.

mod causes;
mod checks;
mod config;
mod health;
mod host;
mod inputs;
mod last_run;
mod only_router;
mod router;
mod sessions;
mod sources;
mod told;

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
use crate::health::daemons::{Turn, Unit};
use crate::health::probes::Progress;
use crate::input::Origin;
use crate::link::LinkProblem;
use crate::link::netlink::Netlink;
use crate::metrics::{AgentMetrics, measured};
use crate::reconcile::{Limits, Outcome, Pipeline, Ports, Reporter, RunError, Shown};
use crate::state::{StateError, Store};
use crate::status;
use crate::trigger::debounce::RunResult;
use crate::trigger::drift::Effect;
use crate::trigger::timing::{Due, Timing};
use crate::trigger::{Trigger, with_causes};
use causes::Causes;
pub use config::AgentConfig;
use health::Ended;
use host::{HostConfig, HostPipeline};
use inputs::{NodeInputs, Read};
use last_run::LastRun;
pub use only_router::run_only_router;
use router::{RouterStage, Settled};
use told::Told;

/// The unit that runs FRR.
const UNIT: &str = "frr.service";
/// After SIGTERM a run may go on for so long; then it is left where it is, and the next start goes on from there.
const GRACE: Duration = Duration::from_secs(25);

/// Runs until it is cancelled. Nothing on the node changes when it ends.
///
/// # Errors
/// What keeps it from beginning: no netlink socket, section templates that do not compile, no way to the API server,
/// no folder for its state, another agent that has it.
pub async fn run(config: AgentConfig, cancel: CancellationToken) -> anyhow::Result<()> {
    let files = FrrFiles::new(&config.frr_config);
    let renderer = Renderer::new(config.templates.as_deref()).context("section templates")?;
    let store = Arc::new(Store::open(&config.state_dir)?);
    let metrics = AgentMetrics::default();
    let sources = sources::start(&config, files.template(), UNIT, &metrics, &cancel).await?;
    let sources::Sources { triggers, objects, site, files: mut watcher, files_cancel, client } = sources;
    let (namespace, node) = (&config.namespace, &config.node_name);
    let links = Netlink::connect()?;
    let turn = Turn::default();
    let unit = Some(Unit::new(UNIT, turn.clone()));
    let progress = health::start(&config, client.clone(), links.clone(), unit, metrics.clone(), &cancel)?;
    let reports = client.map(|client| status::start(&client, namespace, node, &cancel).reports);
    if let Some(reports) = reports.clone() {
        tokio::spawn(sessions::follow(reports, cancel.clone()));
    }
    let told = Told::new(reports);
    // It goes with what an agent that was killed has left.
    let offered = files.read_staged();
    let inputs = NodeInputs::new(config.node_name, config.operator_file, &files, objects, site, store.clone());
    let router = RouterStage::new(links.clone(), metrics.clone())?;
    let ports = Ports {
        links,
        config: HostConfig { files, store },
        service: FrrService::new(UNIT, config.reload_limit),
        daemons: Vty::default(),
    };
    let ports = measured(ports, &metrics);
    tracing::info!(node = %inputs.node_name(), version = env!("CARGO_PKG_VERSION"), "network-operator runs");
    let agent = Agent {
        pipeline: Pipeline::new(ports, renderer, Limits::default(), inputs.tolerated().clone(), offered)
            .timed_by(metrics.steps()),
        router,
        inputs,
        reporter: Reporter::default(),
        told,
        last: None,
        behind: false,
        unsaved: false,
        owed: None,
        last_error: None,
        progress,
        metrics,
        turn,
    };
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
    inputs: NodeInputs,
    pipeline: HostPipeline,
    router: RouterStage,
    reporter: Reporter,
    told: Told,
    last: Option<LastRun>,
    /// Newer inputs than those of the last run are there, and cannot be applied.
    behind: bool,
    /// What was accepted could not be kept for the next start.
    unsaved: bool,
    /// Why, for as long as either lasts: a look at the node that goes well does not end it.
    owed: Option<String>,
    last_error: Option<String>,
    /// What the runs come to, for the checks of health and for probes.
    progress: watch::Sender<Progress>,
    metrics: AgentMetrics,
    /// With mgmtd.
    turn: Turn,
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
                    if causes.has(Trigger::InputLimit) {
                        self.inputs.limit_ended();
                    }
                    if let Some(wait) = causes.waited(due) {
                        self.metrics.waited(wait);
                    }
                    // What is listened for goes by the operator file as it is read, in force or not.
                    if self.behind || [Trigger::Links, Trigger::Filters].into_iter().any(|trigger| causes.has(trigger)) {
                        self.router.moved();
                    }
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
        health::begins(&self.progress, begin);
        let turn = self.turn.clone();
        let _turn = turn.lock().await;
        let ended = match due {
            Due::Change => self.change(causes).await,
            Due::Drift => self.repair(causes).await,
        };
        let failure = ended.as_ref().err().map(|error| format!("{error:#}"));
        if due == Due::Change {
            self.owed = failure.clone().filter(|_| self.behind || self.unsaved);
        }
        let failure = failure.or_else(|| self.owed.clone());
        let result = match &ended {
            Ok((RunResult::Waiting, _)) => "waiting",
            Ok((_, Effect::Repaired)) => "repaired",
            Ok(_) if self.told.has_done() => "applied",
            Ok(_) => "unchanged",
            Err(_) => "failed",
        };
        self.metrics.run(result, due, begin.elapsed());
        self.metrics.behind(self.behind);
        self.told.ended(begin, failure.as_deref()).await;
        let waits = matches!(ended, Ok((RunResult::Waiting, _)));
        health::ended(&self.progress, (!waits).then(|| self.ended(failure.clone())));
        match ended {
            Ok(ended) => {
                if !self.behind && self.last_error.take().is_some() {
                    tracing::info!("the run succeeds again");
                }
                tracing::debug!(%causes, ?due, seconds = begin.elapsed().as_secs_f32(), "run ended");
                ended
            }
            Err(_) => {
                let words = failure.unwrap_or_default();
                if self.last_error.as_ref() != Some(&words) {
                    tracing::error!(%causes, error = %words, "run failed; it is tried again");
                    self.last_error = Some(words);
                } else {
                    tracing::debug!(%causes, "run failed as before");
                }
                (RunResult::Failed, Effect::None)
            }
        }
    }

    fn ended(&self, fault: Option<String>) -> Ended {
        let vrfs = self.last.as_ref().and_then(|run| run.vrfs.as_ref()).into_iter().flatten();
        let problem = self.last.as_ref().and_then(|run| run.problems.first());
        Ended {
            fault,
            left_out: problem.map(|LinkProblem { vrf, message, .. }| format!("VRF {vrf} is left out: {message}")),
            vrfs: vrfs.map(|(link, _)| link.clone()).collect(),
        }
    }

    /// Goes by the inputs as they are.
    async fn change(&mut self, causes: &str) -> anyhow::Result<(RunResult, Effect)> {
        let settled = !self.behind && !self.unsaved;
        self.behind = true;
        // No answer is not "no objects": the node keeps what it has.
        let Some(read) = self.inputs.read()? else {
            self.behind = false;
            return Ok((RunResult::Waiting, Effect::None));
        };
        let settled = settled && read.origin == Origin::Answered;
        if let Some(last) = self.last.as_mut().filter(|last| settled && last.is_of(&read.inputs)) {
            // Nothing of the old ones is kept in memory beside them.
            last.inputs.clone_from(&read.inputs);
            self.behind = false;
            let ended = self.repair(causes).await?;
            let accepted = self.accept(&read);
            self.unsaved = accepted.is_err();
            return Ok(accepted.map(|()| ended)?);
        }
        let (run, ended) = self.carry_out(LastRun::new(read.inputs.clone()), causes, Due::Change).await;
        self.told.attempted(&run);
        // Where the node stayed as it was, it is kept so, by what it went by before.
        self.behind = ended.is_err() && !self.pipeline.verified();
        let mut accepted = Ok(());
        if !self.behind {
            self.last = Some(run);
            accepted = self.accept(&read);
        } else if self.last.is_none() {
            self.begin_with_accepted(causes).await;
        } else if let Err(error) = self.repair(causes).await {
            // What had to go for the new configuration to be tried must not wait for somebody to notice.
            tracing::error!(error = %format!("{error:#}"), "nor can the node be put back");
        }
        self.unsaved = accepted.is_err();
        ended?;
        accepted?;
        // Nobody tells when what was in the way of a VRF has gone, or a folder is mounted.
        let whole = self.last.as_ref().is_none_or(LastRun::is_whole);
        let result = match read.origin {
            Origin::KeptUnwatched => RunResult::Failed,
            _ if whole => RunResult::Good,
            _ => RunResult::Incomplete,
        };
        Ok((result, Effect::None))
    }

    /// A start that gets no others goes by these inputs.
    fn accept(&mut self, read: &Read) -> Result<(), StateError> {
        let accepted = self.inputs.accept(read, self.pipeline.tolerated());
        self.metrics.accepted(self.inputs.accepted_since());
        accepted
    }

    /// After a start with inputs that cannot be applied, the node is brought to where an agent before had brought it: after a
    /// reboot its links are gone.
    async fn begin_with_accepted(&mut self, causes: &str) {
        let Some(inputs) = self.inputs.accepted() else { return };
        let (run, ended) = self.carry_out(LastRun::new(inputs), causes, Due::Change).await;
        match ended {
            Ok(_) => {
                tracing::warn!(
                    "the inputs cannot be applied: until they can, those that were accepted last are in force"
                );
                self.last = Some(run);
                self.metrics.accepted(self.inputs.accepted_since());
            }
            Err(error) => tracing::error!(error = %with_causes(&error), "nor can those that were accepted last"),
        }
    }

    /// Puts the node back to where the last run brought it.
    async fn repair(&mut self, causes: &str) -> anyhow::Result<(RunResult, Effect)> {
        // No run has known what the node is to be: it is not as it should be, either.
        let Some(last) = self.last.take() else { return Ok((RunResult::Waiting, Effect::None)) };
        let (last, ended) = self.carry_out(last, causes, Due::Drift).await;
        if !self.behind {
            self.told.attempted(&last);
        }
        let whole = last.is_whole();
        self.last = Some(last);
        let effect = if ended?.unchanged() { Effect::None } else { Effect::Repaired };
        Ok((if whole { RunResult::Good } else { RunResult::Incomplete }, effect))
    }

    async fn carry_out(&mut self, mut run: LastRun, causes: &str, due: Due) -> (LastRun, Result<Outcome, RunError>) {
        let before = run.vrfs.clone();
        let shown = if due == Due::Drift { self.pipeline.glance().await } else { None };
        let stands = shown.as_ref().is_some_and(|shown| self.pipeline.stands(shown));
        let (ended, links) = match shown {
            Some(shown) if stands => (Ok(run.as_it_was()), Some(shown.into_links())),
            shown => (self.through_pipeline(&mut run, due, shown).await, None),
        };
        // Whatever became of FRR and the links: packets are routed on.
        let Settled { done, problems } = self.router.settle(&run.inputs.config, links).await;
        self.told.router(&problems);
        run.router = problems;
        let outcome = match ended {
            Ok(outcome) => outcome.with_router(done),
            Err(error) => {
                if !done.is_empty() {
                    tracing::info!(what = %done.join("; "), "the eBPF router was put right");
                }
                return (run, Err(error));
            }
        };
        self.told.done(&outcome);
        // What is done for the first time is no repair, whoever asked for it.
        if due == Due::Drift && !outcome.unchanged() && before == run.vrfs {
            outcome.report_repair(causes);
            self.told.repaired();
            self.metrics.repaired(&outcome);
        } else {
            outcome.report(run.rejections.len());
        }
        (run, Ok(outcome))
    }

    /// FRR and links.
    async fn through_pipeline(
        &mut self,
        run: &mut LastRun,
        due: Due,
        shown: Option<Shown>,
    ) -> Result<Outcome, RunError> {
        self.told.lost();
        let prepared = self.pipeline.prepare(&run.inputs).await?;
        self.reporter.left_out(&prepared.rejections, &prepared.links.problems);
        if due == Due::Change {
            self.metrics.rejected(&prepared.rejections);
        }
        run.judged = true;
        run.rejections.clone_from(&prepared.rejections);
        run.problems.clone_from(&prepared.links.problems);
        let outcome = match self.pipeline.carry_out(&prepared).await {
            Ok(outcome) => outcome,
            Err(error) => {
                self.metrics.failed(&error);
                if let Some(down) = error.down().filter(|_| self.pipeline.verified()) {
                    self.told.verified(run, &prepared, &down);
                }
                return Err(error);
            }
        };
        self.told.verified(run, &prepared, &[]);
        run.vrfs = Some(prepared.vnis);
        if let Some(shown) = shown.filter(|_| outcome.unchanged()) {
            self.pipeline.found(shown).await;
        }
        Ok(outcome)
    }
}
