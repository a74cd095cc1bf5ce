//! Signals to a sweep and to its processes.

use serde_json::Value;
use tempfile::TempDir;

use super::{RUNS, interrupt, setup, wait_until};
use crate::common::{bad, good, json, tensors};

#[test]
fn an_interrupted_sweep_resumes_where_it_stopped() {
    let (folder, uninterrupted) = (setup(), setup());
    let long = ["--set", "train.epochs=40", "--set", "train.early_stop={patience=0}"];
    let args = [&["sweep", "tiny.toml", "other.toml"], &long[..], &["--out", "s"]].concat();
    let done = interrupt(folder.path(), &args, &["tiny-seed42"], "-INT");
    assert_eq!(done.code, 130, "{}", done.all());
    assert!(
        done.stderr.contains(concat!(
            "resume with: ",
            env!("CARGO_BIN_EXE_grimace"),
            " sweep tiny.toml other.toml --set 'train.epochs=40'"
        )),
        "{}",
        done.stderr
    );
    assert!(done.stdout.contains("Unfinished: tiny-seed42, other-seed42."), "{}", done.stdout);
    let stdout = good(folder.path(), &["runs", "s"]).stdout;
    assert!(stdout.contains("s/tiny-seed42") && stdout.contains("interrupted"), "{stdout}");
    good(folder.path(), &[&args[..], &["--resume"]].concat());
    good(uninterrupted.path(), &args);
    for run in ["tiny-seed42", "other-seed42"] {
        let last = |folder: &TempDir| tensors(&folder.path().join("s").join(run).join("last.safetensors"));
        assert!(last(&folder) == last(&uninterrupted), "{run}");
    }
}

#[test]
fn runs_are_distributed_over_processes() {
    let folder = setup();
    let args = ["sweep", "tiny.toml", "broken.toml", "other.toml", "--parallel", "2", "--out", "f"];
    let done = bad(folder.path(), &args, 1, &["broken-seed42: failed"]);
    assert_eq!(done.stderr.matches("broken-seed42: failed").count(), 1, "it is tried once: {}", done.stderr);

    let args = ["sweep", "tiny.toml", "other.toml", "--seeds", "2", "--parallel", "2", "--out", "s"];
    let done = good(folder.path(), &args);
    for run in RUNS {
        assert!(done.stderr.contains(&format!("[{run}] epoch   2/2")), "{}", done.stderr);
    }
    assert_eq!(done.stderr.matches("epoch   1/2").count(), 4, "each is trained once: {}", done.stderr);
    assert_eq!(json(folder.path().join("s/summary.json"))["complete"], true);
}

#[test]
fn a_signal_reaches_every_process_once() {
    let folder = setup();
    let long = ["--set", "train.epochs=4000", "--set", "train.early_stop={patience=0}"];
    let args = [&["sweep", "tiny.toml", "other.toml", "--parallel", "2"], &long[..], &["--out", "s"]].concat();
    let names = ["tiny-seed42", "other-seed42"];
    let done = interrupt(folder.path(), &args, &names, "-TERM");
    assert_eq!(done.code, 143, "{}", done.all());
    let states = || -> Vec<Value> {
        let runs = good(folder.path(), &["runs", "s", "--json"]).json();
        runs.as_array().unwrap().iter().map(|run| run["state"].clone()).collect()
    };
    assert_eq!(states(), ["interrupted"; 2]);
    // When the parent is killed, its workers save and exit. Without the summaries from before,
    // `interrupted` is in those of these workers.
    for run in names {
        fs_err::remove_file(folder.path().join("s").join(run).join("summary.json")).unwrap();
    }
    assert_eq!(states(), ["died"; 2]);
    let resumed = [&args[..], &["--resume"]].concat();
    interrupt(folder.path(), &resumed, &names, "-KILL");
    wait_until("the workers did not end", || states() == ["interrupted"; 2]);
}
