//! `run`: the agent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::NodeArgs;
use super::service::{LogFormat, log, until_signal};
use crate::agent::{self, AgentConfig};

/// Keeps this node as the objects say
#[derive(Debug, Args)]
#[command(after_help = "\
Ends with 0 on SIGTERM or SIGINT: a run under way is finished first, and the node stays as it is.
Ends with 1 where it cannot begin. Log level: RUST_LOG (default info).

Examples:
  network-operator run                                          # in a pod, or with KUBECONFIG
  network-operator run --manifests /etc/network-operator/manifests   # without a cluster
  network-operator run --debounce 5s --log-format json
  network-operator run --only-attach-bpf                        # the eBPF router and nothing else")]
pub(super) struct RunArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Objects from a folder (or file) instead of the API server
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// How long changes are gathered before a run, from the first of them on
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = duration)]
    debounce: Duration,
    /// How long a reload of FRR may take
    #[arg(long, default_value = "300s", value_name = "DURATION", value_parser = duration)]
    reload_limit: Duration,
    /// How often to look for what no event tells of; 0s for never
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = duration)]
    check_interval: Duration,
    /// How often in a minute the node is put back where somebody moves it
    #[arg(long, default_value_t = 6, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    repairs_per_minute: u32,
    /// How long to wait for the first answer on objects, before those that were accepted last are applied
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = duration)]
    input_limit: Duration,
    /// Folder of what outlives a restart; on a disk of the node, and for one agent
    #[arg(long, env = "OPERATOR_STATE_DIR", default_value = "/var/lib/network-operator", value_name = "DIR")]
    state_dir: PathBuf,
    /// Namespace of the Lease by which one agent is elected to sum up what all nodes say
    #[arg(long, env = "POD_NAMESPACE", default_value = "kube-system", value_name = "NAME")]
    namespace: String,
    /// Health file; where it is named here, it has to be there [default: /opt/network-operator/net-healthcheck-config.yaml]
    #[arg(long, env = "OPERATOR_NETHEALTHCHECK_CONFIG", value_name = "FILE")]
    health_file: Option<PathBuf>,
    /// Where /healthz, /readyz and /metrics are answered; `none` for nowhere
    #[arg(long, default_value = "127.0.0.1:9342", value_name = "ADDRESS:PORT", value_parser = listen)]
    listen: Listen,
    /// Nothing but the eBPF router, on the operator file's bpfInterfaces and on links of VRFs that are there: FRR, links and
    /// objects are left alone, as on control-plane nodes
    #[arg(long)]
    only_attach_bpf: bool,
    /// Form of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// An address, or nothing.
#[derive(Debug, Clone, Copy)]
struct Listen(Option<SocketAddr>);

fn listen(text: &str) -> Result<Listen, String> {
    if text == "none" {
        return Ok(Listen(None));
    }
    let address =
        text.parse().map_err(|_| format!("{text:?} is no address with a port, as in 127.0.0.1:9342 or [::]:9342"));
    address.map(|address| Listen(Some(address)))
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    let parsed = parsed.and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| format!("{text:?} is no duration: write it as in 30s, 500ms or 2m"))
}

pub(super) fn execute(args: RunArgs) -> anyhow::Result<ExitCode> {
    let RunArgs {
        node,
        manifests,
        debounce,
        reload_limit,
        check_interval,
        repairs_per_minute,
        input_limit,
        state_dir,
        namespace,
        health_file,
        listen: Listen(listen),
        only_attach_bpf,
        log_format,
    } = args;
    log(log_format);
    let node_name = node.node_name()?;
    let NodeArgs { config: operator_file, frr_config, node_name: _, templates } = node;
    let config = AgentConfig {
        operator_file,
        frr_config,
        node_name,
        manifests,
        templates,
        debounce,
        reload_limit,
        check_interval,
        repairs_per_minute,
        input_limit,
        state_dir,
        namespace,
        health_file,
        listen,
    };
    until_signal(async |cancel| {
        if only_attach_bpf { agent::run_only_router(config, cancel).await } else { agent::run(config, cancel).await }
    })
}
