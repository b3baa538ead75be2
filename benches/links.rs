//! What it takes to make the links of 200 VRFs: the agent's netlink messages beside `ip -batch` for the same links, on a kernel with VRFs; and
//! what it takes to look at them and to plan, beside `ip link show`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that fails must stop, and prints what it found"
)]
#![allow(unreachable_pub, dead_code, reason = "the modules of a benchmark")]

#[path = "../tests/lab/mod.rs"]
mod lab;
#[path = "../tests/node/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use network_operator::link::netlink::Netlink;
use network_operator::link::{DesiredLinks, LinkOp, LinkPlan, VrfLinks, plan};
use network_operator::model::{RouteTables, VrfName};
use tokio::runtime::Runtime;

const VRFS: i64 = 200;
/// In turns, so that what disturbs the machine for a while meets both.
const ROUNDS: usize = 9;
const UNDERLAY: &str = "ip link add dum.underlay mtu 9100 type dummy; ip addr add 192.0.2.129/32 dev dum.underlay; ip link set dum.underlay up";
const BATCH: &str = "/run/batch";

struct Node {
    runtime: Runtime,
    netlink: Netlink,
    known: BTreeSet<VrfName>,
}

impl Node {
    /// From what the kernel has to what is wanted: links of all VRFs, or none.
    fn plan(&self, there: bool) -> LinkPlan {
        let seen = self.runtime.block_on(self.netlink.observe()).unwrap();
        let links = |vni: i64| VrfLinks { vni: vni.try_into().unwrap(), mtu: 9000.try_into().unwrap() };
        let vrfs: BTreeMap<_, _> = (1000..).zip(&self.known).map(|(vni, name)| (name.clone(), links(vni))).collect();
        let want = DesiredLinks {
            vrfs: if there { vrfs } else { BTreeMap::new() },
            known: self.known.clone(),
            frozen: BTreeSet::new(),
            tables: RouteTables::new(50.try_into().unwrap(), 252.try_into().unwrap()).unwrap(),
            underlay: seen.underlay(&"dum.underlay".parse().unwrap()).unwrap(),
        };
        let plan = plan(&want, &seen);
        assert!(plan.problems.is_empty(), "{:?}", plan.problems);
        plan
    }

    fn apply(&self, ops: &[LinkOp]) {
        self.runtime.block_on(self.netlink.apply(ops)).unwrap();
    }

    /// How long it takes to make all links, which are gone again afterwards.
    fn timed<T>(&self, prepare: impl FnOnce(Vec<LinkOp>) -> T, make: impl FnOnce(&T)) -> Duration {
        let prepared = prepare(self.plan(true).ops().cloned().collect());
        let begin = Instant::now();
        make(&prepared);
        let took = begin.elapsed();
        assert!(self.plan(true).is_empty(), "other links than those that are meant");
        self.apply(&self.plan(false).remove);
        took
    }
}

fn main() {
    if let Some(said) = lab::said_under_uml("links") {
        println!("{said}");
        return;
    }
    world::sh(UNDERLAY);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let netlink = runtime.block_on(async { Netlink::connect().unwrap() });
    let known = (0..VRFS).map(|number| format!("v{number}").parse().unwrap()).collect();
    let node = Node { runtime, netlink, known };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let operations = node.plan(true).ops().count();
    // Memory that the node's kernel touches for the first time is slow. And who goes second finds more of it touched.
    by_agent(&node);
    by_ip(&node);
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            ours.push(by_agent(&node));
            theirs.push(by_ip(&node));
        } else {
            theirs.push(by_ip(&node));
            ours.push(by_agent(&node));
        }
    }
    let mut ratios: Vec<f64> =
        ours.iter().zip(&theirs).map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let best = |took: &[Duration]| took.iter().min().unwrap().as_millis();
    println!("| links of {VRFS} VRFs, {operations} operations | best of {ROUNDS} |");
    println!("| --- | --- |");
    println!("| agent | {} ms |", best(&ours));
    println!("| `ip -batch` | {} ms |", best(&theirs));
    let (least, most) = (ratios[0], ratios[ROUNDS - 1]);
    println!(
        "| agent / `ip -batch`, median of rounds | {:.2} ({least:.2}..{most:.2}), at most 1.0 |",
        ratios[ROUNDS / 2]
    );
    looks(&node);
    assert!(ratios[ROUNDS / 2] <= 1.0);
}

fn by_agent(node: &Node) -> Duration {
    node.timed(|ops| ops, |ops| node.apply(ops))
}

fn by_ip(node: &Node) -> Duration {
    let batch = |ops: Vec<LinkOp>| std::fs::write(BATCH, lab::batch(&ops)).unwrap();
    node.timed(batch, |()| {
        let done = Command::new("ip").args(["-batch", BATCH]).status().unwrap();
        assert!(done.success());
    })
}

/// All links are there, and nothing is to be done.
fn looks(node: &Node) {
    node.apply(&node.plan(true).ops().cloned().collect::<Vec<_>>());
    let best = |look: &dyn Fn()| {
        let times = (0..ROUNDS).map(|_| {
            let begin = Instant::now();
            look();
            begin.elapsed()
        });
        times.min().unwrap().as_secs_f64() * 1000.0
    };
    let ours = best(&|| assert!(node.plan(true).is_empty()));
    let theirs = best(&|| {
        let shown = Command::new("ip").args(["-d", "-j", "link", "show"]).output().unwrap();
        assert!(shown.status.success() && shown.stdout.len() > 100_000);
    });
    println!("| a look at all links, and a plan of nothing | {ours:.1} ms |");
    println!("| `ip -d -j link show` | {theirs:.1} ms |");
    println!("| agent / `ip` | {:.2} |", ours / theirs);
}
