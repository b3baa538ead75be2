//! `crds`: prints the custom resource definitions.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use crate::api::crd_yaml;

/// Prints the CRDs as YAML
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  network-operator crds | kubectl apply -f -")]
pub(super) struct CrdsArgs {}

pub(super) fn execute(args: CrdsArgs) -> anyhow::Result<ExitCode> {
    let CrdsArgs {} = args;
    std::io::stdout().write_all(crd_yaml()?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
