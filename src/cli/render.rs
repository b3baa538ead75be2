//! `render`: prints frr.conf, without touching or asking the host.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::config::OperatorConfig;
use crate::desired::{NodeFacts, Rejection};
use crate::frr::render::Renderer;
use crate::reconcile::render;
use crate::trigger::manifests::read_manifests;

/// Prints the whole frr.conf of a node, from files alone
#[derive(Debug, Args)]
#[command(after_help = "\
Reasons for rejected objects go to standard error.
Exit code: 0; 2 where any object was rejected; 1 where nothing could be rendered.

Example:
  network-operator render --config config.yaml --template frr.conf.tpl \\
      --underlay-ip 192.0.2.129 --node-name node-1 -f manifests/ > frr.conf")]
pub(super) struct RenderArgs {
    /// Operator file
    #[arg(long, env = "OPERATOR_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Template with hints
    #[arg(long, value_name = "FILE")]
    template: PathBuf,
    /// The one IPv4 address of the underlay interface: VTEP and router ID
    #[arg(long, value_name = "ADDRESS")]
    underlay_ip: Ipv4Addr,
    /// Name of the node
    #[arg(long, env = "NODE_NAME", value_name = "NAME", value_parser = super::node_name)]
    node_name: String,
    /// Folder of section templates that override the built-in ones
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// Objects: files, or folders of *.yaml, *.yml and *.json
    #[arg(short, long = "filename", value_name = "FILE|DIR", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
}

pub(super) fn execute(args: RenderArgs) -> anyhow::Result<ExitCode> {
    let RenderArgs { config, template, underlay_ip, node_name, templates, filename } = args;
    let config = OperatorConfig::load(&config)?;
    let text = std::fs::read_to_string(&template).with_context(|| format!("read template {}", template.display()))?;
    let objects = read_manifests(&filename)?.into();
    let facts = NodeFacts { hostname: node_name, underlay_ip };
    let rendered = render(&objects, &config, &text, &facts, &Renderer::new(templates.as_deref())?);
    let (judged, text) = rendered.with_context(|| template.display().to_string())?;
    std::io::stdout().write_all(text.as_bytes())?;
    tell(&judged.rejections)
}

/// Reasons to standard error; gives the exit code that goes with them.
pub(super) fn tell(rejections: &[Rejection]) -> anyhow::Result<ExitCode> {
    let mut stderr = std::io::stderr().lock();
    for rejection in rejections {
        writeln!(stderr, "rejected: {rejection}")?;
    }
    Ok(if rejections.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
