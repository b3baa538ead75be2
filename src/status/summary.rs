//! What all nodes together say of an object. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::condition::{Holds, condition};
use super::node::NOT_JUDGED;
use crate::api::{NodeCounts, ObjectResult, ObjectState, VrfRouteConfigurationStatus};
use crate::trigger::first_of;

/// How many nodes a message names.
const NAMED: usize = 3;

/// What is known of one node.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether Kubernetes says that it is alive.
    pub ready: bool,
    /// What its agent says of the objects.
    pub objects: &'a [ObjectState],
}

/// An object as the API server has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// What is said of it by now.
    pub status: VrfRouteConfigurationStatus,
}

/// What the nodes say of one object.
#[derive(Debug, Default)]
struct Tally<'a> {
    counts: NodeCounts,
    /// Nodes that have looked at this generation, whatever became of it.
    looked: usize,
    /// Reason and message of each node that leaves it out.
    rejected: Vec<(&'a str, &'a ObjectState)>,
    /// Nodes where it is not in force, and why.
    failed: Vec<(&'a str, &'a str)>,
    /// Nodes that have not told yet.
    pending: Vec<&'a str>,
}

/// The statuses that are to be written: those that say something new.
pub fn summarise<'t>(
    targets: &'t [Target],
    nodes: &[NodeView<'_>],
    now: Timestamp,
) -> Vec<(&'t Target, VrfRouteConfigurationStatus)> {
    let mut states: BTreeMap<&str, BTreeMap<&str, &ObjectState>> = BTreeMap::new();
    for node in nodes {
        for object in node.objects {
            states.entry(object.name.as_str()).or_default().insert(node.name, object);
        }
    }
    let none = BTreeMap::new();
    let summed = targets.iter().map(|target| {
        let tally = tally(target, nodes, states.get(target.name.as_str()).unwrap_or(&none));
        (target, status(target, &tally, now))
    });
    summed.filter(|(target, status)| *status != target.status).collect()
}

fn tally<'a>(target: &Target, nodes: &[NodeView<'a>], states: &BTreeMap<&str, &'a ObjectState>) -> Tally<'a> {
    let mut tally = Tally::default();
    for NodeView { name, ready, objects: _ } in nodes {
        tally.counts.total += 1;
        let current = |state: &&&ObjectState| state.uid == target.uid && state.generation == target.generation;
        let state = states.get(name).filter(current);
        tally.looked += usize::from(state.is_some_and(|state| state.reason != NOT_JUDGED));
        match state {
            Some(state) if state.result == ObjectResult::Rejected => tally.rejected.push((name, state)),
            _ if !ready => tally.failed.push((name, "the node is not ready")),
            Some(state) if state.result == ObjectResult::Failed => tally.failed.push((name, &state.message)),
            Some(_) => tally.counts.applied += 1,
            None => tally.pending.push(name),
        }
    }
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (tally.counts.rejected, tally.counts.failed) = (count(tally.rejected.len()), count(tally.failed.len()));
    tally
}

fn status(target: &Target, tally: &Tally<'_>, now: Timestamp) -> VrfRouteConfigurationStatus {
    let condition =
        |kind, (holds, words)| condition(kind, holds, words, Some(target.generation), &target.status.conditions, now);
    VrfRouteConfigurationStatus {
        observed_generation: Some(target.generation),
        nodes: tally.counts,
        conditions: vec![condition("Accepted", accepted(tally)), condition("Applied", applied(tally))],
    }
}

fn accepted<'a>(tally: &Tally<'a>) -> (Holds, (&'a str, String)) {
    let Some((node, first)) = tally.rejected.first() else {
        return match tally.looked {
            0 => (Holds::Unknown, ("Pending", "no node has told of this generation yet".to_owned())),
            _ => (Holds::Yes, ("Accepted", "every node that has looked at it takes it".to_owned())),
        };
    };
    let same =
        tally.rejected.len() == tally.looked && tally.rejected.iter().all(|(_, other)| other.message == first.message);
    let message = if same { first.message.clone() } else { format!("{node}: {}", first.message) };
    (Holds::No, (first.reason.as_str(), message))
}

fn applied(tally: &Tally<'_>) -> (Holds, (&'static str, String)) {
    let NodeCounts { applied, rejected, failed, total } = tally.counts;
    let count = format!("{applied} of {total} nodes");
    if applied == total && total > 0 {
        return (Holds::Yes, ("Applied", count));
    }
    let reason = match (failed, rejected) {
        (0, 0) => "Progressing",
        (0, _) => "Rejected",
        _ => "Failed",
    };
    let failed = tally.failed.iter().map(|(node, why)| format!("{node}: {why}"));
    let rejected = tally.rejected.iter().map(|(node, _)| format!("{node}: rejected"));
    let pending = tally.pending.iter().map(|node| format!("{node}: not yet"));
    let all: Vec<String> = failed.chain(rejected).chain(pending).collect();
    let message = if all.is_empty() { count } else { format!("{count}; {}", first_of(&all, NAMED)) };
    (Holds::No, (reason, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn target(generation: i64) -> Target {
        Target { name: "x".to_owned(), uid: "u".to_owned(), generation, status: VrfRouteConfigurationStatus::default() }
    }

    fn state(generation: i64, result: ObjectResult, message: &str) -> [ObjectState; 1] {
        let (name, uid, reason) = ("x".to_owned(), "u".to_owned(), "InvalidValue".to_owned());
        [ObjectState { name, uid, generation, result, reason, message: message.to_owned() }]
    }

    fn view<'a>(name: &'a str, objects: &'a [ObjectState]) -> NodeView<'a> {
        NodeView { name, ready: true, objects }
    }

    fn only(target: &Target, nodes: &[NodeView<'_>]) -> VrfRouteConfigurationStatus {
        summarise(std::slice::from_ref(target), nodes, at(1)).remove(0).1
    }

    const TAKEN: (&str, &str, &str) = ("True", "Accepted", "every node that has looked at it takes it");

    fn words(status: &VrfRouteConfigurationStatus) -> Vec<(&str, &str, &str)> {
        let conditions = status.conditions.iter();
        conditions.map(|one| (one.status.as_str(), one.reason.as_str(), one.message.as_str())).collect()
    }

    #[test]
    fn an_object_that_is_in_force_everywhere_is_accepted_and_applied() {
        let good = state(2, ObjectResult::Applied, "");
        let target = target(2);
        let status = only(&target, &[view("a", &good), view("b", &good)]);
        assert_eq!(words(&status), [TAKEN, ("True", "Applied", "2 of 2 nodes")]);
        assert_eq!(status.observed_generation, Some(2));
        let again = Target { status, ..target };
        assert!(summarise(&[again], &[view("a", &good), view("b", &good)], at(9)).is_empty(), "nothing new, no write");
    }

    #[test]
    fn the_message_names_nodes_where_it_is_not_in_force_and_why() {
        let (good, bad) = (state(2, ObjectResult::Applied, ""), state(2, ObjectResult::Failed, "FRR refused line 7"));
        let old = state(1, ObjectResult::Applied, "");
        let dead = NodeView { ready: false, ..view("d", &good) };
        let status = only(&target(2), &[view("a", &good), view("b", &bad), view("c", &old), dead]);
        let message = "1 of 4 nodes; b: FRR refused line 7; d: the node is not ready; c: not yet";
        assert_eq!(words(&status), [TAKEN, ("False", "Failed", message)]);
        assert_eq!(status.nodes, NodeCounts { applied: 1, rejected: 0, failed: 2, total: 4 });
    }

    #[test]
    fn a_rejection_says_why_and_where_unless_all_say_the_same() {
        let (good, bad) = (state(2, ObjectResult::Applied, ""), state(2, ObjectResult::Rejected, "spec.vrf: unknown"));
        let everywhere = only(&target(2), &[view("a", &bad), view("b", &bad)]);
        assert_eq!(words(&everywhere)[0], ("False", "InvalidValue", "spec.vrf: unknown"));
        assert_eq!(words(&everywhere)[1], ("False", "Rejected", "0 of 2 nodes; a: rejected; b: rejected"));
        let somewhere = only(&target(2), &[view("a", &good), view("b", &bad)]);
        assert_eq!(words(&somewhere)[0], ("False", "InvalidValue", "b: spec.vrf: unknown"));
    }

    #[test]
    fn a_word_on_another_object_of_that_name_or_another_generation_is_none() {
        let old = state(1, ObjectResult::Applied, "");
        let mut other = state(2, ObjectResult::Applied, "");
        other[0].uid = "v".to_owned();
        let status = only(&target(2), &[view("a", &old), view("b", &other)]);
        let accepted = ("Unknown", "Pending", "no node has told of this generation yet");
        assert_eq!(words(&status), [accepted, ("False", "Progressing", "0 of 2 nodes; a: not yet; b: not yet")]);
        let mut blind = state(2, ObjectResult::Failed, "the template has a fault");
        blind[0].reason = NOT_JUDGED.to_owned();
        let dead = NodeView { ready: false, ..view("b", &old) };
        let status = only(&target(2), &[view("a", &blind), dead]);
        assert_eq!(
            words(&status)[0].1,
            "Pending",
            "a node that is not ready, or did not get so far, has not looked at it"
        );
        let nobody = only(&target(2), &[]);
        assert_eq!(words(&nobody)[1], ("False", "Progressing", "0 of 0 nodes"));
    }

    #[test]
    fn of_many_nodes_only_some_are_named() {
        let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
        let nodes: Vec<NodeView<'_>> = names.iter().map(|name| view(name, &[])).collect();
        let status = only(&target(1), &nodes);
        assert_eq!(words(&status)[1].2, "0 of 10 nodes; n0: not yet; n1: not yet; n2: not yet; and 7 more");
    }
}
