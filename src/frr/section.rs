//! What the section templates see: the desired state in FRR's words. Pure.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use serde::Serialize;

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

/// The two families of FRR's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// The two directions of an object, seen from the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Import,
    Export,
}

/// Routes that came from the fabric carry this tag; they never go back into a VRF.
const FABRIC_TAG: &str = "tag 20000";

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The word before `prefix-list` and `address`.
    fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ipv6",
        }
    }

    fn route_map(self, vrf: &Vrf, direction: Direction) -> String {
        let prefix = match self {
            Self::V4 => "rm",
            Self::V6 => "rm6",
        };
        format!("{prefix}_{}_{}", vrf.name, direction.word())
    }

    fn holds(self, rule: &PrefixRule) -> bool {
        rule.is_ipv6() == (self == Self::V6)
    }
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Export => "export",
        }
    }

    fn rules(self, policy: &RoutePolicy) -> &[PrefixRule] {
        match self {
            Self::Import => &policy.import,
            Self::Export => &policy.export,
        }
    }

    /// The list's name carries the object's `seq`, not its position: a new object renames nothing.
    fn prefix_list(self, vrf: &Vrf, policy: &RoutePolicy) -> String {
        format!("pl_{}_{}_{}", vrf.name, self.word(), policy.seq)
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
    for direction in [Direction::Import, Direction::Export] {
        for policy in &vrf.policies {
            let name = direction.prefix_list(vrf, policy);
            let rules = direction.rules(policy).iter();
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
    for direction in [Direction::Import, Direction::Export] {
        for family in Family::ALL {
            let name = family.route_map(vrf, direction);
            let first = entries.len();
            if direction == Direction::Export {
                entries.push(RouteMapEntry::deny(&name, 1, Some(FABRIC_TAG)));
            }
            // An entry without a match permits everything, so there is one only where its list has items.
            let policies = vrf.policies.iter();
            let used = policies.filter(|policy| direction.rules(policy).iter().any(|rule| family.holds(rule)));
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
        let list = direction.prefix_list(vrf, policy);
        let community = policy.community.as_ref().filter(|_| direction == Direction::Export);
        Self {
            name: family.route_map(vrf, direction),
            action: "permit",
            number: policy.seq.route_map_entry(),
            r#match: Some(format!("{} address prefix-list {list}", family.word())),
            community: community.map(Community::to_string),
        }
    }
}
