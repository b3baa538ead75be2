//! `validate`: the agent's verdict on objects, without a node or a cluster.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::Output;
use crate::config::OperatorConfig;
use crate::desired::{Judged, Rejection};
use crate::input::NamedTemplate;
use crate::reconcile::verdict;
use crate::trigger::Objects;
use crate::trigger::manifests::read_manifests;

/// Says which objects an agent with this operator file would take, and why it would leave out the others
#[derive(Debug, Args)]
#[command(after_help = "\
Asks no node and no API server. What only a node knows is not judged here: whether FRR takes the rendered text, and
whether links can be made (`network-operator plan` on a node tells).
Exit code: 0 where every object is accepted; 1 where one is rejected, the operator file has an entry that cannot be used,
or something cannot be read.

Examples:
  network-operator validate --config config.yaml -f manifests/
  network-operator validate --config config.yaml --template frr.conf.tpl -f a.yaml b.yaml
  network-operator validate --config config.yaml -f manifests/ --output json | jq '.objects[] | select(.accepted | not)'")]
pub(super) struct ValidateArgs {
    /// Operator file
    #[arg(long, env = "OPERATOR_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Template of frr.conf; without it, it is taken to have a place for IPv6 neighbors
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Objects: files, or folders of *.yaml, *.yml and *.json
    #[arg(short, long = "filename", value_name = "FILE|DIR", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The verdicts, for machines and for people.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// In the order of their names.
    objects: Vec<Verdict>,
    /// Entries that cannot be used; every object of their VRFs is rejected.
    operator_file: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    /// Name of the object, or its place where it has none.
    name: String,
    accepted: bool,
    /// `None` where the object is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejection: Option<Rejection>,
}

#[derive(Debug, Serialize)]
struct Refused {
    field: String,
    message: String,
}

pub(super) fn execute(args: ValidateArgs) -> anyhow::Result<ExitCode> {
    let ValidateArgs { config, template, filename, output } = args;
    let config = OperatorConfig::load(&config)?;
    let template = template.map(NamedTemplate::read).transpose()?.map(|template| template.good());
    let manifests = read_manifests(&filename)?;
    let names: Vec<_> = filename.iter().map(|path| path.display().to_string()).collect();
    anyhow::ensure!(manifests.files > 0, "no file of {} is named *.yaml, *.yml or *.json", names.join(", "));
    let objects = manifests.into();
    let report = Report::new(&objects, &config, verdict(&objects, &config, template.as_deref()));
    output.print(&report, |out| report.print(out))?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Report {
    fn new(objects: &Objects, config: &OperatorConfig, judged: Judged) -> Self {
        let Judged { desired: _, rejections } = judged;
        let rejected: BTreeSet<&str> = rejections.iter().map(|rejection| rejection.object.as_str()).collect();
        let names = objects.objects.iter().filter_map(|object| object.metadata.name.clone());
        let accepted = names.filter(|name| !rejected.contains(name.as_str()));
        let mut objects: Vec<Verdict> =
            accepted.map(|name| Verdict { name, accepted: true, rejection: None }).collect();
        objects.extend(rejections.into_iter().map(|rejection| Verdict {
            name: rejection.object.clone(),
            accepted: false,
            rejection: Some(rejection),
        }));
        objects.sort_by(|a, b| (&a.name, b.accepted).cmp(&(&b.name, a.accepted)));
        let operator_file = config.refused.values();
        let operator_file =
            operator_file.map(|refused| Refused { field: refused.field.clone(), message: refused.reason.clone() });
        Self { objects, operator_file: operator_file.collect() }
    }

    fn is_good(&self) -> bool {
        self.operator_file.is_empty() && self.objects.iter().all(|verdict| verdict.accepted)
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Self { objects, operator_file } = self;
        for Verdict { name, accepted: _, rejection } in objects {
            match rejection {
                None => writeln!(out, "accepted {name}")?,
                Some(rejection) => writeln!(out, "rejected {}", rejection.with_reason())?,
            }
        }
        for Refused { field, message } in operator_file {
            writeln!(out, "operator file: {field}: {message}")?;
        }
        let accepted = objects.iter().filter(|verdict| verdict.accepted).count();
        writeln!(out, "{accepted} of {} accepted", objects.len())
    }
}
