//! What is told to the API server of the runs of this node.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::LastRun;
use crate::api::VrfState;
use crate::desired::Rejection;
use crate::frr::running;
use crate::frr::vty::Vty;
use crate::link::{LinkProblem, OwnedName};
use crate::reconcile::{Outcome, Prepared};
use crate::status::node::{RunReport, objects};
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
    /// What the run under way has done by now.
    done: Option<String>,
    repair: bool,
}

struct Attempt {
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
            done: None,
            repair: false,
        }
    }

    /// The node is to be brought to what these inputs say, whatever comes of it.
    pub(super) fn attempted(&mut self, run: &LastRun) {
        if self.reports.is_some() {
            let LastRun { inputs, rejections, problems, .. } = run;
            let (objects, rejections, problems) = (inputs.objects.clone(), rejections.clone(), problems.clone());
            self.attempt = Some(Attempt { objects, rejections, problems });
        }
    }

    /// The node was seen to run it.
    pub(super) fn verified(&mut self, run: &LastRun, prepared: &Prepared, outcome: &Outcome) {
        if self.reports.is_none() {
            return;
        }
        let LastRun { inputs, rejections, problems, .. } = run;
        let rejected: BTreeSet<&str> = rejections.iter().map(|rejection| rejection.object.as_str()).collect();
        let problem = |vrf: &str| problems.iter().find(|problem| problem.vrf.as_str() == vrf);
        let stands = |(name, _, vrf): &(&str, Identity, Option<&str>)| {
            !rejected.contains(name) && vrf.is_some_and(|vrf| problem(vrf).is_none())
        };
        let standing = inputs.objects.identities().filter(stands);
        self.in_force = standing.map(|(name, identity, _)| (name.to_owned(), identity)).collect();
        let vrf = |(link, vni): &(String, u32)| {
            let name = OwnedName::recognise(link)?.vrf.to_string();
            let message = problem(&name).map(|problem| problem.message.clone()).unwrap_or_default();
            Some(VrfState { name, vni: *vni, up: message.is_empty(), message })
        };
        self.vrfs = prepared.vnis.iter().filter_map(vrf).collect();
        self.vrfs.sort_by(|a, b| a.name.cmp(&b.name));
        let hash = Sha256::digest(prepared.text.as_bytes());
        self.configuration = Some(hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect());
        if !outcome.unchanged() {
            self.done = Some(outcome.what.join("; "));
        }
    }

    /// What was done was to put back what somebody else had moved.
    pub(super) fn repaired(&mut self) {
        self.repair = true;
    }

    /// Nobody knows what the node runs.
    pub(super) fn lost(&mut self) {
        self.in_force.clear();
        self.vrfs.iter_mut().for_each(|vrf| vrf.up = false);
    }

    /// The run ended: whoever listens is told.
    pub(super) async fn ended(&mut self, begin: Instant, failure: Option<&str>) {
        let (done, repair) = (self.done.take(), std::mem::take(&mut self.repair));
        let (Some(reports), Some(attempt)) = (&self.reports, &self.attempt) else { return };
        let Attempt { objects: all, rejections, problems } = attempt;
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
            objects: objects(all, rejections, problems, failure, &self.in_force),
            vrfs: self.vrfs.clone(),
            configuration: self.configuration.clone(),
            // Where FRR does not answer, the failure says so.
            frr_version: running::version(&Vty::default()).await.ok().flatten(),
        };
        reports.send_replace(Some(report));
    }
}
