//! What runs of the agent take on a lab node, beside what FRR's and iproute2's tools take there for the same: changes of 30 VRFs, a run that
//! finds nothing to do at 200 VRFs, and a start. `ROUNDS=1` times the changes less often, `ROUNDS=0` not at all.
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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use lab::{Bridge, Cpu, FROM_MANIFESTS, Image, MANIFESTS, Node, Spelling, batch};
use network_operator::link::{DesiredLinks, LinkPlan, ObservedLinks, Underlay, VrfLinks, plan};
use network_operator::model::{Mtu, RouteTables, VrfName};

const CONF: &str = "/etc/frr/frr.conf";
/// So many VRFs change.
const VRFS: usize = 30;
/// So many prefixes each has each way.
const PREFIXES: usize = 50;
/// How long a node is left alone after FRR has started.
const RESTS: Duration = Duration::from_secs(20);
/// How many VNIs of VRFs zebra knows, and how many it calls up.
const VNIS_KNOWN: &str = "vtysh -c \"show vrf vni json\" | grep -c \\\"vni\\\"";
const VNIS_UP: &str = "vtysh -c \"show vrf vni json\" | grep -c \\\"state\\\":\\\"Up\\\"";
const LIMIT: Duration = Duration::from_secs(1800);
/// How often a run that finds nothing to do is asked for.
const LOOKS: usize = 10;
/// CPU of such a run, in ms.
const NO_OP_MS: f64 = 50.0;
/// Of the time that a change takes by hand.
const CHANGE: f64 = 1.1;
/// What a reload of the same text would do; whatever that is.
const RELOAD_TEST: &str = "/usr/lib/frr/frr-reload.py --test /etc/frr/frr.conf >/dev/null || true";
/// The running configuration, and nothing else: the least that it takes to look.
const SHOW: &str = "vtysh -c \"show running-config\" >/dev/null";

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
    // A reload may take longer than Debian's unit lets it.
    node.write("/etc/systemd/system/frr.service.d/bench.conf", "[Service]\nTimeoutSec=10m\n");
    node.ok("systemctl daemon-reload");
    node
}

/// How long commands take in the node, in seconds by the node's clock; none may fail.
fn seconds(node: &Node, commands: &str) -> f64 {
    let timed = format!("bash -ec 'begin=$EPOCHREALTIME; {commands}; echo $begin $EPOCHREALTIME'");
    let told = node.ok(&timed);
    let times: Vec<f64> = told.lines().last().unwrap().split(' ').map(|time| time.parse().unwrap()).collect();
    times[1] - times[0]
}

/// Seconds that each run took in which the agent applied something.
fn took(node: &Node) -> Vec<f64> {
    let log = node.agent_log();
    let mut lines = log.lines();
    let mut took = Vec::new();
    while lines.any(|line| line.contains(" applied ")) {
        let ended = lines.find_map(|line| line.contains("run ended").then(|| line.split_once("seconds=")).flatten());
        took.push(ended.unwrap().1.split_whitespace().next().unwrap().parse().unwrap());
    }
    took
}

/// What the agent took, and what it took by hand, in seconds.
#[derive(Clone, Copy)]
struct Pair {
    agent: f64,
    by_hand: f64,
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.agent / self.by_hand
    }
}

/// Two changes on one node, and both ways begin with an FRR that has just started and rested.
struct Changes {
    /// VRFs, their links and their policy come onto a node that has none; by hand that is a reload, and `ip -batch` twice.
    all: Pair,
    /// Of the way by hand the reload, which makes no links.
    reload: f64,
    /// The policy of VRFs that are there grows from one prefix each way; by hand that is a reload.
    policy: Pair,
}

impl Changes {
    fn on(image: Image) -> Self {
        let bridge = Bridge::new();
        let node = node(&bridge, image, VRFS, PREFIXES);
        let none = node.read(CONF);
        begin_with(&node, &none, 0);
        node.start_agent(FROM_MANIFESTS);
        node.applied(0, LIMIT);
        node.agent_says("run ended", 0, LIMIT);
        let full = node.read(CONF);
        let little = policy(&node, 1);
        begin_with(&node, &little, VRFS);
        assert_eq!(policy(&node, PREFIXES), full);
        let took = took(&node);
        let [all, _, grown] = took.as_slice() else { panic!("{took:?}") };
        node.stop_agent();
        begin_with(&node, &little, VRFS);
        let policy = Pair { agent: *grown, by_hand: reload(&node, &full) };
        assert_as_the_agent_makes_it(&node);
        node.ok("systemctl stop frr");
        for vrf in 0..VRFS {
            node.ok(&format!("for link in vr br vx vd; do ip link del $link.v{vrf}; done"));
        }
        begin_with(&node, &none, 0);
        let (by_hand, reload) = by_hand(&node, image, &full);
        Self { all: Pair { agent: *all, by_hand }, reload, policy }
    }
}

/// The agent brings the VRFs to so many prefixes each way; gives frr.conf.
fn policy(node: &Node, prefixes: usize) -> String {
    let (applied, ended) = (node.says(" applied "), node.says("run ended"));
    node.write(&format!("{MANIFESTS}/all.yaml"), objects(VRFS, prefixes));
    node.applied(applied, LIMIT);
    node.agent_says("run ended", ended, LIMIT);
    node.read(CONF)
}

/// FRR starts with a text, has that many VNIs, and rests.
fn begin_with(node: &Node, text: &str, vnis: usize) {
    if node.read(CONF) != text {
        node.write(CONF, text);
    }
    // However often that was.
    node.ok("systemctl reset-failed frr; systemctl restart frr");
    node.wait_for_frr();
    node.wait("VNIs", LIMIT, |node| match node.ok(&format!("{VNIS_UP} || true")).trim() {
        up if up == vnis.to_string() => Ok(()),
        up => Err(up.to_owned()),
    });
    std::thread::sleep(RESTS);
}

/// How long a reload takes, in seconds.
fn reload(node: &Node, text: &str) -> f64 {
    node.write(CONF, text);
    seconds(node, "systemctl reload frr")
}

/// The way by hand, in the agent's order: how long it takes, and the reload of it.
fn by_hand(node: &Node, image: Image, text: &str) -> (f64, f64) {
    let LinkPlan { create, activate, .. } = links();
    node.write("/run/create", batch(&create));
    node.write("/run/activate", batch(&activate));
    let vnis = match image {
        // Its vtysh loses its place where `vrf` follows `router bgp` in what a reload adds: the reload would fail, and stop FRR.
        Image::Bookworm => seconds(node, &format!("vtysh -c \"configure terminal\" {}", vnis_alone(text))),
        Image::Trixie => 0.0,
    };
    let reload = vnis + reload(node, text);
    let until = |asked: &str| format!("until [ $({asked}) = {VRFS} ]; do sleep 0.1; done");
    let (mapped, up) = (until(VNIS_KNOWN), until(VNIS_UP));
    let links = seconds(node, &format!("ip -batch /run/create; {mapped}; ip -batch /run/activate; {up}"));
    assert_as_the_agent_makes_it(node);
    (reload + links, reload)
}

/// What was done by hand is what the agent would do.
fn assert_as_the_agent_makes_it(node: &Node) {
    let left = node.ok(&format!("/labbin/network-operator plan -f {MANIFESTS}"));
    for done in ["links: nothing to do", "FRR: nothing to do"] {
        assert!(left.contains(done), "not what the agent makes: {left}");
    }
}

/// The links that the agent makes.
fn links() -> LinkPlan {
    let vrfs = (0..VRFS).map(|vrf| {
        let vni = (1000 + i64::try_from(vrf).unwrap()).try_into().unwrap();
        (format!("v{vrf}").parse().unwrap(), VrfLinks { vni, mtu: Mtu::default() })
    });
    let vrfs: BTreeMap<VrfName, VrfLinks> = vrfs.collect();
    let want = DesiredLinks {
        known: vrfs.keys().cloned().collect(),
        vrfs,
        frozen: BTreeSet::new(),
        tables: RouteTables::default(),
        underlay: Underlay { name: "dum.underlay".parse().unwrap(), index: 2, ip: [192, 0, 2, 129].into(), mtu: 9100 },
    };
    plan(&want, &ObservedLinks::default())
}

/// The stanzas of VRFs, as arguments of vtysh.
fn vnis_alone(text: &str) -> String {
    let stanza = |line: &&str| line.starts_with("vrf ") || line.starts_with(" vni ") || *line == "exit-vrf";
    text.lines().filter(stanza).map(|line| format!(" -c \"{}\"", line.trim())).collect()
}

struct AtRest {
    vrfs: usize,
    /// Of a run that finds nothing to do.
    no_op: Cpu,
    /// The same where the manifests say the same in other words.
    reworded: Cpu,
    /// CPU of the look alone, in ms.
    look: f64,
    /// From the start of the process to the end of its first run, and what the look alone takes, in s.
    start: f64,
    show: f64,
    /// How long both take to find that FRR runs what it shall, in s.
    plan: Pair,
    /// Resident memory of the agent and of bgpd, in MB.
    resident: f64,
    bgpd: f64,
}

fn at_rest(image: Image) -> AtRest {
    let vrfs = 200;
    let bridge = Bridge::new();
    let node = node(&bridge, image, vrfs, 1);
    // No look falls among those that are measured, and it says when a run has ended.
    let args = format!("{FROM_MANIFESTS} --check-interval 0s");
    node.start_agent_measured(&args, "-E RUST_LOG=network_operator::agent=debug");
    node.agent_says("network-operator runs", 0, LIMIT);
    // Also where zebra, which has one core for that many VRFs, leaves the first run without an answer.
    node.wait("readiness", LIMIT, |node| match node.asked(9342, "/readyz") {
        (status, _) if status == "200" => Ok(()),
        (_, body) => Err(body),
    });
    // What our own run did raises looks, and keeps FRR busy.
    let looks = |node: &Node| node.says("run ended");
    let mut before = looks(&node);
    node.wait("a minute without a look", LIMIT, |node| {
        std::thread::sleep(Duration::from_secs(60));
        match std::mem::replace(&mut before, looks(node)) {
            then if then == before => Ok(()),
            then => Err(format!("{} looks", before - then)),
        }
    });
    let outside = node.outside(&node.agent_pid());
    let for_each = |asked: &str| {
        let begin = node.agent_cpu(&outside);
        for _ in 0..LOOKS {
            let before = node.says("run ended");
            node.ok(asked);
            node.agent_says("run ended", before, LIMIT);
            std::thread::sleep(Duration::from_secs(3));
        }
        node.agent_cpu(&outside).since(begin, LOOKS as f64)
    };
    let no_op = for_each(&format!("touch {MANIFESTS}/all.yaml"));
    let reworded = for_each(&format!(
        "cp {MANIFESTS}/all.yaml /run/all && echo '---' >>/run/all && cp /run/all {MANIFESTS}/all.yaml"
    ));
    let times = node.ok(&format!("bash -ec 'for n in $(seq {LOOKS}); do {SHOW}; done; times'"));
    let look = times.lines().last().unwrap().split_whitespace().map(of_times).sum::<f64>() * 1000.0 / LOOKS as f64;
    let [resident, bgpd] = [node.agent_pid(), node.pid("bgpd")].map(|pid| node.process(&pid).megabytes("VmRSS"));
    let before = node.says("run ended");
    node.ok("systemctl restart network-operator");
    node.agent_says("run ended", before, LIMIT);
    let times = node.ok(
        "journalctl -u network-operator -o short-unix --no-pager | grep -E 'network-operator runs|run ended' | tail -2 | cut -d' ' -f1",
    );
    let times: Vec<f64> = times.lines().map(|time| time.parse().unwrap()).collect();
    let [agent, by_hand] = [format!("/labbin/network-operator plan -f {MANIFESTS} >/dev/null"), RELOAD_TEST.to_owned()]
        .map(|commands| seconds(&node, &commands));
    let (start, show, plan) = (times[1] - times[0], seconds(&node, SHOW), Pair { agent, by_hand });
    AtRest { vrfs, no_op, reworded, look, start, show, plan, resident, bgpd }
}

/// `0m1.234s`.
fn of_times(time: &str) -> f64 {
    let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
    minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
}

/// How often the changes are timed with each FRR; the median counts.
fn rounds() -> usize {
    std::env::var("ROUNDS").map_or(3, |rounds| rounds.parse().expect("ROUNDS is a number"))
}

/// Prints the round whose ratio is the median, with the way by hand in words, and gives that ratio.
fn told(
    what: &str,
    image: Image,
    rounds: &mut [Changes],
    pair: fn(&Changes) -> Pair,
    by_hand: impl Fn(&Changes) -> String,
) -> f64 {
    rounds.sort_by(|one, other| pair(one).ratio().total_cmp(&pair(other).ratio()));
    let [least, median, most] = [0, rounds.len() / 2, rounds.len() - 1].map(|at| &rounds[at]);
    let [low, ratio, high] = [least, median, most].map(|round| pair(round).ratio());
    let (Pair { agent, by_hand: beside }, words, frr) = (pair(median), by_hand(median), image.frr());
    println!("| {what}, FRR {frr} | {agent:.1} s | {words}: {beside:.1} s | {ratio:.2} ({low:.2} to {high:.2}) |");
    ratio
}

/// Prints how long the changes take, and gives the worst ratio of them.
fn changes(rounds: usize) -> f64 {
    println!(
        "| {VRFS} VRFs with {PREFIXES} prefixes each way, median of {rounds} | agent | by hand | ratio, at most {CHANGE} |"
    );
    println!("| --- | --- | --- | --- |");
    let mut worst: f64 = 0.0;
    for image in Image::ALL {
        let mut rounds: Vec<Changes> = (0..rounds).map(|_| Changes::on(image)).collect();
        let policy = told("policy", image, &mut rounds, |round| round.policy, |_| "`systemctl reload frr`".to_owned());
        let parts = |round: &Changes| format!("a reload ({:.1} s), `ip -batch`", round.reload);
        let all = told("all, from nothing", image, &mut rounds, |round| round.all, parts);
        // The reload makes no links, which the agent does in that time: no bound.
        let alone = |round: &Changes| Pair { agent: round.all.agent, by_hand: round.reload };
        told("all, from nothing", image, &mut rounds, alone, |_| "that reload alone (no bound)".to_owned());
        worst = worst.max(policy).max(all);
    }
    worst
}

fn main() {
    let worst = match rounds() {
        0 => 0.0,
        rounds => changes(rounds),
    };
    let AtRest { vrfs, no_op, reworded, look, start, show, plan, resident, bgpd } = at_rest(Image::Trixie);
    println!("\n| {vrfs} VRFs, FRR {} | agent | beside it | ratio |", Image::Trixie.frr());
    println!("| --- | --- | --- | --- |");
    let [taken, user, kernel, counted] =
        [no_op.taken(), no_op.user, no_op.kernel, no_op.counted].map(|seconds| seconds * 1e3);
    println!(
        "| CPU of a run with nothing to do, as User-Mode Linux counts it | {counted:.0} ms | {look:.0} ms: `vtysh -c 'show running-config'` | {:.2} |",
        counted / look
    );
    println!(
        "| the same: user code as this machine counts it, with its stops, {user:.1} ms, node's kernel {kernel:.1} ms | {taken:.1} ms | at most {NO_OP_MS} ms | {:.2} |",
        taken / NO_OP_MS
    );
    let reworded = reworded.taken() * 1e3;
    println!(
        "| the same where the manifests were written anew in other words | {reworded:.1} ms | {taken:.1} ms: not written anew | {:.2} |",
        reworded / taken
    );
    println!(
        "| `plan` with nothing to do | {:.1} s | `frr-reload.py --test`, FRR's part of it: {:.1} s | {:.2} |",
        plan.agent,
        plan.by_hand,
        plan.ratio()
    );
    println!("| start until a verified node | {start:.1} s | {show:.1} s: the same | {:.2} |", start / show);
    println!("| resident memory | {resident:.1} MB | {bgpd:.1} MB: bgpd | {:.2} |", resident / bgpd);
    assert!(worst <= CHANGE && taken < NO_OP_MS);
}
