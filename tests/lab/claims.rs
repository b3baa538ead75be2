//! What must be so on node and leaf when the lab's objects are applied, each in a sentence.

use std::time::{Duration, Instant};

use super::{Fabric, Node};

/// One sentence, and what was seen instead where it is not so.
pub struct Claim {
    pub words: String,
    pub holds: Result<(), String>,
}

pub(super) fn claim(words: impl Into<String>, holds: bool, seen: impl Into<String>) -> Claim {
    Claim { words: words.into(), holds: if holds { Ok(()) } else { Err(seen.into()) } }
}

/// Asks again until all claims hold, and gives them as they are at the end.
pub(super) fn settled(limit: Duration, now: impl Fn() -> Vec<Claim>) -> Vec<Claim> {
    let begin = Instant::now();
    loop {
        let claims = now();
        if begin.elapsed() > limit || claims.iter().all(|claim| claim.holds.is_ok()) {
            return claims;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Asserts that all claims hold; `told` says how it is where one does not.
pub(super) fn assert_hold(claims: &[Claim], told: impl Fn() -> String) {
    let failed: Vec<_> = claims.iter().filter_map(|claim| Some((&claim.words, claim.holds.as_ref().err()?))).collect();
    assert!(failed.is_empty(), "{failed:#?}\n{}", told());
}

/// The VRFs of `testdata/lab` with their VNIs.
const VRFS: [(&str, u32); 2] = [("blue", 100), ("red", 101)];

impl Fabric {
    /// Waits until all claims hold, and gives them as they are at the end.
    pub fn claims(&self, limit: Duration) -> Vec<Claim> {
        settled(limit, || self.claims_now())
    }

    /// Asserts that all claims come to hold.
    pub fn assert_claims(&self, limit: Duration) {
        assert_hold(&self.claims(limit), || format!("{}\n{}", self.node.routing(), self.leaf.routing()));
    }

    /// Waits for the BGP sessions of veth pairs, both ends.
    pub fn wait_sessions(&self, vrfs: &[&str]) {
        for vrf in vrfs {
            self.node.wait("BGP session", Duration::from_secs(60), |_| self.sessions(vrf).holds);
        }
    }

    fn claims_now(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (vrf, vni) in VRFS {
            claims.push(self.sessions(vrf));
            claims.push(vni_is_up(&self.node, vrf, vni));
        }
        let evpn = self.node.ok("vtysh -c 'show evpn vni json'");
        claims.push(claim("FRR takes no VNI for a layer-2 one", !evpn.contains("\"L2\""), evpn));
        claims.extend(self.imports());
        claims.extend(self.exports());
        claims
    }

    fn sessions(&self, vrf: &str) -> Claim {
        let state = |instance: &str, neighbor: &str| {
            let asked = self.node.run(&format!("vtysh -c 'show bgp vrf {instance} neighbors {neighbor} json'"));
            let parsed: serde_json::Value = serde_json::from_str(&asked.stdout).unwrap_or_default();
            parsed[neighbor]["bgpState"].as_str().unwrap_or("none").to_owned()
        };
        let states =
            [state("default", &format!("dv.{vrf}")), state(&format!("vr.{vrf}"), &format!("vd.{vrf}"))].join(" and ");
        let words = format!("the BGP session dv.{vrf} - vd.{vrf} is established");
        claim(words, states == "Established and Established", states)
    }

    /// Into the cluster's VRF, which is the default one in this lab.
    fn imports(&self) -> Vec<Claim> {
        let main = self.node.ok("ip route show proto bgp; ip -6 route show proto bgp");
        let mut claims = Vec::new();
        for (vrf, net, passes) in [
            ("blue", "203.0.113.0/28", true),
            ("blue", "2001:db8:1::/48", true),
            ("red", "203.0.113.32/28", true),
            ("blue", "203.0.113.16/28", false),
            ("blue", "2001:db8:2::/48", false),
            ("red", "203.0.113.48/28", false),
        ] {
            let there = main.lines().any(|line| line.starts_with(&format!("{net} ")));
            let family = if net.contains(':') { "-6 " } else { "" };
            let in_vrf = self.node.run(&format!("ip {family}route show vrf vr.{vrf} {net}")).stdout;
            let words = format!(
                "{net} of VRF {vrf} {} the cluster",
                if passes { "is permitted, and leaks into" } else { "is denied, and does not leak into" }
            );
            // What is not even in the VRF has not been denied either.
            let holds = there == passes && in_vrf.starts_with(net);
            claims.push(claim(words, holds, format!("in vr.{vrf}: {in_vrf:?}; in the default VRF:\n{main}")));
        }
        claims
    }

    /// At the leaf.
    fn exports(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (vrf, net, community) in [
            ("blue", "198.51.100.64/26", "64510:100"),
            ("blue", "2001:db8:c1::/48", "64510:100"),
            ("red", "198.51.100.128/26", ""),
        ] {
            let family = if net.contains(':') { "ipv6" } else { "ipv4" };
            let seen = self.leaf.run(&format!("vtysh -c 'show bgp vrf vr.{vrf} {family} unicast {net} json'")).stdout;
            let words = format!("{net} of the cluster is permitted, and reaches VRF {vrf} on the leaf");
            claims.push(with_community(words, community, seen));
        }
        for (vrf, net) in [
            ("blue", "198.51.100.128/26"),
            ("blue", "203.0.113.32/28"),
            ("red", "198.51.100.64/26"),
            ("red", "2001:db8:c1::/48"),
        ] {
            let family = if net.contains(':') { "-6 " } else { "" };
            let seen = self.leaf.run(&format!("ip {family}route show vrf vr.{vrf} {net}")).stdout;
            let words = format!("{net} does not reach VRF {vrf} on the leaf");
            claims.push(claim(words, seen.is_empty(), seen));
        }
        claims
    }
}

/// That there are paths in what `show bgp … PREFIX json` says, and each has that community, or none where it is empty.
pub(super) fn with_community(words: String, community: &str, seen: String) -> Claim {
    let route: serde_json::Value = serde_json::from_str(&seen).unwrap_or_default();
    let paths = route["paths"].as_array().map(Vec::as_slice).unwrap_or_default();
    let has = |path: &serde_json::Value| path["community"]["string"].as_str().unwrap_or_default() == community;
    let with = if community.is_empty() { "no community".to_owned() } else { format!("community {community}") };
    claim(format!("{words} with {with}"), !paths.is_empty() && paths.iter().all(has), seen)
}

fn vni_is_up(node: &Node, vrf: &str, vni: u32) -> Claim {
    let vnis = node.json("vtysh -c 'show vrf vni json'");
    let all = vnis["vrfs"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|entry| entry["vrf"] == format!("vr.{vrf}")).unwrap_or_default();
    let right = found["vni"] == vni
        && found["state"] == "Up"
        && found["sviIntf"] == format!("br.{vrf}")
        && found["vxlanIntf"] == format!("vx.{vrf}");
    claim(format!("VNI {vni} of vr.{vrf} is up, with br.{vrf} and vx.{vrf}"), right, found.to_string())
}
