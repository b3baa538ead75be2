//! Checks of the node's health, round after round, and what follows from them.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use futures::{Stream, StreamExt, future, stream};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::runtime::watcher;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::AgentConfig;
use super::checks::{Checks, Known, Reached, SOON};
use crate::config::HealthConfig;
use crate::health::daemons;
use crate::health::node::NodeClient;
use crate::health::probes::{self, Progress};
use crate::health::reach::Prober;
use crate::link::netlink::Netlink;
use crate::listen;
use crate::metrics::collect::Sources;
use crate::metrics::{AgentMetrics, Scraper};
use crate::trigger::files::{self, Watched};
use crate::trigger::{doubled, patience, with_causes};

/// Where the health file is, if nobody says otherwise.
const FILE: &str = "/opt/network-operator/net-healthcheck-config.yaml";
/// How long the health file must have been left alone before it is read: whoever writes it in place empties it first.
const SETTLES: Duration = Duration::from_millis(500);
/// How long a round waits for targets that are tried with it: most answer at once, and what is found of them takes no round of its own
/// then.
const ANSWERS: Duration = Duration::from_millis(1500);
/// A run takes no longer than that and three reloads of FRR: each of its steps has a limit.
const LONGEST_RUN: Duration = Duration::from_secs(15 * 60);
/// Longest wait after the API server did not take what it was told.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Begins the checks and answers probes; gives where to say what the runs come to. `unit` runs FRR; nothing where FRR is somebody
/// else's.
///
/// # Errors
/// The kernel gives us no thread for the checks, or no netlink socket.
pub(super) fn start(
    config: &AgentConfig,
    client: Option<Client>,
    links: Netlink,
    unit: Option<daemons::Unit>,
    metrics: AgentMetrics,
    cancel: &CancellationToken,
) -> anyhow::Result<watch::Sender<Progress>> {
    let (sender, progress) = watch::channel(Progress::default());
    if let Some(address) = config.listen {
        let probes = probes::routes(progress.clone(), LONGEST_RUN + config.reload_limit * 3);
        let scraper = Scraper::new(Sources::new(unit.is_some())?, Some(metrics.clone()));
        tokio::spawn(listen::serve(address, probes.merge(scraper.routes()), cancel.clone()));
    }
    let (file, named) = match &config.health_file {
        Some(file) => (file.clone(), true),
        None => (FILE.into(), false),
    };
    let (changed, changes) = mpsc::unbounded_channel();
    let watched = vec![(Watched::File(file.clone()), ())];
    let watching = cancel.clone();
    tokio::spawn(async move {
        let mut failures = 0;
        // What changed meanwhile is seen once there is a watch.
        while let Err(error) = files::watch(watched.clone(), changed.clone(), watching.clone()).await {
            let error = with_causes(&error);
            if failures == 0 {
                tracing::warn!(%error, "changes of the health file are not seen; it is tried again");
            }
            failures += 1;
            tokio::time::sleep(patience(failures)).await;
            let _ = changed.send(());
        }
    });
    let node = client.map(|client| NodeClient::new(client, &config.node_name));
    let prober = Prober::start().context("a thread for checks of reachability")?;
    let checks = Checks { unit, links, progress };
    let health = Health { file, named, checks, node, prober, metrics };
    tokio::spawn(health.keep(changes, cancel.clone()));
    Ok(sender)
}

/// A run begins: nothing to check again.
pub(super) fn begins(progress: &watch::Sender<Progress>, now: Instant) {
    progress.send_if_modified(|progress| {
        progress.under_way = Some(now);
        false
    });
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Why it did not verify the node; nothing where it did.
    pub(super) fault: Option<String>,
    /// Which VRF it left out because of something in its way.
    pub(super) left_out: Option<String>,
    /// VRFs with a VNI that it verified, by interface name.
    pub(super) vrfs: Vec<String>,
}

/// A run has ended; with nothing, where it waits for inputs.
pub(super) fn ended(progress: &watch::Sender<Progress>, ended: Option<Ended>) {
    progress.send_if_modified(|progress| {
        progress.under_way = None;
        let Some(ended) = ended else { return false };
        let once = progress.once | ended.fault.is_none();
        let now = Progress { under_way: None, once, fault: ended.fault, left_out: ended.left_out, vrfs: ended.vrfs };
        let changed = now != *progress;
        *progress = now;
        changed
    });
}

/// What is checked, and who is told.
struct Health {
    /// The health file.
    file: PathBuf,
    /// Whether somebody has named it: it has to be there then.
    named: bool,
    checks: Checks,
    /// The way to the Node, where there is one.
    node: Option<NodeClient>,
    prober: Prober,
    metrics: AgentMetrics,
}

type Nodes = Pin<Box<dyn Stream<Item = watcher::Result<Node>> + Send>>;
/// What is found of the targets, once all have been tried.
type Reaching = Pin<Box<dyn Future<Output = Reached> + Send>>;

impl Health {
    /// Checks until it is cancelled; `changes` are those of the health file.
    async fn keep(self, mut changes: mpsc::UnboundedReceiver<()>, cancel: CancellationToken) {
        let mut known = Known::default();
        let mut nodes: Nodes = match &self.node {
            Some(node) => Box::pin(node.watch()),
            None => Box::pin(stream::pending()),
        };
        let mut progress = self.checks.progress.clone();
        let mut reaching: Option<Reaching> = None;
        let (mut due, mut settled, mut failures) = (Instant::now(), None, 0_u32);
        self.read(&mut known);
        loop {
            let check = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                changed = progress.changed() => if changed.is_err() { return } else { true },
                Some(()) = changes.recv() => {
                    settled = Some(Instant::now() + SETTLES);
                    false
                }
                () = at(settled) => {
                    (settled, reaching, due) = (None, None, Instant::now());
                    self.read(&mut known);
                    false
                }
                found = reached(&mut reaching) => {
                    (reaching, known.reached) = (None, Some(found));
                    true
                }
                () = tokio::time::sleep_until(due) => {
                    // It may take long, and nothing else waits for it.
                    if reaching.is_none() && known.wants_trial(Instant::now()) {
                        reaching = Some(self.reach(&known.config));
                        due = Instant::now() + ANSWERS;
                        continue;
                    }
                    true
                }
                Some(event) = nodes.next() => known.hear(event),
            };
            if check {
                let round = tokio::select! {
                    () = cancel.cancelled() => return,
                    round = self.checks.round(&known) => round,
                };
                round.checks().for_each(|(check, passed)| self.metrics.checked(&check, passed));
                known.judge(round, &self.checks.progress.borrow(), Instant::now());
                due = known.next_round(Instant::now());
            }
            if let Some(node) = &self.node {
                let told = tokio::select! {
                    () = cancel.cancelled() => return,
                    told = known.tell(node, &self.checks.progress) => told,
                };
                failures = if told { 0 } else { failures + 1 };
                if !told {
                    due = due.min(Instant::now() + doubled(SOON, failures, LAST_RETRY));
                }
            }
            if known.is_pending() && reaching.is_none() {
                due = Instant::now();
            }
        }
    }

    /// Begins to try the targets.
    fn reach(&self, config: &HealthConfig) -> Reaching {
        let HealthConfig { reachability, timeout, retries, .. } = config;
        let faults = self.prober.faults(reachability.clone(), *timeout, *retries);
        Box::pin(async move { Reached { faults: faults.await, at: Instant::now() } })
    }

    /// Reads the health file; where it cannot be used, what it said before counts.
    fn read(&self, known: &mut Known) {
        let file = self.file.display();
        let before = known.fault.take();
        known.asks_anew();
        known.fault = match HealthConfig::load(&self.file) {
            Ok(Some(config)) => {
                known.config = config;
                None
            }
            Ok(None) if self.named => Some(format!("{file} is not there, and was named")),
            Ok(None) => {
                known.config = HealthConfig::default();
                None
            }
            Err(error) => Some(with_causes(&error)),
        };
        match &known.fault {
            Some(fault) => tracing::error!(%fault, "the health file cannot be used; what it said before counts"),
            None if before.is_some() => tracing::info!("the health file can be used again"),
            None => {}
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => future::pending().await,
    }
}

async fn reached(reaching: &mut Option<Reaching>) -> Reached {
    match reaching {
        Some(reaching) => reaching.await,
        None => future::pending().await,
    }
}
