//! What is worth an event: changes of what is said, each told once. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::condition::shortened;
use super::node::RunReport;
use crate::api::{LastRun, NodeNetworkStateStatus, RunState, VrfRouteConfigurationStatus};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Whether somebody should look at it.
    pub weight: Weight,
    /// A word for machines.
    pub reason: &'static str,
    /// What happened.
    pub note: String,
}

/// The types of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// All is well.
    Normal,
    /// Somebody should look at it.
    Warning,
}

impl News {
    fn new(weight: Weight, reason: &'static str, note: String) -> Self {
        Self { weight, reason, note: shortened(note) }
    }
}

/// What is new of an object.
pub fn of_object(old: &VrfRouteConfigurationStatus, new: &VrfRouteConfigurationStatus) -> Vec<News> {
    let generation = new.observed_generation.unwrap_or_default();
    let changed = old.observed_generation != new.observed_generation;
    let mut news = Vec::new();
    for condition in &new.conditions {
        let before = old.conditions.iter().find(|old| old.type_ == condition.type_);
        let words = |condition: &Condition| (condition.status.clone(), condition.reason.clone());
        if !changed && before.map(words) == Some(words(condition)) {
            continue;
        }
        let about = |words: &str| format!("generation {generation}: {words}");
        news.extend(match (condition.type_.as_str(), condition.status.as_str(), condition.reason.as_str()) {
            ("Accepted", "True", _) => Some(News::new(Weight::Normal, "Accepted", about(&condition.message))),
            ("Accepted", "False", _) => Some(News::new(Weight::Warning, "Rejected", about(&condition.message))),
            ("Applied", "True", _) => Some(News::new(Weight::Normal, "Applied", about(&condition.message))),
            ("Applied", "False", "Failed") => Some(News::new(Weight::Warning, "Failed", about(&condition.message))),
            _ => None,
        });
    }
    news
}

/// What is new of a node.
pub fn of_node(old: &NodeNetworkStateStatus, new: &NodeNetworkStateStatus, report: &RunReport) -> Vec<News> {
    let failed = |state: &NodeNetworkStateStatus| {
        state.last_run.as_ref().filter(|run| run.result == RunState::Failed).map(|run| run.message.clone())
    };
    let (before, now) = (failed(old), failed(new));
    let failure = now.clone().filter(|now| before.as_ref() != Some(now));
    let failure = failure.map(|now| News::new(Weight::Warning, "Failed", now));
    let recovered = before.filter(|_| now.is_none());
    let recovered = recovered
        .map(|_| News::new(Weight::Normal, "Recovered", "the node runs what the objects say again".to_owned()));
    // A report may come again with more of the same run; the API server keeps times by the second.
    let run = |run: &LastRun| (run.start.0.as_second(), run.message.clone());
    let again = old.last_run.as_ref().map(run) == new.last_run.as_ref().map(run);
    let repaired = report.done.clone().filter(|_| report.repair && !again);
    let repaired = repaired.map(|done| News::new(Weight::Normal, "Repaired", format!("put back: {done}")));
    [failure, recovered, repaired].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ObjectResult, ObjectState, VrfState};
    use crate::status::node::next;
    use crate::status::summary::{NodeView, Target, summarise};

    /// The events of one object while its nodes say these things, one after the other.
    fn told(words: &[(i64, &[(&str, ObjectResult)])]) -> Vec<&'static str> {
        let mut target = Target {
            name: "x".to_owned(),
            uid: "u".to_owned(),
            generation: 1,
            status: VrfRouteConfigurationStatus::default(),
        };
        let mut reasons = Vec::new();
        for (generation, nodes) in words {
            target.generation = *generation;
            let state = |result: &ObjectResult| ObjectState {
                name: "x".to_owned(),
                uid: "u".to_owned(),
                generation: *generation,
                result: *result,
                reason: "InvalidValue".to_owned(),
                message: "m".to_owned(),
            };
            let states: Vec<(&str, [ObjectState; 1])> =
                nodes.iter().map(|(name, result)| (*name, [state(result)])).collect();
            let views: Vec<NodeView<'_>> =
                states.iter().map(|(name, objects)| NodeView { name, ready: true, objects }).collect();
            let all = [target.clone()];
            for (_, status) in summarise(&all, &views, jiff::Timestamp::UNIX_EPOCH) {
                reasons.extend(of_object(&target.status, &status).into_iter().map(|news| news.reason));
                target.status = status;
            }
        }
        reasons
    }

    #[test]
    fn each_change_of_what_is_said_is_one_event() {
        use ObjectResult::{Applied, Failed, Rejected};
        let both = |one, two| [("a", one), ("b", two)];
        assert_eq!(told(&[(1, &both(Applied, Applied)), (1, &both(Applied, Applied))]), ["Accepted", "Applied"]);
        assert_eq!(told(&[(1, &both(Applied, Failed)), (1, &both(Failed, Failed))]), ["Accepted", "Failed"]);
        assert_eq!(told(&[(1, &both(Applied, Rejected)), (1, &both(Rejected, Rejected))]), ["Rejected"]);
        let fixed = told(&[(1, &both(Rejected, Rejected)), (2, &both(Applied, Applied)), (3, &both(Applied, Applied))]);
        assert_eq!(fixed, ["Rejected", "Accepted", "Applied", "Accepted", "Applied"]);
    }

    #[test]
    fn a_repair_is_one_event_though_its_report_comes_again_with_a_session() {
        let vrf = |established| VrfState {
            name: "a".to_owned(),
            vni: Some(1),
            up: true,
            session_established: Some(established),
            message: String::new(),
        };
        let mut report = RunReport {
            start: "2026-01-01T00:00:00.5Z".parse().unwrap(),
            took: std::time::Duration::from_secs(1),
            done: Some("link vd.a".to_owned()),
            repair: true,
            failure: None,
            incomplete: false,
            router: Vec::new(),
            objects: Vec::new(),
            vrfs: vec![vrf(false)],
            configuration: None,
            frr_version: None,
        };
        let old = NodeNetworkStateStatus::default();
        let first = next(&old, &report, report.start).unwrap();
        let reasons = |old: &NodeNetworkStateStatus, new: &NodeNetworkStateStatus, report: &RunReport| {
            of_node(old, new, report).into_iter().map(|news| news.reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&old, &first, &report), ["Repaired"]);
        report.vrfs = vec![vrf(true)];
        // As the API server gives it back.
        let mut kept = first.clone();
        kept.last_run.as_mut().unwrap().start.0 = "2026-01-01T00:00:00Z".parse().unwrap();
        for before in [&first, &kept] {
            let again = next(before, &report, report.start).unwrap();
            assert_eq!(again.vrfs, report.vrfs);
            assert_eq!(reasons(before, &again, &report), [""; 0]);
        }
        report.start = "2026-01-01T00:00:09Z".parse().unwrap();
        let later = next(&first, &report, report.start).unwrap();
        assert_eq!(reasons(&first, &later, &report), ["Repaired"]);
    }
}
