//! The agent of `--only-attach-bpf`: the eBPF router and nothing else, for nodes whose FRR and links are somebody else's.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::AgentConfig;
use super::router::{RouterStage, Settled};
use crate::config::OperatorConfig;
use crate::input::OperatorFile;
use crate::link::netlink::Netlink;
use crate::trigger::debounce::RunResult;
use crate::trigger::drift::Effect;
use crate::trigger::files::{self, Watched};
use crate::trigger::links::{self, SiteLinks};
use crate::trigger::timing::{Due, Timing};
use crate::trigger::{Trigger, clock, first_of, nftables};

/// How many steps one line of the log names.
const NAMED: usize = 8;

/// Runs until it is cancelled. The router stays where it is when it ends.
///
/// # Errors
/// What keeps it from beginning: no netlink sockets, no way to watch the operator file.
pub async fn run_only_router(config: AgentConfig, cancel: CancellationToken) -> anyhow::Result<()> {
    let AgentConfig { operator_file, node_name, debounce, check_interval, repairs_per_minute, .. } = config;
    let (sender, triggers) = mpsc::unbounded_channel();
    let (site, named) = watch::channel(SiteLinks::default());
    sender.send(Trigger::OperatorFile).context("begin")?;
    tokio::spawn(links::watch(named, sender.clone(), cancel.clone()));
    tokio::spawn(nftables::watch(sender.clone(), cancel.clone()));
    tokio::spawn(clock::tick(check_interval, sender.clone(), cancel.clone()));
    let watched = vec![(Watched::File(operator_file.clone()), Trigger::OperatorFile)];
    let mut watcher = tokio::spawn(files::watch(watched, sender, cancel.clone()));
    tracing::info!(node = %node_name, version = env!("CARGO_PKG_VERSION"), "network-operator runs: the eBPF router only");
    let agent = OnlyRouter {
        operator_file: OperatorFile::new(operator_file, None),
        config: None,
        site,
        router: RouterStage::new(Netlink::connect()?)?,
    };
    let timing = Timing::new(debounce, repairs_per_minute);
    tokio::select! {
        () = agent.serve(timing, triggers, cancel.clone()) => {}
        // One that is deaf to its file must not look alive.
        ended = &mut watcher => ended.context("watch files")??,
    }
    tracing::info!("network-operator ends; the eBPF router stays as it is");
    Ok(())
}

struct OnlyRouter {
    operator_file: OperatorFile,
    config: Option<Arc<OperatorConfig>>,
    site: watch::Sender<SiteLinks>,
    router: RouterStage,
}

impl OnlyRouter {
    async fn serve(
        mut self,
        mut timing: Timing,
        mut triggers: mpsc::UnboundedReceiver<Trigger>,
        cancel: CancellationToken,
    ) {
        loop {
            let deadline = timing.deadline();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                Some(trigger) = triggers.recv() => timing.ask(trigger, Instant::now()),
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let Some(due) = timing.due(Instant::now()) else { continue };
                    timing.run_started(due);
                    let (result, effect) = self.run_once(due).await;
                    timing.run_finished(Instant::now(), result, effect);
                }
            }
        }
    }

    async fn run_once(&mut self, due: Due) -> (RunResult, Effect) {
        if due == Due::Change || self.config.is_none() {
            match self.operator_file.current() {
                Ok(config) => self.config = Some(config),
                Err(error) => tracing::error!(%error, "the eBPF router stays as it is"),
            }
        }
        let Some(config) = self.config.clone() else { return (RunResult::Failed, Effect::None) };
        SiteLinks::new(&config).publish(&self.site);
        let Settled { done, problems } = self.router.settle(&config).await;
        if !done.is_empty() {
            let what = if due == Due::Drift { "repaired" } else { "applied" };
            tracing::info!(what = %first_of(&done, NAMED), router_operations = done.len(), "{what}");
        }
        let repaired = due == Due::Drift && !done.is_empty();
        let effect = if repaired { Effect::Repaired } else { Effect::None };
        (if problems.is_empty() { RunResult::Good } else { RunResult::Incomplete }, effect)
    }
}
