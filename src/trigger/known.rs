//! What is known of the objects of an API server, and what stays in force where their kind goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

type Entries = BTreeMap<String, Entry>;

#[derive(Debug, Default)]
struct Index {
    /// What the API server tells. Empty until the first list is complete: no answer is not the answer "none".
    known: Option<Entries>,
    /// A list that is under way.
    listing: Entries,
    /// What was known, and what `went`, before the first deletion that no run has seen yet.
    before_deletions: Option<(Entries, Entries)>,
    /// Whether objects are in force here: on a node, not at a webhook.
    in_force: bool,
    /// What an agent before had in force, until there is an answer.
    accepted: Entries,
    /// The API server did not know the kind, and no list has been complete since.
    gone: bool,
    /// The watch had an error, and no list has been complete since: what came meanwhile was not heard.
    broke: bool,
    /// What was in force as the kind went, until all of it has been made again. A CRD is put back without its objects, which follow one by one.
    went: Entries,
}

/// Whether an event changed what a run would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Changed,
    Same,
}

impl KubeObjects {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All objects; `None` while no list has been complete. What was known stays known while the API server is away.
    pub fn snapshot(&self) -> Option<Objects> {
        let mut index = self.index();
        index.before_deletions = None;
        if index.went.is_empty() {
            return Some(index.known.as_ref()?.values().cloned().collect());
        }
        Some(index.all_in_force()?.into_values().collect())
    }

    /// Whether a list has been complete.
    pub fn is_known(&self) -> bool {
        self.index().known.is_some()
    }

    /// Those of a node, on which an agent before had these in force: they stay where the CRD is found to be missing.
    pub fn remember(&self, accepted: &[Arc<VrfRouteConfiguration>]) {
        let mut index = self.index();
        index.in_force = true;
        if index.known.is_none() {
            let entries = accepted.iter().map(|object| (object.name_any(), Ok(Arc::clone(object))));
            index.accepted = entries.collect();
        }
    }

    pub(super) fn kind_is_gone(&self) {
        self.index().kind_is_gone();
    }

    pub(super) fn list_broke(&self) {
        let mut index = self.index();
        index.listing.clear();
        index.broke = true;
    }

    pub(super) fn event(&self, event: watcher::Event<Guarded>) -> Effect {
        self.index().event(event)
    }
}

impl Index {
    /// The API server does not know the kind any more. Whoever removes a CRD has all objects deleted first, one event
    /// each: nobody asked for that, and the objects are as they were before.
    fn kind_is_gone(&mut self) {
        if let Some((known, went)) = self.before_deletions.take() {
            tracing::warn!(objects = known.len(), "the CRD was removed, and its objects with it: they stay in force");
            (self.known, self.went) = (Some(known), went);
        }
        self.gone = true;
    }

    /// What is known, and what went with the kind and has not been made again. As long as some of it has not, what was made again is as old
    /// as before: of two objects that exclude each other the older one counts.
    fn all_in_force(&self) -> Option<Entries> {
        let mut all = self.went.clone();
        for (name, now) in self.known.as_ref()? {
            let now = all.get(name).map_or_else(|| now.clone(), |before| as_old_as(before, now));
            all.insert(name.clone(), now);
        }
        Some(all)
    }

    /// A list is complete. Where an object is the same as before, by its UID, the kind never went, and what is not listed was deleted; but not
    /// what went with it an earlier time. Where one has another UID and none is the same, the kind went while nothing was heard.
    fn listed(&mut self, listed: Entries) -> Effect {
        let accepted = std::mem::take(&mut self.accepted);
        let known = self.known.as_ref();
        let unchanged = known.is_some_and(|known| {
            known.len() == listed.len()
                && listed.iter().all(|(name, new)| known.get(name).is_some_and(|old| same(old, new)))
        });
        let deaf = std::mem::take(&mut self.broke) || known.is_none();
        let gone = std::mem::take(&mut self.gone);
        let before = known.unwrap_or(&accepted);
        let uids = listed.iter().filter_map(|(name, now)| Some((before.get(name).and_then(uid)?, uid(now)?)));
        let (remain, others): (Vec<_>, Vec<_>) = uids.partition(|(old, new)| old == new);
        if self.in_force && remain.is_empty() && (gone || deaf && !others.is_empty()) {
            self.went = self.all_in_force().unwrap_or(accepted);
            self.before_deletions = None;
        } else if let Some(known) = known {
            if gone {
                self.before_deletions = None;
            } else if self.before_deletions.is_none() && known.keys().any(|name| !listed.contains_key(name)) {
                self.before_deletions = Some((known.clone(), self.went.clone()));
            }
            // What was made again and has been deleted since is not missing.
            self.went.retain(|name, _| listed.contains_key(name) || !known.contains_key(name));
        }
        self.known = Some(listed);
        let missing = self.missing();
        if !missing.is_empty() {
            let (count, names) = (missing.len(), first_of(&missing, 10));
            tracing::warn!(objects = count, %names, "the CRD is there again without these objects: they stay in force until they are made again or the agent is restarted");
        }
        if unchanged { Effect::Same } else { Effect::Changed }
    }

    /// What went with the kind and has not been made again.
    fn missing(&mut self) -> Vec<String> {
        let known = self.known.get_or_insert_default();
        let missing: Vec<_> = self.went.keys().filter(|name| !known.contains_key(*name)).cloned().collect();
        if missing.is_empty() {
            self.went.clear();
        }
        missing
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
                self.listed(listed)
            }
            watcher::Event::Apply(object) => {
                let (name, entry) = entry(object);
                let known = self.known.get_or_insert_default();
                let unchanged = known.get(&name).is_some_and(|old| same(old, &entry));
                known.insert(name, entry);
                self.missing();
                if unchanged { Effect::Same } else { Effect::Changed }
            }
            watcher::Event::Delete(object) => {
                let name = object.name_any();
                let known = self.known.get_or_insert_default();
                self.before_deletions.get_or_insert_with(|| (known.clone(), self.went.clone()));
                let removed = known.remove(&name).is_some() | self.went.remove(&name).is_some();
                self.missing();
                if removed { Effect::Changed } else { Effect::Same }
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

fn as_old_as(before: &Entry, now: &Entry) -> Entry {
    let (Ok(before), Ok(object)) = (before, now) else { return now.clone() };
    let mut object = VrfRouteConfiguration::clone(object);
    object.metadata.creation_timestamp.clone_from(&before.metadata.creation_timestamp);
    Ok(Arc::new(object))
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
mod tests;
