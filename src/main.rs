//! Parses the command line, runs the command, prints its error and exits with its code.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use grimace::cli::{self, Cli};
use grimace::util::{error, text};

fn main() -> ExitCode {
    let result = cli::run(Cli::parse());
    if let Err(error) = &result {
        // Unlike `eprintln!`, this does not panic when stderr is closed.
        let _ = writeln!(std::io::stderr(), "error: {}", text::printable(&format!("{error:#}")));
    }
    ExitCode::from(error::exit_code(&result))
}
