//! The accepted objects, put together by VRF.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::IpNet;

use crate::model::{Community, Mtu, PrefixRule, RouteTarget, Seq, Vni, VrfName};

/// What this node is meant to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredState {
    /// Sorted by VNI, then name; those without a VNI (skipped ones) stand last.
    pub vrfs: Vec<Vrf>,
}

/// One VRF and all that its objects say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vrf {
    /// Its name, as objects give it.
    pub name: VrfName,
    /// Links, neighbors and an instance of its own; `None` where the operator file skips it, no object of it was accepted,
    /// or its links cannot be made.
    pub overlay: Option<Overlay>,
    /// The networks its objects aggregate, sorted.
    pub aggregates: BTreeSet<IpNet>,
    /// One for each accepted object, sorted by `seq`.
    pub policies: Vec<RoutePolicy>,
}

/// What a VRF has that is not skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Its L3 VNI.
    pub vni: Vni,
    /// Its route target, where the operator file names one.
    pub route_target: Option<RouteTarget>,
    /// MTU of the veth pair.
    pub mtu: Mtu,
}

/// One object: a route-map entry and a prefix-list per direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePolicy {
    /// Its place; the route-map entry is one above.
    pub seq: Seq,
    /// From the VRF into the cluster.
    pub import: Vec<PrefixRule>,
    /// From the cluster into the VRF.
    pub export: Vec<PrefixRule>,
    /// Set on exported routes.
    pub community: Option<Community>,
}

/// What the node itself contributes to the rendered text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Name of the node.
    pub hostname: String,
    /// The one IPv4 address of the underlay interface: VTEP and router ID.
    pub underlay_ip: Ipv4Addr,
}

impl DesiredState {
    /// VRFs that get links, neighbors and an instance, in rendering order.
    pub fn overlays(&self) -> impl Iterator<Item = (&Vrf, &Overlay)> {
        self.vrfs.iter().filter_map(|vrf| vrf.overlay.as_ref().map(|overlay| (vrf, overlay)))
    }
}

impl Vrf {
    /// Whether any list or aggregate of it is IPv6, so that the template needs `NeighborsV6`.
    pub fn has_ipv6(&self) -> bool {
        let rules = self.policies.iter().flat_map(|policy| policy.import.iter().chain(&policy.export));
        let aggregated = self.aggregates.iter().any(|net| matches!(net, IpNet::V6(_)));
        aggregated || rules.into_iter().any(PrefixRule::is_ipv6)
    }
}
