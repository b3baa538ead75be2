//! What the agent takes of a node on which nothing happens: memory and CPU, with 30 VRFs and 100 objects of a real API server.
//! `REST_SECONDS=3600` looks at it for an hour instead of ten minutes.
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

use std::process::Command;
use std::time::Duration;

use lab::cluster::{Cluster, with_server};
use lab::{ApiServer, Bridge, Image, Node, Spelling};

const VRFS: usize = 30;
const OBJECTS: usize = 100;
const KUBECONFIG: &str = "/etc/network-operator/kubeconfig";
const LIMIT: Duration = Duration::from_secs(900);
/// Before it is measured, sessions come up and bridges settle.
const SETTLES: Duration = Duration::from_secs(90);
const RESTS: u64 = 600;
const MEMORY_MB: f64 = 20.0;
/// Of one core.
const CPU_PERCENT: f64 = 0.1;

fn object(number: usize) -> String {
    let (vrf, seq) = (number % VRFS, 10 + number / VRFS);
    format!(
        "---\napiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: o{number}}}\nspec:\n  vrf: v{vrf}\n  seq: {seq}\n  \
         import: [{{cidr: 10.0.{number}.0/24, action: permit}}]\n  export: [{{cidr: 10.1.{number}.0/24, action: permit}}]\n"
    )
}

/// For python3: what a system call that does nothing costs, in microseconds of CPU.
const CALLS: &str = "import os, time
begin = time.process_time()
for _ in range(100000): os.getppid()
print((time.process_time() - begin) * 10)";

/// The same in the node, and on the machine that it runs on.
fn a_call(node: &Node) -> [f64; 2] {
    let here = Command::new("python3").args(["-c", CALLS]).output().unwrap();
    let there = node.ok(&format!("python3 -c '{CALLS}'"));
    [there, String::from_utf8(here.stdout).unwrap()].map(|said| said.trim().parse().unwrap())
}

fn main() {
    let rests = std::env::var("REST_SECONDS").map_or(RESTS, |text| text.parse().expect("REST_SECONDS is a number"));
    let rests = Duration::from_secs(rests);
    let bridge = Bridge::new();
    let server = ApiServer::start(&bridge);
    let node = Node::of_the_lab(&bridge, Image::Trixie, Spelling::Plain);
    let vnis: String = (0..VRFS).map(|vrf| format!("  v{vrf}: {}\n", 1000 + vrf)).collect();
    node.write("/opt/network-operator/config.yaml", format!("bpf: {{notrack: false}}\nvnimap:\n{vnis}"));
    // Checks as on a real node, for which FRR is asked in each round.
    node.write(
        "/opt/network-operator/net-healthcheck-config.yaml",
        format!(
            "interfaces: [\"vr.*\"]\nbgpNeighbors: [\"dv.*\"]\nreachability: [{{host: {}, port: 6443}}]\n",
            lab::HOST
        ),
    );
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        cluster.node(node.name(), "True").await;
        node.write(KUBECONFIG, server.kubeconfig("agent"));
        server.kubectl(&["apply", "-f", "-"], &(0..OBJECTS).map(object).collect::<String>());
        node.start_agent_measured("--debounce 1s", &format!("-E KUBECONFIG={KUBECONFIG}"));
        node.applied(0, LIMIT);
    });
    println!("{OBJECTS} objects in {VRFS} VRFs are applied; in {SETTLES:?} it is measured for {rests:?}");
    std::thread::sleep(SETTLES);
    let outside = node.outside(&node.agent_pid());
    let (before, lines) = (node.agent_cpu(&outside), node.agent_log().lines().count());
    std::thread::sleep(rests);
    let cpu = node.agent_cpu(&outside).since(before, rests.as_secs_f64());
    let [counted, user, kernel, percent] = [cpu.counted, cpu.user, cpu.kernel, cpu.taken()].map(|part| part * 100.0);
    let log = node.agent_log();
    let said: Vec<&str> = log.lines().skip(lines).collect();
    said.iter().for_each(|line| println!("said: {line}"));
    let said = said.len();
    let process = node.process(&node.agent_pid());
    let [resident, anonymous, most] = ["VmRSS", "RssAnon", "VmHWM"].map(|name| process.megabytes(name));
    println!("| agent at rest | figure | bound |\n| --- | --- | --- |");
    println!(
        "| resident memory | {resident:.1} MB ({anonymous:.1} MB of it not of files; {most:.1} MB at most) | {MEMORY_MB} MB |"
    );
    println!(
        "| CPU over {} s: user code as this machine counts it, with its stops, {user:.3} %, node's kernel {kernel:.3} % | {percent:.3} % of a core | {CPU_PERCENT} % |",
        rests.as_secs()
    );
    println!("| the same as User-Mode Linux counts it | {counted:.3} % of a core | |");
    println!("| lines of log | {said} | 0 |");
    let [there, here] = a_call(&node);
    println!(
        "\nA system call that does nothing takes {there:.1} us here, in User-Mode Linux, and {here:.2} us on this machine."
    );
    assert!(resident < MEMORY_MB && percent < CPU_PERCENT && said == 0);
}
