//! The agent's word on its own node, written to the API server.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events;
use super::limit::{REQUEST, within};
use super::news::of_node;
use super::node::{RunReport, next};
use crate::api::{NodeNetworkState, NodeNetworkStateSpec, NodeNetworkStateStatus};
use crate::trigger::{Once, doubled, with_causes};

/// First wait after a write that failed; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(120);

/// Writes what the last run says, where it is anything new, until it is cancelled. While the API server is away only the
/// newest is kept.
pub async fn publish(
    client: Client,
    node: String,
    mut reports: watch::Receiver<Option<RunReport>>,
    cancel: CancellationToken,
) {
    let (api, nodes) = (Api::<NodeNetworkState>::all(client.clone()), Api::all(client.clone()));
    let mut writer = Writer { client, api, nodes, node, known: None, about: ObjectReference::default() };
    let (mut failures, mut told, mut look) = (0_u32, Once::default(), Instant::now() + LOOK);
    loop {
        let wait = doubled(FIRST_RETRY, failures.saturating_sub(1), LAST_RETRY);
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = reports.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait), if failures > 0 => {}
            () = tokio::time::sleep_until(look) => {
                look = Instant::now() + LOOK;
                if writer.is_there().await { continue }
                writer.known = None;
            }
        }
        let Some(report) = reports.borrow_and_update().clone() else { continue };
        match writer.write(&report).await {
            Ok(()) => {
                if told.is_over() {
                    tracing::info!("the state of this node is written to the API server again");
                }
                failures = 0;
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let words = with_causes(&error);
                if told.is_news(&words) {
                    tracing::warn!(error = %words, "the state of this node cannot be written to the API server; the node itself does not depend on it; are both CRDs installed, and does the service account have its rights on nodenetworkstates and nodes?");
                }
            }
        }
    }
}

/// How often it is looked whether the object is still there: somebody may delete it, or its Node be made anew. A watch of one object
/// would cost the API server more: it passes each change of each node to each agent's watch, and the agent's filter comes last
/// (with 500 agents it closed those that fell behind, a thousand a second).
const LOOK: Duration = Duration::from_secs(600);

/// Why the state of the node is not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    /// What the API server said.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// There is nobody to own it: it would stay behind when the node goes.
    #[error("there is no Node {0} yet: is it registered, and is that its name (--node-name)?")]
    NoNode(String),
}

struct Writer {
    client: Client,
    api: Api<NodeNetworkState>,
    nodes: Api<Node>,
    node: String,
    /// What the API server has, once that is known.
    known: Option<NodeNetworkStateStatus>,
    /// The object itself, for events.
    about: ObjectReference,
}

impl Writer {
    async fn write(&mut self, report: &RunReport) -> Result<(), WriteError> {
        let old = match self.known.take() {
            Some(known) => known,
            None => self.find_or_create().await?,
        };
        let Some(new) = next(&old, report, Timestamp::now()) else {
            self.known = Some(old);
            return Ok(());
        };
        match self.replace(&new).await {
            // Somebody deleted it, or its node was made anew.
            Err(error) if is_gone(&error) => {
                self.create().await?;
                self.replace(&new).await?;
            }
            done => done?,
        }
        events::tell(&self.client, &self.node, &self.about, of_node(&old, &new, report)).await;
        self.known = Some(new);
        Ok(())
    }

    async fn replace(&self, status: &NodeNetworkStateStatus) -> kube::Result<()> {
        let patch = whole_status(status)?;
        let (parameters, patch) = (PatchParams::default(), Patch::Json::<()>(patch));
        within(REQUEST, self.api.patch_status(&self.node, &parameters, &patch)).await.map(drop)
    }

    /// Where nobody answers, it is.
    async fn is_there(&self) -> bool {
        within(REQUEST, self.api.get_metadata_opt(&self.node)).await.map_or(true, |found| found.is_some())
    }

    async fn find_or_create(&mut self) -> Result<NodeNetworkStateStatus, WriteError> {
        match within(REQUEST, self.api.get_opt(&self.node)).await? {
            Some(state) => {
                self.about = state.object_ref(&());
                Ok(state.status.unwrap_or_default())
            }
            None => {
                self.create().await?;
                Ok(NodeNetworkStateStatus::default())
            }
        }
    }

    /// Owned by the node, so that it goes with it; by nobody, where the API server has no nodes at all.
    async fn create(&mut self) -> Result<(), WriteError> {
        let node = within(REQUEST, self.nodes.get_metadata_opt(&self.node)).await?;
        let owner = node.and_then(|node| {
            let (name, uid) = (node.name_any(), node.metadata.uid?);
            let (api_version, kind) = ("v1".to_owned(), "Node".to_owned());
            Some(OwnerReference { api_version, kind, name, uid, ..OwnerReference::default() })
        });
        let one = ListParams::default().limit(1);
        if owner.is_none() && !within(REQUEST, self.nodes.list_metadata(&one)).await?.items.is_empty() {
            return Err(WriteError::NoNode(self.node.clone()));
        }
        let mut state = NodeNetworkState::new(&self.node, NodeNetworkStateSpec {});
        state.metadata.owner_references = owner.map(|owner| vec![owner]);
        let made = within(REQUEST, self.api.create(&PostParams::default(), &state)).await?;
        self.about = made.object_ref(&());
        Ok(())
    }
}

/// One request puts a whole status in the place of whatever was there: no read before it, and nothing old stays in it.
pub(super) fn whole_status(status: &impl Serialize) -> kube::Result<json_patch::Patch> {
    let status = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
    let path = json_patch::jsonptr::PointerBuf::from_tokens(["status"]);
    Ok(json_patch::Patch(vec![json_patch::PatchOperation::Add(json_patch::AddOperation { path, value: status })]))
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
