//! `counters`: what became of packets at the eBPF router of this node.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Output;
use crate::bpf::counters::Counter;
use crate::bpf::pins::{PINS, Pins};
use crate::bpf::program::Router;

/// Prints what became of packets at the eBPF router of this node, on all its CPUs, since it was first attached
#[derive(Debug, Args)]
#[command(after_help = "\
A packet that is redirected leaves by its next interface without the host's netfilter and conntrack; one that is passed is the
kernel's, as it would be without the router. FIB is what the kernel's look-up answered, where it was asked.
Exit code: 0; 1 where the router is not loaded.

Examples:
  network-operator counters
  network-operator counters --output json | jq 'map(select(.verdict == \"pass\") | .packets) | add'")]
pub(super) struct CountersArgs {
    /// Folder of the router's pins
    #[arg(long, default_value = PINS, value_name = "DIR")]
    pins: PathBuf,
    /// Kinds that no packet was of, too
    #[arg(long)]
    all: bool,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn execute(args: CountersArgs) -> anyhow::Result<ExitCode> {
    let CountersArgs { pins, all, output } = args;
    let Some(router) = Router::find(&Pins::new(&pins))? else {
        anyhow::bail!(
            "the eBPF router of this build is not loaded (nothing is pinned in {}): does the agent run, with bpf.enabled?",
            pins.display()
        );
    };
    let mut counters = router.counters()?;
    counters.retain(|counter| all || counter.packets > 0);
    output.print(&counters, |out| tell(&counters, out))?;
    Ok(ExitCode::SUCCESS)
}

fn tell(counters: &[Counter], out: &mut impl Write) -> std::io::Result<()> {
    let mut table = tabwriter::TabWriter::new(out).padding(3);
    writeln!(table, "VERDICT\tFIB\tPACKETS\tBYTES\tWHY")?;
    for Counter { verdict, reason, fib, packets, bytes } in counters {
        writeln!(table, "{verdict}\t{}\t{packets}\t{bytes}\t{reason}", fib.unwrap_or("-"))?;
    }
    table.flush()
}
