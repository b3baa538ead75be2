//! What it takes to render frr.conf for many VRFs: `network-operator render`, which reads and judges the objects first, beside Jinja2
//! (Python) that is given the same section templates and all values ready.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that fails must stop, and prints what it found"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

const VRFS: [usize; 3] = [10, 100, 1000];
const PREFIXES: usize = 50;
/// In turns; the best of each counts.
const ROUNDS: usize = 3;
/// For the most VRFs.
const SECONDS: f64 = 1.0;
const MEMORY_MB: f64 = 200.0;
/// The argument with which this program measures another one.
const MEASURE: &str = "--measure";

const TEMPLATE: &str = "#++{{.VRFs}}
router bgp 64510
 bgp router-id 198.51.100.1
#++{{.Neighbors}}
 address-family ipv4 unicast
#++{{.NeighborsV4}}
 exit-address-family
 address-family ipv6 unicast
#++{{.NeighborsV6}}
 exit-address-family
exit
#++{{.BGP}}
#++{{.PrefixLists}}
#++{{.RouteMaps}}
";

/// The object of a VRF: half of its prefixes are imports.
fn object(vrf: usize) -> String {
    let mut text = format!(
        "---\napiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: v{vrf}}}\nspec:\n  vrf: v{vrf}\n  seq: 10\n"
    );
    for (list, numbers) in [("import", 0..PREFIXES / 2), ("export", PREFIXES / 2..PREFIXES)] {
        writeln!(text, "  {list}:").unwrap();
        for number in numbers {
            let (high, low) = (vrf / 256, vrf % 256);
            writeln!(text, "  - {{cidr: {}.{low}.{number}.0/24, action: permit}}", 10 + high).unwrap();
        }
    }
    text
}

/// What the templates were given, from the text that they made.
fn values(vrfs: usize, text: &str) -> Value {
    let all = (0..vrfs).map(|vrf| {
        json!({"name": format!("v{vrf}"), "vni": 1000 + vrf, "route_target": null, "ipv6": false, "aggregates_v4": [], "aggregates_v6": []})
    });
    let all: Vec<Value> = all.collect();
    let lists = text.lines().filter_map(|line| {
        let (name, rule) = line.strip_prefix("ip prefix-list ")?.split_once(' ')?;
        Some(json!({"family": "ip", "name": name, "rule": rule}))
    });
    let lists: Vec<Value> = lists.collect();
    let mut maps: Vec<Value> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("route-map ") {
            let words: Vec<&str> = head.split(' ').collect();
            let number: u32 = words[2].parse().unwrap();
            maps.push(
                json!({"name": words[0], "action": words[1], "number": number, "match": null, "community": null}),
            );
        } else if let Some(matched) = line.strip_prefix(" match ") {
            maps.last_mut().unwrap()["match"] = matched.into();
        }
    }
    json!({"asn": 64510, "router_id": "192.0.2.129", "activate_v4": false, "vrfs": all, "prefix_lists": lists, "route_maps": maps})
}

/// Runs a command to its end; prints how many seconds it took, and how many MB it had at most.
fn measure(command: &[String]) {
    let begin = Instant::now();
    let status = Command::new(&command[0]).args(&command[1..]).stdout(Stdio::null()).status().unwrap();
    let took = begin.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?}");
    let kb = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    println!("{took} {}", f64::from(i32::try_from(kb).unwrap()) * 1.024 / 1000.0);
}

/// The same in a process of its own, which has no other child.
fn measured(command: &[&str]) -> (Duration, f64) {
    let output = Command::new(std::env::current_exe().unwrap()).arg(MEASURE).args(command).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let (took, memory) = said.trim().split_once(' ').unwrap();
    (Duration::from_secs_f64(took.parse().unwrap()), memory.parse().unwrap())
}

/// Best time and most memory of each, of so many VRFs.
fn compared(folder: &Path, vrfs: usize) -> [(Duration, f64); 2] {
    let path = |name: &str| folder.join(name).display().to_string();
    let vnis: String = (0..vrfs).map(|vrf| format!("  v{vrf}: {}\n", 1000 + vrf)).collect();
    fs::write(path("config.yaml"), format!("vnimap:\n{vnis}")).unwrap();
    fs::write(path("template"), TEMPLATE).unwrap();
    fs::write(path("objects.yaml"), (0..vrfs).map(object).collect::<String>()).unwrap();
    let (config, template, objects) = (path("config.yaml"), path("template"), path("objects.yaml"));
    let program = env!("CARGO_BIN_EXE_network-operator");
    let ours = [program, "render", "--config", &config, "--template", &template, "--underlay-ip", "192.0.2.129"];
    let ours = [&ours[..], &["--node-name", "node-1", "-f", &objects]].concat();
    let text = Command::new(ours[0]).args(&ours[1..]).output().unwrap();
    assert!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    let text = String::from_utf8(text.stdout).unwrap();
    fs::write(path("text"), &text).unwrap();
    fs::write(path("values.json"), values(vrfs, &text).to_string()).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (script, templates) = (root.join("benches/render.py"), root.join("templates"));
    let (script, templates) = (script.display().to_string(), templates.display().to_string());
    let (values, text) = (path("values.json"), path("text"));
    let theirs = ["python3", &script, &templates, &template, &values, &text];
    let mut best = [(Duration::MAX, 0.0_f64); 2];
    for _ in 0..ROUNDS {
        for (best, command) in best.iter_mut().zip([&ours[..], &theirs[..]]) {
            let (took, memory) = measured(command);
            *best = (best.0.min(took), best.1.max(memory));
        }
    }
    best
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, command @ ..] = arguments.as_slice()
        && first == MEASURE
    {
        return measure(command);
    }
    let folder = tempfile::tempdir().unwrap();
    println!(
        "| VRFs with {PREFIXES} prefixes each | `network-operator render` | Jinja2, with all values ready | ratio of times |"
    );
    println!("| --- | --- | --- | --- |");
    let mut last = (Duration::ZERO, 0.0);
    for vrfs in VRFS {
        let [ours, theirs] = compared(folder.path(), vrfs);
        let cell = |(took, memory): (Duration, f64)| format!("{:.3} s, {memory:.0} MB", took.as_secs_f64());
        let ratio = ours.0.as_secs_f64() / theirs.0.as_secs_f64();
        println!("| {vrfs} | {} | {} | {ratio:.2} |", cell(ours), cell(theirs));
        last = ours;
    }
    println!("\nbounds for {} VRFs: {SECONDS} s, {MEMORY_MB} MB", VRFS[2]);
    assert!(last.0.as_secs_f64() < SECONDS && last.1 < MEMORY_MB);
}
