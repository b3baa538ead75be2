//! Nanoseconds per packet, by BPF_PROG_TEST_RUN.
//!
//! The kernel runs the program again and again on one packet, and what a run did to it stays: TTL and hop limit fall with
//! each packet that is routed. So the million runs are calls of 200, each on a fresh packet with a TTL of 255, and the
//! counters must say that every run was one of its kind. A call tells the mean of its runs in whole nanoseconds, rounded
//! down (`bpf_test_timer_continue`); over 5,000 calls the rounding takes half a nanosecond on average, which is put back.
//! What a call's own start adds shows in the last line: the packet that stays as it is, in one call of a million.
//!
//! BPF_ENABLE_STATS counts test runs, too, and would not round, but reads the clock twice within each run: 20 to 30 ns more
//! here, which is as much as the shortest run.
//!
//! A node with VRFs has the rule `l3mdev`; the first rule of a namespace's own has the kernel walk the list from then on,
//! for good (`fib_has_custom_rules`). So the rows with it come last, and each round has a namespace of its own. A port in a
//! VRF has one table asked, without rules. No VRF is needed for that: then the main table stands for its own
//! (`bpf_ipv4_fib_lookup`).
//!
//! Not in these figures: what sends a packet off after the program's verdict. That is in the throughput.

use std::collections::BTreeMap;

use aya::programs::{TestRun, TestRunOptions};
use etherparse::PacketBuilder;
use network_operator::bpf::Port;

use crate::world::{IN, PLAIN, World, context, index, sh};
use crate::{Figures, ROUNDS, in_a_thread};

const FAR: [u8; 6] = [2, 0, 0, 0, 9, 9];
const RUNS: u32 = 1_000_000;
/// Fewer than a TTL of 255 lasts for.
const PER_CALL: u32 = 200;

const ROUTED: &[&str] = &["routed", "routed, and its neighbour looked after"];
const NOT_IP: &[&str] = &["neither IPv4 nor IPv6"];
const FOR_THIS_HOST: &[&str] = &["it has no route, or is for this host"];
const NOT_TO_US: &[&str] = &["broadcast, multicast or for another host"];

/// How routes are looked up.
#[derive(Clone, Copy, PartialEq)]
enum Routes {
    ThreeRules,
    Vrf,
    L3mdev,
}
use Routes::{L3mdev, ThreeRules, Vrf};

struct Kind {
    name: &'static str,
    packet: Vec<u8>,
    routes: Routes,
    /// What its runs are counted as.
    counted: &'static [&'static str],
}

fn udp4(to: [u8; 4]) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ethernet2(FAR, IN).ipv4([10, 0, 1, 2], to, 255).udp(4000, 5000);
    builder.write(&mut packet, &[7; 20]).unwrap();
    packet
}

fn udp6(from: &str, to: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    let [from, to] = [from, to].map(|address| address.parse::<std::net::Ipv6Addr>().unwrap().octets());
    let builder = PacketBuilder::ethernet2(FAR, IN).ipv6(from, to, 255).udp(4000, 5000);
    builder.write(&mut packet, &[7; 20]).unwrap();
    packet
}

/// Those with the rule come last: what it changes stays.
fn kinds() -> Vec<Kind> {
    let kind = |name, packet, routes, counted| Kind { name, packet, routes, counted };
    let (four, six) = (|| udp4([10, 9, 0, 1]), || udp6("fd00:1::2", "fd09::1"));
    let host = || udp4([10, 0, 1, 1]);
    let (mut arp, mut another) = (four(), four());
    arp[12..14].copy_from_slice(&[8, 6]);
    another[..6].copy_from_slice(&FAR);
    vec![
        kind("routed: IPv4, one table asked, as for a port in a VRF", four(), Vrf, ROUTED),
        kind("routed: IPv6, one table asked, as for a port in a VRF", six(), Vrf, ROUTED),
        kind("routed: IPv4, port in no VRF", four(), ThreeRules, ROUTED),
        kind("routed: IPv6, port in no VRF", six(), ThreeRules, ROUTED),
        kind("passed: IPv4 for this host", host(), ThreeRules, FOR_THIS_HOST),
        kind("passed: ARP", arp, ThreeRules, NOT_IP),
        kind("passed: another host's MAC address, the least there is", another, ThreeRules, NOT_TO_US),
        kind("routed: IPv4, port in no VRF, with the rule `l3mdev`", four(), L3mdev, ROUTED),
        kind("routed: IPv6, port in no VRF, with the rule `l3mdev`", six(), L3mdev, ROUTED),
        kind("passed: IPv4 for this host, with the rule `l3mdev`", host(), L3mdev, FOR_THIS_HOST),
    ]
}

fn counters(world: &World) -> BTreeMap<&'static str, u64> {
    world.router.counters().unwrap().into_iter().map(|counter| (counter.reason, counter.packets)).collect()
}

/// Nanoseconds per run.
fn measure(world: &World, kind: &Kind, per_call: u32) -> f64 {
    let (context, before) = (context(PLAIN), counters(world));
    let calls = RUNS / per_call;
    let mut sum = 0;
    for _ in 0..calls {
        let mut options = TestRunOptions::new();
        (options.data_in, options.ctx_in) = (Some(&kind.packet[..]), Some(&context[..]));
        options.repeat = per_call;
        sum += world.program.test_run(options).unwrap().duration.as_nanos();
    }
    let after = counters(world);
    let grown = |reason: &&str| after[reason] - before[reason];
    let counted: u64 = kind.counted.iter().map(grown).sum();
    let all: u64 = after.keys().map(grown).sum();
    assert_eq!((counted, all), (RUNS.into(), RUNS.into()), "{}: all runs are counted as {:?}", kind.name, kind.counted);
    sum as f64 / f64::from(calls) + 0.5
}

/// One round of all kinds, in a namespace of its own; and the packet that stays as it is, in one call.
fn round(kinds: &[Kind]) -> (Vec<f64>, f64) {
    let mut world = World::new(false);
    let (mut figures, mut at_once, mut rule) = (Vec::new(), 0.0, false);
    for kind in kinds {
        let looks_from = index("in");
        let port = Port { looks_from, in_vrf: kind.routes == Vrf, own_qdisc: false };
        world.router.set_port(looks_from, port).unwrap();
        if kind.routes == L3mdev && !rule {
            sh("for family in -4 -6; do ip $family rule add pref 1000 l3mdev protocol kernel; done");
            rule = true;
        }
        assert_eq!(kind.routes == L3mdev, rule, "{}: the rule stays", kind.name);
        figures.push(measure(&world, kind, PER_CALL));
        if kind.counted == NOT_IP {
            at_once = measure(&world, kind, RUNS);
        }
    }
    (figures, at_once)
}

/// Prints the table.
pub(crate) fn report() {
    let kinds = kinds();
    let rounds: Vec<(Vec<f64>, f64)> = (0..ROUNDS).map(|_| in_a_thread(|| round(&kinds))).collect();
    println!("| packet | ns per packet: median of {ROUNDS} (least..most), {RUNS} runs each |\n|---|---|");
    for (place, kind) in kinds.iter().enumerate() {
        let figures = rounds.iter().map(|(figures, _)| figures[place]).collect();
        println!("| {} | {} |", kind.name, Figures::new(figures).cell(1));
    }
    let at_once = Figures::new(rounds.iter().map(|(_, at_once)| *at_once).collect());
    println!("\nARP in one call of {RUNS} instead of calls of {PER_CALL}: {}", at_once.cell(1));
}
