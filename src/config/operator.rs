//! The operator file `config.yaml`: which VRFs a site has, and how this node treats them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::model::{Asn, IfName, RouteTables, RouteTarget, Vni, VrfName};

/// The operator file, checked.
#[derive(Debug, Clone)]
pub struct OperatorConfig {
    /// VRFs with a VNI: `vnimap`, overlaid with `vrfConfig`.
    pub vrfs: BTreeMap<VrfName, VrfConfig>,
    /// VRFs of the file that cannot be used, each alone; the rest of the file stands.
    pub refused: BTreeMap<VrfName, RefusedVrf>,
    /// `skipVRFConfig`: only route-maps and prefix-lists are made for these.
    pub skip_vrfs: BTreeSet<VrfName>,
    /// `bpfInterfaces`: links of the site that the eBPF router is attached to.
    pub bpf_interfaces: BTreeSet<IfName>,
    /// `bpf`: the eBPF router.
    pub bpf: BpfConfig,
    /// `serverASN`; without it, the AS number of the default VRF's `router bgp` in the template.
    pub server_asn: Option<Asn>,
    /// `replacements`, in the order in which they are applied to the rendered text.
    pub replacements: Vec<Replacement>,
    /// `routeTables`: what `vr.V` may be given.
    pub route_tables: RouteTables,
    /// `onReloadFailure`: what is done when a reload has failed and the last good configuration cannot be restored.
    pub on_reload_failure: OnReloadFailure,
    /// `underlayInterface`: its one IPv4 address is VTEP and router ID.
    pub underlay_interface: IfName,
}

impl OperatorConfig {
    /// VRFs whose links are ours without a mark, because the Go operator set none.
    pub fn own_vrfs(&self) -> BTreeSet<VrfName> {
        self.vrfs.keys().filter(|name| !self.skip_vrfs.contains(*name)).cloned().collect()
    }
}

/// How the eBPF router is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BpfConfig {
    /// `enabled`: whether it is attached to anything.
    pub enabled: bool,
    /// `notrack`: whether an nftables table keeps conntrack away from what the router leaves to the kernel.
    pub notrack: bool,
}

/// What is done when FRR runs neither the new configuration nor the last good one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnReloadFailure {
    /// It is reported, and tried again.
    #[default]
    Keep,
    /// frr.service is restarted: every session of the node is lost, and comes back.
    Restart,
}

/// One VRF of the operator file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VrfConfig {
    /// Its L3 VNI.
    pub vni: Vni,
    /// Its route target, where the one that FRR derives from AS number and VNI will not do.
    pub route_target: Option<RouteTarget>,
}

/// Why a VRF of the operator file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedVrf {
    /// The key, such as `vnimap.vrf1`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// One entry of `replacements`.
#[derive(Debug, Clone)]
pub enum Replacement {
    /// Every occurrence of a text.
    Literal {
        /// What is looked for.
        old: String,
        /// What stands there afterwards.
        new: String,
    },
    /// Every match of a regular expression; `$1` in `new` is its first group.
    Regex {
        /// What is looked for.
        old: regex::Regex,
        /// What stands there afterwards.
        new: String,
    },
}
