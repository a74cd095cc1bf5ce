//! Help, arguments and exit codes.

use clap::CommandFactory as _;

use crate::common::{bad, good, grimace, text};

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
    bad(here(), &["data", "check", "src"], 2, &["src: is a folder; expected a CSV file of images"]);
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
        let known = ["predict", "export", "ensemble", "data preview", "data synth", "generate man"];
        known.contains(&words.join(" ").as_str())
    });
    let writing: Vec<Vec<String>> = writing.collect();
    assert_eq!(writing.len(), 6);
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
