//! What the node was last brought to, and by what.

use std::sync::Arc;

use crate::bpf::RouterProblem;
use crate::desired::Rejection;
use crate::link::LinkProblem;
use crate::reconcile::{Inputs, Outcome};

/// What the node was last brought to.
pub(super) struct LastRun {
    pub(super) inputs: Inputs,
    /// The VRFs that FRR has of them; `None` where the node has never been as these inputs say.
    pub(super) vrfs: Option<Vec<(String, u32)>>,
    /// Whether a run got so far.
    pub(super) judged: bool,
    /// Objects that are left out.
    pub(super) rejections: Vec<Rejection>,
    /// What is in the way of links.
    pub(super) problems: Vec<LinkProblem>,
    /// What is not as it should be with the eBPF router.
    pub(super) router: Vec<RouterProblem>,
}

impl LastRun {
    pub(super) fn new(inputs: Inputs) -> Self {
        let (rejections, problems, router) = (Vec::new(), Vec::new(), Vec::new());
        Self { inputs, vrfs: None, judged: false, rejections, problems, router }
    }

    /// Whether the node was brought, all of it, to what these inputs say.
    pub(super) fn is_of(&self, inputs: &Inputs) -> bool {
        let Inputs { objects, config, template, hostname } = &self.inputs;
        self.vrfs.is_some()
            && self.is_whole()
            && Arc::ptr_eq(config, &inputs.config)
            && (template, hostname) == (&inputs.template, &inputs.hostname)
            && objects.say_the_same(&inputs.objects)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.router.is_empty()
    }

    /// What a look comes to that finds the node as this run left it.
    pub(super) fn as_it_was(&self) -> Outcome {
        Outcome { vrfs: self.vrfs.as_ref().map_or(0, Vec::len), ..Outcome::default() }
    }
}
