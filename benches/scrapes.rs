//! Answers of `/metrics` on a node of 200 VRFs, ten thousand times, beside a vtysh that is asked the same; and what they leave in the
//! agent's memory. `SCRAPES=1000` asks for fewer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that fails must stop, and prints what it found"
)]
#![allow(unreachable_pub, reason = "the modules of a benchmark")]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::time::{Duration, Instant};

use lab::{Bridge, FROM_MANIFESTS, Image, MANIFESTS, Node, Spelling};

const VRFS: usize = 200;
const SCRAPES: usize = 10_000;
/// What is asked for in one command.
const PART: usize = 100;
/// How often vtysh is asked.
const BESIDE: usize = 20;
/// Time for 99 of 100 answers, on the node's clock.
const BOUND_MS: u32 = 250;
/// What the allocator may keep more than after the first tenth, in kB.
const GROWTH_KB: i64 = 1024;
const LIMIT: Duration = Duration::from_secs(3600);
/// Once so many answers in a row were told sooner than that, FRR has settled.
const IN_A_ROW: usize = 20;
const SLOW_MS: u32 = 1000;
/// How often it is said that it has not.
const SHOWN: Duration = Duration::from_secs(60);

/// In the node: prints how many ms each of so many answers took.
const ASK: &str = r#"for n in $(seq "$1"); do
  begin=${EPOCHREALTIME/./}
  exec 3<>/dev/tcp/127.0.0.1/9342; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3 >/run/answer; exec 3>&-
  echo $(( (${EPOCHREALTIME/./} - begin) / 1000 ))
  [ "$(head -c 12 /run/answer)$(tail -n 1 /run/answer)" = "HTTP/1.0 200# EOF" ] || { cat /run/answer >&2; exit 1; }
done"#;

/// What exporters ask that have vtysh.
const ASK_VTYSH: &str = r#"for n in $(seq "$1"); do
  begin=${EPOCHREALTIME/./}
  vtysh -c 'show ip route vrf all summary' -c 'show ipv6 route vrf all summary' -c 'show vrf vni json' -c 'show bgp vrf all summary json' >/run/answer
  echo $(( (${EPOCHREALTIME/./} - begin) / 1000 ))
done"#;

fn object(vrf: usize) -> String {
    let (high, low) = (vrf / 256, vrf % 256);
    format!(
        "---\napiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: v{vrf}}}\nspec:\n  vrf: v{vrf}\n  seq: 10\n  \
         import: [{{cidr: 10.{high}.{low}.0/24, action: permit}}]\n  export: [{{cidr: 10.{}.{low}.0/24, action: permit}}]\n",
        100 + high
    )
}

/// Asks so often; gives how many ms each answer took.
fn ask(node: &Node, script: &str, count: usize) -> Vec<u32> {
    node.write("/run/ask.sh", script);
    let (begin, mut took) = (Instant::now(), Vec::<u32>::new());
    while took.len() < count {
        let told = node.ok(&format!("bash /run/ask.sh {}", PART.min(count - took.len())));
        let begun = took.len();
        took.extend(told.lines().map(|line| line.parse::<u32>().unwrap()));
        if took.len().is_multiple_of(PART * 10) {
            let most = took[begun..].iter().max().unwrap();
            println!(
                "[{}s] {} of {count}, at most {most} ms in the last {PART}",
                begin.elapsed().as_secs(),
                took.len()
            );
        }
    }
    took
}

/// So many of a hundred are within what is given.
fn within(part: usize, took: &mut [u32]) -> u32 {
    took.sort_unstable();
    took[(took.len() * part / 100).min(took.len() - 1)]
}

/// Waits until FRR has done what a change of all VRFs gives it to do: until then it answers nobody for seconds.
fn rests(node: &Node) {
    let mut begin = Instant::now();
    node.wait("metrics are told at once again and again", LIMIT, |node| {
        let slow = (0..IN_A_ROW).map(|_| ask(node, ASK, 1)[0]).find(|took| *took >= SLOW_MS);
        if begin.elapsed() > SHOWN {
            begin = Instant::now();
            let free = node.ok("free -m | grep Mem:");
            let resident = node.ok("ps -C zebra,bgpd,network-operator -o comm=,rss=,time= | tr '\\n' ';'");
            println!("FRR has not settled: an answer took {slow:?} ms; {resident} {free}");
        }
        slow.map_or(Ok(()), |took| Err(format!("{took} ms")))
    });
}

fn main() {
    let count: usize = std::env::var("SCRAPES").map_or(SCRAPES, |text| text.parse().expect("SCRAPES is a number"));
    assert!(count >= 2 * PART, "SCRAPES is at least {}", 2 * PART);
    let bridge = Bridge::new();
    let node = Node::of_the_lab(&bridge, Image::Trixie, Spelling::Plain);
    let vnis: String = (0..VRFS).map(|vrf| format!("  v{vrf}: {}\n", 1000 + vrf)).collect();
    node.comes_first();
    node.write("/opt/network-operator/config.yaml", format!("bpf: {{notrack: false}}\nvnimap:\n{vnis}"));
    node.write(&format!("{MANIFESTS}/all.yaml"), (0..VRFS).map(object).collect::<String>());
    node.start_agent(FROM_MANIFESTS);
    let begin = Instant::now();
    node.applied(0, LIMIT);
    println!("[{}s] {VRFS} VRFs are applied", begin.elapsed().as_secs());
    rests(&node);
    println!("[{}s] FRR rests", begin.elapsed().as_secs());
    let mut beside = ask(&node, ASK_VTYSH, BESIDE);
    let mut took = ask(&node, ASK, count / 10);
    let told = node.read("/run/answer");
    for metric in ["frr_vni_up", "frr_bgp_state", "kernel_routes", "bpf_packets_total"] {
        assert!(told.contains(&format!("\nnetwork_operator_{metric}{{")), "{metric}: {told}");
    }
    assert_eq!(told.lines().filter(|line| line.starts_with("network_operator_frr_vni_up{")).count(), VRFS);
    let resident = || i64::from(node.process(&node.agent_pid()).kilobytes("VmRSS"));
    let before = resident();
    took.extend(ask(&node, ASK, count - count / 10));
    let grown = resident() - before;
    let kilobytes = told.len() / 1024;
    println!(
        "\n| {count} answers of {kilobytes} kB, {VRFS} VRFs, FRR {} | `/metrics` | `vtysh` asked the same of FRR | ratio |",
        Image::Trixie.frr()
    );
    println!("| --- | --- | --- | --- |");
    for part in [50, 99] {
        let (ours, theirs) = (within(part, &mut took), within(part, &mut beside));
        println!("| {part} of 100 within | {ours} ms | {theirs} ms | {:.2} |", f64::from(ours) / f64::from(theirs));
    }
    println!(
        "\nBound: 99 of 100 within {BOUND_MS} ms. The agent had {before} kB after the first tenth, and {grown} kB more at the end (bound: {GROWTH_KB} kB)."
    );
    assert!(within(99, &mut took) < BOUND_MS && grown < GROWTH_KB);
}
