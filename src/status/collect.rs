//! The words of all nodes, summed up onto the objects by the one agent that leads.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events;
use super::known::{Heard, Known};
use super::limit::{REQUEST, within};
use super::news::of_object;
use super::publish::whole_status;
use super::summary::{NodeView, Target, summarise};
use crate::api::{NodeNetworkState, ObjectState, VrfRouteConfiguration, VrfRouteConfigurationStatus};
use crate::trigger::kube::patient;
use crate::trigger::{Once, with_causes};

/// How long the first change waits for others: after a change of one object all nodes tell at about the same time.
const WINDOW: Duration = Duration::from_secs(1);
/// Least time between two sums: while 500 nodes tell one after the other, an object is not written for each.
const GAP: Duration = Duration::from_secs(5);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(10);
/// HTTP 422: before Kubernetes 1.30 also where what is wrong was stored before the rule was made.
const INVALID: u16 = 422;
const INVALID_RETRY: Duration = Duration::from_secs(300);

/// Sums up while this agent leads, until it is cancelled.
pub async fn collect(client: Client, node: String, mut leads: watch::Receiver<bool>, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            led = leads.wait_for(|leads| *leads) => if led.is_err() { return },
        }
        tracing::info!("this agent sums up what all nodes say");
        tokio::select! {
            () = cancel.cancelled() => return,
            led = leads.wait_for(|leads| !leads) => if led.is_err() { return },
            () = sum_up(client.clone(), &node) => {}
        }
        tracing::info!("another agent sums up what all nodes say");
    }
}

/// What a node says, and the UID of the Node that owns it.
#[derive(PartialEq)]
struct Word {
    owner: Option<String>,
    objects: Vec<ObjectState>,
}

#[derive(PartialEq)]
struct Alive {
    uid: Option<String>,
    ready: bool,
}

async fn sum_up(client: Client, us: &str) {
    let subjects = subjects(&client);
    let mut objects = Box::pin(patient(watcher(subjects.clone(), watcher::Config::default())));
    let mut states = Box::pin(watched::<NodeNetworkState>(client.clone()));
    let mut alive = Box::pin(watched::<Node>(client.clone()));
    let (mut targets, mut words, mut nodes) = (Known::default(), Known::default(), Known::default());
    let (mut due, mut last, mut told) = (None::<Instant>, None::<Instant>, Once::default());
    loop {
        let heard = tokio::select! {
            Some(event) = objects.next() => targets.hear(event, target),
            Some(event) = states.next() => words.hear(event, word),
            Some(event) = alive.next() => nodes.hear(event, node),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                (due, last) = (None, Some(Instant::now()));
                if targets.complete && words.complete && nodes.complete {
                    match write(&client, us, &subjects, &mut targets.all, &views(&words.all, &nodes.all)).await {
                        Ok(()) => drop(told.is_over()),
                        Err(error) => {
                            let (wait, cure) = after(&error);
                            due = Some(Instant::now() + wait);
                            let error = with_causes(&error);
                            if told.is_news(&error) {
                                tracing::warn!(%error, cure, "a status cannot be written");
                            }
                        }
                    }
                }
                continue;
            }
            else => return,
        };
        if let Heard::Error(error) = &heard {
            tracing::warn!(%error, "what the nodes say cannot be summed up; does the service account have list and watch on vrfrouteconfigurations, nodenetworkstates and nodes?");
        }
        if heard == Heard::New {
            let soon = Instant::now() + WINDOW;
            let soon = last.map_or(soon, |last| soon.max(last + GAP));
            due = Some(due.map_or(soon, |due| due.min(soon)));
        }
    }
}

/// How long to wait after a write that failed, and what may help.
fn after(error: &kube::Error) -> (Duration, &'static str) {
    match error {
        kube::Error::Api(status) if status.code == INVALID => (
            INVALID_RETRY,
            "correct its spec: the schema or a rule of the CRD is against it, and the API server takes no change of it before",
        ),
        _ => (RETRY, "does the service account have patch on vrfrouteconfigurations/status?"),
    }
}

fn watched<K>(client: Client) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    patient(watcher(Api::<K>::all(client), watcher::Config::default()))
}

/// The objects, also those whose spec cannot be read: they have a status, too.
pub fn subjects(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &kind())
}

fn kind() -> ApiResource {
    ApiResource::erase::<VrfRouteConfiguration>(&())
}

/// What is said of an object; nothing, where that is not in a form that is known.
pub fn status_of(object: &DynamicObject) -> VrfRouteConfigurationStatus {
    let status = object.data.get("status").cloned().and_then(|status| serde_json::from_value(status).ok());
    status.unwrap_or_default()
}

fn target(object: &DynamicObject) -> Target {
    Target {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        status: status_of(object),
    }
}

fn word(state: &NodeNetworkState) -> Word {
    let owner = state.metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Node");
    let objects = state.status.as_ref().map(|status| status.objects.clone()).unwrap_or_default();
    Word { owner: owner.map(|owner| owner.uid.clone()), objects }
}

fn node(node: &Node) -> Alive {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    Alive { uid: node.uid(), ready: ready.all(|condition| condition.status == "True") }
}

/// Those that are there. What a node said that is no more goes with it, in a while; where it belongs to no Node, it does not. An API
/// server without any Node has none for our nodes, either.
fn views<'a>(words: &'a BTreeMap<String, Word>, nodes: &BTreeMap<String, Alive>) -> Vec<NodeView<'a>> {
    let view = |(name, word): (&'a String, &'a Word)| {
        let node = nodes.get(name);
        let there = match (&word.owner, node) {
            (owner @ Some(_), node) => node.is_some_and(|node| node.uid == *owner),
            (None, Some(_)) => true,
            (None, None) => nodes.is_empty(),
        };
        let ready = node.is_none_or(|node| node.ready);
        there.then_some(NodeView { name, ready, objects: &word.objects })
    };
    words.iter().filter_map(view).collect()
}

/// Writes what is new. One that cannot be written keeps none of the others from it; gives the first error.
async fn write(
    client: &Client,
    us: &str,
    api: &Api<DynamicObject>,
    targets: &mut BTreeMap<String, Target>,
    nodes: &[NodeView<'_>],
) -> kube::Result<()> {
    let kind = kind();
    let all: Vec<Target> = targets.values().cloned().collect();
    let mut ended = Ok(());
    for (target, status) in summarise(&all, nodes, Timestamp::now()) {
        let patch = Patch::Json::<()>(whole_status(&status)?);
        let written = match within(REQUEST, api.patch_status(&target.name, &PatchParams::default(), &patch)).await {
            Ok(written) => written,
            // It went meanwhile, as the watch is about to tell.
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => {
                ended = ended.and(Err(error));
                continue;
            }
        };
        events::tell(client, us, &written.object_ref(&kind), of_object(&target.status, &status)).await;
        if let Some(known) = targets.get_mut(&target.name) {
            known.status = status;
        }
    }
    ended
}
