//! What is known of the objects of an API server, and what stays in force where their kind goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;

use super::{Identity, Objects, Unreadable, first_of};
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
    /// Whether objects are in force here: on a node, not at a webhook.
    in_force: bool,
    /// What an agent before had in force, until there is an answer.
    accepted: BTreeMap<String, Entry>,
    /// The API server did not know the kind, and no list has been complete since.
    gone: bool,
    /// What was in force as the kind went, and has not been made again since. A CRD is put back without its objects, which follow one by one.
    orphans: BTreeMap<String, Entry>,
}

/// Whether an event changed what a run would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
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

    /// Those of a node, on which an agent before had these in force: they stay where the CRD is found to be missing.
    pub fn remember(&self, accepted: &[Arc<VrfRouteConfiguration>]) {
        let mut index = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        index.in_force = true;
        if index.known.is_none() {
            let entries = accepted.iter().map(|object| (object.name_any(), Ok(Arc::clone(object))));
            index.accepted = entries.collect();
        }
    }

    pub(super) fn kind_is_gone(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).kind_is_gone();
    }

    pub(super) fn list_broke(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).listing.clear();
    }

    pub(super) fn event(&self, event: watcher::Event<Guarded>) -> Effect {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).event(event)
    }
}

impl Index {
    /// The API server does not know the kind any more. Whoever removes a CRD has all objects deleted first, one event
    /// each: nobody asked for that, and the objects are as they were before.
    fn kind_is_gone(&mut self) {
        if let Some(before) = self.before_deletions.take() {
            tracing::warn!(objects = before.len(), "the CRD was removed, and its objects with it: they stay in force");
            self.known = Some(before);
        }
        self.gone = true;
    }

    /// What is listed, with what went with the kind and has not been made again. Where one is the same as before, by its UID, the kind never
    /// went, and what is not listed was deleted; but not what went with it an earlier time.
    fn with_orphans(&mut self, mut listed: BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
        let accepted = std::mem::take(&mut self.accepted);
        if std::mem::take(&mut self.gone) && self.in_force {
            let mut went = self.known.clone().unwrap_or(accepted);
            went.retain(|name, _| !self.orphans.contains_key(name));
            let same = |(name, now): (&String, &Entry)| uid(now).is_some() && went.get(name).and_then(uid) == uid(now);
            if !listed.iter().any(same) {
                self.orphans.extend(went);
            }
        }
        self.orphans.retain(|name, _| !listed.contains_key(name));
        if !self.orphans.is_empty() {
            let names = self.orphans.keys().map(String::clone).collect::<Vec<_>>();
            let (count, names) = (names.len(), first_of(&names, 10));
            tracing::warn!(objects = count, %names, "the CRD is there again without these objects: they stay in force until they are made again or the agent is restarted");
        }
        listed.extend(self.orphans.clone());
        listed
    }

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
                let listed = self.with_orphans(listed);
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
                self.orphans.remove(&name);
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

fn uid(entry: &Entry) -> Option<&str> {
    match entry {
        Ok(object) => object.metadata.uid.as_deref(),
        Err(unreadable) => unreadable.identity.as_ref().map(|identity| identity.uid.as_str()),
    }
}

/// Whether a change of an object is none to the node.
fn same(old: &Entry, new: &Entry) -> bool {
    match (old, new) {
        (Ok(old), Ok(new)) => old.says_the_same(new),
        (Err(old), Err(new)) => old == new,
        _ => false,
    }
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

    fn of_a_node() -> KubeObjects {
        let objects = KubeObjects::default();
        objects.remember(&[]);
        objects
    }

    #[test]
    fn objects_that_went_with_their_crd_stay_in_force_and_those_that_a_run_saw_go_do_not() {
        let objects = of_a_node();
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
        assert_eq!(objects.event(watcher::Event::InitDone), Effect::Same, "the CRD is put back before its objects");
        objects.event(watcher::Event::InitApply(object("b", json!(1), "")));
        assert_eq!(objects.event(watcher::Event::InitDone), Effect::Same, "or with some of them");
        assert_eq!(objects.event(watcher::Event::Delete(object("b", json!(1), ""))), Effect::Changed);
        assert_eq!(count(&objects), 1, "what was made again may be deleted");
        assert_eq!(objects.event(watcher::Event::Apply(object("c", json!(2), ""))), Effect::Changed);
        assert_eq!(
            objects.event(watcher::Event::InitDone),
            Effect::Changed,
            "all are back: an empty list is an answer"
        );
        assert_eq!(count(&objects), 0);
    }

    /// Lists objects with UIDs, and gives the names of those in force.
    fn list_of(objects: &KubeObjects, listed: &[(&str, &str)]) -> Vec<String> {
        for (name, uid) in listed {
            let mut object = object(name, json!(1), "");
            object.0.as_mut().unwrap().metadata.uid = Some((*uid).to_owned());
            objects.event(watcher::Event::InitApply(object));
        }
        objects.event(watcher::Event::InitDone);
        objects.snapshot().unwrap().objects.iter().map(|object| object.name_any()).collect()
    }

    #[test]
    fn an_api_server_that_did_not_know_the_kind_for_a_moment_is_believed_again() {
        let objects = of_a_node();
        assert_eq!(list_of(&objects, &[("a", "1"), ("b", "2")]), ["a", "b"]);
        objects.event(watcher::Event::Delete(object("b", json!(1), "")));
        objects.kind_is_gone();
        assert_eq!(list_of(&objects, &[("a", "1")]), ["a"], "one was deleted meanwhile");
        assert_eq!(list_of(&objects, &[]), [""; 0]);
        // The kind goes, and comes back with one of three.
        assert_eq!(list_of(&objects, &[("a", "1"), ("b", "3"), ("c", "4")]).len(), 3);
        objects.kind_is_gone();
        assert_eq!(list_of(&objects, &[("a", "5")]), ["a", "b", "c"]);
        // While the others are missing still, one API server of several does not know it for a moment.
        objects.kind_is_gone();
        assert_eq!(list_of(&objects, &[("a", "5")]), ["a", "b", "c"]);
        assert_eq!(list_of(&objects, &[("a", "5"), ("b", "6"), ("c", "7")]), ["a", "b", "c"]);
        assert_eq!(list_of(&objects, &[("a", "5")]), ["a"], "all were made again, and two deleted");
    }

    #[test]
    fn a_webhook_has_no_objects_in_force() {
        let objects = KubeObjects::default();
        assert_eq!(list_of(&objects, &[("a", "1")]), ["a"]);
        objects.kind_is_gone();
        assert_eq!(list_of(&objects, &[]), [""; 0]);
    }

    #[test]
    fn what_an_agent_before_had_in_force_outlives_a_crd_that_is_missing_and_no_other_answer() {
        let accepted = [Arc::new(object("a", json!(1), "").0.unwrap())];
        for gone in [true, false] {
            let objects = KubeObjects::default();
            objects.remember(&accepted);
            if gone {
                objects.kind_is_gone();
            }
            assert!(objects.snapshot().is_none(), "no answer yet");
            objects.event(watcher::Event::InitDone);
            assert_eq!(objects.snapshot().unwrap().objects.len(), usize::from(gone));
        }
        let objects = KubeObjects::default();
        objects.kind_is_gone();
        objects.event(watcher::Event::InitDone);
        assert!(
            objects.snapshot().unwrap().objects.is_empty(),
            "of a node that never had any, no objects is an answer"
        );
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
