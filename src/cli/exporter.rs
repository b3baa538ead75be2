//! `exporter`: metrics of FRR and the kernel, without an agent.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use super::service::{LogFormat, log, until_signal};
use crate::listen;
use crate::metrics::Scraper;
use crate::metrics::collect::Sources;

/// Tells Prometheus of FRR, the kernel and the eBPF router, and changes nothing
#[derive(Debug, Args)]
#[command(after_help = "\
For nodes without the agent, or clusters that want metrics apart from it; `run` tells the same on its own --listen. Needs FRR's
sockets in /run/frr; for the counters of the eBPF router, CAP_BPF and /sys/fs/bpf. docs/metrics.md lists what is told.
Ends with 0 on SIGTERM or SIGINT. Log level: RUST_LOG (default info).

Examples:
  network-operator exporter
  network-operator exporter --listen '[::]:9343'
  curl http://127.0.0.1:9343/metrics")]
pub(super) struct ExporterArgs {
    /// Where /metrics is answered
    #[arg(long, default_value = "127.0.0.1:9343", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Form of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

pub(super) fn execute(args: ExporterArgs) -> anyhow::Result<ExitCode> {
    let ExporterArgs { listen: address, log_format } = args;
    log(log_format);
    until_signal(async |cancel| {
        let scraper = Scraper::new(Sources::new(true)?, None);
        tracing::info!(%address, "metrics are told at /metrics");
        listen::serve(address, scraper.routes(), cancel).await;
        Ok(())
    })
}
