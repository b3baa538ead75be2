//! All that an agent does towards the API server, started.

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::node::RunReport;
use super::{collect, lease, publish};

/// What is at work until it is cancelled.
#[derive(Debug)]
pub struct Started {
    /// Takes what each run comes to; nobody waits for the API server.
    pub reports: watch::Sender<Option<RunReport>>,
    /// Whether this agent sums up.
    pub leads: watch::Receiver<bool>,
}

/// Starts it for one node.
pub fn start(client: &Client, namespace: &str, node: &str, cancel: &CancellationToken) -> Started {
    let (reports, heard) = watch::channel(None);
    let (leading, leads) = watch::channel(false);
    let (namespace, node) = (namespace.to_owned(), node.to_owned());
    tokio::spawn(publish::publish(client.clone(), node.clone(), heard, cancel.clone()));
    tokio::spawn(lease::stand(client.clone(), namespace, node.clone(), leading, cancel.clone()));
    tokio::spawn(collect::collect(client.clone(), node, leads.clone(), cancel.clone()));
    Started { reports, leads }
}
