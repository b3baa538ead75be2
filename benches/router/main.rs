//! What the eBPF router costs per packet, and what a routed path carries with it and without it: `make bench`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark that fails must stop, and prints what it found"
)]

mod cost;
mod lab;
mod throughput;
#[allow(dead_code, reason = "the tests of its packets need more of it")]
#[path = "../../tests/node/world.rs"]
mod world;

use std::thread;

use nix::sched::{CloneFlags, unshare};

/// How often each figure is measured, in turns with the others: what disturbs the machine for a while meets all of them.
const ROUNDS: usize = 5;

/// What the rounds gave.
struct Figures(Vec<f64>);

impl Figures {
    fn new(mut figures: Vec<f64>) -> Self {
        assert_eq!(figures.len(), ROUNDS);
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// `median (least..most)`.
    fn cell(&self, digits: usize) -> String {
        let (least, most) = (self.0[0], self.0[self.0.len() - 1]);
        format!("{:.digits$} ({least:.digits$}..{most:.digits$})", self.median())
    }
}

/// Runs something in a thread of its own, which may enter network namespaces; a panic comes through.
fn in_a_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// What is mounted from here on, bpffs and the names of network namespaces, goes with this process, however it ends.
fn keep_mounts_to_ourselves() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    world::sh("mount --make-rprivate /; mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns");
}

fn about_the_machine() {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
    let jit = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_else(|_| "unknown".to_owned());
    let cores = thread::available_parallelism().unwrap();
    let model = model.trim_start_matches([' ', '\t', ':']);
    println!("Linux {}, {cores} cores, {model}, net.core.bpf_jit_enable={}\n", kernel.trim(), jit.trim());
}

fn main() {
    assert!(nix::unistd::geteuid().is_root(), "the benchmark needs root: eBPF programs and network namespaces");
    keep_mounts_to_ourselves();
    about_the_machine();
    cost::report();
    println!();
    throughput::report();
}
