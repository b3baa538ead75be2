//! What asks for runs: every source of triggers, started.

use std::path::Path;

use ::kube::Client;
use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::AgentConfig;
use crate::input::ObjectSource;
use crate::metrics::AgentMetrics;
use crate::trigger::files::{WatchError, Watched};
use crate::trigger::known::KubeObjects;
use crate::trigger::links::SiteLinks;
use crate::trigger::{Trigger, clock, files, kube, links, nftables, service, vtysh, with_causes};

/// Where FRR's daemons have their sockets and PID files.
const RUNTIME_FOLDER: &str = "/run/frr";
const VTYSH: &str = "/usr/bin/vtysh";

/// The sources at work.
pub(super) struct Sources {
    pub(super) triggers: mpsc::UnboundedReceiver<Trigger>,
    pub(super) objects: ObjectSource,
    /// They are named by the operator file, and may be named anew.
    pub(super) site: watch::Sender<SiteLinks>,
    /// It ends after the last run, not with the signal: its end is the end of the agent.
    pub(super) files: JoinHandle<Result<(), WatchError>>,
    pub(super) files_cancel: CancellationToken,
    /// The way to the API server, where objects come from there.
    pub(super) client: Option<Client>,
}

/// Starts them.
///
/// # Errors
/// No way to the API server.
pub(super) async fn start(
    config: &AgentConfig,
    template: &Path,
    unit: &str,
    metrics: &AgentMetrics,
    cancel: &CancellationToken,
) -> anyhow::Result<Sources> {
    let (sender, triggers) = mpsc::unbounded_channel();
    let mut watched = vec![
        (Watched::File(config.operator_file.clone()), Trigger::OperatorFile),
        (Watched::File(template.to_owned()), Trigger::Template),
        (Watched::File(config.frr_config.clone()), Trigger::FrrConf),
        (Watched::Daemons(RUNTIME_FOLDER.into()), Trigger::Daemons),
    ];
    let (objects, client) = match config.manifests.clone() {
        Some(path) => {
            let place = if path.is_file() { Watched::File(path.clone()) } else { Watched::Folder(path.clone()) };
            watched.push((place, Trigger::Objects));
            sender.send(Trigger::Objects).context("begin")?;
            (ObjectSource::manifests(path), None)
        }
        None => {
            let client = Client::try_default().await;
            let client =
                client.context("find the API server: run in a pod, set KUBECONFIG, or give --manifests DIR")?;
            let objects = KubeObjects::of_a_node();
            let metrics = metrics.clone();
            metrics.api_server(false);
            let answers = move |answers| metrics.api_server(answers);
            tokio::spawn(kube::watch(client.clone(), objects.clone(), sender.clone(), answers, cancel.clone()));
            (ObjectSource::kube(objects), Some(client))
        }
    };
    tokio::spawn(ask_at_limit(tokio::time::sleep(config.input_limit), objects.answered(), sender.clone()));
    let (site, named) = watch::channel(SiteLinks::default());
    tokio::spawn(links::watch(named, sender.clone(), cancel.clone()));
    tokio::spawn(nftables::watch(sender.clone(), cancel.clone()));
    tokio::spawn(service::watch(unit.to_owned(), sender.clone(), cancel.clone()));
    tokio::spawn(watch_vtysh(sender.clone(), cancel.clone()));
    tokio::spawn(clock::tick(config.check_interval, sender.clone(), cancel.clone()));
    let files_cancel = CancellationToken::new();
    let files = tokio::spawn(files::watch(watched, sender, files_cancel.clone()));
    Ok(Sources { triggers, objects, site, files, files_cancel, client })
}

/// Asks for a run where nobody has told of objects within the limit.
async fn ask_at_limit(limit: Sleep, answered: CancellationToken, triggers: mpsc::UnboundedSender<Trigger>) {
    tokio::select! {
        () = answered.cancelled() => {}
        () = limit => drop(triggers.send(Trigger::InputLimit)),
    }
}

async fn watch_vtysh(triggers: mpsc::UnboundedSender<Trigger>, cancel: CancellationToken) {
    if let Err(error) = vtysh::watch(VTYSH.into(), triggers, cancel).await {
        let error = with_causes(&error);
        tracing::warn!(%error, "what others do with vtysh is found at the next check only");
    }
}
