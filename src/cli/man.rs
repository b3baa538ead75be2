//! `man`: the manual pages, from the help of the command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::Cli;

/// Of the system's administrator.
const SECTION: &str = "8";

/// Prints the manual page of the whole, or writes the pages of all subcommands into a folder
#[derive(Debug, Args)]
#[command(after_help = "\
The folder is made where it is missing; a page that is there is written anew.

Examples:
  network-operator man --out /usr/local/share/man/man8     # then: man network-operator-run
  network-operator man > network-operator.8                # then: man ./network-operator.8")]
pub(super) struct ManArgs {
    /// Folder for network-operator.8 and one network-operator-SUBCOMMAND.8 for each subcommand
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn execute(args: ManArgs) -> anyhow::Result<ExitCode> {
    let ManArgs { out } = args;
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let Some(folder) = out else {
        std::io::stdout().write_all(&page(&root)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("make the folder {}", folder.display()))?;
    for command in std::iter::once(&root).chain(root.get_subcommands()) {
        let file = folder.join(format!("{}.{SECTION}", name(command)));
        std::fs::write(&file, page(command)?).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Name of a page: `network-operator-run`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// One page: what clap knows of the command, then its notes and its examples as the help has them.
fn page(command: &Command) -> anyhow::Result<Vec<u8>> {
    let source = format!("network-operator {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).section(SECTION).source(source).manual("System Administration");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    closing(command).to_writer(&mut text)?;
    Ok(text)
}

/// The text behind the options: in the help, notes end where the examples begin.
fn closing(command: &Command) -> Roff {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (notes, examples) = after.split_once("Example").unwrap_or((&after, ""));
    let mut roff = Roff::new();
    let mut section = |title: &str, lines: &mut dyn Iterator<Item = &str>| {
        let mut lines = lines.peekable();
        if lines.peek().is_none() {
            return;
        }
        roff.control("SH", [title]);
        // As it stands: examples and exit codes are lines, not paragraphs.
        roff.control("nf", []);
        lines.for_each(|line| {
            roff.text([roman(line)]);
        });
        roff.control("fi", []);
    };
    section("NOTES", &mut notes.trim_end().lines());
    section("EXAMPLES", &mut examples.lines().skip(1));
    roff
}
