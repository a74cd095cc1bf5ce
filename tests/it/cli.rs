//! Help, arguments and exit codes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::CommandFactory as _;

use crate::common::{bad, command, good, grimace, text};

fn here() -> &'static std::path::Path {
    std::path::Path::new(".")
}

/// All commands that have no subcommands, as words.
fn leaf_commands(command: &clap::Command, parents: &[String]) -> Vec<Vec<String>> {
    let leaves = command.get_subcommands().flat_map(|command| {
        let words = [parents, &[command.get_name().to_owned()]].concat();
        if command.has_subcommands() { leaf_commands(command, &words) } else { vec![words] }
    });
    leaves.collect()
}

#[test]
fn every_command_has_help_with_an_example() {
    let commands = leaf_commands(&grimace::cli::Cli::command(), &[]);
    for known in ["train", "sweep", "runs", "data preview"] {
        assert!(commands.iter().any(|command| command.join(" ") == known), "{known} is not in {commands:?}");
    }
    for command in &commands {
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = good(here(), &words).stdout;
        let example = format!("Example:\n  grimace {} ", command.join(" "));
        // `runs` and `doctor` work without arguments.
        assert!(
            help.contains(&example) || help.contains(&(example.trim_end().to_owned() + "\n")),
            "{command:?}: {help}"
        );
    }
    for command in commands.iter().map(Vec::as_slice).chain([&[][..]]) {
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = good(here(), &words).stdout;
        let examples = help.lines().skip_while(|line| *line != "Example:").skip(1);
        for line in examples.take_while(|line| !line.is_empty()) {
            assert!(line.starts_with("  ") && line.len() <= 100, "{command:?} has a wrapped example: {line}");
        }
    }
    assert!(good(here(), &["--help"]).stdout.contains("Exit codes: 0 done, 1 failed, 2 bad"));
    assert!(good(here(), &["data", "--help"]).stdout.contains("Example:\n  grimace data check "));
    assert!(good(here(), &["--version"]).stdout.starts_with("grimace 0."));
}

#[test]
fn bad_arguments_exit_with_2() {
    bad(here(), &[], 2, &["Usage: grimace"]);
    bad(here(), &["trian"], 2, &["unrecognized subcommand"]);
    bad(here(), &["train"], 2, &["<CONFIG>"]);
    bad(here(), &["evaluate", "x", "--data", "y", "--device", "gpu"], 2, &["cuda:N"]);
    bad(here(), &["train", "no.toml"], 2, &["no.toml: no such file"]);
    bad(here(), &["evaluate", "no-run", "--data", "y"], 2, &["no-run: no such run directory"]);
    bad(
        here(),
        &["data", "check", "src"],
        2,
        &["src: is a folder without pictures; expected a CSV, or a folder with JPEG"],
    );
}

/// A command that writes a file checks it with `Output`, so none forgets `--force`.
#[test]
fn commands_write_only_checked_outputs() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let source = text(&path);
        for function in ["write_atomically", "replace_atomically", "fs::write", "link_atomically"] {
            assert!(!source.contains(function), "{}: {function}; write through util::files::Output", path.display());
        }
    }
    let writing = leaf_commands(&grimace::cli::Cli::command(), &[]).into_iter().filter(|words| {
        let known =
            ["predict", "export", "ensemble", "monitor", "data audit", "data preview", "data synth", "generate man"];
        known.contains(&words.join(" ").as_str())
    });
    let writing: Vec<Vec<String>> = writing.collect();
    assert_eq!(writing.len(), 8);
    for words in writing {
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        assert!(good(here(), &words).stdout.contains("--force"), "{words:?}");
    }
}

#[test]
fn doctor_reports_the_environment() {
    let found = good(here(), &["doctor", "--json"]).json();
    assert_eq!(found["libtorch"], "2.11.0");
    assert!(found["threads"].as_i64().unwrap() >= 1);
    assert!(found["cuda"] == true || found["cuda_reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    let stdout = good(here(), &["doctor"]).stdout;
    for part in ["libtorch", "2.11.0", "CUDA", "threads", "\"auto\" means"] {
        assert!(stdout.contains(part), "{part} is not in {stdout}");
    }
}

#[test]
fn results_go_to_stdout_without_color() {
    let done = grimace(here(), &["doctor"]);
    assert!(done.stderr.is_empty() && !done.stdout.contains('\u{1b}'), "{}", done.all());
}

/// OpenMP reads the bound when it is loaded, so that it must be in the environment before `main`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn spinning_is_bounded_on_a_shared_machine_unless_the_user_has_set_it() {
    // Other processes that compute.
    let cores = std::thread::available_parallelism().unwrap().get();
    let others = (0..cores).map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
    let _others: Vec<Busy> = others.map(Busy).collect();
    let bound = format!("GOMP_SPINCOUNT={}", torch_ext::spinning::SPINS);
    for (set, expected) in [
        (None, bound.as_str()),
        (Some(("GOMP_SPINCOUNT", "7")), "GOMP_SPINCOUNT=7"),
        (Some(("OMP_WAIT_POLICY", "active")), "OMP_WAIT_POLICY=active"),
    ] {
        let mut command = command(here(), &["data", "check", "-"]);
        command.env_remove("GOMP_SPINCOUNT").env_remove("OMP_WAIT_POLICY").envs(set);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        // The program waits for its standard input; the variable appears when it has executed itself.
        let of_process = |file: &str| text(format!("/proc/{}/{file}", process.id()));
        let waiting = || {
            let environment = of_process("environ");
            let found = ["GOMP_SPINCOUNT=", "OMP_WAIT_POLICY="];
            let found = environment.split('\0').filter(|entry| found.iter().any(|name| entry.starts_with(name)));
            found.map(str::to_owned).collect::<Vec<_>>()
        };
        let start = Instant::now();
        while waiting() != [expected] {
            assert!(start.elapsed() < Duration::from_secs(60), "{expected}: {:?}", waiting());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(of_process("comm"), "grimace\n");
        assert!(of_process("cmdline").ends_with("\0data\0check\0-\0"));
        drop(process.stdin.take());
        assert_eq!(process.wait().unwrap().code(), Some(2));
    }
}

/// A process that ends with the test.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
struct Busy(std::process::Child);

#[cfg(all(target_os = "linux", target_env = "gnu"))]
impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
