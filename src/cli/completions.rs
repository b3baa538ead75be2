//! `completions`: prints what a shell needs to complete the command line.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Cli;

/// Prints the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = "\
The shell reads them at its next start.

Examples:
  network-operator completions bash > /etc/bash_completion.d/network-operator
  network-operator completions zsh > /usr/local/share/zsh/site-functions/_network-operator
  network-operator completions fish > /etc/fish/completions/network-operator.fish")]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn execute(args: CompletionsArgs) -> anyhow::Result<ExitCode> {
    let CompletionsArgs { shell } = args;
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // Not to standard output at once: what is written there by `generate` must not fail.
    let mut text = Vec::new();
    generate(shell, &mut command, &name, &mut text);
    let mut text = String::from_utf8(text)?;
    if shell == Shell::Bash {
        // clap_complete 4.6 has two spellings for a name with a hyphen, and finds no flag of a subcommand then (clap #6421).
        text = text.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
