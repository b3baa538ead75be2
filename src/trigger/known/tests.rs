//! Lists, changes and kinds that go, in the orders in which they may come.

use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
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
    objects.event(watcher::Event::InitDone);
    assert_eq!(count(&objects), 2, "the CRD is put back before its objects");
    objects.event(watcher::Event::InitApply(object("b", json!(1), "")));
    objects.event(watcher::Event::InitDone);
    assert_eq!(count(&objects), 2, "or with some of them");
    assert_eq!(objects.event(watcher::Event::Delete(object("b", json!(1), ""))), Effect::Changed);
    assert_eq!(count(&objects), 1, "what was made again may be deleted");
    assert_eq!(objects.event(watcher::Event::Apply(object("c", json!(2), ""))), Effect::Changed);
    assert_eq!(objects.event(watcher::Event::InitDone), Effect::Changed, "all are back: an empty list is an answer");
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
fn a_list_between_the_deletions_and_the_news_that_the_kind_went_loses_nothing() {
    let objects = of_a_node();
    assert_eq!(list_of(&objects, &[("a", "1"), ("b", "2")]), ["a", "b"]);
    objects.event(watcher::Event::Delete(object("b", json!(1), "")));
    objects.event(watcher::Event::InitDone);
    objects.kind_is_gone();
    objects.event(watcher::Event::InitDone);
    assert_eq!(list_of(&objects, &[]), ["a", "b"]);
}

#[test]
fn what_is_made_again_is_as_old_as_before_while_others_are_missing() {
    let objects = of_a_node();
    let told = |name: &str, second: i64| {
        let mut object = object(name, json!(1), "");
        object.0.as_mut().unwrap().metadata.creation_timestamp =
            Some(Time(jiff::Timestamp::from_second(second).unwrap()));
        object
    };
    let ages = || {
        let objects = objects.snapshot().unwrap().objects.into_iter();
        objects.map(|object| object.metadata.creation_timestamp.as_ref().unwrap().0.as_second()).collect::<Vec<_>>()
    };
    for (name, age) in [("first", 1), ("second", 2)] {
        objects.event(watcher::Event::InitApply(told(name, age)));
    }
    objects.event(watcher::Event::InitDone);
    objects.kind_is_gone();
    objects.event(watcher::Event::InitDone);
    objects.event(watcher::Event::Apply(told("first", 7)));
    assert_eq!(ages(), [1, 2]);
    // The kind goes a second time.
    objects.event(watcher::Event::Delete(told("first", 7)));
    objects.kind_is_gone();
    objects.event(watcher::Event::InitDone);
    assert_eq!(ages(), [1, 2]);
    objects.event(watcher::Event::Apply(told("first", 8)));
    objects.event(watcher::Event::Apply(told("second", 9)));
    assert_eq!(ages(), [8, 9]);
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
    assert!(objects.snapshot().unwrap().objects.is_empty(), "of a node that never had any, no objects is an answer");
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

#[test]
fn a_kind_that_went_and_came_back_unheard_is_told_by_the_uids() {
    let objects = of_a_node();
    assert_eq!(list_of(&objects, &[("a", "1"), ("b", "2")]), ["a", "b"]);
    objects.list_broke();
    assert_eq!(list_of(&objects, &[("a", "3")]), ["a", "b"]);
    objects.list_broke();
    assert_eq!(list_of(&objects, &[("a", "3"), ("b", "4")]), ["a", "b"]);
    objects.list_broke();
    assert_eq!(list_of(&objects, &[("a", "3")]), ["a"], "it was deleted while nothing was heard");
    let accepted = [Arc::new(object("b", json!(1), "").0.unwrap())];
    let started = KubeObjects::default();
    started.remember(&accepted);
    assert_eq!(list_of(&started, &[]), [""; 0], "an agent that starts believes an empty list");
}

#[test]
fn what_was_made_again_and_deleted_since_does_not_come_back() {
    let objects = of_a_node();
    assert_eq!(list_of(&objects, &[("a", "1"), ("b", "2"), ("c", "3")]).len(), 3);
    objects.kind_is_gone();
    assert_eq!(list_of(&objects, &[("a", "4"), ("b", "5")]), ["a", "b", "c"]);
    objects.list_broke();
    assert_eq!(list_of(&objects, &[("b", "5")]), ["b", "c"], "a list tells of the deletion");
    objects.kind_is_gone();
    assert_eq!(list_of(&objects, &[("b", "5")]), ["b", "c"]);
    objects.event(watcher::Event::Delete(object("b", json!(1), "")));
    assert_eq!(objects.snapshot().unwrap().objects.len(), 1);
}
