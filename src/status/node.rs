//! What a run says of its node. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::condition::{Holds, condition, shortened};
use crate::api::{LastRun, NodeNetworkStateStatus, ObjectResult, ObjectState, RunState, VrfState};
use crate::desired::Rejection;
use crate::link::LinkProblem;
use crate::trigger::{Identity, Objects};

/// The reason of an object that a run did not get to: it failed before any was judged.
pub const NOT_JUDGED: &str = "NotJudged";

/// What a run found and did.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// When it began.
    pub start: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What it did to the node; nothing where the node was as it should be.
    pub done: Option<String>,
    /// Whether that was to put back what somebody else had moved.
    pub repair: bool,
    /// Why it failed.
    pub failure: Option<String>,
    /// Whether something is in the way of links.
    pub incomplete: bool,
    /// What is not as it should be with the eBPF router.
    pub router: Vec<String>,
    /// What became of each object.
    pub objects: Vec<ObjectState>,
    /// What there is of each VRF.
    pub vrfs: Vec<VrfState>,
    /// Hash of the frr.conf that FRR was last seen to run.
    pub configuration: Option<String>,
    /// Version of FRR.
    pub frr_version: Option<String>,
}

/// What the node is to be said to be, where that is anything new. Runs that find nothing to do are nothing new.
pub fn next(old: &NodeNetworkStateStatus, report: &RunReport, now: Timestamp) -> Option<NodeNetworkStateStatus> {
    let RunReport {
        start,
        took,
        done,
        repair: _,
        failure,
        incomplete,
        router,
        objects,
        vrfs,
        configuration,
        frr_version,
    } = report;
    let left_out = objects.iter().filter(|object| object.result != ObjectResult::Applied).count();
    let broken = vrfs.iter().filter(|vrf| !vrf.up).count();
    let result = match (failure, *incomplete || !router.is_empty()) {
        (Some(_), _) => RunState::Failed,
        (None, false) => RunState::Succeeded,
        (None, true) => RunState::Incomplete,
    };
    let message = shortened(failure.clone().or_else(|| done.clone()).unwrap_or_default());
    let ready = match failure {
        None => (Holds::Yes, ("Verified", "FRR was seen to run what the objects say".to_owned())),
        Some(failure) => (Holds::No, ("RunFailed", failure.clone())),
    };
    let degraded = match (failure, left_out + broken) {
        (Some(failure), _) => (Holds::Yes, ("RunFailed", failure.clone())),
        (None, 0) if router.is_empty() => (Holds::No, ("Complete", "nothing is left out".to_owned())),
        (None, 0) => (Holds::Yes, ("Router", shortened(router.join("; ")))),
        (None, _) => (Holds::Yes, ("LeftOut", format!("{left_out} objects and {broken} VRFs are left out"))),
    };
    let condition = |kind, (holds, words)| condition(kind, holds, words, None, &old.conditions, now);
    let conditions = vec![condition("Ready", ready), condition("Degraded", degraded)];
    let run = LastRun { start: Time(*start), duration_millis: millis(*took), result, message };
    // A run that did nothing is nothing new, unless it ends a failure; a failure is nothing new where it is the one of before.
    let told = old.last_run.as_ref().is_some_and(|old| done.is_none() && (old.result, failure) == (run.result, &None));
    let told = told
        || old
            .last_run
            .as_ref()
            .is_some_and(|old| failure.is_some() && (old.result, &old.message) == (run.result, &run.message));
    let new = NodeNetworkStateStatus {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        frr_version: frr_version.clone(),
        configuration: configuration.clone(),
        last_run: if told { old.last_run.clone() } else { Some(run) },
        objects: objects.clone(),
        vrf_count: u32::try_from(vrfs.len() - broken).unwrap_or(u32::MAX),
        vrfs: vrfs.clone(),
        conditions,
    };
    (new != *old).then_some(new)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What became of the objects of a run, which may have failed for a reason, in words. `in_force` are those that the node is verified to run, by name.
pub fn objects(
    objects: &Objects,
    rejections: &[Rejection],
    problems: &[LinkProblem],
    (reason, failure): (&str, Option<&str>),
    in_force: &BTreeMap<String, Identity>,
) -> Vec<ObjectState> {
    let rejected: BTreeMap<&str, &Rejection> =
        rejections.iter().map(|rejection| (rejection.object.as_str(), rejection)).collect();
    let mut states: Vec<ObjectState> = Vec::new();
    for (name, identity, vrf) in objects.identities() {
        let (result, reason, message) = match rejected.get(name) {
            Some(rejection) => {
                let Rejection { object: _, field, reason, message, cure } = rejection;
                (ObjectResult::Rejected, format!("{reason:?}"), format!("{field}: {message}; {cure}"))
            }
            None if in_force.get(name) == Some(&identity) => (ObjectResult::Applied, String::new(), String::new()),
            None => match problems.iter().find(|problem| vrf.is_some_and(|vrf| problem.vrf.as_str() == vrf)) {
                Some(LinkProblem { vrf: _, message, cure }) => {
                    (ObjectResult::Failed, "LinkProblem".to_owned(), format!("{message}; {cure}"))
                }
                None => {
                    let words = failure.unwrap_or("it was not applied").to_owned();
                    (ObjectResult::Failed, reason.to_owned(), words)
                }
            },
        };
        let Identity { uid, generation } = identity;
        states.push(ObjectState {
            name: name.to_owned(),
            uid,
            generation,
            result,
            reason,
            message: shortened(message),
        });
    }
    states.sort_by(|a, b| a.name.cmp(&b.name));
    states
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::RejectionReason;
    use crate::trigger::Unreadable;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn report(done: Option<&str>, failure: Option<&str>) -> RunReport {
        RunReport {
            start: at(10),
            took: Duration::from_millis(1500),
            done: done.map(str::to_owned),
            repair: false,
            failure: failure.map(str::to_owned),
            incomplete: false,
            router: Vec::new(),
            objects: Vec::new(),
            vrfs: Vec::new(),
            configuration: Some("abc".to_owned()),
            frr_version: Some("10.3".to_owned()),
        }
    }

    fn of<'a>(state: &'a NodeNetworkStateStatus, kind: &str) -> (&'a str, &'a str) {
        let condition = state.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (&condition.status, &condition.reason)
    }

    #[test]
    fn a_run_that_found_nothing_to_do_says_nothing_new() {
        let first = next(&NodeNetworkStateStatus::default(), &report(Some("frr.conf"), None), at(12)).unwrap();
        assert_eq!((of(&first, "Ready"), of(&first, "Degraded")), (("True", "Verified"), ("False", "Complete")));
        let again = RunReport { start: at(60), ..report(None, None) };
        assert_eq!(next(&first, &again, at(61)), None);
        let repaired = next(&first, &RunReport { start: at(90), ..report(Some("repaired"), None) }, at(91)).unwrap();
        assert_eq!(repaired.last_run.unwrap().start, Time(at(90)));
        assert_eq!(repaired.conditions, first.conditions, "what holds as before has the time of before");
    }

    #[test]
    fn a_router_that_is_not_all_there_degrades_the_node_and_nothing_else() {
        let report = RunReport { router: vec!["bpfInterfaces: link x is not there".to_owned()], ..report(None, None) };
        let state = next(&NodeNetworkStateStatus::default(), &report, at(12)).unwrap();
        assert_eq!((of(&state, "Ready"), of(&state, "Degraded")), (("True", "Verified"), ("True", "Router")));
        assert_eq!(state.last_run.unwrap().result, RunState::Incomplete);
        assert!(state.conditions.iter().any(|condition| condition.message.contains("link x")));
    }

    #[test]
    fn a_failure_is_told_once_and_its_end_too() {
        let good = next(&NodeNetworkStateStatus::default(), &report(None, None), at(12)).unwrap();
        let bad = next(&good, &report(None, Some("FRR refuses line 7")), at(20)).unwrap();
        assert_eq!(of(&bad, "Ready"), ("False", "RunFailed"));
        let run = bad.last_run.clone().unwrap();
        assert_eq!(
            (run.result, run.message.as_str(), run.duration_millis),
            (RunState::Failed, "FRR refuses line 7", 1500)
        );
        assert_eq!(next(&bad, &RunReport { start: at(30), ..report(None, Some("FRR refuses line 7")) }, at(31)), None);
        assert!(next(&bad, &report(None, Some("FRR refuses line 8")), at(40)).is_some());
        let healed = next(&bad, &report(None, None), at(50)).unwrap();
        assert_eq!(of(&healed, "Ready"), ("True", "Verified"));
        assert_eq!(healed.last_run.unwrap().result, RunState::Succeeded);
    }

    fn object(name: &str, vrf: &str, generation: i64) -> std::sync::Arc<crate::api::VrfRouteConfiguration> {
        let value = serde_json::json!({
            "apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": generation},
            "spec": {"vrf": vrf, "seq": 1, "import": [], "export": []},
        });
        std::sync::Arc::new(serde_json::from_value(value).unwrap())
    }

    fn rejection(object: &str) -> Rejection {
        let (field, message, cure) = ("spec.seq".to_owned(), "0 is too low".to_owned(), "raise it".to_owned());
        Rejection { object: object.to_owned(), field, reason: RejectionReason::InvalidValue, message, cure }
    }

    #[test]
    fn each_object_has_the_result_that_it_has_on_this_node() {
        let identity = |name: &str, generation| Identity { uid: format!("uid-{name}"), generation };
        let unreadable = Unreadable { rejection: rejection("broken"), identity: Some(identity("broken", 3)) };
        let all = Objects {
            objects: vec![
                object("new", "b", 2),
                object("good", "a", 1),
                object("bad", "a", 5),
                object("stuck", "c", 1),
            ],
            unreadable: vec![unreadable.into()],
        };
        let vrf = "c".parse().unwrap();
        let problems = [LinkProblem { vrf, message: "vx.c is in the way".to_owned(), cure: "delete it".to_owned() }];
        let in_force =
            BTreeMap::from([("good".to_owned(), identity("good", 1)), ("new".to_owned(), identity("new", 1))]);
        let states = objects(
            &all,
            &[rejection("bad"), rejection("broken")],
            &problems,
            ("RunFailed", Some("no reload")),
            &in_force,
        );
        let told: Vec<_> =
            states.iter().map(|s| (s.name.as_str(), s.generation, s.result, s.message.as_str())).collect();
        let why = "spec.seq: 0 is too low; raise it";
        assert_eq!(
            told,
            [
                ("bad", 5, ObjectResult::Rejected, why),
                ("broken", 3, ObjectResult::Rejected, why),
                ("good", 1, ObjectResult::Applied, ""),
                ("new", 2, ObjectResult::Failed, "no reload"),
                ("stuck", 1, ObjectResult::Failed, "vx.c is in the way; delete it"),
            ]
        );
    }
}
