//! `grimace tune --join`: processes that work on one study share its trials, and take over those of a
//! process that dies.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{bad, command, good, json, tensors, text, timeless_metrics};
use crate::tune::setup;

/// Rungs at 1, 2 and 4 epochs. The learning rate depends on the number of all epochs.
const STUDY: [&str; 17] = [
    "tune",
    "tiny.toml",
    "--space",
    "space.toml",
    "--trials",
    "8",
    "--max-epochs",
    "4",
    "--min-epochs",
    "1",
    "--eta",
    "2",
    "--set",
    "train.schedule={kind=\"cosine\"}",
    "--out",
    "s",
    "--join",
];

fn start(folder: &Path, more: &[&str]) -> Child {
    let args = [&STUDY[..], more].concat();
    command(folder, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `is_reached`, or the process has ended.
fn wait(process: &mut Child, what: &str, is_reached: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_reached() && process.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(120), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The standard output of a process that succeeds, and its standard error.
fn finish(child: Child) -> (String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    (stdout, stderr)
}

fn records(folder: &Path) -> Vec<Value> {
    text(folder.join("s/study.jsonl")).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks that every trial was started once, and trained once up to each rung that it was promoted to.
fn check_journal(folder: &Path, trials: usize) {
    let records = records(folder);
    let of_event = |event: &str| -> Vec<(u64, u64)> {
        let found = records.iter().filter(|record| record["event"] == event);
        found.map(|record| (record["trial"].as_u64().unwrap(), record["rung"].as_u64().unwrap_or(0))).collect()
    };
    let starts = of_event("trial");
    assert_eq!(starts, (0..trials as u64).map(|trial| (trial, 0)).collect::<Vec<_>>());
    let work: Vec<(u64, u64)> = starts.into_iter().chain(of_event("promotion")).collect();
    let results = of_event("result");
    let set = |items: &[(u64, u64)]| items.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(set(&results), set(&work));
    assert_eq!((results.len(), work.len()), (set(&results).len(), set(&work).len()), "nothing twice");
    assert!(results.iter().any(|(_, rung)| *rung == 2), "a trial is fully trained");
}

#[test]
fn processes_share_a_study() {
    let folder = setup();
    let folder = folder.path();
    let more = ["--confirm", "1", "--json"];
    let children: Vec<Child> = (0..3).map(|_| start(folder, &more)).collect();
    let done: Vec<(String, String)> = children.into_iter().map(finish).collect();
    check_journal(folder, 8);
    let claims = fs_err::read_dir(folder.join("s/.claims")).unwrap().count();
    assert_eq!(claims, 0, "claims are given back");
    let results: Vec<Value> = done.iter().map(|(stdout, _)| serde_json::from_str(stdout).unwrap()).collect();
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    assert_eq!(results[0]["trials"].as_array().unwrap().len(), 8);
    assert_eq!(results[0]["confirmation"]["seeds"], serde_json::json!([43]));
    // Each training was started by one process.
    for name in ["trial000: up to epoch 1,", "trial007: up to epoch 1,"] {
        assert_eq!(done.iter().filter(|(_, stderr)| stderr.contains(name)).count(), 1, "{name}");
    }

    // The best trial is the run of its config, in whichever process it was trained.
    let best = results[0]["best"].as_str().unwrap();
    good(folder, &["train", "s/best.toml", "--out", "once"]);
    let (trial, once) = (folder.join("s").join(best), folder.join("once"));
    assert!(tensors(&trial.join("best.safetensors")) == tensors(&once.join("best.safetensors")));
    assert_eq!(timeless_metrics(&trial), timeless_metrics(&once));
    let base = json(folder.join("s/confirm-base-seed43/summary.json"));
    assert_eq!(base["best_monitor_value"], results[0]["confirmation"]["base"]["values"][0]);
}

#[test]
fn the_trials_of_a_killed_process_are_taken_over() {
    let folder = setup();
    let folder = folder.path();
    let mut killed = start(folder, &[]);
    wait(&mut killed, "the first checkpoint", || folder.join("s/trial000/last.safetensors").exists());
    let other = start(folder, &[]);
    let lines = || text(folder.join("s/study.jsonl")).lines().count();
    let before = lines();
    wait(&mut killed, "decisions after the second process started", || lines() >= before + 3);
    assert!(killed.try_wait().unwrap().is_none(), "it ended before it could be killed");
    killed.kill().unwrap();
    killed.wait().unwrap();
    finish(other);
    check_journal(folder, 8);
    // One process continues what several have begun.
    let args: Vec<&str> = STUDY.iter().copied().filter(|word| *word != "--join" && *word != "8").collect();
    let more = [&args[..], &["--resume"]].concat();
    let more: Vec<&str> =
        more.iter().flat_map(|word| if *word == "--trials" { vec!["--trials", "9"] } else { vec![*word] }).collect();
    good(folder, &more);
    check_journal(folder, 9);
}

#[test]
fn a_study_is_shared_only_with_processes_of_the_same_study() {
    let folder = setup();
    let folder = folder.path();
    bad(folder, &["tune", "tiny.toml", "--space", "space.toml", "--join"], 2, &["--out"]);
    let small = ["tune", "tiny.toml", "--space", "space.toml", "--trials", "1", "--max-epochs", "1", "--out", "s"];
    let with = |more: &[&'static str]| [&small[..], more].concat();
    good(folder, &with(&["--join"]));
    let again = good(folder, &with(&["--join"]));
    assert!(!again.stderr.contains("trial000: up to"), "{}", again.all());
    bad(folder, &with(&["--join", "--seed", "7"]), 2, &["s: was started with --seed 42, but is resumed with 7"]);

    // As a process of `--join` holds it, and as one alone.
    let lock = File::open(folder.join("s/.lock")).unwrap();
    lock.lock_shared().unwrap();
    good(folder, &with(&["--join"]));
    bad(folder, &with(&["--resume"]), 1, &["s: is in use by process"]);
    lock.unlock().unwrap();
    lock.lock().unwrap();
    bad(folder, &with(&["--join"]), 1, &["s: is in use by process"]);
}
