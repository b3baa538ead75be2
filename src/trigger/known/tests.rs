//! Lists, changes and kinds that go, in the orders in which they may come.

use super::*;
use jiff::Timestamp;
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

fn stands(uid: &str) -> Crd {
    Crd::Stands { uid: uid.to_owned(), created: None }
}

/// The same of one that was made then.
fn stands_since(uid: &str, second: i64) -> Crd {
    Crd::Stands { uid: uid.to_owned(), created: Timestamp::from_second(second).ok() }
}

/// An object that was made then; the time is its UID, too.
fn made(name: &str, second: i64) -> Guarded {
    let mut object = with_uid(name, &second.to_string());
    let time = Time(Timestamp::from_second(second).unwrap());
    object.0.as_mut().unwrap().metadata.creation_timestamp = Some(time);
    object
}

/// Lists objects with UIDs.
fn list_of(objects: &KubeObjects, listed: &[(&str, &str)]) -> Effect {
    for (name, uid) in listed {
        objects.event(watcher::Event::InitApply(with_uid(name, uid)));
    }
    objects.event(watcher::Event::InitDone)
}

fn with_uid(name: &str, uid: &str) -> Guarded {
    let mut object = object(name, json!(1), "");
    object.0.as_mut().unwrap().metadata.uid = Some(uid.to_owned());
    object
}

fn delete(objects: &KubeObjects, name: &str) -> Effect {
    objects.event(watcher::Event::Delete(object(name, json!(1), "")))
}

/// Those in force.
fn names(objects: &KubeObjects) -> Vec<String> {
    objects.snapshot().unwrap().objects.iter().map(|object| object.name_any()).collect()
}

/// An agent that knows these objects of CRD "first".
fn that_knows(listed: &[(&str, &str)]) -> KubeObjects {
    let objects = KubeObjects::of_a_node();
    assert_eq!(list_of(&objects, listed), Effect::Changed);
    assert_eq!(objects.learned(stands("first")), Effect::Same);
    objects
}

#[test]
fn what_is_deleted_is_in_force_until_the_crd_is_seen_to_stand() {
    let objects = that_knows(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(delete(&objects, "a"), Effect::Same);
    assert_eq!(delete(&objects, "a"), Effect::Same);
    assert_eq!(names(&objects), ["a", "b", "c"], "whatever else asks for a run");
    assert_eq!(objects.learned(stands("first")), Effect::Changed);
    assert_eq!(names(&objects), ["b", "c"]);
    assert_eq!(objects.learned(stands("first")), Effect::Same);
    // So is what a list lacks, and what was made anew while nothing was heard.
    assert_eq!(list_of(&objects, &[("b", "4")]), Effect::Changed);
    assert_eq!(names(&objects), ["b", "c"]);
    assert_eq!(objects.learned(stands("first")), Effect::Changed);
    assert_eq!(names(&objects), ["b"]);
    assert_eq!(list_of(&objects, &[]), Effect::Same);
    assert_eq!(objects.learned(stands("first")), Effect::Changed);
    assert_eq!(names(&objects), [""; 0]);
}

#[test]
fn objects_that_went_with_their_crd_stay_in_force_until_all_are_made_again() {
    let objects = that_knows(&[("a", "1"), ("b", "2"), ("c", "3")]);
    for name in ["a", "b", "c"] {
        delete(&objects, name);
        assert_eq!(objects.learned(Crd::Goes), Effect::Same);
        assert_eq!(names(&objects), ["a", "b", "c"]);
    }
    // The CRD is put back before its objects, or with some of them.
    for listed in [&[][..], &[("b", "4")]] {
        list_of(&objects, listed);
        let (learned, known) = (objects.learned(stands("second")), listed.is_empty());
        assert_eq!(learned, if known { Effect::ListAnew } else { Effect::Same });
        assert_eq!(names(&objects), ["a", "b", "c"]);
    }
    delete(&objects, "b");
    assert_eq!(objects.learned(stands("second")), Effect::Changed);
    assert_eq!(names(&objects), ["a", "c"], "what was made again may be deleted");
    assert_eq!(objects.event(watcher::Event::Apply(with_uid("a", "5"))), Effect::Changed);
    assert_eq!(objects.event(watcher::Event::Apply(with_uid("c", "6"))), Effect::Changed);
    list_of(&objects, &[]);
    assert_eq!(objects.learned(stands("second")), Effect::Changed, "all are back: an empty list is an answer");
    assert_eq!(names(&objects), [""; 0]);
}

#[test]
fn a_crd_that_is_put_back_at_once_is_another_one() {
    // Heard of its deletions, of some of them, or of none, and with none, some or all of its objects there again.
    for (deleted, listed) in [
        (&["a", "b"][..], &[][..]),
        (&["a", "b"], &[("b", "3")]),
        (&["b"], &[("a", "3")]),
        (&[], &[]),
        (&[], &[("a", "3")]),
        (&[], &[("a", "3"), ("b", "4")]),
    ] {
        let objects = that_knows(&[("a", "1"), ("b", "2")]);
        for name in deleted {
            delete(&objects, name);
        }
        objects.list_broke();
        list_of(&objects, listed);
        assert_eq!(names(&objects), ["a", "b"], "{deleted:?}, {listed:?}");
        assert_eq!(objects.learned(stands("second")), Effect::ListAnew);
        assert_eq!(names(&objects), ["a", "b"], "{deleted:?}, {listed:?}");
        list_of(&objects, listed);
        assert_eq!(objects.learned(stands("second")), Effect::of(listed.len() == 2), "all are as old as they are");
        assert_eq!(names(&objects), ["a", "b"], "{deleted:?}, {listed:?}");
        // What was made again is deleted.
        for (name, _) in listed {
            delete(&objects, name);
        }
        assert_eq!(objects.learned(stands("second")), Effect::of(!listed.is_empty()));
        assert_eq!(names(&objects).len(), 2 - listed.len());
    }
}

#[test]
fn of_a_crd_that_is_another_one_nothing_is_known_or_missing_before_its_own_list() {
    let objects = that_knows(&[("a", "1")]);
    objects.event(watcher::Event::InitApply(with_uid("b", "2")));
    assert_eq!(objects.learned(stands("second")), Effect::ListAnew);
    assert_eq!(objects.learned(stands("second")), Effect::Same);
    assert_eq!(objects.event(watcher::Event::InitDone), Effect::Same, "what was listed before is not of this list");
    assert_eq!(names(&objects), ["a"]);
}

#[test]
fn a_list_of_a_crd_that_goes_just_then_loses_nothing() {
    let objects = that_knows(&[("a", "1"), ("b", "2")]);
    // It was listed, and then the CRD was replaced.
    list_of(&objects, &[("a", "1")]);
    assert_eq!(objects.learned(stands("second")), Effect::ListAnew);
    list_of(&objects, &[]);
    assert_eq!(objects.learned(stands("second")), Effect::Same);
    assert_eq!(names(&objects), ["a", "b"]);
}

#[test]
fn an_api_server_that_did_not_know_the_kind_for_a_moment_is_believed_again() {
    let objects = that_knows(&[("a", "1"), ("b", "2")]);
    objects.list_broke();
    assert_eq!(objects.learned(Crd::Goes), Effect::Same);
    list_of(&objects, &[("a", "1")]);
    assert_eq!(objects.learned(stands("first")), Effect::Changed);
    assert_eq!(names(&objects), ["a"], "one was deleted meanwhile");
}

#[test]
fn what_is_made_again_is_as_old_as_before_while_others_are_missing() {
    let objects = KubeObjects::of_a_node();
    let ages = || {
        let objects = objects.snapshot().unwrap().objects.into_iter();
        objects.map(|object| object.metadata.creation_timestamp.as_ref().unwrap().0.as_second()).collect::<Vec<_>>()
    };
    for (name, age) in [("first", 1), ("second", 2)] {
        objects.event(watcher::Event::InitApply(made(name, age)));
    }
    objects.event(watcher::Event::InitDone);
    objects.learned(stands("1"));
    // The CRD goes twice.
    for crd in ["2", "3"] {
        list_of(&objects, &[]);
        assert_eq!(objects.learned(stands(crd)), Effect::ListAnew);
        list_of(&objects, &[]);
        objects.learned(stands(crd));
        objects.event(watcher::Event::Apply(made("first", 7)));
        assert_eq!(ages(), [1, 2]);
        objects.event(watcher::Event::Delete(made("first", 7)));
        objects.learned(Crd::Goes);
        assert_eq!(ages(), [1, 2]);
    }
    objects.event(watcher::Event::InitApply(made("first", 8)));
    objects.event(watcher::Event::InitApply(made("second", 9)));
    assert_eq!(objects.event(watcher::Event::InitDone), Effect::Changed);
    assert_eq!(ages(), [1, 2]);
    assert_eq!(objects.learned(stands("3")), Effect::Changed, "a run may have come meanwhile");
    assert_eq!(ages(), [8, 9]);
}

#[test]
fn where_the_crd_was_not_told_of_before_objects_older_than_it_went_with_another_one() {
    for (since, effect, in_force) in [(2, Effect::Changed, 1), (6, Effect::ListAnew, 2)] {
        let objects = KubeObjects::of_a_node();
        objects.event(watcher::Event::InitApply(made("a", 3)));
        objects.event(watcher::Event::InitDone);
        objects.event(watcher::Event::Delete(made("a", 3)));
        objects.event(watcher::Event::Apply(made("b", 7)));
        assert_eq!(objects.learned(stands_since("1", since)), effect);
        objects.event(watcher::Event::InitApply(made("b", 7)));
        objects.event(watcher::Event::InitDone);
        objects.learned(stands_since("1", since));
        assert_eq!(names(&objects).len(), in_force);
    }
}

#[test]
fn news_of_the_crd_before_the_first_list_is_no_list() {
    let accepted = [Arc::new(with_uid("a", "1").0.unwrap())];
    for (accepted, uid, in_force) in [(&accepted[..], "first", 0), (&accepted, "second", 1), (&[], "second", 0)] {
        let objects = KubeObjects::of_a_node();
        objects.remember(accepted);
        objects.learned(stands("first"));
        objects.learned(stands(uid));
        assert!(objects.snapshot().is_none());
        assert_eq!(list_of(&objects, &[]), Effect::Changed);
        assert_eq!(objects.learned(stands(uid)), Effect::of(uid == "first"));
        assert_eq!(names(&objects).len(), in_force);
    }
}

#[test]
fn a_webhook_has_no_objects_in_force() {
    let objects = KubeObjects::default();
    list_of(&objects, &[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(delete(&objects, "b"), Effect::Changed);
    assert_eq!(names(&objects), ["a", "c"]);
    assert_eq!(list_of(&objects, &[("a", "4")]), Effect::Changed);
    assert_eq!(names(&objects), ["a"]);
    assert_eq!(list_of(&objects, &[]), Effect::Changed);
    assert_eq!(names(&objects), [""; 0]);
}

#[test]
fn what_an_agent_before_had_in_force_outlives_a_crd_that_is_missing_and_no_other_answer() {
    let accepted = ["a", "b"].map(|name| Arc::new(with_uid(name, "1").0.unwrap()));
    let started = || {
        let objects = KubeObjects::of_a_node();
        objects.remember(&accepted);
        objects
    };
    let missing = started();
    assert_eq!(missing.learned(Crd::Goes), Effect::Same);
    assert!(missing.snapshot().is_none(), "no answer yet");
    list_of(&missing, &[("b", "2")]);
    missing.learned(stands("first"));
    assert_eq!(names(&missing), ["a", "b"]);
    // It goes while the agent starts.
    let going = started();
    list_of(&going, &[("b", "1")]);
    going.learned(Crd::Goes);
    assert_eq!(names(&going), ["a", "b"]);
    // Another cluster, or what was deleted while no agent ran.
    let there = started();
    list_of(&there, &[("b", "2"), ("c", "3")]);
    assert_eq!(there.learned(stands("first")), Effect::Changed);
    assert_eq!(names(&there), ["b", "c"]);
    let never = KubeObjects::of_a_node();
    never.learned(Crd::Goes);
    list_of(&never, &[]);
    assert_eq!(names(&never), [""; 0], "of a node that never had any, no objects is an answer");
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

/// Lists these of CRD "second" until it is known, and gives the names of those in force.
fn in_force_of_second(objects: &KubeObjects, listed: &[(&str, &str)]) -> Vec<String> {
    list_of(objects, listed);
    if objects.learned(stands("second")) == Effect::ListAnew {
        list_of(objects, listed);
        objects.learned(stands("second"));
    }
    names(objects)
}

#[test]
fn what_was_made_again_and_deleted_since_does_not_come_back() {
    let objects = that_knows(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(in_force_of_second(&objects, &[("a", "4"), ("b", "5")]), ["a", "b", "c"]);
    objects.list_broke();
    assert_eq!(in_force_of_second(&objects, &[("b", "5")]), ["b", "c"], "a list tells of the deletion");
    objects.learned(Crd::Goes);
    assert_eq!(in_force_of_second(&objects, &[("b", "5")]), ["b", "c"]);
    delete(&objects, "b");
    objects.learned(stands("second"));
    assert_eq!(names(&objects), ["c"]);
}

#[test]
fn while_objects_are_missing_an_api_server_of_several_may_not_know_the_kind_for_a_moment() {
    let objects = that_knows(&[("a", "1"), ("b", "3"), ("c", "4")]);
    objects.learned(Crd::Goes);
    assert_eq!(in_force_of_second(&objects, &[("a", "5")]), ["a", "b", "c"]);
    objects.learned(Crd::Goes);
    assert_eq!(in_force_of_second(&objects, &[("a", "5")]), ["a", "b", "c"]);
    assert_eq!(in_force_of_second(&objects, &[("a", "5"), ("b", "6"), ("c", "7")]), ["a", "b", "c"]);
    assert_eq!(in_force_of_second(&objects, &[("a", "5")]), ["a"], "all were made again, and two deleted");
}
