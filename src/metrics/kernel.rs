//! What the kernel has of routes and neighbours, as samples.

use std::collections::BTreeMap;

use super::Samples;
use super::catalogue::{KERNEL_NEIGHBORS, KERNEL_ROUTES};

/// Main table, as `RT_TABLE_MAIN` of linux/rtnetlink.h.
const MAIN: u32 = 254;

/// Counts by what tells them apart: a million routes are a few numbers.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// By table, address family and protocol.
    routes: BTreeMap<(u32, &'static str, &'static str), u64>,
    /// By address family and state.
    neighbors: BTreeMap<(&'static str, &'static str), u64>,
}

impl Counted {
    pub(super) fn route(&mut self, table: u32, family: &'static str, protocol: &'static str) {
        *self.routes.entry((table, family, protocol)).or_default() += 1;
    }

    pub(super) fn neighbor(&mut self, family: &'static str, state: &'static str) {
        *self.neighbors.entry((family, state)).or_default() += 1;
    }

    /// `vrfs` are the names of VRFs by their table.
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub(super) fn samples(&self, vrfs: &BTreeMap<u32, String>) -> Samples {
        let mut samples = Samples::default();
        let mut routes: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
        for ((table, family, protocol), count) in &self.routes {
            let vrf = match vrfs.get(table) {
                Some(vrf) => vrf,
                None if *table == MAIN => "default",
                None => "other",
            };
            *routes.entry((vrf, family, protocol)).or_default() += count;
        }
        for ((vrf, family, protocol), count) in routes {
            samples.add(&KERNEL_ROUTES, &[vrf, family, protocol], count as f64);
        }
        for ((family, state), count) in &self.neighbors {
            samples.add(&KERNEL_NEIGHBORS, &[family, state], *count as f64);
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_those_of_vrfs_of_the_main_table_or_others() {
        let mut counted = Counted::default();
        for table in [MAIN, MAIN, 50, 255, 99] {
            counted.route(table, "ipv4", "bgp");
        }
        counted.neighbor("ipv6", "stale");
        let samples = counted.samples(&BTreeMap::from([(50, "vr.blue".to_owned())]));
        let routes = |vrf| samples.value(&KERNEL_ROUTES, &[vrf, "ipv4", "bgp"]);
        assert_eq!([routes("default"), routes("vr.blue"), routes("other")], [Some(2.0), Some(1.0), Some(2.0)]);
        assert_eq!(samples.value(&KERNEL_NEIGHBORS, &["ipv6", "stale"]), Some(1.0));
    }
}
