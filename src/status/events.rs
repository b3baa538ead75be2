//! Events of the Kubernetes API.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client};

use super::limit::{REQUEST, within};
use super::news::{News, Weight};
use crate::trigger::with_causes;

/// Where events of objects that have no namespace are.
const NAMESPACE: &str = "default";

/// Tells of one object. Nothing depends on it: where it cannot be told, the log says so.
///
/// In the form of `v1`: with that of `events.k8s.io`, which the recorder of kube-runtime writes, Kubernetes before 1.21 wants events of
/// objects without a namespace elsewhere than where `kubectl describe` looks for them.
pub(super) async fn tell(client: &Client, node: &str, about: &ObjectReference, news: Vec<News>) {
    let api: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    for News { weight, reason, note } in news {
        let now = Timestamp::now();
        let name = format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), now.as_nanosecond());
        let event = Event {
            count: Some(1),
            first_timestamp: Some(Time(now)),
            involved_object: about.clone(),
            last_timestamp: Some(Time(now)),
            message: Some(note),
            metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
            reason: Some(reason.to_owned()),
            source: Some(EventSource { component: Some("network-operator".to_owned()), host: Some(node.to_owned()) }),
            type_: Some(match weight {
                Weight::Normal => "Normal".to_owned(),
                Weight::Warning => "Warning".to_owned(),
            }),
            ..Event::default()
        };
        if let Err(error) = within(REQUEST, api.create(&PostParams::default(), &event)).await {
            let error = with_causes(&error);
            tracing::info!(%error, reason, "no event; does the service account have create on events?");
        }
    }
}
