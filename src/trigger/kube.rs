//! Objects from the API server: one list, then a watch; no polling.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::ready;
use futures::{Stream, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Identity, Objects, Once, Trigger, Unreadable, with_causes};
use crate::api::VrfRouteConfiguration;
use crate::desired::{Rejection, RejectionReason};

/// An object that may not be one.
pub type Guarded = DeserializeGuard<VrfRouteConfiguration>;
type Entry = Result<Arc<VrfRouteConfiguration>, Arc<Unreadable>>;

/// What is known of the objects; shared between the watch and the runs.
#[derive(Debug, Clone, Default)]
pub struct KubeObjects {
    inner: Arc<Mutex<Index>>,
}

#[derive(Debug, Default)]
struct Index {
    /// Empty until the first list is complete: no answer is not the answer "none".
    known: Option<BTreeMap<String, Entry>>,
    /// A list that is under way.
    listing: BTreeMap<String, Entry>,
    /// What was known before the first deletion that no run has seen yet.
    before_deletions: Option<BTreeMap<String, Entry>>,
}

/// Whether an event changed what a run would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Changed,
    Same,
}

impl KubeObjects {
    /// All objects; `None` while no list has been complete. What was known stays known while the API server is away.
    pub fn snapshot(&self) -> Option<Objects> {
        let mut index = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        index.before_deletions = None;
        let known = index.known.as_ref()?;
        Some(known.values().cloned().collect())
    }

    /// Whether a list has been complete.
    pub fn is_known(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).known.is_some()
    }

    /// The API server does not know the kind any more. Whoever removes a CRD has all objects deleted first, one event
    /// each: nobody asked for that, and the objects are as they were before.
    fn kind_is_gone(&self) {
        let mut index = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = index.before_deletions.take() {
            tracing::warn!(objects = before.len(), "the CRD was removed, and its objects with it: they stay in force");
            index.known = Some(before);
        }
    }

    fn list_broke(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).listing.clear();
    }

    fn event(&self, event: watcher::Event<Guarded>) -> Effect {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).event(event)
    }
}

impl Index {
    fn event(&mut self, event: watcher::Event<Guarded>) -> Effect {
        match event {
            watcher::Event::Init => Effect::Same,
            watcher::Event::InitApply(object) => {
                let (name, entry) = entry(object);
                self.listing.insert(name, entry);
                Effect::Same
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                let same = self.known.as_ref().is_some_and(|known| {
                    known.len() == listed.len()
                        && known.iter().all(|(name, old)| listed.get(name).is_some_and(|new| same(old, new)))
                });
                self.known = Some(listed);
                self.before_deletions = None;
                if same { Effect::Same } else { Effect::Changed }
            }
            watcher::Event::Apply(object) => {
                let (name, entry) = entry(object);
                let known = self.known.get_or_insert_default();
                let unchanged = known.get(&name).is_some_and(|old| same(old, &entry));
                known.insert(name, entry);
                if unchanged { Effect::Same } else { Effect::Changed }
            }
            watcher::Event::Delete(object) => {
                let known = self.known.get_or_insert_default();
                self.before_deletions.get_or_insert_with(|| known.clone());
                let removed = known.remove(&object.name_any());
                if removed.is_some() { Effect::Changed } else { Effect::Same }
            }
        }
    }
}

impl FromIterator<Entry> for Objects {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut objects = Self::default();
        for entry in entries {
            match entry {
                Ok(object) => objects.objects.push(object),
                Err(unreadable) => objects.unreadable.push(unreadable),
            }
        }
        objects
    }
}

/// The objects of one list.
pub fn list(items: Vec<Guarded>) -> Objects {
    items.into_iter().map(|object| entry(object).1).collect()
}

/// An object that cannot be read is one rejection, and the list goes on.
fn entry(object: Guarded) -> (String, Entry) {
    let name = object.name_any();
    let entry = object.0.map(Arc::new).map_err(|invalid| {
        let identity = Identity::of(&invalid.metadata);
        let rejection = Rejection {
            object: name.clone(),
            field: "spec".to_owned(),
            reason: RejectionReason::Unreadable,
            message: invalid.error,
            cure: "correct that field; the schema is printed by `network-operator crds`".to_owned(),
        };
        Arc::new(Unreadable { rejection, identity })
    });
    (name, entry)
}

/// Whether a change of an object is none to the node.
fn same(old: &Entry, new: &Entry) -> bool {
    match (old, new) {
        (Ok(old), Ok(new)) => old.says_the_same(new),
        (Err(old), Err(new)) => old == new,
        _ => false,
    }
}

/// Follows the objects until it is cancelled; after an error the last answer stands, and the watch begins anew after a
/// back-off.
pub async fn watch(
    client: Client,
    objects: KubeObjects,
    triggers: mpsc::UnboundedSender<Trigger>,
    cancel: CancellationToken,
) {
    let api: Api<Guarded> = Api::all(client);
    let stream = patient(watcher(api, watcher::Config::default()));
    let mut stream = std::pin::pin!(stream.take_until(cancel.cancelled_owned()));
    let mut told = Once::default();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                if told.is_over() {
                    tracing::info!("the API server answers again");
                }
                if objects.event(event) == Effect::Changed {
                    let _ = triggers.send(Trigger::Objects);
                }
            }
            Err(error) => {
                objects.list_broke();
                if status(&error) == Some(404) {
                    objects.kind_is_gone();
                }
                let words = describe(&error);
                if told.is_news(&words) {
                    tracing::error!(error = %words, "no VRFRouteConfigurations from the API server; the node keeps what it has");
                }
            }
        }
    }
}

/// What the API server says, with a back-off between attempts. That a list begins is said by ourselves: it is no answer, and must not
/// end the back-off. Whoever gathers a list begins anew after an error.
pub fn patient<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> {
    events.filter(|event| ready(!matches!(event, Ok(watcher::Event::Init)))).default_backoff()
}

/// The HTTP status that an error of the API server has.
fn status(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

fn describe(error: &watcher::Error) -> String {
    let cure = match status(error) {
        Some(404) => "; is the CRD installed? (`network-operator crds | kubectl apply -f -`)",
        Some(401 | 403) => "; the service account needs list and watch on vrfrouteconfigurations",
        _ => "",
    };
    with_causes(error) + cure
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, seq: serde_json::Value, labels: &str) -> Guarded {
        let value = json!({
            "apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration",
            "metadata": {"name": name, "labels": {"l": labels}},
            "spec": {"vrf": "a", "seq": seq, "import": [], "export": []},
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn there_is_no_snapshot_before_the_first_list_is_complete() {
        let objects = KubeObjects::default();
        assert_eq!(objects.event(watcher::Event::Init), Effect::Same);
        assert_eq!(objects.event(watcher::Event::InitApply(object("x", json!(1), ""))), Effect::Same);
        assert!(objects.snapshot().is_none());
        assert_eq!(objects.event(watcher::Event::InitDone), Effect::Changed);
        assert_eq!(objects.snapshot().unwrap().objects.len(), 1);
    }

    #[test]
    fn objects_that_went_with_their_crd_stay_in_force_and_those_that_a_run_saw_go_do_not() {
        let objects = KubeObjects::default();
        for name in ["a", "b", "c"] {
            objects.event(watcher::Event::InitApply(object(name, json!(1), "")));
        }
        objects.event(watcher::Event::InitDone);
        let count = |objects: &KubeObjects| objects.snapshot().unwrap().objects.len();
        objects.event(watcher::Event::Delete(object("a", json!(1), "")));
        assert_eq!(count(&objects), 2);
        objects.event(watcher::Event::Delete(object("b", json!(1), "")));
        objects.event(watcher::Event::Delete(object("c", json!(1), "")));
        objects.kind_is_gone();
        objects.kind_is_gone();
        assert_eq!(count(&objects), 2);
        objects.event(watcher::Event::Init);
        assert_eq!(objects.event(watcher::Event::InitDone), Effect::Changed, "an empty list is an answer");
        objects.kind_is_gone();
        assert_eq!(count(&objects), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_away_is_asked_less_and_less_often_and_no_list_counts_as_an_answer() {
        let away = || [Ok(watcher::Event::Init), Err(watcher::Error::NoResourceVersion)];
        let events = futures::stream::iter((0..10).flat_map(|_| away()));
        let begin = tokio::time::Instant::now();
        let told: Vec<_> = patient::<Guarded>(events).collect().await;
        assert_eq!(told.iter().filter(|event| event.is_err()).count(), 10);
        assert_eq!(told.len(), 10);
        assert!(begin.elapsed() > std::time::Duration::from_secs(60), "{:?}", begin.elapsed());
    }

    #[test]
    fn one_object_that_cannot_be_read_is_rejected_by_name_and_the_others_stand() {
        let objects = KubeObjects::default();
        for one in [object("good", json!(1), ""), object("bad", json!("many"), "")] {
            objects.event(watcher::Event::InitApply(one));
        }
        objects.event(watcher::Event::InitDone);
        let snapshot = objects.snapshot().unwrap();
        assert_eq!(snapshot.objects.len(), 1);
        assert_eq!(snapshot.unreadable[0].rejection.object, "bad");
    }

    #[test]
    fn only_what_changes_a_spec_asks_for_a_run() {
        let objects = KubeObjects::default();
        objects.event(watcher::Event::InitDone);
        assert_eq!(objects.event(watcher::Event::Apply(object("x", json!(1), "a"))), Effect::Changed);
        assert_eq!(objects.event(watcher::Event::Apply(object("x", json!(1), "b"))), Effect::Same);
        assert_eq!(objects.event(watcher::Event::Apply(object("x", json!(2), "b"))), Effect::Changed);
        objects.event(watcher::Event::Init);
        objects.event(watcher::Event::InitApply(object("x", json!(2), "c")));
        assert_eq!(objects.event(watcher::Event::InitDone), Effect::Same, "listed again after a lost watch");
        assert_eq!(objects.event(watcher::Event::Delete(object("x", json!(2), "c"))), Effect::Changed);
        assert_eq!(objects.event(watcher::Event::Delete(object("x", json!(2), "c"))), Effect::Same);
    }
}
