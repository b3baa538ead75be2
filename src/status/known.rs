//! What a watch has told of one kind of object, by name. Pure.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::runtime::watcher;

use crate::trigger::{Once, with_causes};

/// What is known, and what is made of it.
#[derive(Debug)]
pub struct Known<V> {
    /// By name.
    pub all: BTreeMap<String, V>,
    /// Whether a first list was complete: until then, what is missing may be there.
    pub complete: bool,
    listing: BTreeMap<String, V>,
    told: Once,
}

/// What an event comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something is another.
    New,
    /// Nothing is.
    Same,
    /// The API server says something that it has not said before.
    Error(String),
}

impl<V> Default for Known<V> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), complete: false, listing: BTreeMap::new(), told: Once::default() }
    }
}

impl<V: PartialEq> Known<V> {
    /// Takes in an event; `of` gives what is kept of an object.
    pub fn hear<K: ResourceExt>(&mut self, event: watcher::Result<watcher::Event<K>>, of: impl Fn(&K) -> V) -> Heard {
        let new = match event {
            Ok(watcher::Event::Init) => false,
            Ok(watcher::Event::InitApply(object)) => {
                self.listing.insert(object.name_any(), of(&object));
                false
            }
            Ok(watcher::Event::InitDone) => {
                let listed = std::mem::take(&mut self.listing);
                let new = !self.complete || self.all != listed;
                (self.all, self.complete) = (listed, true);
                self.told.is_over();
                new
            }
            Ok(watcher::Event::Apply(object)) => {
                let value = of(&object);
                let new = self.all.get(&object.name_any()) != Some(&value);
                self.all.insert(object.name_any(), value);
                new
            }
            Ok(watcher::Event::Delete(object)) => self.all.remove(&object.name_any()).is_some(),
            Err(error) => {
                // Of a list that broke off nothing counts.
                self.listing.clear();
                let error = with_causes(&error);
                return if self.told.is_news(&error) { Heard::Error(error) } else { Heard::Same };
            }
        };
        if new { Heard::New } else { Heard::Same }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Node;

    fn node(name: &str, label: &str) -> Node {
        serde_json::from_value(serde_json::json!({"metadata": {"name": name, "labels": {"l": label}}})).unwrap()
    }

    #[test]
    fn only_what_changes_what_is_kept_is_new_and_an_error_is_told_once() {
        let mut known = Known::default();
        let label = |node: &Node| node.labels().get("l").cloned();
        let mut hear = |event| known.hear(event, label);
        assert_eq!(hear(Ok(watcher::Event::Init)), Heard::Same);
        assert_eq!(hear(Ok(watcher::Event::InitApply(node("a", "1")))), Heard::Same);
        assert_eq!(hear(Ok(watcher::Event::InitDone)), Heard::New);
        assert_eq!(hear(Ok(watcher::Event::Apply(node("a", "1")))), Heard::Same);
        assert_eq!(hear(Ok(watcher::Event::Apply(node("a", "2")))), Heard::New);
        assert!(matches!(hear(Err(watcher::Error::NoResourceVersion)), Heard::Error(_)));
        assert_eq!(hear(Err(watcher::Error::NoResourceVersion)), Heard::Same);
        assert_eq!(hear(Ok(watcher::Event::Init)), Heard::Same);
        assert_eq!(hear(Ok(watcher::Event::InitApply(node("a", "2")))), Heard::Same);
        assert_eq!(hear(Ok(watcher::Event::InitDone)), Heard::Same, "listed again after a lost watch");
        assert_eq!(hear(Ok(watcher::Event::Delete(node("a", "2")))), Heard::New);
        assert_eq!(hear(Ok(watcher::Event::Delete(node("a", "2")))), Heard::Same);
    }
}
