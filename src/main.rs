//! Parses the command line, runs the command, prints its error and exits with its code.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use grimace::cli;
use grimace::device;
use grimace::util::{error, text};

fn main() -> ExitCode {
    // An error of libtorch is printed as one, not as a panic.
    let print_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !device::is_torch_panic(panic.payload()) {
            print_panic(panic);
        }
    }));
    let result = cli::run(cli::parse());
    if let Err(error) = &result
        && !error.is::<device::EndedElsewhere>()
    {
        // Unlike `eprintln!`, this does not panic when stderr is closed.
        let _ = writeln!(std::io::stderr(), "error: {}", text::printable(&format!("{error:#}")));
    }
    ExitCode::from(error::exit_code(&result))
}
