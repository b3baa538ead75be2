//! The agent of `--only-attach-bpf`: the eBPF router and nothing else, for nodes whose FRR and links are somebody else's.

use std::sync::Arc;

use ::kube::Client;
use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::AgentConfig;
use super::health::{self, Ended};
use super::router::{RouterStage, Settled};
use crate::config::OperatorConfig;
use crate::health::probes::Progress;
use crate::input::OperatorFile;
use crate::link::netlink::Netlink;
use crate::metrics::AgentMetrics;
use crate::trigger::debounce::RunResult;
use crate::trigger::drift::Effect;
use crate::trigger::files::{self, Watched};
use crate::trigger::links::{self, SiteLinks};
use crate::trigger::timing::{Due, Timing};
use crate::trigger::{Once, Trigger, clock, first_of, nftables};

/// How many steps one line of the log names.
const NAMED: usize = 8;

/// Runs until it is cancelled. The router stays where it is when it ends.
///
/// # Errors
/// What keeps it from beginning: no netlink sockets, no way to watch the operator file.
pub async fn run_only_router(config: AgentConfig, cancel: CancellationToken) -> anyhow::Result<()> {
    let links = Netlink::connect()?;
    // Without one, the node's taints are left alone.
    let client = Client::try_default().await;
    let client =
        client.inspect_err(|error| tracing::info!(%error, "without an API server: taints are left alone")).ok();
    let metrics = AgentMetrics::default();
    let progress = health::start(&config, client, links.clone(), None, metrics.clone(), &cancel)?;
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
        unread: None,
        told: Once::default(),
        site,
        router: RouterStage::new(links, metrics.clone())?,
        progress,
        metrics,
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
    /// Why the operator file as it is is not gone by.
    unread: Option<String>,
    /// That was told.
    told: Once,
    site: watch::Sender<SiteLinks>,
    router: RouterStage,
    progress: watch::Sender<Progress>,
    metrics: AgentMetrics,
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
                    let begin = Instant::now();
                    health::begins(&self.progress, begin);
                    let (result, effect, words) = self.run_once(due).await;
                    self.metrics.run(words, due, begin.elapsed());
                    timing.run_finished(Instant::now(), result, effect);
                }
            }
        }
    }

    /// Also gives what it came to, as metrics have it.
    async fn run_once(&mut self, due: Due) -> (RunResult, Effect, &'static str) {
        if due == Due::Change || self.config.is_none() {
            self.unread = None;
            match self.operator_file.current() {
                Ok(config) => {
                    self.config = Some(config);
                    self.told.is_over();
                }
                Err(error) => {
                    if self.told.is_news(&error.to_string()) {
                        tracing::error!(%error, "the eBPF router stays as it is");
                    }
                    self.unread = Some(format!("the operator file cannot be used: {error}"));
                }
            }
        }
        let Some(config) = self.config.clone() else {
            health::ended(&self.progress, Some(Ended { fault: self.unread.clone(), ..Ended::default() }));
            return (RunResult::Failed, Effect::None, "failed");
        };
        SiteLinks::new(&config).publish(&self.site);
        let Settled { done, problems } = self.router.settle(&config, None).await;
        if !done.is_empty() {
            let (what, router_operations) = (first_of(&done, NAMED), done.len());
            match due {
                Due::Drift => tracing::info!(%what, router_operations, "repaired"),
                Due::Change => tracing::info!(%what, router_operations, "applied"),
            }
        }
        let fault = self.unread.clone().or_else(|| problems.first().map(ToString::to_string));
        health::ended(&self.progress, Some(Ended { fault, ..Ended::default() }));
        let effect = if due == Due::Drift && !done.is_empty() { Effect::Repaired } else { Effect::None };
        if effect == Effect::Repaired {
            self.metrics.put_back("router");
        }
        let words = match effect {
            _ if !problems.is_empty() || self.unread.is_some() => "failed",
            Effect::Repaired => "repaired",
            Effect::None if done.is_empty() => "unchanged",
            Effect::None => "applied",
        };
        (if problems.is_empty() { RunResult::Good } else { RunResult::Incomplete }, effect, words)
    }
}
