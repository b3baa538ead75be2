//! The agent: inputs, pipeline and host put together. The only place beside `cli` that names adapters.

mod host;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::frr::files::FrrFiles;
use crate::frr::render::Renderer;
use crate::frr::service::FrrService;
use crate::frr::vty::Vty;
use crate::input::{ObjectSource, OperatorFile};
use crate::link::netlink::Netlink;
use crate::reconcile::{Inputs, Limits, Pipeline, Ports, Reporter};
use crate::trigger::debounce::{Debounce, RunResult};
use crate::trigger::files::{Watched, watch};
use crate::trigger::kube::KubeObjects;
use crate::trigger::{Trigger, kube};
use host::HostPipeline;

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
}

/// Runs until it is cancelled. Nothing on the node changes when it ends.
///
/// # Errors
/// What keeps it from beginning: no netlink socket, section templates that do not compile, no way to the API server.
pub async fn run(config: AgentConfig, cancel: CancellationToken) -> anyhow::Result<()> {
    let AgentConfig { operator_file, frr_config, node_name, manifests, templates, debounce, reload_limit } = config;
    let files = FrrFiles::new(&frr_config);
    let renderer = Renderer::new(templates.as_deref()).context("section templates")?;
    let (triggers, incoming) = mpsc::unbounded_channel();
    let mut watched = vec![
        (Watched::File(operator_file.clone()), Trigger::OperatorFile),
        (Watched::File(files.template().to_owned()), Trigger::Template),
    ];
    let objects = match manifests {
        Some(folder) => {
            let place = if folder.is_file() { Watched::File(folder.clone()) } else { Watched::Folder(folder.clone()) };
            watched.push((place, Trigger::Objects));
            ObjectSource::manifests(folder)
        }
        None => {
            let client = ::kube::Client::try_default().await;
            let client =
                client.context("find the API server: run in a pod, set KUBECONFIG, or give --manifests DIR")?;
            let objects = KubeObjects::default();
            tokio::spawn(kube::watch(client, objects.clone(), triggers.clone(), cancel.clone()));
            ObjectSource::Kube(objects)
        }
    };
    let from_files = matches!(objects, ObjectSource::Manifests { .. });
    // It ends after the last run, not with the signal: its end is the end of the agent.
    let watch_cancel = CancellationToken::new();
    let mut watcher = tokio::spawn(watch(watched, triggers.clone(), watch_cancel.clone()));
    if from_files {
        triggers.send(Trigger::Objects).context("begin")?;
    }
    let ports = Ports {
        links: Netlink::connect()?,
        config: files.clone(),
        service: FrrService::new("frr.service", reload_limit),
        daemons: Vty::default(),
    };
    let agent = Agent {
        node_name,
        files,
        operator_file: OperatorFile::new(operator_file),
        objects,
        pipeline: Pipeline::new(ports, renderer, Limits::default()),
        reporter: Reporter::default(),
        last_error: None,
    };
    tracing::info!(node = %agent.node_name, version = env!("CARGO_PKG_VERSION"), "network-operator runs");
    let serve = agent.serve(Debounce::new(debounce), incoming, cancel.clone());
    tokio::select! {
        () = serve => {
            watch_cancel.cancel();
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
    pipeline: HostPipeline,
    reporter: Reporter,
    last_error: Option<String>,
}

impl Agent {
    async fn serve(
        mut self,
        mut debounce: Debounce,
        mut incoming: mpsc::UnboundedReceiver<Trigger>,
        cancel: CancellationToken,
    ) {
        let mut causes = BTreeSet::new();
        loop {
            let deadline = debounce.deadline();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                Some(trigger) = incoming.recv() => {
                    tracing::debug!(%trigger, "asked for a run");
                    causes.insert(trigger);
                    debounce.request(Instant::now());
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    debounce.run_started();
                    let asked = std::mem::take(&mut causes);
                    let run = self.run_once(&asked);
                    let mut run = std::pin::pin!(run);
                    let mut end = None;
                    let result = loop {
                        tokio::select! {
                            result = &mut run => break Some(result),
                            Some(trigger) = incoming.recv() => {
                                causes.insert(trigger);
                                debounce.request(Instant::now());
                            }
                            () = cancel.cancelled(), if end.is_none() => end = Some(Instant::now() + GRACE),
                            () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break None,
                        }
                    };
                    let Some(result) = result else {
                        tracing::warn!("a run did not end in time; the next start goes on from here");
                        return;
                    };
                    debounce.run_finished(Instant::now(), result);
                }
            }
        }
    }

    async fn run_once(&mut self, causes: &BTreeSet<Trigger>) -> RunResult {
        let begin = Instant::now();
        let causes = causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self.try_run().await {
            Ok(result) => {
                if self.last_error.take().is_some() {
                    tracing::info!("the run succeeds again");
                }
                tracing::debug!(%causes, seconds = begin.elapsed().as_secs_f32(), "run ended");
                result
            }
            Err(error) => {
                let words = format!("{error:#}");
                if self.last_error.as_ref() != Some(&words) {
                    tracing::error!(%causes, error = %words, "run failed; it is tried again");
                    self.last_error = Some(words);
                }
                RunResult::Failed
            }
        }
    }

    async fn try_run(&mut self) -> anyhow::Result<RunResult> {
        let config = self.operator_file.current()?;
        // No answer is not "no objects": the node keeps what it has.
        let Some(objects) = self.objects.current()? else { return Ok(RunResult::Good) };
        if self.files.ensure_template()? {
            tracing::info!(template = %self.files.template().display(), "made the template of frr.conf");
        }
        let template = self.files.read_template()?;
        let inputs = Inputs { objects, config, template, hostname: self.node_name.clone() };
        let prepared = self.pipeline.prepare(&inputs).await?;
        self.reporter.left_out(&prepared.rejections, &prepared.links.problems);
        let outcome = self.pipeline.carry_out(&prepared).await?;
        outcome.report(prepared.rejections.len());
        // Nobody tells when what was in the way of a VRF has gone.
        Ok(if prepared.links.problems.is_empty() { RunResult::Good } else { RunResult::Failed })
    }
}
