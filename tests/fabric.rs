//! `make fabric`: the topology of `containerlab/` on this machine, with agents on both nodes, told as it goes. Ends with 0 only if all
//! is as meant.
#![allow(clippy::print_stdout, reason = "this is what it is for")]

mod lab;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use lab::topology::{Booted, Topology};
use lab::{FROM_MANIFESTS, Image};

const LIMIT: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    let begin = Instant::now();
    let step = |words: &str| println!("\n\x1b[1m[{:3}s] {words}\x1b[0m", begin.elapsed().as_secs());
    let show = |what: &str, text: &str| {
        println!("\n  {what}");
        text.trim_end().lines().for_each(|line| println!("    {line}"));
    };
    step(
        "Booting the topology of containerlab/network-operator.clab.yml: two nodes, and all others as network namespaces of a third machine",
    );
    for [left, right] in Topology::read().links() {
        println!("    {:>12} {} -- {} {}", left.machine, left.link, right.link, right.machine);
    }
    let fabric = Booted::boot(Image::Trixie);
    step("Running agents on both nodes, by the systemd unit of deploy/: objects from /etc/network-operator/manifests");
    fabric.run_agents(FROM_MANIFESTS, "", LIMIT);
    step("Waiting for BGP and EVPN to settle");
    let claims = fabric.claims(LIMIT);
    step("What came of it");
    for (name, node) in &fabric.nodes {
        show(
            &format!("{name}: what leaked into the cluster"),
            &node.ok("ip route show proto bgp; ip -6 route show proto bgp"),
        );
    }
    show("border: VRF blue", &fabric.vtysh("border", "show bgp vrf vr.blue ipv4 unicast"));
    show("border: VRF red", &fabric.vtysh("border", "show bgp vrf vr.red ipv4 unicast"));
    step("Is it as meant?");
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
    step(&format!("{} of {} as meant", claims.len() - wrong, claims.len()));
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
