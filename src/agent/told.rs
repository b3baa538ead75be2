//! What is told to the API server of the runs of this node.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::LastRun;
use super::sessions::{PATIENCE, established, mark};
use crate::api::VrfState;
use crate::bpf::RouterProblem;
use crate::desired::Rejection;
use crate::frr::running;
use crate::frr::vty::Vty;
use crate::link::{LinkProblem, OwnedName};
use crate::reconcile::{Outcome, Prepared};
use crate::status::node::{NOT_JUDGED, RunReport, objects};
use crate::trigger::{Identity, Objects};

/// What is known for the next report. Without somebody who listens nothing is kept.
pub(super) struct Told {
    reports: Option<watch::Sender<Option<RunReport>>>,
    /// The objects of the last run, in force or not, and those that are left out.
    attempt: Option<Attempt>,
    /// What the node was last seen to run.
    in_force: BTreeMap<String, Identity>,
    vrfs: Vec<VrfState>,
    configuration: Option<String>,
    frr_version: Option<String>,
    /// What the run under way has done by now.
    done: Option<String>,
    repair: bool,
    /// What is not as it should be with the eBPF router.
    router: Vec<String>,
}

#[derive(Default)]
struct Attempt {
    /// Whether the objects were judged: a run may fail before.
    judged: bool,
    objects: Objects,
    rejections: Vec<Rejection>,
    problems: Vec<LinkProblem>,
}

impl Told {
    pub(super) fn new(reports: Option<watch::Sender<Option<RunReport>>>) -> Self {
        Self {
            reports,
            attempt: None,
            in_force: BTreeMap::new(),
            vrfs: Vec::new(),
            configuration: None,
            frr_version: None,
            done: None,
            repair: false,
            router: Vec::new(),
        }
    }

    /// The node is to be brought to what these inputs say, whatever comes of it.
    pub(super) fn attempted(&mut self, run: &LastRun) {
        if self.reports.is_some() {
            let LastRun { inputs, vrfs: _, judged, rejections, problems, router: _ } = run;
            let (objects, rejections, problems) = (inputs.objects.clone(), rejections.clone(), problems.clone());
            self.attempt = Some(Attempt { judged: *judged, objects, rejections, problems });
        }
    }

    /// FRR was seen to run it, but for VRFs that are down, by interface name.
    pub(super) fn verified(&mut self, run: &LastRun, prepared: &Prepared, down: &[&str]) {
        if self.reports.is_none() {
            return;
        }
        let LastRun { inputs, rejections, problems, .. } = run;
        let rejected: BTreeSet<&str> = rejections.iter().map(|rejection| rejection.object.as_str()).collect();
        let down: BTreeSet<String> =
            down.iter().filter_map(|link| Some(OwnedName::recognise(link)?.vrf.to_string())).collect();
        let problem = |vrf: &str| problems.iter().find(|problem| problem.vrf.as_str() == vrf);
        let stands = |(name, _, vrf): &(&str, Identity, Option<&str>)| {
            !rejected.contains(name) && vrf.is_some_and(|vrf| problem(vrf).is_none() && !down.contains(vrf))
        };
        let standing = inputs.objects.identities().filter(stands);
        self.in_force = standing.map(|(name, identity, _)| (name.to_owned(), identity)).collect();
        let vrf = |(link, vni): &(String, u32)| {
            let name = OwnedName::recognise(link)?.vrf.to_string();
            let message = problem(&name).map(|problem| problem.message.clone()).unwrap_or_default();
            let up = message.is_empty() && !down.contains(&name);
            Some(VrfState { name, vni: Some(*vni), up, session_established: None, message })
        };
        self.vrfs = prepared.vnis.iter().filter_map(vrf).collect();
        for LinkProblem { vrf, message, cure: _ } in problems {
            if self.vrfs.iter().all(|known| known.name != vrf.as_str()) {
                let (name, message) = (vrf.to_string(), message.clone());
                self.vrfs.push(VrfState { name, vni: None, up: false, session_established: None, message });
            }
        }
        self.vrfs.sort_by(|a, b| a.name.cmp(&b.name));
        let hash = Sha256::digest(prepared.text.as_bytes());
        self.configuration = Some(hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect());
    }

    /// The run came to this.
    pub(super) fn done(&mut self, outcome: &Outcome) {
        self.done = (!outcome.unchanged()).then(|| outcome.what.join("; "));
    }

    /// Whether the run under way has done anything.
    pub(super) fn has_done(&self) -> bool {
        self.done.is_some()
    }

    /// What was done was to put back what somebody else had moved.
    pub(super) fn repaired(&mut self) {
        self.repair = true;
    }

    /// What is not as it should be with the eBPF router.
    pub(super) fn router(&mut self, problems: &[RouterProblem]) {
        if self.reports.is_some() {
            self.router = problems.iter().map(ToString::to_string).collect();
        }
    }

    /// Nobody knows what the node runs.
    pub(super) fn lost(&mut self) {
        self.in_force.clear();
        for vrf in &mut self.vrfs {
            (vrf.up, vrf.message) = (false, String::new());
        }
    }

    /// The run ended: whoever listens is told.
    pub(super) async fn ended(&mut self, begin: Instant, failure: Option<&str>) {
        let (done, repair) = (self.done.take(), std::mem::take(&mut self.repair));
        let Some(reports) = &self.reports else { return };
        let none = Attempt::default();
        let attempt = match (&self.attempt, failure) {
            (Some(attempt), _) => attempt,
            // What cannot begin is told, too.
            (None, Some(_)) => &none,
            (None, None) => return,
        };
        mark(&mut self.vrfs, established().await.as_ref());
        let Attempt { judged, objects: all, rejections, problems } = attempt;
        let reason = if *judged { "RunFailed" } else { NOT_JUDGED };
        if done.is_some() || self.frr_version.is_none() {
            let version = tokio::time::timeout(PATIENCE, running::version(&Vty::default())).await;
            self.frr_version = version.ok().and_then(Result::ok).flatten().or(self.frr_version.take());
        }
        for vrf in self.vrfs.iter_mut().filter(|vrf| !vrf.up && vrf.message.is_empty()) {
            vrf.message = failure.unwrap_or_default().to_owned();
        }
        let took = begin.elapsed();
        let report = RunReport {
            start: Timestamp::now().checked_sub(took).unwrap_or_default(),
            took,
            done,
            repair,
            failure: failure.map(str::to_owned),
            incomplete: !problems.is_empty(),
            router: self.router.clone(),
            objects: objects(all, rejections, problems, (reason, failure), &self.in_force),
            vrfs: self.vrfs.clone(),
            configuration: self.configuration.clone(),
            frr_version: self.frr_version.clone(),
        };
        reports.send_replace(Some(report));
    }
}
