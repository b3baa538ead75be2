//! The links that the desired state asks for.

use std::collections::{BTreeMap, BTreeSet};

use super::{LinkRole, MacAddr, Underlay};
use crate::config::OperatorConfig;
use crate::desired::DesiredState;
use crate::model::{Mtu, RouteTables, Vni, VrfName};

/// Outer Ethernet, IPv4, UDP and VXLAN headers: what a VXLAN takes of its lower device's MTU.
const VXLAN_OVERHEAD: u32 = 50;
/// MTU of bridge and VXLAN where the underlay leaves as much.
const OVERLAY_MTU: u32 = 9000;

/// All links that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredLinks {
    /// The links by VRF.
    pub vrfs: BTreeMap<VrfName, VrfLinks>,
    /// VRFs of the operator file: their links are ours without a mark, because the Go operator set none.
    pub known: BTreeSet<VrfName>,
    /// VRFs whose entry in the operator file cannot be used: their links stay as they are.
    pub frozen: BTreeSet<VrfName>,
    /// What `vr.V` may be given.
    pub tables: RouteTables,
    /// What the VXLANs run over.
    pub underlay: Underlay,
}

/// What differs between the links of two VRFs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VrfLinks {
    /// VNI of the VXLAN.
    pub vni: Vni,
    /// MTU of the veth pair.
    pub mtu: Mtu,
}

impl DesiredLinks {
    /// Takes what concerns links out of the desired state.
    pub fn new(desired: &DesiredState, config: &OperatorConfig, underlay: Underlay) -> Self {
        let vrfs = desired.overlays();
        let links = vrfs.map(|(vrf, overlay)| (vrf.name.clone(), VrfLinks { vni: overlay.vni, mtu: overlay.mtu }));
        Self {
            vrfs: links.collect(),
            known: config.own_vrfs(),
            frozen: config.refused.keys().chain(&config.skip_vrfs).cloned().collect(),
            tables: config.route_tables,
            underlay,
        }
    }

    /// MAC of every bridge and VXLAN of this node: 02:54 and the underlay's address, so that it is the router's MAC
    /// of this VTEP on all of them (RFC 9135 §8.1).
    pub fn router_mac(&self) -> MacAddr {
        let [a, b, c, d] = self.underlay.ip.octets();
        MacAddr([0x02, 0x54, a, b, c, d])
    }

    /// MAC of one end of a veth pair: locally administered, the letters of its name, the VNI. One that is given stays:
    /// systemd-udevd gives links with a random MAC another one when they are there already, and link-local addresses
    /// made of the first one stay behind (systemd.link(5), MACAddressPolicy=persistent).
    pub fn veth_mac(role: LinkRole, vni: Vni) -> MacAddr {
        let [_, a, b, c] = vni.get().to_be_bytes();
        match role {
            LinkRole::VethDefault => MacAddr([0x02, b'd', b'v', a, b, c]),
            _ => MacAddr([0x02, b'v', b'd', a, b, c]),
        }
    }

    /// MTU of bridge and VXLAN: the kernel caps a VXLAN at its lower device's MTU less the overhead.
    pub fn overlay_mtu(&self) -> u32 {
        OVERLAY_MTU.min(self.underlay.mtu.saturating_sub(VXLAN_OVERHEAD))
    }
}
