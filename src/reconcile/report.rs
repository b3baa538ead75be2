//! What a run came to, told once.

use std::collections::BTreeSet;

use crate::desired::Rejection;
use crate::link::LinkProblem;
use crate::trigger::first_of;

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// frr.conf was written.
    pub written: bool,
    /// FRR was reloaded.
    pub reloaded: bool,
    /// Lines that FRR did not run as meant before.
    pub frr_lines: usize,
    /// Link operations that were carried out.
    pub link_operations: usize,
    /// Operations on the eBPF router that were carried out.
    pub router_operations: usize,
    /// VRFs with links on this node.
    pub vrfs: usize,
    /// What was not as meant: `frr.conf`, lines of FRR, link operations, operations on the eBPF router.
    pub what: Vec<String>,
}

impl Outcome {
    /// Whether the node was as it should be already.
    pub fn unchanged(&self) -> bool {
        !self.written
            && !self.reloaded
            && self.frr_lines == 0
            && self.link_operations == 0
            && self.router_operations == 0
    }
}

impl Outcome {
    /// Adds what was done to the eBPF router.
    pub fn with_router(mut self, done: Vec<String>) -> Self {
        self.router_operations += done.len();
        self.what.extend(done);
        self
    }
}

/// How many repairs one line of the log names.
const NAMED: usize = 8;

/// Tells what is new, and is silent on what was told before.
#[derive(Debug, Default)]
pub struct Reporter {
    told: BTreeSet<String>,
}

impl Reporter {
    /// Logs what is left out, before anything is done: it counts whatever becomes of the rest.
    pub fn left_out(&mut self, rejections: &[Rejection], problems: &[LinkProblem]) {
        let mut now = BTreeSet::new();
        for rejection in rejections {
            let words = rejection.to_string();
            if !self.told.contains(&words) {
                let Rejection { object, field, reason, message: problem, cure } = rejection;
                tracing::warn!(%object, %field, ?reason, %problem, %cure, "rejected VRFRouteConfiguration");
            }
            now.insert(words);
        }
        for problem in problems {
            let LinkProblem { vrf, message: problem, cure } = problem;
            let words = format!("{vrf}: {problem}");
            if !self.told.contains(&words) {
                tracing::error!(%vrf, %problem, %cure, "this VRF is left out; it is tried again");
            }
            now.insert(words);
        }
        self.told = now;
    }
}

impl Outcome {
    /// Logs what was put back, and who had noticed.
    pub fn report_repair(&self, causes: &str) {
        let Self { written, reloaded, frr_lines, link_operations, router_operations, vrfs: _, what } = self;
        tracing::info!(%causes, what = %first_of(what, NAMED), written, reloaded, frr_lines, link_operations, router_operations, "repaired");
    }

    /// Logs what was done.
    pub fn report(&self, rejected: usize) {
        let Self { written, reloaded, frr_lines, link_operations, router_operations, vrfs, what } = self;
        if self.unchanged() {
            tracing::debug!(vrfs, rejected, "nothing to do");
        } else {
            tracing::debug!(what = %what.join("; "), "did");
            tracing::info!(written, reloaded, frr_lines, link_operations, router_operations, vrfs, rejected, "applied");
        }
    }
}
