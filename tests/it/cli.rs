//! Help, arguments and exit codes.

use crate::common::{bad, good, grimace};

fn here() -> &'static std::path::Path {
    std::path::Path::new(".")
}

#[test]
fn every_command_has_help_with_an_example() {
    let commands: [&[&str]; 9] = [
        &["data", "check"],
        &["data", "synth"],
        &["data", "augment"],
        &["train"],
        &["evaluate"],
        &["predict"],
        &["export"],
        &["ensemble"],
        &["doctor"],
    ];
    for command in commands {
        let done = good(here(), &[command, &["--help"]].concat());
        assert!(done.stdout.contains("Example:\n  grimace"), "{command:?}: {}", done.stdout);
    }
    assert!(good(here(), &["--help"]).stdout.contains("Exit codes: 0 done, 1 failed, 2 bad"));
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

#[test]
fn doctor_tells_what_will_be_used_and_why() {
    let found = good(here(), &["doctor", "--json"]).json();
    assert_eq!(found["libtorch"], "2.11.0");
    assert!(found["threads"].as_i64().unwrap() >= 1);
    assert!(found["cuda"] == true || found["cuda_reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    let shown = good(here(), &["doctor"]).stdout;
    for part in ["libtorch", "2.11.0", "CUDA", "threads", "\"auto\" means"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
}

#[test]
fn results_go_to_stdout_and_nothing_is_colored() {
    let done = grimace(here(), &["doctor"]);
    assert!(done.stderr.is_empty() && !done.stdout.contains('\u{1b}'), "{}", done.all());
}
