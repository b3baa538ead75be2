//! `make demo`: the main job on a real node, told as it goes. Ends with 0 only if all is as meant.
#![allow(clippy::print_stdout, reason = "this is what it is for")]

mod lab;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use lab::{FROM_MANIFESTS, Fabric, Image, LAB_MANIFESTS, MANIFESTS, Spelling, lab_file};

const LIMIT: Duration = Duration::from_secs(180);

/// The demo's clock and its headings.
struct Story(Instant);

impl Story {
    fn step(&self, words: &str) {
        println!("\n\x1b[1m[{:3}s] {words}\x1b[0m", self.0.elapsed().as_secs());
    }

    fn show(&self, what: &str, text: &str) {
        println!("\n  {what}");
        for line in if text.trim().is_empty() { "(nothing)" } else { text.trim_end() }.lines() {
            println!("    {line}");
        }
    }
}

fn main() -> ExitCode {
    let story = Story(Instant::now());
    story.step("Booting a node and a leaf: Debian 13, Linux with VRFs (User-Mode Linux), systemd, FRR 10.3");
    let fabric = Fabric::boot(Image::Trixie, Spelling::VrfDefault);
    story.step("Before: what the site made, and nothing else");
    state(&story, &fabric);
    story.step("The objects, and the operator file that knows their VRFs");
    fabric.node.give_manifests();
    story.show("/opt/network-operator/config.yaml", &lab_file("config.yaml"));
    for name in LAB_MANIFESTS {
        story.show(&format!("{MANIFESTS}/{name}"), &lab_file(&format!("manifests/{name}")));
    }
    story.step("The plan (`network-operator plan -f`), which changes nothing");
    let plan = format!("/labbin/network-operator plan --node-name node-1 -f {MANIFESTS} | sed '/^frr.conf:/,$d'");
    story.show("link operations", &fabric.node.ok(&plan));
    story.step(&format!("Running the agent: network-operator run {FROM_MANIFESTS}"));
    fabric.node.start_agent(FROM_MANIFESTS);
    fabric.node.applied(0, LIMIT);
    story.show(
        "its log",
        &fabric.node.ok("journalctl -u network-operator -o cat --no-pager | grep ' INFO ' | cut -c29-"),
    );
    story.step("Waiting for BGP and EVPN to settle");
    let claims = fabric.claims(LIMIT);
    story.step("After");
    state(&story, &fabric);
    let diff = fabric.node.ok("diff -U0 /etc/frr/frr.conf.tpl /etc/frr/frr.conf | grep '^[-+]' | tail -n +3 || true");
    story.show("frr.conf against its template: the rendered sections", &diff);
    story.show(
        "routes of VRF blue in the kernel",
        &fabric.node.ok("ip route show vrf vr.blue proto bgp; ip -6 route show vrf vr.blue proto bgp"),
    );
    story.show(
        "what the leaf received in VRF blue",
        &fabric.leaf.ok("ip route show vrf vr.blue proto bgp; ip -6 route show vrf vr.blue proto bgp"),
    );
    story.step("Is it as meant?");
    let mut wrong = 0;
    for claim in &claims {
        match &claim.holds {
            Ok(()) => println!("  ok     {}", claim.words),
            Err(seen) => {
                wrong += 1;
                println!("  WRONG  {}\n         seen: {seen}", claim.words);
            }
        }
    }
    let skipped = fabric.node.ok("ip -o link show | grep -c mgmt_vrf || true");
    let called = fabric.node.vtysh("show route-map rm_mgmt_vrf_export json").contains("pl_mgmt_vrf_export_5");
    let only_policy = skipped.trim() == "0" && called;
    println!(
        "  {}  the skipped VRF mgmt_vrf has route-maps and prefix-lists, and no links",
        if only_policy { "ok   " } else { "WRONG" }
    );
    wrong += usize::from(!only_policy);
    story.step(&format!("{} of {} as meant", claims.len() + 1 - wrong, claims.len() + 1));
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn state(story: &Story, fabric: &Fabric) {
    let node = &fabric.node;
    story.show("links", &node.ok("ip -br link show | cut -c1-100"));
    story.show("show vrf vni", &node.vtysh("show vrf vni"));
    let routes = "ip route show proto bgp; ip -6 route show proto bgp";
    story.show("routes that the cluster (default VRF) learned over BGP", &node.ok(routes));
}
