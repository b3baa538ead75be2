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

/// In the node, in Python, so that no start of a process is timed: prints how many ms each of so many answers took, and the seconds of each
/// collector where it is past the bound.
const ASK: &str = r##"
import re, socket, sys, time
for _ in range(int(sys.argv[1])):
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", 9342)) as server:
        server.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: server.recv(1 << 16), b""))
    took = int((time.monotonic() - begin) * 1000)
    if not (answer.startswith(b"HTTP/1.0 200") and answer.endswith(b"\n# EOF\n")):
        sys.exit(answer.decode())
    parts = re.findall(rb'scrape_duration_seconds{collector="(\w+)"} (\S+)', answer) if took >= BOUND_MS else []
    print(took, *(f"{name.decode()} {float(seconds):.3f}" for name, seconds in parts))
open("/run/answer", "wb").write(answer)
"##;

/// What exporters ask that have vtysh.
const ASK_VTYSH: &str = r#"for n in $(seq "$1"); do
  begin=${EPOCHREALTIME/./}
  vtysh -c 'show ip route vrf all summary' -c 'show ipv6 route vrf all summary' -c 'show vrf vni json' -c 'show bgp vrf all summary json' >/dev/null
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
fn ask(node: &Node, count: usize) -> Vec<u32> {
    let (begin, mut took) = (Instant::now(), Vec::<u32>::new());
    while took.len() < count {
        let told = node.ok(&format!("python3 /run/ask.py {}", PART.min(count - took.len())));
        for line in told.lines() {
            let (ms, collectors) = line.split_once(' ').unwrap_or((line, ""));
            took.push(ms.parse().unwrap());
            if count > PART && !collectors.is_empty() {
                println!("[{}s] number {}: {ms} ms, in seconds: {collectors}", begin.elapsed().as_secs(), took.len());
            }
        }
        if took.len().is_multiple_of(PART * 10) {
            println!("[{}s] {} of {count}", begin.elapsed().as_secs(), took.len());
        }
    }
    took
}

/// Asks vtysh so often; gives how many ms each answer took.
fn ask_vtysh(node: &Node, count: usize) -> Vec<u32> {
    node.ok(&format!("bash /run/ask.sh {count}")).lines().map(|line| line.parse().unwrap()).collect()
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
        let slow = (0..IN_A_ROW).map(|_| ask(node, 1)[0]).find(|took| *took >= SLOW_MS);
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
    let node = Node::builder_of_the_lab(&bridge, Image::Trixie, Spelling::Plain, 1);
    let node = node.memory_mb(1024).on_one_core().boot_with_frr();
    let vnis: String = (0..VRFS).map(|vrf| format!("  v{vrf}: {}\n", 1000 + vrf)).collect();
    node.comes_first();
    node.write("/opt/network-operator/config.yaml", format!("bpf: {{notrack: false}}\nvnimap:\n{vnis}"));
    node.write(&format!("{MANIFESTS}/all.yaml"), (0..VRFS).map(object).collect::<String>());
    node.write("/run/ask.py", ASK.replace("BOUND_MS", &BOUND_MS.to_string()));
    node.write("/run/ask.sh", ASK_VTYSH);
    node.start_agent_measured(FROM_MANIFESTS, "");
    let begin = Instant::now();
    node.applied(0, LIMIT);
    println!("[{}s] {VRFS} VRFs are applied", begin.elapsed().as_secs());
    rests(&node);
    println!("[{}s] FRR rests", begin.elapsed().as_secs());
    let mut beside = ask_vtysh(&node, BESIDE);
    let mut took = ask(&node, count / 10);
    let told = node.read("/run/answer");
    for metric in ["frr_vni_up", "frr_bgp_state", "kernel_routes", "bpf_packets_total"] {
        assert!(told.contains(&format!("\nnetwork_operator_{metric}{{")), "{metric}: {told}");
    }
    assert_eq!(told.lines().filter(|line| line.starts_with("network_operator_frr_vni_up{")).count(), VRFS);
    let resident = || i64::from(node.process(&node.agent_pid()).kilobytes("VmRSS"));
    let before = resident();
    took.extend(ask(&node, count / 2 - count / 10));
    let half = resident() - before;
    took.extend(ask(&node, count - count / 2));
    let grown = resident() - before;
    let kilobytes = told.len() / 1024;
    println!(
        "\n| {count} answers of {kilobytes} kB, {VRFS} VRFs, FRR {} | `/metrics` | `vtysh` asked the same of FRR | ratio |",
        Image::Trixie.frr()
    );
    println!("| --- | --- | --- | --- |");
    for part in [50, 99, 100] {
        let (ours, theirs) = (within(part, &mut took), within(part, &mut beside));
        println!("| {part} of 100 within | {ours} ms | {theirs} ms | {:.2} |", f64::from(ours) / f64::from(theirs));
    }
    println!(
        "\nBound: 99 of 100 within {BOUND_MS} ms. The agent had {before} kB after the first tenth, {half} kB more after half of them, and {grown} kB more at the end (bound: {GROWTH_KB} kB)."
    );
    assert!(within(99, &mut took) < BOUND_MS && grown < GROWTH_KB);
}
