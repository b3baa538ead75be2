//! The command line: one file per subcommand.

mod completions;
mod counters;
mod crds;
mod exporter;
mod man;
mod plan;
mod render;
mod run;
mod service;
mod status;
mod validate;
mod webhook;

use std::io::{StdoutLock, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Node agent that turns VRFRouteConfiguration objects into FRR configuration, kernel links and a reloaded frr.service.
#[derive(Debug, Parser)]
#[command(
    name = "network-operator",
    version,
    max_term_width = 110,
    after_help = "\
Examples:
  network-operator run                                  # the agent, in a pod or with KUBECONFIG
  network-operator validate --config config.yaml -f manifests/   # which objects are good, anywhere
  network-operator plan -f manifests/                   # what would change on this node
  network-operator status                               # what all nodes make of all objects
  network-operator counters                             # what became of packets at this node's eBPF router
  network-operator exporter                             # metrics of FRR and the kernel, without an agent
  network-operator render --config config.yaml --template frr.conf.tpl \\
      --underlay-ip 192.0.2.129 --node-name node-1 -f manifests/
  network-operator webhook                              # the same verdicts before an object is stored
  network-operator crds | kubectl apply -f -
  network-operator man --out /usr/local/share/man/man8  # then: man network-operator-run
  network-operator completions bash > /etc/bash_completion.d/network-operator

`network-operator COMMAND --help` tells more."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Validate(validate::ValidateArgs),
    Plan(plan::PlanArgs),
    Status(status::StatusArgs),
    Render(render::RenderArgs),
    Counters(counters::CountersArgs),
    Exporter(exporter::ExporterArgs),
    Webhook(webhook::WebhookArgs),
    Crds(crds::CrdsArgs),
    Man(man::ManArgs),
    Completions(completions::CompletionsArgs),
}

/// Form of what goes to standard output.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
    Yaml,
}

impl Output {
    /// To standard output: the value for machines, or the text for people.
    fn print(
        self,
        value: &impl Serialize,
        text: impl FnOnce(&mut StdoutLock<'_>) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        match self {
            Self::Text => text(&mut stdout)?,
            Self::Json => writeln!(stdout, "{}", serde_json::to_string_pretty(value)?)?,
            Self::Yaml => write!(stdout, "---\n{}", serde_saphyr::to_string(value)?)?,
        }
        Ok(())
    }
}

/// Where the files of a node are.
#[derive(Debug, Args)]
struct NodeArgs {
    /// Operator file
    #[arg(long, env = "OPERATOR_CONFIG", default_value = "/opt/network-operator/config.yaml", value_name = "FILE")]
    config: PathBuf,
    /// FRR's configuration; the template stands beside it as FILE.tpl
    #[arg(long, env = "FRR_CONFIG_FILE", default_value = "/etc/frr/frr.conf", value_name = "FILE")]
    frr_config: PathBuf,
    /// Name of the node; without it, the host's name
    #[arg(long, env = "NODE_NAME", value_name = "NAME", value_parser = node_name)]
    node_name: Option<String>,
    /// Folder of section templates that override the built-in ones
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
}

impl NodeArgs {
    /// The node's name, typed: it may stand in frr.conf.
    fn node_name(&self) -> anyhow::Result<String> {
        if let Some(name) = &self.node_name {
            return Ok(name.clone());
        }
        let host = nix::unistd::gethostname()?.to_string_lossy().into_owned();
        node_name(&host).map_err(|error| anyhow::anyhow!("host name: {error}; give --node-name"))
    }
}

/// A DNS subdomain (RFC 1123), as Kubernetes names nodes.
fn node_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let inner = label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no node name: letters, digits and '-', in parts with '.' between them"))
}

impl Cli {
    /// Carries out what was asked for.
    ///
    /// # Errors
    /// Whatever keeps the subcommand from its work; the exit code is 1 then.
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(args) => run::execute(args),
            Command::Validate(args) => validate::execute(args),
            Command::Plan(args) => plan::execute(args),
            Command::Status(args) => status::execute(args),
            Command::Render(args) => render::execute(args),
            Command::Counters(args) => counters::execute(args),
            Command::Exporter(args) => exporter::execute(args),
            Command::Webhook(args) => webhook::execute(args),
            Command::Crds(args) => crds::execute(args),
            Command::Man(args) => man::execute(args),
            Command::Completions(args) => completions::execute(args),
        }
    }
}
