//! What is said of an object before it is stored: the agents' verdict on it, beside the objects that are stored. Pure.

mod judge;
pub mod server;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::config::OperatorConfig;
use crate::desired::Rejection;
use crate::frr::template::Template;
use crate::reconcile::verdict;
use crate::trigger::{Objects, first_of, object};

/// An object that somebody wants to store.
#[derive(Debug, Clone)]
pub struct Change {
    /// As it would be stored.
    pub object: Value,
    /// As it is stored; `None` where it is new.
    pub old: Option<Value>,
}

/// What is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion {
    /// It may be stored; with words for whoever wants to.
    Allowed(Vec<String>),
    /// Every agent would leave it out.
    Denied(Rejection),
}

/// At most so many objects are named in a warning: API servers cut long ones.
const NAMED: usize = 2;

impl Change {
    /// The agents' verdict, with this operator file and template.
    ///
    /// An object that is bad already may be labelled, annotated and deleted: only a change of its spec is judged.
    pub fn opinion(&self, stored: &Objects, config: &OperatorConfig, template: Option<&Template>) -> Opinion {
        let (rejection, pushed_out) = self.verdict(stored, config, template);
        match rejection {
            Some(rejection) if self.is_of_the_spec() => Opinion::Denied(rejection),
            Some(rejection) => Opinion::Allowed(vec![format!("left out as before: {}", rejection.with_reason())]),
            None if pushed_out.is_empty() => Opinion::Allowed(Vec::new()),
            None => {
                let named: Vec<_> = pushed_out.iter().map(Rejection::with_reason).collect();
                Opinion::Allowed(vec![format!("now left out because of this: {}", first_of(&named, NAMED))])
            }
        }
    }

    fn is_of_the_spec(&self) -> bool {
        let deleted = self.object.pointer("/metadata/deletionTimestamp").is_some();
        !deleted && self.old.as_ref().is_none_or(|old| old.get("spec") != self.object.get("spec"))
    }

    /// Why it would be left out, and which younger objects it would push out that are in force now.
    fn verdict(
        &self,
        stored: &Objects,
        config: &OperatorConfig,
        template: Option<&Template>,
    ) -> (Option<Rejection>, Vec<Rejection>) {
        let object = match object::parse("the object", self.object.clone()) {
            Ok(object) => Arc::new(object),
            Err(rejection) => return (Some(rejection), Vec::new()),
        };
        let others = stored.objects.iter().filter(|other| other.metadata.name != object.metadata.name);
        let objects = others.chain([&object]).cloned().collect();
        let rejections = verdict(&Objects { objects, unreadable: Vec::new() }, config, template).rejections;
        let name = object.metadata.name.as_deref();
        let (mut own, mut others): (Vec<_>, Vec<_>) =
            rejections.into_iter().partition(|rejection| Some(rejection.object.as_str()) == name);
        if !others.is_empty() {
            let before = verdict(stored, config, template).rejections;
            let before: BTreeSet<&str> = before.iter().map(|rejection| rejection.object.as_str()).collect();
            others.retain(|rejection| !before.contains(rejection.object.as_str()));
        }
        (own.pop(), others)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn object(name: &str, created: u8, seq: u16) -> Value {
        json!({
            "apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration",
            "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z")},
            "spec": {"vrf": "a", "seq": seq, "import": [], "export": []},
        })
    }

    fn opinion(stored: &[Value], object: Value, old: Option<Value>) -> Opinion {
        let config = OperatorConfig::parse("vnimap: {a: 1}\n", Path::new("config.yaml")).unwrap();
        let stored = stored.iter().map(|value| Arc::new(serde_json::from_value(value.clone()).unwrap()));
        let stored = Objects { objects: stored.collect(), unreadable: Vec::new() };
        Change { object, old }.opinion(&stored, &config, None)
    }

    fn denied(opinion: Opinion) -> String {
        match opinion {
            Opinion::Denied(rejection) => rejection.with_reason(),
            Opinion::Allowed(warnings) => panic!("allowed: {warnings:?}"),
        }
    }

    #[test]
    fn a_new_object_is_judged_beside_the_stored_ones_and_a_stored_one_beside_the_others() {
        let stored = [object("one", 1, 10)];
        assert_eq!(opinion(&stored, object("two", 2, 11), None), Opinion::Allowed(Vec::new()));
        assert_eq!(
            denied(opinion(&stored, object("two", 2, 10), None)),
            "two: spec.seq: an older object of VRF a has seq 10 too; give each object of a VRF its own number (DuplicateSeq)"
        );
        let changed = opinion(&stored, object("one", 1, 12), Some(object("one", 1, 10)));
        assert_eq!(changed, Opinion::Allowed(Vec::new()), "not beside what it was before");
    }

    #[test]
    fn what_cannot_be_read_is_denied_with_its_field() {
        let mut bad = object("one", 1, 10);
        bad["spec"]["mtu"] = json!("wide");
        assert!(denied(opinion(&[], bad, None)).starts_with("one: spec.mtu: "));
    }

    #[test]
    fn a_bad_object_may_be_annotated_and_deleted_and_not_changed() {
        let stored = [object("one", 1, 10), object("two", 2, 10)];
        let mut two = object("two", 2, 10);
        two["metadata"]["annotations"] = json!({"note": "bad"});
        let Opinion::Allowed(warnings) = opinion(&stored, two.clone(), Some(object("two", 2, 10))) else { panic!() };
        assert!(warnings[0].starts_with("left out as before: two: spec.seq: "), "{warnings:?}");
        two["spec"]["mtu"] = json!(1500);
        denied(opinion(&stored, two.clone(), Some(object("two", 2, 10))));
        two["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
        assert!(matches!(opinion(&stored, two, Some(object("two", 2, 10))), Opinion::Allowed(_)));
    }

    #[test]
    fn whoever_pushes_out_a_younger_object_is_told_once() {
        let stored = [object("one", 1, 10), object("two", 2, 11)];
        let Opinion::Allowed(warnings) = opinion(&stored, object("one", 1, 11), Some(object("one", 1, 10))) else {
            panic!()
        };
        assert!(warnings[0].starts_with("now left out because of this: two: spec.seq: "), "{warnings:?}");
        let stored = [object("one", 1, 10), object("two", 2, 10)];
        assert_eq!(opinion(&stored, object("three", 3, 12), None), Opinion::Allowed(Vec::new()), "was out before");
    }
}
