//! BGP sessions of a node: how often each came up and went down, and since when it is up.

use std::collections::BTreeMap;

use super::Node;

/// A neighbor behind the VRF of its instance.
type Neighbor = (&'static str, &'static str);

/// Established sessions, as bgpd counted them.
#[derive(Debug, Clone)]
pub struct Sessions {
    of: &'static [Neighbor],
    counted: BTreeMap<&'static str, [i64; 3]>,
}

/// Looks at sessions, all of which must be established. No two of their neighbors may have the same name.
pub fn sessions(node: &Node, of: &'static [Neighbor]) -> Sessions {
    let all = node.json("vtysh -c 'show bgp vrf all neighbors json'");
    let count = |&(vrf, name): &Neighbor| {
        let seen = &all[vrf][name];
        assert_eq!(seen["bgpState"], "Established", "{name}: {seen}");
        let number = |key: &str| seen[key].as_i64().unwrap_or_else(|| panic!("{name} has no {key}: {seen}"));
        (name, ["connectionsEstablished", "connectionsDropped", "bgpTimerUpEstablishedEpoch"].map(number))
    };
    Sessions { of, counted: of.iter().map(count).collect() }
}

impl Sessions {
    /// Asserts that none was reset since.
    pub fn assert_not_reset(&self, node: &Node, when: &str) {
        let now = sessions(node, self.of).counted;
        for (name, [established, dropped, since]) in &self.counted {
            let [still, again, epoch] = now[name];
            // FRR makes the epoch of an age in whole seconds, so that it may be one off.
            let same = (still, again) == (*established, *dropped) && (epoch - since).abs() <= 1;
            assert!(same, "{name} was reset, {when}: {:?}, then {:?}", self.counted[name], now[name]);
        }
    }
}
