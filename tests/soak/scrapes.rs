//! Metrics of 200 VRFs, ten thousand times.

use std::time::{Duration, Instant};

use crate::lab::{Bridge, FROM_MANIFESTS, Image, MANIFESTS, Node, Spelling};
use crate::progress::{Progress, scaled};

const VRFS: usize = 200;
const SCRAPES: usize = 10_000;
/// What is asked for in one command.
const PART: usize = 100;
/// Time for one answer, on the node's clock.
const BOUND_MS: u32 = 250;
/// What the allocator may keep more than after the first tenth, in kB.
const GROWTH_KB: i64 = 1024;
const LIMIT: Duration = Duration::from_secs(3600);

/// In the node: prints how many ms each of so many answers took.
const ASK: &str = r#"for n in $(seq "$1"); do
  begin=${EPOCHREALTIME/./}
  exec 3<>/dev/tcp/127.0.0.1/9342; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3 >/run/answer; exec 3>&-
  echo $(( (${EPOCHREALTIME/./} - begin) / 1000 ))
  [ "$(head -c 12 /run/answer)$(tail -n 1 /run/answer)" = "HTTP/1.0 200# EOF" ] || { cat /run/answer >&2; exit 1; }
done"#;

fn object(vrf: usize) -> String {
    let (high, low) = (vrf / 256, vrf % 256);
    format!(
        "---\napiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: v{vrf}}}\nspec:\n  vrf: v{vrf}\n  seq: 10\n  \
         import: [{{cidr: 10.{high}.{low}.0/24, action: permit}}]\n  export: [{{cidr: 10.{}.{low}.0/24, action: permit}}]\n",
        100 + high
    )
}

fn ask(node: &Node, count: usize) -> Vec<u32> {
    node.write("/run/ask.sh", ASK);
    let mut took: Vec<u32> = Vec::new();
    let mut progress = Progress::new("scrapes", Image::Trixie, "parts", count.div_ceil(PART));
    while took.len() < count {
        let told = node.ok(&format!("bash /run/ask.sh {}", PART.min(count - took.len())));
        let begun = took.len();
        took.extend(told.lines().map(|line| line.parse::<u32>().unwrap()));
        progress.step(|| format!("at most {} ms in the last", took[begun..].iter().max().unwrap()));
    }
    took
}

fn resident_kb(node: &Node) -> i64 {
    let status = node.ok("grep VmRSS /proc/$(systemctl show -P MainPID network-operator)/status");
    status.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn two_hundred_vrfs_are_told_in_a_quarter_of_a_second_ten_thousand_times_without_growing() {
    let bridge = Bridge::new();
    let node = Node::of_the_lab(&bridge, Image::Trixie, Spelling::Plain);
    let vnis: String = (0..VRFS).map(|vrf| format!("  v{vrf}: {}\n", 1000 + vrf)).collect();
    node.write("/opt/network-operator/config.yaml", format!("bpf: {{notrack: false}}\nvnimap:\n{vnis}"));
    node.write(&format!("{MANIFESTS}/all.yaml"), (0..VRFS).map(object).collect::<String>());
    node.start_agent(FROM_MANIFESTS);
    let begin = Instant::now();
    println!("[scrapes] {VRFS} VRFs are applied");
    node.applied(0, LIMIT);
    println!("[scrapes] {VRFS} VRFs are applied after {}s", begin.elapsed().as_secs());
    let count = scaled(SCRAPES);
    let mut took = ask(&node, count / 10);
    let told = node.read("/run/answer");
    for metric in ["frr_vni_up", "frr_bgp_state", "kernel_routes", "bpf_packets_total"] {
        assert!(told.contains(&format!("\nnetwork_operator_{metric}{{")), "{metric}: {told}");
    }
    assert_eq!(told.lines().filter(|line| line.starts_with("network_operator_frr_vni_up{")).count(), VRFS);
    let before = resident_kb(&node);
    took.extend(ask(&node, count - count / 10));
    let grown = resident_kb(&node) - before;
    took.sort_unstable();
    let at = |part: usize| took[took.len() * part / 100];
    println!(
        "SOAK scrapes: {} answers of {} kB on {VRFS} VRFs: half within {} ms, 99 of 100 within {} ms; the agent has {before} kB, {grown} kB more at the end",
        took.len(),
        told.len() / 1024,
        at(50),
        at(99)
    );
    assert!(at(99) < BOUND_MS, "{} ms", at(99));
    assert!(grown < GROWTH_KB, "{grown} kB");
}
