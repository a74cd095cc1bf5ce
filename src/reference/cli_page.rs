//! `docs/cli.md`: every command, as `--help` prints it.

use std::fmt::Write as _;

use clap::Command;

use super::GENERATED;

const INTRODUCTION: &str = "
# Command line

What `--help` prints for each command. `grimace --help` lists them, `grimace COMMAND --help` prints
one. Results go to standard output, progress and logs to standard error.
";

/// The page for `command`, the root command.
pub fn cli_page(command: &Command) -> String {
    // The width at which the page is read; that of a terminal varies.
    let mut root = command.clone().term_width(100).disable_help_subcommand(true);
    root.build();
    let mut page = format!("{GENERATED}{INTRODUCTION}");
    add(&root, &mut page);
    page
}

/// Adds the section of a command and those of its subcommands.
fn add(command: &Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let help = command.clone().term_width(100).render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    // Writing to a string cannot fail.
    let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        add(subcommand, page);
    }
}
