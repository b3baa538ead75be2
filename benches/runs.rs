//! What runs of the agent take on a lab node, beside what FRR's own tools take there: a change of 30 VRFs beside a bare reload of the same
//! text, a run that finds nothing to do at 200 VRFs, and a start.
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

use std::fmt::Write as _;
use std::time::Duration;

use lab::{Bridge, FROM_MANIFESTS, Image, MANIFESTS, Node, Spelling};

const LIMIT: Duration = Duration::from_secs(1800);
/// How often a change and a reload are timed with each FRR; the median counts.
const ROUNDS: usize = 3;
/// How often a run that finds nothing to do is asked for.
const LOOKS: usize = 10;
/// CPU of such a run, in ms.
const NO_OP_MS: f64 = 50.0;
/// Of the time that a bare reload takes.
const CHANGE: f64 = 1.1;
/// The running configuration, and nothing else: the least that it takes to look.
const SHOW: &str = "vtysh -c 'show running-config' >/dev/null";

fn objects(vrfs: usize, prefixes: usize) -> String {
    let mut text = String::new();
    for vrf in 0..vrfs {
        write!(
            text,
            "---\napiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: v{vrf}}}\nspec:\n  vrf: v{vrf}\n  seq: 10\n"
        )
        .unwrap();
        for (list, first) in [("import", 10), ("export", 172)] {
            writeln!(text, "  {list}:").unwrap();
            for n in 0..prefixes {
                writeln!(text, "  - {{cidr: {first}.{vrf}.{n}.0/24, action: permit}}").unwrap();
            }
        }
    }
    text
}

/// A node with so many VRFs in its files.
fn node(bridge: &Bridge, image: Image, vrfs: usize, prefixes: usize) -> Node {
    let node = Node::of_the_lab(bridge, image, Spelling::Plain);
    let vnis: String = (0..vrfs).map(|vrf| format!("  v{vrf}: {}\n", 1000 + vrf)).collect();
    node.write("/opt/network-operator/config.yaml", format!("bpf: {{notrack: false}}\nvnimap:\n{vnis}"));
    node.write(&format!("{MANIFESTS}/all.yaml"), objects(vrfs, prefixes));
    node
}

/// How long a command takes in the node, in seconds by the node's clock.
fn seconds(node: &Node, command: &str) -> f64 {
    let timed = format!("bash -c 'begin=$EPOCHREALTIME; {command}; echo $begin $EPOCHREALTIME'");
    let told = node.ok(&timed);
    let times: Vec<f64> = told.lines().last().unwrap().split(' ').map(|time| time.parse().unwrap()).collect();
    times[1] - times[0]
}

/// Seconds that runs took that went as one that the agent said this of.
fn took(node: &Node, said: &str) -> Vec<f64> {
    let log = node.agent_log();
    let lines: Vec<&str> = log.lines().collect();
    let ended = lines.windows(3).filter(|lines| lines[0].contains(said)).filter_map(|lines| {
        let line = lines.iter().find(|line| line.contains("run ended"))?;
        line.split_once("seconds=")?.1.split_whitespace().next()?.parse().ok()
    });
    ended.collect()
}

/// From the end of the window to a verified node, over a bare reload of the same text on a node that has the links already.
fn change(image: Image) -> (f64, f64) {
    let (vrfs, prefixes) = (30, 50);
    let bridge = Bridge::new();
    let node = node(&bridge, image, vrfs, prefixes);
    let before = node.read("/etc/frr/frr.conf");
    node.start_agent(FROM_MANIFESTS);
    node.applied(0, LIMIT);
    node.agent_says("run ended", 0, LIMIT);
    let agent = took(&node, " applied ")[0];
    node.stop_agent();
    let text = node.read("/etc/frr/frr.conf");
    let mapped = |node: &Node| node.ok("vtysh -c 'show vrf vni json' | grep -c '\"vni\"' || true").trim().to_owned();
    node.write("/etc/frr/frr.conf", before);
    node.ok("systemctl restart frr");
    node.wait_for_frr();
    assert_eq!(mapped(&node), "0");
    if image == Image::Bookworm {
        // Its vtysh loses its place where `vrf` follows `router bgp` in what a reload adds: the reload would fail, and stop FRR.
        node.ok(&format!("vtysh -c 'configure terminal' {}", vnis_alone(&text)));
    }
    node.write("/etc/frr/frr.conf", text);
    let bare = seconds(&node, "systemctl reload frr");
    assert_eq!(mapped(&node), vrfs.to_string(), "{}", node.last_words());
    (agent, bare)
}

/// The stanzas of VRFs, as arguments of vtysh.
fn vnis_alone(text: &str) -> String {
    let stanza = |line: &&str| line.starts_with("vrf ") || line.starts_with(" vni ") || *line == "exit-vrf";
    text.lines().filter(stanza).map(|line| format!(" -c '{}'", line.trim())).collect()
}

/// CPU time of the agent's unit, in ms.
fn cpu(node: &Node) -> f64 {
    node.ok("systemctl show -P CPUUsageNSec network-operator").trim().parse::<f64>().unwrap() / 1e6
}

struct AtRest {
    vrfs: usize,
    /// CPU of a run that finds nothing to do, and of the look alone, in ms.
    no_op: f64,
    look: f64,
    /// From the start of the process to the end of its first run, and what the look alone takes, in s.
    start: f64,
    show: f64,
    /// Resident memory of the agent and of bgpd, in MB.
    resident: f64,
    bgpd: f64,
}

fn at_rest(image: Image) -> AtRest {
    let vrfs = 200;
    let bridge = Bridge::new();
    let node = node(&bridge, image, vrfs, 1);
    node.start_agent_with(FROM_MANIFESTS, "-p CPUAccounting=yes");
    node.applied(0, LIMIT);
    // What our own run did raises looks.
    std::thread::sleep(Duration::from_secs(60));
    let begin = cpu(&node);
    for _ in 0..LOOKS {
        let before = node.says("run ended");
        node.ok(&format!(
            "cp {MANIFESTS}/all.yaml /run/all && echo '---' >>/run/all && cp /run/all {MANIFESTS}/all.yaml"
        ));
        node.agent_says("run ended", before, LIMIT);
        std::thread::sleep(Duration::from_secs(3));
    }
    let no_op = (cpu(&node) - begin) / LOOKS as f64;
    let times = node.ok(&format!("bash -c 'for n in $(seq {LOOKS}); do {SHOW}; done; times' | tail -1"));
    let look = times.split_whitespace().map(of_times).sum::<f64>() * 1000.0 / LOOKS as f64;
    let [resident, bgpd] =
        [node.agent_pid(), node.pid("bgpd")].map(|pid| f64::from(node.process(&pid).kilobytes("VmRSS")) / 1024.0);
    let before = node.says("run ended");
    node.ok("systemctl restart network-operator");
    node.agent_says("run ended", before, LIMIT);
    let times = node.ok(
        "journalctl -u network-operator -o short-unix --no-pager | grep -E 'network-operator runs|run ended' | tail -2 | cut -d' ' -f1",
    );
    let times: Vec<f64> = times.lines().map(|time| time.parse().unwrap()).collect();
    AtRest { vrfs, no_op, look, start: times[1] - times[0], show: seconds(&node, SHOW), resident, bgpd }
}

/// `0m1.234s`.
fn of_times(time: &str) -> f64 {
    let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
    minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
}

fn main() {
    println!(
        "| a change of 30 VRFs with 50 prefixes each way, median of {ROUNDS} | agent | `systemctl reload frr` | ratio, at most {CHANGE} |"
    );
    println!("| --- | --- | --- | --- |");
    let mut worst: f64 = 0.0;
    for image in Image::ALL {
        let mut rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| change(image)).collect();
        rounds.sort_by(|(agent, bare), (other, beside)| (agent / bare).total_cmp(&(other / beside)));
        let (agent, bare) = rounds[ROUNDS / 2];
        worst = worst.max(agent / bare);
        let [least, most] = [rounds[0], rounds[ROUNDS - 1]].map(|(agent, bare)| agent / bare);
        println!(
            "| FRR {} | {agent:.1} s | {bare:.1} s | {:.2} ({least:.2} to {most:.2}) |",
            image.frr(),
            agent / bare
        );
    }
    let AtRest { vrfs, no_op, look, start, show, resident, bgpd } = at_rest(Image::Trixie);
    println!("\n| {vrfs} VRFs, FRR {} | agent | beside it | ratio |", Image::Trixie.frr());
    println!("| --- | --- | --- | --- |");
    println!(
        "| CPU of a run with nothing to do (at most {NO_OP_MS} ms) | {no_op:.0} ms | {look:.0} ms: `vtysh -c 'show running-config'` | {:.2} |",
        no_op / look
    );
    println!("| start until a verified node | {start:.1} s | {show:.1} s: the same | {:.2} |", start / show);
    println!("| resident memory | {resident:.1} MB | {bgpd:.1} MB: bgpd | {:.2} |", resident / bgpd);
    assert!(worst <= CHANGE && no_op < NO_OP_MS);
}
