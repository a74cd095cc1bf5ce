//! Parses the command line, runs the command, prints the error chain once, and exits with its code.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use grimace::cli::{self, Cli};
use grimace::util::{error, text};

fn main() -> ExitCode {
    let result = cli::run(Cli::parse());
    if let Err(error) = &result {
        // A closed stderr must not turn into a panic.
        let _ = writeln!(std::io::stderr(), "error: {}", text::legible(&format!("{error:#}")));
    }
    ExitCode::from(error::exit_code(&result))
}
