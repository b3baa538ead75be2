//! The names of route-maps and prefix-lists: how they are made, and how they are recognised.

use crate::model::{Seq, VrfName};

/// The two families of FRR's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// The two directions of an object, seen from the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Import,
    Export,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The word before `prefix-list` and `address`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ipv6",
        }
    }
}

impl Direction {
    pub(super) const ALL: [Self; 2] = [Self::Import, Self::Export];

    fn word(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Export => "export",
        }
    }
}

/// Public: sites call `rm_V_export` from their own templates.
pub(super) fn route_map(family: Family, vrf: &VrfName, direction: Direction) -> String {
    let prefix = match family {
        Family::V4 => "rm",
        Family::V6 => "rm6",
    };
    format!("{prefix}_{vrf}_{}", direction.word())
}

/// Carries the object's `seq`, not its position: a new object renames nothing.
pub(super) fn prefix_list(vrf: &VrfName, direction: Direction, seq: Seq) -> String {
    format!("pl_{vrf}_{}_{seq}", direction.word())
}

/// Whether a name is one that the route-maps of some VRF have.
pub(super) fn is_route_map(name: &str) -> bool {
    let vrf = name.strip_prefix("rm6_").or_else(|| name.strip_prefix("rm_"));
    let mut ends = Direction::ALL.into_iter().map(|direction| format!("_{}", direction.word()));
    vrf.is_some_and(|vrf| ends.any(|end| vrf.strip_suffix(&end).is_some_and(|vrf| vrf.parse::<VrfName>().is_ok())))
}

/// Whether a name is one that the prefix-lists of some VRF have.
pub(super) fn is_prefix_list(name: &str) -> bool {
    Direction::ALL.into_iter().any(|direction| {
        let split = name.strip_prefix("pl_").and_then(|rest| rest.rsplit_once(&format!("_{}_", direction.word())));
        split.is_some_and(|(vrf, seq)| {
            vrf.parse::<VrfName>().is_ok() && !seq.is_empty() && seq.bytes().all(|c| c.is_ascii_digit())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_generated_is_recognised(vrf in "[a-z_1]{1,12}", seq in 1i64..65535) {
            let vrf: VrfName = vrf.parse().unwrap();
            for direction in Direction::ALL {
                prop_assert!(is_prefix_list(&prefix_list(&vrf, direction, seq.try_into().unwrap())));
                for family in Family::ALL {
                    prop_assert!(is_route_map(&route_map(family, &vrf, direction)));
                }
            }
        }
    }

    #[test]
    fn names_of_the_site_are_not_recognised() {
        for name in ["rm_import_cluster_to_oam", "rm__import", "rm_a_exports", "xrm_a_import", "TAG-FABRIC-IN"] {
            assert!(!is_route_map(name), "{name}");
        }
        for name in ["pl_a_import_", "pl_a_import_x", "pl__import_1", "SITE", "pl_a_1"] {
            assert!(!is_prefix_list(name), "{name}");
        }
    }
}
