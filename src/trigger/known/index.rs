//! What is known of the objects, and what is in force though the API server does not have it any more.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher;

use super::{Effect, Entries, Entry, Guarded, entry};
use crate::api::VrfRouteConfiguration;
use crate::trigger::crd::Crd;
use crate::trigger::{Objects, Once, first_of};

#[derive(Debug, Default)]
pub(super) struct Index {
    /// What the API server tells. Empty until the first list is complete: no answer is not the answer "none".
    known: Option<Entries>,
    /// A list that is under way.
    listing: Entries,
    /// Whether objects are in force here: on a node, not at a webhook.
    in_force: bool,
    /// What an agent before had in force and is not listed, until the API server has told of the CRD.
    accepted: Entries,
    /// UID of the CRD that `known` is of.
    crd: Option<String>,
    /// Nothing is known because the CRD is another one, of which no list has been complete yet.
    stale: bool,
    /// What the API server does not have any more; whether somebody deleted it, or it goes with its CRD, is being asked. It is in force.
    undecided: Entries,
    /// What went with its CRD; in force until all of it has been made again. A CRD is put back without its objects, which follow one by one.
    went: Entries,
    told: Once,
}

impl Index {
    pub(super) fn of_a_node() -> Self {
        Self { in_force: true, ..Self::default() }
    }

    pub(super) fn objects(&self) -> Option<Objects> {
        if [&self.went, &self.undecided, &self.accepted].iter().all(|entries| entries.is_empty()) {
            return Some(self.known.as_ref()?.values().cloned().collect());
        }
        Some(self.all_in_force()?.into_values().collect())
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.is_some()
    }

    pub(super) fn remember(&mut self, accepted: impl Iterator<Item = (String, Entry)>) {
        if self.in_force && self.known.is_none() {
            self.accepted = accepted.collect();
        }
    }

    pub(super) fn are_in_force(&self) -> bool {
        self.in_force
    }

    pub(super) fn list_broke(&mut self) {
        self.listing.clear();
    }

    /// What is known, and what is undecided or went with its CRD and has not been made again. As long as some of it has not, what was made
    /// again is as old as before: of two objects that exclude each other the older one counts.
    fn all_in_force(&self) -> Option<Entries> {
        let known = self.known.as_ref()?;
        let mut all = self.went.clone();
        all.extend(self.accepted.clone());
        all.extend(self.undecided.clone());
        for (name, now) in known {
            let now = all.get(name).map_or_else(|| now.clone(), |before| as_old_as(before, now));
            all.insert(name.clone(), now);
        }
        Some(all)
    }

    /// Who removes a CRD has all objects deleted first, one event each; the CRD has a time of deletion then, or is gone, or is another one.
    /// One that stands as it did says that somebody deleted them.
    pub(super) fn learned(&mut self, crd: Crd) -> Effect {
        match crd {
            Crd::Goes => {
                let vanished = self.undecided.len() + self.accepted.len();
                if vanished > 0 {
                    tracing::warn!(
                        objects = vanished,
                        "the CRD was removed, and its objects with it: they stay in force"
                    );
                }
                self.keep();
                Effect::Same
            }
            Crd::Stands { uid, created } if self.is_another(&uid, created) => {
                if let Some(all) = self.all_in_force() {
                    (self.went, self.known) = (all, Some(Entries::new()));
                    self.undecided.clear();
                    self.accepted.clear();
                }
                self.keep();
                self.listing.clear();
                self.stale = true;
                self.crd = Some(uid);
                Effect::ListAnew
            }
            Crd::Stands { uid, .. } => {
                self.crd = Some(uid);
                if self.known.is_none() || self.stale {
                    return Effect::Same;
                }
                let deleted = std::mem::take(&mut self.undecided).len() + std::mem::take(&mut self.accepted).len();
                let complete = self.went_is_over();
                self.tell_missing();
                Effect::of(deleted > 0 || complete)
            }
        }
    }

    /// Whether the CRD is another one than before. Where it was not told of before: whether an object that is missing is older than it.
    fn is_another(&self, uid: &str, created: Option<Timestamp>) -> bool {
        let is_older = |entry| age(entry).zip(created).is_some_and(|(object, crd)| object < crd);
        self.crd.as_ref().map_or_else(|| self.undecided.values().any(is_older), |known| known != uid)
    }

    /// What is missing went with the CRD.
    fn keep(&mut self) {
        self.went.append(&mut self.accepted);
        self.went.append(&mut self.undecided);
    }

    /// A list is complete: what it lacks, or has anew, is undecided.
    fn listed(&mut self, listed: Entries) -> Effect {
        let remains = |name: &String, old: &Entry| listed.get(name).is_some_and(|new| uid(new) == uid(old));
        self.accepted.retain(|name, old| !remains(name, old));
        let before = self.known.take();
        let first = before.is_none();
        let before = before.unwrap_or_default();
        let news = listed.iter().any(|(name, new)| !before.get(name).is_some_and(|old| same(old, new)));
        let mut lost = false;
        for (name, old) in before {
            if !remains(&name, &old) {
                lost |= !self.hold(name, old);
            }
        }
        self.known = Some(listed);
        self.stale = false;
        Effect::of(first || news || lost)
    }

    /// Takes an object that was known for undecided; at a webhook it is gone at once, and this is `false`.
    fn hold(&mut self, name: String, entry: Entry) -> bool {
        if self.in_force {
            let before = self.undecided.remove(&name).or_else(|| self.went.remove(&name));
            let entry = before.map_or_else(|| entry.clone(), |before| as_old_as(&before, &entry));
            self.undecided.insert(name, entry);
        }
        self.in_force
    }

    /// What went with its CRD and has not been made again.
    fn missing(&self) -> Vec<String> {
        let is_known = |name: &String| self.known.as_ref().is_some_and(|known| known.contains_key(name));
        self.went.keys().filter(|name| !is_known(name)).cloned().collect()
    }

    /// Whether this is the end of what went with its CRD: all of it has been made again, and is as old as it is.
    fn went_is_over(&mut self) -> bool {
        let over = !self.went.is_empty() && self.missing().is_empty();
        if over {
            self.went.clear();
            self.told.is_over();
        }
        over
    }

    fn tell_missing(&mut self) {
        let missing = self.missing();
        let (count, names) = (missing.len(), first_of(&missing, 10));
        if count == 0 {
            self.told.is_over();
        } else if self.told.is_news(&names) {
            tracing::warn!(objects = count, %names, "the CRD is there again without these objects: they stay in force until they are made again or the agent is restarted");
        }
    }

    pub(super) fn event(&mut self, event: watcher::Event<Guarded>) -> Effect {
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
                let complete = self.went_is_over();
                Effect::of(!unchanged || complete)
            }
            watcher::Event::Delete(object) => {
                let name = object.name_any();
                let known = self.known.get_or_insert_default().remove(&name);
                Effect::of(known.is_some_and(|known| !self.hold(name, known)))
            }
        }
    }
}

fn uid(entry: &Entry) -> Option<&str> {
    match entry {
        Ok(object) => object.metadata.uid.as_deref(),
        Err(unreadable) => unreadable.identity.as_ref().map(|identity| identity.uid.as_str()),
    }
}

fn age(entry: &Entry) -> Option<Timestamp> {
    entry.as_ref().ok()?.metadata.creation_timestamp.as_ref().map(|time| time.0)
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
