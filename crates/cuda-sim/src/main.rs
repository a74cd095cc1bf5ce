//! `cuda-sim a|b COMMAND...`: runs a command on a simulated CUDA device.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use cuda_sim::{default_folder, device_a, device_b};

const USAGE: &str = "expected a device, a or b, and a command: cuda-sim a grimace doctor";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (device, program) = (arguments.next(), arguments.next());
    let device = match (device.as_deref().and_then(|name| name.to_str()), &program) {
        (Some("a"), Some(_)) => device_a(&default_folder()),
        (Some("b"), Some(_)) => device_b(&default_folder()),
        _ => {
            eprintln!("cuda-sim: {USAGE}");
            return ExitCode::from(2);
        }
    };
    match (device, program) {
        (Ok(device), Some(program)) => {
            let variables = device.environment().iter().map(|(name, value)| (name, value));
            // Returns only if the program cannot be started.
            let error = Command::new(&program).args(arguments).envs(variables).exec();
            eprintln!("cuda-sim: {}: {error}", program.display());
        }
        (Err(error), _) => eprintln!("cuda-sim: {error:#}"),
        (Ok(_), None) => eprintln!("cuda-sim: {USAGE}"),
    }
    ExitCode::FAILURE
}
