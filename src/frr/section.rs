//! What the section templates see: the desired state in FRR's words. Pure.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use serde::Serialize;

use super::name::{self, Direction, Family};
use crate::desired::{DesiredState, RoutePolicy, Vrf};
use crate::model::{Asn, Community, PrefixRule};

/// The variables of every section template.
#[derive(Debug, Serialize)]
pub(super) struct Sections {
    asn: u32,
    router_id: Ipv4Addr,
    /// Whether neighbors must be activated in words in `address-family ipv4 unicast` of the default instance.
    activate_v4: bool,
    vrfs: Vec<VrfSection>,
    prefix_lists: Vec<PrefixListLine>,
    route_maps: Vec<RouteMapEntry>,
}

/// One VRF; `vni` is absent where the operator file skips it.
#[derive(Debug, Serialize)]
struct VrfSection {
    name: String,
    vni: Option<u32>,
    route_target: Option<String>,
    ipv6: bool,
    aggregates_v4: Vec<IpNet>,
    aggregates_v6: Vec<IpNet>,
}

/// One line of a prefix-list.
#[derive(Debug, Serialize)]
struct PrefixListLine {
    family: &'static str,
    name: String,
    rule: String,
}

/// One entry of a route-map.
#[derive(Debug, Serialize)]
struct RouteMapEntry {
    name: String,
    action: &'static str,
    number: u32,
    r#match: Option<String>,
    community: Option<String>,
}

/// Routes that came from the fabric carry this tag; they never go back into a VRF.
const FABRIC_TAG: &str = "tag 20000";

fn holds(family: Family, rule: &PrefixRule) -> bool {
    rule.is_ipv6() == (family == Family::V6)
}

fn rules(direction: Direction, policy: &RoutePolicy) -> &[PrefixRule] {
    match direction {
        Direction::Import => &policy.import,
        Direction::Export => &policy.export,
    }
}

impl Sections {
    pub(super) fn new(desired: &DesiredState, asn: Asn, router_id: Ipv4Addr, activate_v4: bool) -> Self {
        Self {
            asn: asn.get(),
            router_id,
            activate_v4,
            vrfs: desired.vrfs.iter().map(VrfSection::new).collect(),
            prefix_lists: desired.vrfs.iter().flat_map(prefix_lists).collect(),
            route_maps: desired.vrfs.iter().flat_map(route_maps).collect(),
        }
    }
}

impl VrfSection {
    fn new(vrf: &Vrf) -> Self {
        let (aggregates_v4, aggregates_v6) = vrf.aggregates.iter().partition(|net| matches!(net, IpNet::V4(_)));
        let overlay = vrf.overlay.as_ref();
        Self {
            name: vrf.name.to_string(),
            vni: overlay.map(|overlay| overlay.vni.get()),
            route_target: overlay.and_then(|overlay| overlay.route_target.as_ref().map(ToString::to_string)),
            ipv6: vrf.has_ipv6(),
            aggregates_v4,
            aggregates_v6,
        }
    }
}

fn prefix_lists(vrf: &Vrf) -> Vec<PrefixListLine> {
    let mut lines = Vec::new();
    for direction in Direction::ALL {
        for policy in &vrf.policies {
            let name = name::prefix_list(&vrf.name, direction, policy.seq);
            let rules = rules(direction, policy).iter();
            lines.extend(rules.map(|rule| PrefixListLine {
                family: if rule.is_ipv6() { Family::V6 } else { Family::V4 }.word(),
                name: name.clone(),
                rule: rule.to_string(),
            }));
        }
    }
    lines
}

fn route_maps(vrf: &Vrf) -> Vec<RouteMapEntry> {
    let mut entries = Vec::new();
    for direction in Direction::ALL {
        for family in Family::ALL {
            let name = name::route_map(family, &vrf.name, direction);
            let first = entries.len();
            if direction == Direction::Export {
                entries.push(RouteMapEntry::deny(&name, 1, Some(FABRIC_TAG)));
            }
            // An entry without a match permits everything, so there is one only where its list has items.
            let policies = vrf.policies.iter();
            let used = policies.filter(|policy| rules(direction, policy).iter().any(|rule| holds(family, rule)));
            entries.extend(used.map(|policy| RouteMapEntry::permit(vrf, policy, family, direction)));
            // `call` of a map that does not exist permits everything in FRR, and the names are public.
            if entries.len() == first {
                entries.push(RouteMapEntry::deny(&name, 65535, None));
            }
        }
    }
    entries
}

impl RouteMapEntry {
    fn deny(name: &str, number: u32, matches: Option<&str>) -> Self {
        Self { name: name.to_owned(), action: "deny", number, r#match: matches.map(str::to_owned), community: None }
    }

    fn permit(vrf: &Vrf, policy: &RoutePolicy, family: Family, direction: Direction) -> Self {
        let list = name::prefix_list(&vrf.name, direction, policy.seq);
        let community = policy.community.as_ref().filter(|_| direction == Direction::Export);
        Self {
            name: name::route_map(family, &vrf.name, direction),
            action: "permit",
            number: policy.seq.route_map_entry(),
            r#match: Some(format!("{} address prefix-list {list}", family.word())),
            community: community.map(Community::to_string),
        }
    }
}
