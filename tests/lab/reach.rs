//! What must be so in the whole fabric when its objects are applied, each in a sentence: who reaches whom, and what the border leaf sees.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::Node;
use super::claims::{Claim, assert_hold, claim, settled, with_community};
use super::topology::Booted;

/// Addresses outside, by VRF and family, of networks that the import list permits.
const PERMITTED: [(&str, &str); 4] =
    [("blue", "203.0.113.1"), ("blue6", "2001:db8:1::1"), ("red", "203.0.113.33"), ("red6", "2001:db8:3::1")];
/// The same of networks that it denies, with the network.
const DENIED: [(&str, &str, &str); 4] = [
    ("blue", "203.0.113.17", "203.0.113.16/28"),
    ("blue6", "2001:db8:2::1", "2001:db8:2::/48"),
    ("red", "203.0.113.49", "203.0.113.48/28"),
    ("red6", "2001:db8:4::1", "2001:db8:4::/48"),
];
/// From a workload of one VRF to a network of the other, which answers to its own.
const CROSSING: [(&str, &str); 4] =
    [("blue", "203.0.113.33"), ("blue6", "2001:db8:3::1"), ("red", "203.0.113.1"), ("red6", "2001:db8:1::1")];
/// What the nodes announce together in VRF blue.
const AGGREGATES: [&str; 2] = ["198.51.100.64/26", "2001:db8:c1::/48"];

/// The network that has node N's workload in a VRF.
fn network(vrf: &str, number: usize) -> String {
    match vrf {
        "blue" => format!("198.51.100.{}/28", 48 + 16 * number),
        "red" => format!("198.51.100.{}/28", 112 + 16 * number),
        "red6" => format!("2001:db8:c2:{number}::/64"),
        _ => format!("2001:db8:c1:{number}::/64"),
    }
}

fn is_ipv6(net: &str) -> bool {
    net.contains(':')
}

/// `ip`, for the family of a network.
fn ip(net: &str) -> &'static str {
    if is_ipv6(net) { "ip -6" } else { "ip" }
}

/// The address of node N's workload in a VRF, as `containerlab/node-links.sh` gives it.
pub fn workload(vrf: &str, number: usize) -> String {
    match vrf {
        "blue" => format!("198.51.100.{}", 48 + 16 * number + 1),
        "red" => format!("198.51.100.{}", 112 + 16 * number + 1),
        "red6" => format!("2001:db8:c2:{number}::1"),
        _ => format!("2001:db8:c1:{number}::1"),
    }
}

impl Booted {
    /// Starts the agents by the unit that is shipped, with more variables of its environment, now and after each boot, and waits until
    /// they have applied their objects.
    pub fn run_agents(&self, flags: &str, environment: &str, limit: Duration) {
        for node in self.nodes.values() {
            node.start_unit(&format!("NETWORK_OPERATOR_FLAGS=\"{flags}\"\n{environment}\n"));
        }
        for node in self.nodes.values() {
            node.applied(0, limit);
        }
    }

    /// Waits until all claims hold, and gives them as they are at the end.
    pub fn claims(&self, limit: Duration) -> Vec<Claim> {
        settled(limit, || self.claims_now())
    }

    /// Asserts that all claims come to hold.
    pub fn assert_claims(&self, limit: Duration) {
        assert_hold(&self.claims(limit), || {
            self.nodes.values().map(Node::routing).collect::<String>()
                + &self.vtysh("border", "show bgp vrf all summary")
        });
    }

    fn claims_now(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (index, node) in self.nodes.values().enumerate() {
            claims.extend(reaches(node, index + 1, self.nodes.len()));
            claims.extend(kept_out(node, index + 1, self.nodes.len()));
        }
        claims.extend(self.at_the_border());
        claims.extend(self.apart_at_the_border());
        claims.extend(self.outside());
        claims
    }

    /// Export lists, aggregates and communities, as the border leaf has them.
    fn at_the_border(&self) -> Vec<Claim> {
        let mut nets: Vec<_> = AGGREGATES.map(|net| ("blue", net.to_owned(), "64510:100")).to_vec();
        for number in 1..=self.nodes.len() {
            nets.push(("blue", network("blue", number), "64510:100"));
            nets.push(("blue", network("blue6", number), "64510:100"));
            nets.push(("red", network("red", number), ""));
            nets.push(("red", network("red6", number), ""));
        }
        let told = |(vrf, net, community): (&str, String, &str)| {
            let family = if is_ipv6(&net) { "ipv6" } else { "ipv4" };
            let seen = self.vtysh("border", &format!("show bgp vrf vr.{vrf} {family} unicast {net} json"));
            let words = format!("the border leaf has {net} in VRF {vrf}");
            with_community(words, community, seen)
        };
        nets.into_iter().map(told).collect()
    }

    /// What one VRF of the border leaf has, and the other must not.
    fn apart_at_the_border(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (vrf, family, other, aggregate) in [
            ("blue", "ipv4", "red", None),
            ("blue", "ipv6", "red6", None),
            ("red", "ipv4", "blue", Some(AGGREGATES[0])),
            ("red", "ipv6", "blue6", Some(AGGREGATES[1])),
        ] {
            let seen = self.vtysh("border", &format!("show bgp vrf vr.{vrf} {family} unicast json"));
            let table: serde_json::Value = serde_json::from_str(&seen).unwrap_or_default();
            let of_nodes = (1..=self.nodes.len()).map(|number| network(other, number));
            for net in of_nodes.chain(aggregate.map(str::to_owned)) {
                // A table without a route keeps nothing apart.
                let routes = table["routes"].as_object();
                let apart = routes.is_some_and(|routes| !routes.is_empty() && !routes.contains_key(&net));
                claims.push(claim(format!("the border leaf does not have {net} in VRF {vrf}"), apart, seen.clone()));
            }
        }
        claims
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
            ("outside-blue", "2001:db8:c1::/48", true),
            ("outside-blue", "2001:db8:c1:1::/64", true),
            ("outside-blue", "2001:db8:c2:1::/64", false),
            ("outside-red", "2001:db8:c2:1::/64", true),
            ("outside-red", "2001:db8:c1::/48", false),
            ("outside-red", "2001:db8:c1:1::/64", false),
        ] {
            let seen = self.within(machine, &format!("{} route show proto bgp {net}", ip(net)));
            let words = format!("{machine} {} {net}", if there { "learns" } else { "does not learn" });
            let holds = seen.status == 0 && seen.stdout.is_empty() != there;
            claims.push(claim(words, holds, format!("{seen:?}")));
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
        for (vrf, other_vrf) in [("blue", "red"), ("blue6", "red6")] {
            let to = workload(vrf, other);
            wanted.push((vrf, to.clone(), true, format!("{to}, the workload of node {other}")));
            let to = workload(other_vrf, other);
            wanted.push((vrf, to.clone(), false, format!("{to}, the workload of node {other} in the other VRF")));
        }
    }
    for (vrf, to, _) in DENIED {
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

/// What the node's VRFs have, and the cluster does not: that its workloads do not get there is the import lists' doing.
fn kept_out(node: &Node, number: usize, nodes: usize) -> Vec<Claim> {
    let mut nets: Vec<_> = DENIED.iter().map(|(vrf, _, net)| (*vrf, (*net).to_owned())).collect();
    for other in (1..=nodes).filter(|other| *other != number) {
        nets.extend(["red", "red6"].map(|vrf| (vrf, network(vrf, other))));
    }
    let told = |(vrf, net): (&str, String)| {
        let (vrf, ip) = (vrf.trim_end_matches('6'), ip(&net));
        let in_vrf = node.run(&format!("{ip} route show vrf vr.{vrf} {net}")).stdout;
        let in_main = node.ok(&format!("{ip} route show {net}"));
        claim(
            format!("{net} is in VRF {vrf} of node {number}, and does not leak into the cluster"),
            in_vrf.starts_with(&net) && in_main.is_empty(),
            format!("in vr.{vrf}: {in_vrf:?}; in the default VRF: {in_main:?}"),
        )
    };
    nets.into_iter().map(told).collect()
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
