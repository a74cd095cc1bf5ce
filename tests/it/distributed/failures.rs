//! Processes of a group that fail, are killed or stopped.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{free_port, rank_command, spawn_group, train_group, wait_all};
use crate::common::{bench, json, tensors, text};
use crate::process::{epochs, send, wait_for_epochs};

const LONG: [&str; 10] = [
    "train",
    "tiny.toml",
    "--set",
    "train.epochs=6",
    "--set",
    "train.early_stop.patience=0",
    "--set",
    "train.checkpoint_every={steps=3,epochs=1}",
    "--out",
    "run",
];

/// A generous bound against hangs: the processes end long before.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_killed_process_ends_all_and_the_run_resumes() {
    let bench = bench();
    for killed in [1, 0] {
        let before = epochs(&bench.path().join("run"));
        let mut group = spawn_group(bench.path(), &[&LONG[..], &["--resume"]].concat(), 2);
        wait_for_epochs(&bench.path().join("run"), before + 1);
        send("KILL", &group[killed]);
        let start = Instant::now();
        drop(group[killed].wait());
        let mut done = wait_all(group);
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        let survivor = done.swap_remove(1 - killed);
        assert_eq!(survivor.code, 1, "{}", survivor.all());
        assert!(survivor.stderr.contains(&format!("error: rank {killed} is gone")), "{}", survivor.all());
    }
    train_group(bench.path(), &[&LONG[..], &["--resume"]].concat(), 2);
    let mut args = LONG;
    args[9] = "one";
    train_group(bench.path(), &args, 2);
    let [resumed, unbroken] = ["run", "one"].map(|run| tensors(&bench.path().join(run).join("last.safetensors")));
    assert_eq!(resumed, unbroken, "bit for bit");
}

#[test]
fn a_signal_to_one_process_saves_and_ends_all() {
    let bench = bench();
    for (signal, code, to) in [("TERM", 143, 1), ("USR1", 75, 0)] {
        let before = epochs(&bench.path().join("run"));
        let group = spawn_group(bench.path(), &[&LONG[..], &["--resume"]].concat(), 2);
        wait_for_epochs(&bench.path().join("run"), before + 1);
        send(signal, &group[to]);
        let done = wait_all(group);
        assert_eq!((done[0].code, done[1].code), (code, code), "{}{}", done[0].all(), done[1].all());
        assert!(done[0].stderr.contains("resume with: ") && done[1].stderr.is_empty(), "{}", done[0].all());
    }
    assert_eq!(json(bench.path().join("run/summary.json"))["stopped"], "interrupted");
}

#[test]
fn a_divergence_ends_all_with_one_message() {
    let bench = bench();
    let args = ["train", "tiny.toml", "--out", "run", "--set", "train.optimizer={kind=\"sgd\",lr=100,momentum=0.99}"];
    let done = wait_all(spawn_group(bench.path(), &args, 2));
    assert_eq!((done[0].code, done[1].code), (1, 1), "{}{}", done[0].all(), done[1].all());
    assert!(done[0].stderr.contains("training diverged") && done[1].stderr.is_empty(), "{}", done[1].all());
    // Rolled back together.
    let rolled = ["--set", "train.max_rollbacks=2"];
    let done = wait_all(spawn_group(bench.path(), &[&args[..], &rolled, &["--resume"]].concat(), 2));
    assert!(done[0].stderr.contains("rollback 2 of 2") && done[1].stderr.is_empty(), "{}", done[0].all());
    assert!(text(bench.path().join("run/log.txt")).contains("2 rollbacks did not help"));
}

#[test]
fn a_stopped_process_is_noticed_in_time() {
    let bench = bench();
    // Rank 0 serves the store, which does not answer then.
    for stopped in [1, 0] {
        let before = epochs(&bench.path().join("run"));
        let args = [&LONG[..], &["--set", "train.timeout=2", "--resume"]].concat();
        let mut group = spawn_group(bench.path(), &args, 2);
        wait_for_epochs(&bench.path().join("run"), before + 1);
        send("STOP", &group[stopped]);
        let start = Instant::now();
        let other = group.remove(1 - stopped).wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&other.stderr).into_owned();
        assert!(start.elapsed() < PATIENCE && other.status.code() == Some(1), "{stderr}");
        assert!(stderr.contains(&format!("rank {stopped} is gone")), "{stderr}");
        send("KILL", &group[0]);
        drop(group.remove(0).wait());
    }
}

#[test]
fn processes_that_differ_are_refused() {
    let bench = bench();
    let run = |sets: [&str; 2]| {
        let port = free_port();
        let spawn = |rank: usize| {
            let args = ["train", "tiny.toml", "--out", "run", "--set", sets[rank]];
            let mut command = rank_command(bench.path(), &args, rank, 2, port);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        wait_all(vec![spawn(0), spawn(1)])
    };
    let done = run(["train.batch=32", "train.batch=64"]);
    assert_eq!(done[0].code, 2, "{}", done[0].all());
    assert!(done[0].stderr.contains("rank 1 has a config other than rank 0"), "{}", done[0].all());
    let done = run(["train.batch=1"; 2]);
    let both = done[0].stderr.clone() + &done[1].stderr;
    assert_eq!(both.matches("train.batch = 1: less than the 2 processes").count(), 1, "one tells: {both}");
    // A mistake of one process only.
    let done = run(["train.batch=32", "train.batch=0"]);
    assert!(done[1].stderr.contains("rank 1") && done[1].stderr.contains("train.batch"), "{}", done[1].all());
    assert!(!bench.path().join("run").exists());
}
