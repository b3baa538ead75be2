//! `plan`: prints what a run would do on this node, and does nothing.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use kube::core::DeserializeGuard;
use serde::Serialize;

use super::{NodeArgs, Output};
use crate::api::VrfRouteConfiguration;
use crate::config::OperatorConfig;
use crate::desired::Rejection;
use crate::frr::files::FrrFiles;
use crate::frr::render::Renderer;
use crate::link::LinkPlan;
use crate::link::netlink::Netlink;
use crate::reconcile::{Inputs, Prepared, prepare};
use crate::trigger::Objects;
use crate::trigger::kube::list;
use crate::trigger::manifests::read_manifests;

/// Prints the link operations and the change of frr.conf that this node needs; changes nothing
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0; 2 where any object was rejected; 1 where nothing could be planned.

Examples:
  network-operator plan                       # objects of the API server
  network-operator plan -f manifests/         # objects of files
  network-operator plan --output json | jq .links")]
pub(super) struct PlanArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Objects from files or folders instead of the API server
    #[arg(short, long = "filename", value_name = "FILE|DIR", num_args = 1..)]
    filename: Vec<PathBuf>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The plan, for machines.
#[derive(Serialize)]
struct JsonPlan<'a> {
    links: &'a LinkPlan,
    frr: JsonFrr<'a>,
    rejections: &'a [Rejection],
}

#[derive(Serialize)]
struct JsonFrr<'a> {
    changed: bool,
    diff: &'a str,
}

pub(super) fn execute(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let PlanArgs { node, filename, output } = args;
    let files = FrrFiles::new(&node.frr_config);
    let hostname = node.node_name()?;
    let config = Arc::new(OperatorConfig::load(&node.config)?);
    let renderer = Renderer::new(node.templates.as_deref())?;
    let template = files.read_template()?;
    let current = files.read_conf()?.unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let prepared = runtime.block_on(async {
        let objects = objects(&filename).await?;
        let seen = Netlink::connect()?.observe().await?;
        let inputs = Inputs { objects, config, template, hostname };
        anyhow::Ok(prepare(&inputs, &seen, &renderer, &current)?)
    })?;
    print(&prepared, &current, &files, output)?;
    super::render::tell(&prepared.rejections)
}

async fn objects(filename: &[PathBuf]) -> anyhow::Result<Objects> {
    if !filename.is_empty() {
        return Ok(read_manifests(filename)?.into());
    }
    let client = kube::Client::try_default().await;
    let client = client.context("find the API server: set KUBECONFIG, or give objects with -f")?;
    let api: kube::Api<DeserializeGuard<VrfRouteConfiguration>> = kube::Api::all(client);
    Ok(list(api.list(&kube::api::ListParams::default()).await.context("list VRFRouteConfigurations")?.items))
}

fn print(prepared: &Prepared, current: &str, files: &FrrFiles, output: Output) -> anyhow::Result<()> {
    let Prepared { text, links, vnis: _, standing: _, on_reload_failure: _, rejections } = prepared;
    let name = files.conf().display().to_string();
    let diff = similar::TextDiff::from_lines(current, text);
    let diff = diff.unified_diff().context_radius(3).header(&name, &format!("{name} (planned)")).to_string();
    let plan = JsonPlan { links, frr: JsonFrr { changed: current != text, diff: &diff }, rejections };
    output.print(&plan, |out| {
        writeln!(out, "links:{}", if links.is_empty() { " nothing to do" } else { "" })?;
        for op in links.ops() {
            writeln!(out, "  {op}")?;
        }
        for problem in &links.problems {
            writeln!(out, "  left out: VRF {}: {}; {}", problem.vrf, problem.message, problem.cure)?;
        }
        writeln!(out, "frr.conf:{}", if current == text { " nothing to do" } else { "" })?;
        write!(out, "{diff}")
    })
}
