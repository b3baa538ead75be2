//! The binary: parse, run, exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use network_operator::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "network-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
