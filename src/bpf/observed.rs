//! The router as the kernel shows it: filters, ports, pins.

use std::collections::BTreeMap;

use crate::notrack::ObservedNotrack;

/// All that there is of it on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedRouter {
    /// The number that the kernel has given the program of this build, where it is loaded (`bpf_prog_info.id`).
    pub program: Option<u32>,
    /// Whether something is pinned: the program, an older one, or the maps.
    pub pinned: bool,
    /// Whether programs of other builds are pinned.
    pub older: bool,
    /// Links with a qdisc for ingress, by index.
    pub links: BTreeMap<u32, SeenLink>,
    /// What the program knows of the interfaces that it is attached to, by index.
    pub ports: BTreeMap<u32, Port>,
    /// Our nftables table.
    pub notrack: ObservedNotrack,
}

/// What is attached to the ingress of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenLink {
    /// Filters of ours.
    pub ours: Vec<SeenFilter>,
    /// Whether there are filters of others, at ingress or egress.
    pub others: bool,
}

/// A filter of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenFilter {
    /// `pref` of tc(8).
    pub priority: u16,
    /// Its handle within that.
    pub handle: u32,
    /// The number of its program (TCA_BPF_ID).
    pub program: u32,
}

/// How the program looks up routes for packets of an interface (`struct port` of router.bpf.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Index of the interface whose VRF counts: the bridge's for its ports.
    pub looks_from: u32,
    /// That one is in a VRF, so that the VRF's table is all there is to look at.
    pub in_vrf: bool,
    /// The qdisc is ours to remove. The program does not look at it: it is kept here to outlive the agent.
    pub own_qdisc: bool,
}
