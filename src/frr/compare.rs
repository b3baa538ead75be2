//! What FRR runs against what was meant, line by line. Pure.

use std::collections::BTreeSet;
use std::fmt;

use super::config::{Config, Line};
use super::name;
use crate::link::{LinkRole, OwnedName};

/// Lines that are in one configuration and not in the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Meant, and not running, in the order of the text.
    pub missing: Vec<Line>,
    /// Running, and not meant, in the order in which FRR prints them.
    pub extra: Vec<Line>,
}

impl Difference {
    /// Compares what was meant with what runs. Order counts nowhere: entries of lists and route-maps carry numbers.
    /// Nor does an empty stanza of a VRF: FRR prints one wherever it has heard of the VRF.
    pub fn between(want: &Config, seen: &Config) -> Self {
        let stanza = |line: &Line| line.blocks.is_empty() && line.text.starts_with("vrf ");
        let only_in = |one: &Config, other: &Config| {
            let other: BTreeSet<&Line> = other.lines().iter().collect();
            one.lines().iter().filter(|line| !other.contains(line) && !stanza(line)).cloned().collect()
        };
        Self { missing: only_in(want, seen), extra: only_in(seen, want) }
    }

    /// Whether both mean the same.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty()
    }
}

impl fmt::Display for Difference {
    /// `missing: `vrf vr.a / vni 1`; unexpected: …`, each line in full.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |lines: &[Line]| lines.iter().map(|line| format!("`{line}`")).collect::<Vec<_>>().join(", ");
        match (self.missing.is_empty(), self.extra.is_empty()) {
            (true, true) => f.write_str("nothing"),
            (false, true) => write!(f, "missing: {}", list(&self.missing)),
            (true, false) => write!(f, "still there: {}", list(&self.extra)),
            (false, false) => write!(f, "missing: {}; still there: {}", list(&self.missing), list(&self.extra)),
        }
    }
}

/// Whether a line belongs to what is rendered for VRFs: nobody else has lines there.
pub fn is_ours(line: &Line) -> bool {
    let words: Vec<&str> = line.text.split(' ').collect();
    let outermost = line.blocks.first().unwrap_or(&line.text);
    match outermost.split(' ').collect::<Vec<_>>().as_slice() {
        ["router", "bgp", _, "vrf", vrf] | ["vrf", vrf] => is_link_of(LinkRole::Vrf, vrf),
        ["router", "bgp", _] => {
            matches!(words.as_slice(), ["neighbor", name, ..] if is_link_of(LinkRole::VethDefault, name))
        }
        ["route-map", name, ..] => name::is_route_map(name),
        ["ip" | "ipv6", "prefix-list", name, ..] => name::is_prefix_list(name),
        _ => false,
    }
}

fn is_link_of(role: LinkRole, name: &str) -> bool {
    OwnedName::recognise(name).is_some_and(|owned| owned.role == role)
}
