//! What is known of the objects of an API server, and what stays in force where their kind goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;

use super::crd::Crd;
use super::{Identity, Objects, Unreadable};
use crate::api::VrfRouteConfiguration;
use crate::desired::{Rejection, RejectionReason};
use index::Index;

mod index;

/// An object that may not be one.
pub type Guarded = DeserializeGuard<VrfRouteConfiguration>;
type Entry = Result<Arc<VrfRouteConfiguration>, Arc<Unreadable>>;
type Entries = BTreeMap<String, Entry>;

/// What is known of the objects; shared between the watch and the runs.
#[derive(Debug, Clone, Default)]
pub struct KubeObjects {
    inner: Arc<Mutex<Index>>,
}

/// Whether an event changed what a run would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Changed,
    Same,
    /// All objects known are of a CRD that is another one now: they are to be listed anew.
    ListAnew,
}

impl Effect {
    fn of(changed: bool) -> Self {
        if changed { Self::Changed } else { Self::Same }
    }
}

impl KubeObjects {
    /// Those of a node, on which they are in force: what goes with its CRD stays.
    pub fn of_a_node() -> Self {
        Self { inner: Arc::new(Mutex::new(Index::of_a_node())) }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All objects; `None` while no list has been complete. What was known stays known while the API server is away.
    pub fn snapshot(&self) -> Option<Objects> {
        self.index().objects()
    }

    /// Whether a list has been complete.
    pub fn is_known(&self) -> bool {
        self.index().is_known()
    }

    /// What an agent before had in force stays where the CRD is found to be missing.
    pub fn remember(&self, accepted: &[Arc<VrfRouteConfiguration>]) {
        self.index().remember(accepted.iter().map(|object| (object.name_any(), Ok(Arc::clone(object)))));
    }

    /// Whether what vanished is in force until the API server has told why.
    pub(super) fn are_in_force(&self) -> bool {
        self.index().are_in_force()
    }

    pub(super) fn list_broke(&self) {
        self.index().list_broke();
    }

    pub(super) fn event(&self, event: watcher::Event<Guarded>) -> Effect {
        self.index().event(event)
    }

    /// What the API server said of the CRD, asked after all that was heard.
    pub(super) fn learned(&self, crd: Crd) -> Effect {
        self.index().learned(crd)
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

#[cfg(test)]
mod tests;
