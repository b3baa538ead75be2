//! What must be so in the whole fabric when its objects are applied, each in a sentence: who reaches whom, and what the border leaf sees.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use super::claims::{Claim, claim};
use super::topology::Booted;
use super::{FROM_MANIFESTS, Node};

/// Addresses outside, by VRF: of networks that the import list permits, and of those that it denies.
const PERMITTED: [(&str, &str); 3] = [("blue", "203.0.113.1"), ("blue6", "2001:db8:1::1"), ("red", "203.0.113.33")];
const DENIED: [(&str, &str); 3] = [("blue", "203.0.113.17"), ("blue6", "2001:db8:2::1"), ("red", "203.0.113.49")];
/// From a workload of one VRF to a network of the other.
const CROSSING: [(&str, &str); 2] = [("blue", "203.0.113.33"), ("red", "203.0.113.1")];

/// The address of node N's workload in a VRF, as `containerlab/node-links.sh` gives it.
pub fn workload(vrf: &str, number: usize) -> String {
    match vrf {
        "blue" => format!("198.51.100.{}", 48 + 16 * number + 1),
        "red" => format!("198.51.100.{}", 112 + 16 * number + 1),
        _ => format!("2001:db8:c1:{number}::1"),
    }
}

impl Booted {
    /// Starts the agents by the unit that is shipped, now and after each boot, and waits until they have applied their objects.
    pub fn run_agents(&self, limit: Duration) {
        for node in self.nodes.values() {
            node.start_unit(&format!("NETWORK_OPERATOR_FLAGS=\"{FROM_MANIFESTS}\"\n"));
        }
        for node in self.nodes.values() {
            node.applied(0, limit);
        }
    }

    /// Waits until all claims hold, and gives them as they are at the end.
    pub fn claims(&self, limit: Duration) -> Vec<Claim> {
        let begin = Instant::now();
        loop {
            let claims = self.claims_now();
            if begin.elapsed() > limit || claims.iter().all(|claim| claim.holds.is_ok()) {
                return claims;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Asserts that all claims come to hold.
    pub fn assert_claims(&self, limit: Duration) {
        let claims = self.claims(limit);
        let failed: Vec<_> =
            claims.iter().filter_map(|claim| Some((&claim.words, claim.holds.as_ref().err()?))).collect();
        let told = || {
            self.nodes.values().map(Node::routing).collect::<String>()
                + &self.vtysh("border", "show bgp vrf all summary")
        };
        assert!(failed.is_empty(), "{failed:#?}\n{}", told());
    }

    fn claims_now(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (index, node) in self.nodes.values().enumerate() {
            claims.extend(reaches(node, index + 1, self.nodes.len()));
        }
        claims.extend(self.at_the_border());
        claims.extend(self.outside());
        claims
    }

    /// Export lists, aggregates and communities, as the border leaf has them.
    fn at_the_border(&self) -> Vec<Claim> {
        let mut nets = vec![("blue", "198.51.100.64/26".to_owned(), ""), ("blue", "2001:db8:c1::/48".to_owned(), "")];
        for number in 1..=self.nodes.len() {
            nets.push(("blue", format!("198.51.100.{}/28", 48 + 16 * number), "64510:100"));
            nets.push(("blue", format!("2001:db8:c1:{number}::/64"), "64510:100"));
            nets.push(("red", format!("198.51.100.{}/28", 112 + 16 * number), ""));
        }
        let told = |(vrf, net, community): (&str, String, &str)| {
            let family = if net.contains(':') { "ipv6" } else { "ipv4" };
            let seen = self.vtysh("border", &format!("show bgp vrf vr.{vrf} {family} unicast {net} json"));
            let with = if community.is_empty() { String::new() } else { format!(" with community {community}") };
            let words = format!("the border leaf has {net} in VRF {vrf}{with}");
            claim(words, seen.contains("\"paths\"") && seen.contains(community), seen)
        };
        nets.into_iter().map(told).collect()
    }

    /// What the networks outside learn, and what they must not.
    fn outside(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (machine, net, there) in [
            ("outside-blue", "198.51.100.64/26", true),
            ("outside-blue", "198.51.100.64/28", true),
            ("outside-blue", "198.51.100.128/28", false),
            ("outside-red", "198.51.100.128/28", true),
            ("outside-red", "198.51.100.64/28", false),
        ] {
            let seen = self.within(machine, &format!("ip route show proto bgp {net}")).stdout;
            let words = format!("{machine} {} {net}", if there { "learns" } else { "does not learn" });
            claims.push(claim(words, seen.is_empty() != there, format!("{seen:?}")));
        }
        claims
    }
}

/// Whom the workload of a node reaches, and whom not.
fn reaches(node: &Node, number: usize, nodes: usize) -> Vec<Claim> {
    let mut wanted = Vec::new();
    for (vrf, to) in PERMITTED {
        wanted.push((vrf, to.to_owned(), true, format!("{to}, which the import list of {vrf} permits")));
    }
    for other in (1..=nodes).filter(|other| *other != number) {
        for vrf in ["blue", "blue6"] {
            let to = workload(vrf, other);
            wanted.push((vrf, to.clone(), true, format!("{to}, the workload of node {other}")));
        }
    }
    for (vrf, to) in DENIED {
        wanted.push((vrf, to.to_owned(), false, format!("{to}, which the import list of {vrf} denies")));
    }
    for (vrf, to) in CROSSING {
        wanted.push((vrf, to.to_owned(), false, format!("{to}, which is in the other VRF")));
    }
    let answered = ping_all(node, number, wanted.iter().map(|(vrf, to, ..)| (*vrf, to.as_str())));
    let told = |(vrf, to, reached, what): (&str, String, bool, String)| {
        let seen = answered.get(&(vrf.to_owned(), to)).copied();
        let verb = if reached { "reaches" } else { "does not reach" };
        claim(
            format!("the workload of node {number} in {vrf} {verb} {what}"),
            seen == Some(reached),
            format!("answered: {seen:?}"),
        )
    };
    wanted.into_iter().map(told).collect()
}

/// Which of these answer to the node's workload; all are asked at once.
fn ping_all<'a>(
    node: &Node,
    number: usize,
    targets: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<(String, String), bool> {
    let mut script = String::new();
    for (vrf, to) in targets {
        let from = workload(vrf, number);
        writeln!(
            script,
            "(ip netns exec workload ping -n -q -c 3 -i 0.2 -W 2 -I {from} {to} >/dev/null 2>&1; echo {vrf} {to} $?) &"
        )
        .unwrap();
    }
    script.push_str("wait\n");
    let answers = node.ok(&script);
    let parsed = answers.lines().map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        ((words[0].to_owned(), words[1].to_owned()), words[2] == "0")
    });
    parsed.collect()
}
