//! `plan`: prints what a run would do on this node, and does nothing.

use std::collections::BTreeSet;
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
use crate::bpf::host::HostRouter;
use crate::bpf::pins::Pins;
use crate::bpf::{DesiredRouter, RouterPlan};
use crate::config::OperatorConfig;
use crate::desired::Rejection;
use crate::frr::compare::Difference;
use crate::frr::config::{Config, Line};
use crate::frr::converge;
use crate::frr::files::FrrFiles;
use crate::frr::render::Renderer;
use crate::frr::resets::{Session, resets};
use crate::frr::vty::Vty;
use crate::link::netlink::Netlink;
use crate::link::{LinkPlan, ObservedLinks};
use crate::reconcile::{Inputs, Prepared, frr_lines, prepare};
use crate::state::Store;
use crate::trigger::known::list;
use crate::trigger::manifests::read_manifests;
use crate::trigger::{Objects, with_causes};

/// Prints what a run would do on this node: links, lines of FRR, sessions that are reset, frr.conf; changes nothing
#[derive(Debug, Args)]
#[command(after_help = "\
The lines of FRR are those by which its running configuration differs from what the objects say, as a run would give and take
them. Where FRR cannot be asked, frr.conf is taken for what it runs, and standard error says so.
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
    /// Folder of what the agent remembers
    #[arg(long, env = "OPERATOR_STATE_DIR", default_value = "/var/lib/network-operator", value_name = "DIR")]
    state_dir: PathBuf,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The plan, for machines.
#[derive(Serialize)]
struct Plan<'a> {
    links: &'a LinkPlan,
    router: RouterPlan,
    frr: FrrPlan,
    /// Sessions that end, or begin anew.
    sessions: BTreeSet<Session>,
    rejections: &'a [Rejection],
}

#[derive(Serialize)]
struct FrrPlan {
    /// Whether frr.conf is written.
    changed: bool,
    /// How frr.conf changes.
    diff: String,
    /// Lines that FRR is given.
    add: Vec<String>,
    /// Lines that are taken out of it.
    remove: Vec<String>,
}

pub(super) fn execute(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let PlanArgs { node, filename, state_dir, output } = args;
    let files = FrrFiles::new(&node.frr_config);
    let hostname = node.node_name()?;
    let config = Arc::new(OperatorConfig::load(&node.config)?);
    let renderer = Renderer::new(node.templates.as_deref())?;
    let template = files.read_template()?;
    let current = files.read_conf()?.unwrap_or_default();
    let (state, good) = Store::peek(&state_dir);
    let good = good.unwrap_or_else(|| current.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (prepared, router, running) = runtime.block_on(async {
        let objects = objects(&filename).await?;
        let netlink = Netlink::connect()?;
        let seen = netlink.observe().await?;
        let inputs = Inputs { objects, config: config.clone(), template, hostname };
        let prepared = prepare(&inputs, &seen, &renderer, &good)?;
        let router = router(&netlink, &config, &seen, &prepared.links).await;
        anyhow::Ok((prepared, router, converge::running(&Vty::default()).await))
    })?;
    let running = running.unwrap_or_else(|error| {
        let error = with_causes(&error);
        let _ = writeln!(std::io::stderr(), "network-operator: frr.conf is taken for what FRR runs: {error}");
        Config::parse(&current)
    });
    let lines = frr_lines(&prepared.text, [current.as_str(), good.as_str()], &running, &state.facts.tolerated);
    print(&prepared, router, &current, &files, &lines, resets(&running, &lines, &prepared.links), output)?;
    super::render::tell(&prepared.rejections)
}

/// The router's part. Where it cannot be looked at, standard error says so, and nothing is planned for it.
async fn router(netlink: &Netlink, config: &OperatorConfig, seen: &ObservedLinks, links: &LinkPlan) -> RouterPlan {
    let observed = async { HostRouter::new(netlink, Pins::default())?.observe(None).await };
    match observed.await {
        Ok(router) => crate::bpf::plan(&DesiredRouter::new(config, seen), seen, links, &router),
        Err(error) => {
            let error = with_causes(&error);
            let _ = writeln!(std::io::stderr(), "network-operator: the eBPF router cannot be looked at: {error}");
            RouterPlan::default()
        }
    }
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

fn print(
    prepared: &Prepared,
    router: RouterPlan,
    current: &str,
    files: &FrrFiles,
    lines: &Difference,
    sessions: BTreeSet<Session>,
    output: Output,
) -> anyhow::Result<()> {
    let Prepared { text, links, vnis: _, standing: _, on_reload_failure: _, rejections } = prepared;
    let name = files.conf().display().to_string();
    let diff = similar::TextDiff::from_lines(current, text);
    let diff = diff.unified_diff().context_radius(3).header(&name, &format!("{name} (planned)")).to_string();
    let words = |lines: &[Line]| lines.iter().map(ToString::to_string).collect();
    let (add, remove) = (words(&lines.missing), words(&lines.extra));
    let frr = FrrPlan { changed: current != text, diff, add, remove };
    let plan = Plan { links, router, frr, sessions, rejections };
    output.print(&plan, |out| plan.tell(out))
}

impl Plan<'_> {
    fn tell(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Self { links, router, frr, sessions, rejections: _ } = self;
        let FrrPlan { changed, diff, add, remove } = frr;
        let nothing = |nothing: bool| if nothing { " nothing to do" } else { "" };
        writeln!(out, "links:{}", nothing(links.is_empty()))?;
        for op in links.ops() {
            writeln!(out, "  {op}")?;
        }
        for problem in &links.problems {
            writeln!(out, "  left out: VRF {}: {}; {}", problem.vrf, problem.message, problem.cure)?;
        }
        writeln!(out, "eBPF router:{}", nothing(router.ops.is_empty()))?;
        for op in &router.ops {
            writeln!(out, "  {op}")?;
        }
        for problem in &router.problems {
            writeln!(out, "  left out: {problem}")?;
        }
        writeln!(out, "FRR:{}", nothing(add.is_empty() && remove.is_empty()))?;
        for line in add {
            writeln!(out, "  + {line}")?;
        }
        for line in remove {
            writeln!(out, "  - {line}")?;
        }
        writeln!(out, "BGP sessions that end or are reset:{}", if sessions.is_empty() { " none" } else { "" })?;
        for session in sessions {
            writeln!(out, "  {session}")?;
        }
        writeln!(out, "frr.conf:{}", nothing(!changed))?;
        write!(out, "{diff}")
    }
}
