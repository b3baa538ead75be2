//! The agent: inputs, pipeline and host put together. The only place beside `cli` that names adapters.

mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::frr::check;
use crate::frr::files::FrrFiles;
use crate::frr::release;
use crate::frr::render::Renderer;
use crate::frr::running;
use crate::frr::service::FrrService;
use crate::frr::vty::Vty;
use crate::input::{ObjectSource, Origin};
use crate::link::netlink::Netlink;
use crate::link::{LinkOp, ObservedLinks};
use crate::reconcile::{
    ConfigPort, DaemonPort, Limits, LinkPort, Pipeline, PortError, Ports, Reporter, ServicePort, VniState,
};
use crate::state::Store;
use crate::trigger::debounce::{Debounce, RunResult};
use crate::trigger::files::{Watched, watch};
use crate::trigger::kube::KubeObjects;
use crate::trigger::{Trigger, kube};
use inputs::NodeInputs;

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
    /// How long to wait for a first answer on the objects before the last accepted ones are applied.
    pub input_limit: Duration,
    /// Folder of what outlives a restart.
    pub state_dir: PathBuf,
}

/// The host, as the agent drives it.
type HostPipeline = Pipeline<Netlink, FrrFiles, FrrService, Vty>;

impl LinkPort for Netlink {
    async fn observe(&self) -> Result<ObservedLinks, PortError> {
        Ok(Netlink::observe(self).await?)
    }

    async fn may_write(&self) -> Result<(), PortError> {
        Ok(Netlink::may_write(self).await?)
    }

    async fn apply(&self, ops: &[LinkOp]) -> Result<(), PortError> {
        for op in ops {
            tracing::debug!(%op, "link");
        }
        Ok(Netlink::apply(self, ops).await?)
    }
}

impl ConfigPort for FrrFiles {
    fn read(&self) -> Result<Option<String>, PortError> {
        Ok(self.read_conf()?)
    }

    async fn stage(&self, text: &str) -> Result<Vec<String>, PortError> {
        let lines = check::refused_lines(FrrFiles::stage(self, text)?).await?.into_iter();
        Ok(lines.map(|line| format!("line {}: `{}`: {}", line.number, line.text, line.words)).collect())
    }

    fn discard(&self) {
        FrrFiles::discard(self);
    }

    fn commit(&self) -> Result<(), PortError> {
        Ok(FrrFiles::commit(self)?)
    }

    fn reload_owed(&self) -> bool {
        FrrFiles::reload_owed(self)
    }

    fn reloaded(&self) -> Result<(), PortError> {
        Ok(FrrFiles::reloaded(self)?)
    }
}

impl ServicePort for FrrService {
    async fn running(&self) -> Result<bool, PortError> {
        Ok(FrrService::running(self).await?)
    }

    async fn reload(&self) -> Result<(), PortError> {
        Ok(FrrService::reload(self).await?)
    }
}

impl DaemonPort for Vty {
    async fn vnis(&self) -> Result<BTreeMap<String, VniState>, PortError> {
        let vnis = running::vrf_vnis(self).await?.into_iter();
        Ok(vnis.map(|(name, vrf)| (name, VniState { vni: vrf.vni, up: vrf.state == "Up" })).collect())
    }

    async fn map_vnis(&self, vnis: &[(String, u32)]) -> Result<(), PortError> {
        Ok(running::map_vnis(self, vnis).await?)
    }

    async fn release_vrfs(&self, text: &str) -> Result<(), PortError> {
        Ok(release::release_vrfs(self, text).await?)
    }

    async fn forget_vrfs(&self, vrfs: &[String]) -> Result<BTreeMap<String, String>, PortError> {
        Ok(running::forget_vrfs(self, vrfs).await?)
    }
}

/// Runs until it is cancelled. Nothing on the node changes when it ends.
///
/// # Errors
/// What keeps it from beginning: no netlink socket, section templates that do not compile, no way to the API server,
/// no folder for its state, another agent that has it.
pub async fn run(config: AgentConfig, cancel: CancellationToken) -> anyhow::Result<()> {
    let AgentConfig {
        operator_file,
        frr_config,
        node_name,
        manifests,
        templates,
        debounce,
        reload_limit,
        input_limit,
        state_dir,
    } = config;
    let limit = tokio::time::sleep(input_limit);
    let files = FrrFiles::new(&frr_config);
    let renderer = Renderer::new(templates.as_deref()).context("section templates")?;
    let (triggers, incoming) = mpsc::unbounded_channel();
    let mut watched = vec![
        (Watched::File(operator_file.clone()), Trigger::OperatorFile),
        (Watched::File(files.template().to_owned()), Trigger::Template),
    ];
    let objects = match manifests {
        Some(path) => {
            let place = if path.is_file() { Watched::File(path.clone()) } else { Watched::Folder(path.clone()) };
            watched.push((place, Trigger::Objects));
            triggers.send(Trigger::Objects).context("begin")?;
            ObjectSource::manifests(path)
        }
        None => ObjectSource::kube(watch_api_server(triggers.clone(), cancel.clone()).await?),
    };
    let store = Store::open(&state_dir)?;
    // It ends after the last run, not with the signal: its end is the end of the agent.
    let watch_cancel = CancellationToken::new();
    let mut watcher = tokio::spawn(watch(watched, triggers.clone(), watch_cancel.clone()));
    tokio::spawn(ask_at_limit(limit, objects.answered(), triggers));
    let ports = Ports {
        links: Netlink::connect()?,
        config: files.clone(),
        service: FrrService::new("frr.service", reload_limit),
        daemons: Vty::default(),
    };
    tracing::info!(node = %node_name, version = env!("CARGO_PKG_VERSION"), "network-operator runs");
    let agent = Agent {
        inputs: NodeInputs::new(node_name, operator_file, &files, objects, store),
        pipeline: Pipeline::new(ports, renderer, Limits::default()),
        reporter: Reporter::default(),
        last_error: None,
    };
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

/// Begins to follow the objects of the API server, which need not be there yet.
async fn watch_api_server(
    triggers: mpsc::UnboundedSender<Trigger>,
    cancel: CancellationToken,
) -> anyhow::Result<KubeObjects> {
    let client = ::kube::Client::try_default().await;
    let client = client.context("find the API server: run in a pod, set KUBECONFIG, or give --manifests DIR")?;
    let objects = KubeObjects::default();
    tokio::spawn(kube::watch(client, objects.clone(), triggers, cancel));
    Ok(objects)
}

/// What lives as long as the agent.
struct Agent {
    inputs: NodeInputs,
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
        if causes.contains(&Trigger::InputLimit) {
            self.inputs.limit_ended();
        }
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
        let Some(read) = self.inputs.read()? else { return Ok(RunResult::Waiting) };
        let prepared = self.pipeline.prepare(&read.inputs).await?;
        self.reporter.left_out(&prepared.rejections, &prepared.links.problems);
        let outcome = self.pipeline.carry_out(&prepared).await?;
        outcome.report(prepared.rejections.len());
        self.inputs.accept(&read)?;
        // Nobody tells when what was in the way of a VRF has gone, or a folder is mounted.
        let told = prepared.links.problems.is_empty() && read.origin != Origin::KeptUnwatched;
        Ok(if told { RunResult::Good } else { RunResult::Failed })
    }
}

/// Asks for a run where nobody has told of objects within the limit.
async fn ask_at_limit(limit: Sleep, answered: CancellationToken, triggers: mpsc::UnboundedSender<Trigger>) {
    tokio::select! {
        () = answered.cancelled() => {}
        () = limit => drop(triggers.send(Trigger::InputLimit)),
    }
}
