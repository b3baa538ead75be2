//! The Node in the API server: taints that keep work away, and what is said of its network.

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, TestOperation};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use kube::api::{Patch as Request, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;

use super::{Readiness, Round};
use crate::status::{REQUEST, shortened, within};
use crate::trigger::kube::patient;

/// Type of the condition that tells how the checks of a node go.
pub const CONDITION: &str = "NetworkOperatorReady";
/// Key of the taint that a node gets that was ready and is not, where the health file asks for it.
pub const UNREADY: &str = "network-operator.schiff.telekom.de/not-ready";
/// HTTP 409 and 422: somebody else was faster, or a test of the patch does not hold any more.
const RACED: [u16; 2] = [409, 422];
/// So often the Node is read anew where others change its taints at the same time.
const ATTEMPTS: usize = 20;

/// One Node.
#[derive(Debug, Clone)]
pub struct NodeClient {
    api: Api<Node>,
    name: String,
}

/// At most so many changes at once: whoever brings a taint back at once must not keep the checks from going on.
const CHANGES: usize = 8;

/// What is to be done to the taints of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum TaintChange {
    /// The taint at this place goes, if it is still there.
    Remove(usize, Box<Taint>),
    /// This one comes, if nobody has changed the node.
    Add(Box<Taint>),
}

/// The next change, if any: taints with one of these keys go while all checks pass; ours comes where it is asked for and the node is not
/// ready any more, and goes otherwise. Pure.
pub fn next_change(
    taints: Option<&[Taint]>,
    removed: impl Fn(&str) -> bool,
    readiness: Readiness,
    taint: bool,
) -> Option<TaintChange> {
    let ours = |key: &str| key == UNREADY;
    let marked = readiness == Readiness::Unready && taint;
    let goes =
        |key: &str| (readiness.passes() && removed(key)) || (ours(key) && !marked && readiness != Readiness::Waiting);
    let seen = taints.unwrap_or_default();
    if let Some((index, taint)) = seen.iter().enumerate().find(|(_, taint)| goes(&taint.key)) {
        return Some(TaintChange::Remove(index, Box::new(taint.clone())));
    }
    if marked && !seen.iter().any(|taint| ours(&taint.key)) {
        let effect = "NoSchedule".to_owned();
        let taint = Taint { key: UNREADY.to_owned(), effect, value: None, time_added: None };
        return Some(TaintChange::Add(Box::new(taint)));
    }
    None
}

/// The patch of a change (RFC 6902): it tests what it goes by, so that it cannot undo what somebody else did meanwhile.
fn patch(change: &TaintChange, node: &Node) -> serde_json::Result<Patch> {
    let path = |tokens: &[&str]| PointerBuf::from_tokens(tokens.iter().copied());
    let test = |path, value| PatchOperation::Test(TestOperation { path, value });
    Ok(Patch(match change {
        TaintChange::Remove(index, taint) => {
            let path = path(&["spec", "taints", &index.to_string()]);
            vec![test(path.clone(), serde_json::to_value(taint)?), PatchOperation::Remove(RemoveOperation { path })]
        }
        TaintChange::Add(taint) => {
            let version = serde_json::to_value(&node.metadata.resource_version)?;
            let some = node.spec.as_ref().is_some_and(|spec| spec.taints.is_some());
            let (path_of_it, value) = match some {
                true => (path(&["spec", "taints", "-"]), serde_json::to_value(taint)?),
                false => (path(&["spec", "taints"]), json!([taint])),
            };
            let add = PatchOperation::Add(AddOperation { path: path_of_it, value });
            vec![test(path(&["metadata", "resourceVersion"]), version), add]
        }
    }))
}

impl NodeClient {
    /// Names it.
    pub fn new(client: Client, name: &str) -> Self {
        Self { api: Api::all(client), name: name.to_owned() }
    }

    /// Tells of it as it changes.
    pub fn watch(&self) -> impl Stream<Item = watcher::Result<Node>> + use<> {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        patient(watcher(self.api.clone(), only)).filter_map(async |event| match event {
            Ok(watcher::Event::Apply(node) | watcher::Event::InitApply(node)) => Some(Ok(node)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// Brings the taints to where they should be; gives what was done, in words. Nothing is changed once `holds` does not hold any more.
    ///
    /// # Errors
    /// The API server refuses it, or others change the taints faster than they are read.
    pub async fn settle_taints(
        &self,
        removed: impl Fn(&str) -> bool,
        readiness: Readiness,
        holds: impl Fn() -> bool,
        taint: bool,
    ) -> kube::Result<Vec<String>> {
        let mut done = Vec::new();
        let mut raced = 0;
        while done.len() < CHANGES {
            let Some(node) = within(REQUEST, self.api.get_opt(&self.name)).await? else { return Ok(done) };
            let seen = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
            let Some(change) = next_change(seen, &removed, readiness, taint).filter(|_| holds()) else { break };
            let request = patch(&change, &node).map_err(kube::Error::SerdeError)?;
            let request = Request::Json::<()>(request);
            match within(REQUEST, self.api.patch(&self.name, &PatchParams::default(), &request)).await {
                Ok(_) => done.push(match change {
                    TaintChange::Remove(_, taint) => format!("removed taint {}", taint.key),
                    TaintChange::Add(taint) => format!("added taint {}", taint.key),
                }),
                Err(kube::Error::Api(status)) if RACED.contains(&status.code) && raced < ATTEMPTS => raced += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Says how the checks go.
    ///
    /// # Errors
    /// The API server does not take it.
    pub async fn tell(&self, condition: &NodeCondition) -> kube::Result<()> {
        // Conditions are merged by their type (`x-kubernetes-patch-merge-key`): those of others stay as they are.
        let patch = Request::Strategic(json!({"status": {"conditions": [condition]}}));
        within(REQUEST, self.api.patch_status(&self.name, &PatchParams::default(), &patch)).await.map(drop)
    }
}

/// The condition as it is now; its time is that of the last change from one status to another. Pure.
pub fn condition(readiness: Readiness, round: &Round, old: Option<&NodeCondition>, now: Timestamp) -> NodeCondition {
    let reason = match readiness {
        Readiness::Waiting => "ChecksNotPassed",
        Readiness::Ready { bad: None } => "ChecksPassed",
        Readiness::Ready { .. } => "ChecksFailNow",
        Readiness::Unready => "ChecksFail",
    };
    let status = readiness.status();
    let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
    let before = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    NodeCondition {
        type_: CONDITION.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(shortened(round.to_string())),
        last_heartbeat_time: Some(time.clone()),
        last_transition_time: Some(before.unwrap_or(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str) -> Taint {
        Taint { key: key.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() }
    }

    fn uninitialized(key: &str) -> bool {
        key == "uninitialized"
    }

    const READY: Readiness = Readiness::Ready { bad: None };
    const FAILS: Readiness = Readiness::Ready { bad: Some(1) };

    #[test]
    fn a_taint_goes_only_once_the_node_is_ready_and_others_stay() {
        let taints = [taint("gpu"), taint("uninitialized")];
        let next = |readiness| next_change(Some(&taints), uninitialized, readiness, true);
        assert_eq!(next(Readiness::Waiting), None);
        assert_eq!(next(FAILS), None);
        assert_eq!(next(READY), Some(TaintChange::Remove(1, Box::new(taint("uninitialized")))));
        assert!(matches!(next(Readiness::Unready), Some(TaintChange::Add(..))));
        assert_eq!(next_change(Some(&taints[..1]), uninitialized, READY, true), None);
        assert_eq!(next_change(None, uninitialized, READY, true), None);
    }

    #[test]
    fn our_own_taint_comes_only_where_it_is_asked_for_and_goes_with_its_reason() {
        let marked = [taint(UNREADY)];
        assert_eq!(next_change(None, uninitialized, Readiness::Unready, false), None);
        let ours = || Box::new(taint(UNREADY));
        assert_eq!(next_change(None, uninitialized, Readiness::Unready, true), Some(TaintChange::Add(ours())));
        assert_eq!(next_change(Some(&marked), uninitialized, Readiness::Unready, true), None);
        let gone = Some(TaintChange::Remove(0, ours()));
        assert_eq!(next_change(Some(&marked), uninitialized, READY, true), gone);
        assert_eq!(
            next_change(Some(&marked), uninitialized, Readiness::Unready, false),
            gone,
            "it is asked for no longer"
        );
        assert_eq!(next_change(Some(&marked), uninitialized, Readiness::Waiting, true), None, "an agent before set it");
    }

    #[test]
    fn a_patch_fails_where_the_taint_is_no_longer_what_and_where_it_was() {
        let node = |taints: &[Taint]| json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": taints}});
        let patched = |change: &TaintChange, seen: &[Taint], now: &[Taint]| {
            let seen: Node = serde_json::from_value(node(seen)).unwrap();
            let mut now = node(now);
            json_patch::patch(&mut now, &patch(change, &seen).unwrap()).map(|()| now)
        };
        let remove = TaintChange::Remove(1, Box::new(taint("uninitialized")));
        let before = [taint("gpu"), taint("uninitialized")];
        let now = [taint("gpu"), taint("uninitialized"), taint("new")];
        assert_eq!(patched(&remove, &before, &now).unwrap(), node(&[taint("gpu"), taint("new")]));
        for moved in [&before[1..], &[taint("gpu"), taint("new"), taint("uninitialized")]] {
            assert!(patched(&remove, &before, moved).is_err());
        }
        let add = TaintChange::Add(Box::new(taint(UNREADY)));
        assert_eq!(patched(&add, &before[..1], &before[..1]).unwrap(), node(&[taint("gpu"), taint(UNREADY)]));
        let bare: Node = serde_json::from_value(json!({"metadata": {"resourceVersion": "7"}, "spec": {}})).unwrap();
        let operations = patch(&add, &bare).unwrap();
        let mut newer = json!({"metadata": {"resourceVersion": "8"}, "spec": {}});
        assert!(json_patch::patch(&mut newer, &operations).is_err());
        newer["metadata"]["resourceVersion"] = json!("7");
        json_patch::patch(&mut newer, &operations).unwrap();
        assert_eq!(newer["spec"]["taints"], json!([taint(UNREADY)]));
    }

    #[test]
    fn the_condition_says_what_fails_and_keeps_its_time_while_its_status_lasts() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut bad = Round::default();
        bad.add(super::super::Check::Frr, vec!["bgpd is silent".to_owned()]);
        let first = condition(Readiness::Waiting, &bad, None, at(1));
        assert_eq!((first.status.as_str(), first.message.as_deref()), ("False", Some("frr: bgpd is silent")));
        let later = condition(Readiness::Unready, &bad, Some(&first), at(2));
        assert_eq!(later.last_transition_time.unwrap().0, at(1));
        let good = condition(READY, &Round::default(), Some(&first), at(3));
        assert_eq!((good.status.as_str(), good.last_transition_time.unwrap().0), ("True", at(3)));
    }
}
