//! Crash safety: kills, signals, corrupt and missing files, divergence.
//! `scripts/fault_injection.sh` tests the same more extensively.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Done, bad, bench, command, good, json, tensors, text, timeless_metrics};
use crate::process::{send, wait_for_epochs};

/// A run of a few seconds that can be stopped anywhere.
const LONG: [&str; 6] =
    ["--set", "train.epochs=8", "--set", "train.early_stop.patience=0", "--set", "data.on_bad_row=skip"];

fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "tiny.toml", "--out", out], &LONG[..], more].concat()
}

fn spawn(folder: &Path, args: &[&str]) -> Child {
    command(folder, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Tensors of a checkpoint.
type Tensors = Vec<(String, Vec<u8>)>;

/// What a resumed run and an uninterrupted one have in common.
type FinalState = (Value, Vec<Value>, Tensors, Tensors);

fn final_state(run: &Path) -> FinalState {
    let mut summary = json(run.join("summary.json"));
    for key in ["seconds", "train_images_per_second"] {
        summary[key].take();
    }
    for key in ["command", "resumed"] {
        summary["provenance"][key].take();
    }
    (summary, timeless_metrics(run), tensors(&run.join("last.safetensors")), tensors(&run.join("best.safetensors")))
}

#[test]
fn a_killed_and_resumed_run_equals_an_uninterrupted_one() {
    let bench = bench();
    let interval = ["--set", "train.checkpoint_every={epochs=2,steps=3}"];
    good(bench.path(), &train("uninterrupted", &interval));
    // Epochs that are finished before each kill; the rest of the time is somewhere in an epoch, or at
    // the start of a resumed run.
    for (number, kills) in [[1, 5], [2, 3], [4, 4], [3, 6], [6, 6]].into_iter().enumerate() {
        let out = format!("killed{number}");
        let run = bench.path().join(&out);
        let args = train(&out, &[&interval[..], &["--resume"]].concat());
        let mut finished = String::new();
        for epochs in kills {
            let mut child = spawn(bench.path(), &args);
            wait_for_epochs(&run, epochs);
            std::thread::sleep(Duration::from_millis(7 * number as u64));
            send("KILL", &child);
            assert_eq!(child.wait().unwrap().signal(), Some(9), "{out} has finished before it was killed");
            let now = text(run.join("metrics.jsonl"));
            assert!(now.starts_with(&finished), "lines of finished epochs stay byte for byte");
            finished = now;
        }
        good(bench.path(), &args);
        assert!(text(run.join("metrics.jsonl")).starts_with(&finished), "lines of finished epochs stay byte for byte");
        assert!(
            final_state(&run) == final_state(&bench.path().join("uninterrupted")),
            "{out} differs from an uninterrupted run"
        );
        let temporary = fs_err::read_dir(&run)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".tmp"));
        assert_eq!(temporary.count(), 0, "temporary files of killed processes are left");
    }
}

#[test]
fn every_signal_saves_and_has_its_exit_code() {
    let bench = bench();
    good(bench.path(), &train("uninterrupted", &[]));
    for (signal, code) in [("TERM", 143), ("HUP", 129), ("INT", 130), ("USR1", 75), ("USR2", 75)] {
        let child = spawn(bench.path(), &train(signal, &[]));
        let run = bench.path().join(signal);
        wait_for_epochs(&run, 2);
        send(signal, &child);
        let done: Done = child.wait_with_output().unwrap().into();
        assert_eq!(done.code, code, "{}", done.all());
        let resume = concat!("resume with: ", env!("CARGO_BIN_EXE_grimace"), " train tiny.toml");
        assert!(done.stderr.contains(resume), "{}", done.all());
        assert_eq!(json(run.join("summary.json"))["stopped"], "interrupted");
        good(bench.path(), &train(signal, &["--resume"]));
        assert!(final_state(&run) == final_state(&bench.path().join("uninterrupted")), "{signal}");
    }
}

/// Whether a process has a handler for SIGTERM, signal 15.
fn handles_sigterm(child: &Child) -> bool {
    let status = text(format!("/proc/{}/status", child.id()));
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> 14 & 1 == 1
}

#[test]
fn a_signal_while_data_is_read_ends_the_process_at_once() {
    if !Path::new("/proc/self/status").exists() {
        println!("skipped: this system has no /proc");
        return;
    }
    let bench = bench();
    // Reading 16 million bad rows takes seconds, and training cannot begin.
    fs_err::write(bench.path().join("large.csv"), format!("emotion,pixels\n{}", "0,1\n".repeat(1 << 24))).unwrap();
    let child = spawn(bench.path(), &train("early", &["--set", "data.train=large.csv"]));
    // Before its handler is installed, a signal has the system's default action.
    let start = Instant::now();
    while !handles_sigterm(&child) {
        assert!(start.elapsed() < Duration::from_secs(60), "no handler after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    // The data are being read now; if they were read to the end, the exit code would be 2.
    std::thread::sleep(Duration::from_millis(100));
    send("TERM", &child);
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, 143, "{}", done.all());
    assert!(!bench.path().join("early").exists(), "a run directory is left");
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let bench = bench();
    // A step takes many seconds, and the first signal waits for its end.
    let slow = ["--set", "model.filters=[512,512]", "--set", "model.convolutions=2", "--set", "train.batch=480"];
    let child = spawn(bench.path(), &train("twice", &slow));
    let run = bench.path().join("twice");
    let start = Instant::now();
    while !run.join("last.safetensors").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint after a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    send("INT", &child);
    // The system merges a signal with one that is not delivered yet.
    std::thread::sleep(Duration::from_millis(50));
    send("INT", &child);
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, 130, "{}", done.all());
    // A process that waits for the end of the step and saves writes "interrupted".
    assert_eq!(json(run.join("summary.json"))["stopped"], "running", "{}", done.all());
}

#[test]
fn a_repeated_hangup_still_saves() {
    let bench = bench();
    let child = spawn(bench.path(), &train("hangup", &["--set", "train.epochs=200"]));
    let run = bench.path().join("hangup");
    wait_for_epochs(&run, 1);
    for _ in 0..3 {
        send("HUP", &child);
    }
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, 129, "{}", done.all());
    assert_eq!(json(run.join("summary.json"))["stopped"], "interrupted");
}

#[test]
fn runs_started_together_have_separate_directories() {
    let bench = bench();
    let args = ["train", "tiny.toml", "--set", "train.epochs=1"];
    let children = [0, 1, 2].map(|_| spawn(bench.path(), &args));
    for child in children {
        let done: Done = child.wait_with_output().unwrap().into();
        assert_eq!(done.code, 0, "{}", done.all());
    }
    let runs = fs_err::read_dir(bench.path().join("runs")).unwrap();
    assert!(runs.into_iter().all(|run| run.unwrap().path().join("summary.json").exists()));
}

#[test]
fn an_ignored_hangup_stays_ignored() {
    let bench = bench();
    let line = format!("trap '' HUP; exec {} {}", env!("CARGO_BIN_EXE_grimace"), train("nohup", &[]).join(" "));
    let child = std::process::Command::new("sh")
        .args(["-c", &line])
        .current_dir(bench.path())
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_epochs(&bench.path().join("nohup"), 1);
    send("HUP", &child);
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, 0, "{}", done.all());
}

#[test]
fn a_run_directory_admits_one_process_at_a_time() {
    let bench = bench();
    let mut child = spawn(bench.path(), &train("shared", &["--set", "train.epochs=200"]));
    wait_for_epochs(&bench.path().join("shared"), 1);
    let owner = format!("shared: is in use by process {}", child.id());
    bad(bench.path(), &train("shared", &["--resume"]), 1, &[&owner]);
    send("KILL", &child);
    child.wait().unwrap();
    let epochs = text(bench.path().join("shared/metrics.jsonl")).lines().count() + 2;
    let epochs = format!("train.epochs={epochs}");
    let done = good(bench.path(), &train("shared", &["--resume", "--set", &epochs]));
    assert!(done.stderr.contains("resuming"), "a dead owner does not hold the lock: {}", done.all());
}

/// A run that was stopped after its fourth epoch, and the final state of an uninterrupted run.
fn stopped() -> (tempfile::TempDir, FinalState) {
    let bench = bench();
    good(bench.path(), &train("uninterrupted", &[]));
    let expected = final_state(&bench.path().join("uninterrupted"));
    good(bench.path(), &train("run", &["--set", "train.epochs=4"]));
    (bench, expected)
}

#[test]
fn a_corrupt_last_falls_back_and_a_corrupt_best_is_an_error() {
    let (bench, expected) = stopped();
    let run = bench.path().join("run");
    let flip_bit = |name: &str, offset: usize| {
        let mut bytes = fs_err::read(run.join(name)).unwrap();
        bytes[offset] ^= 4;
        fs_err::write(run.join(name), bytes).unwrap();
    };
    let best = fs_err::read(run.join("best.safetensors")).unwrap();
    flip_bit("best.safetensors", best.len() / 2);
    let parts = ["best.safetensors: not a usable checkpoint", "checksum", "delete run/best.safetensors"];
    bad(bench.path(), &train("run", &["--resume"]), 2, &parts);
    let evaluate = ["evaluate", "run", "--data", "data/my_emotion_train.csv"];
    bad(bench.path(), &evaluate, 2, &["best.safetensors: not a usable checkpoint"]);
    fs_err::write(run.join("best.safetensors"), best).unwrap();

    // A digit of the state in the metadata.
    flip_bit("last.safetensors", 700);
    let done = good(bench.path(), &train("run", &["--resume"]));
    assert!(done.stderr.contains("warning: run/last.safetensors: not a usable checkpoint"), "{}", done.all());
    assert!(done.stderr.contains("resuming from run/previous.safetensors"), "{}", done.all());
    assert!(final_state(&run) == expected, "differs from an uninterrupted run");

    flip_bit("last.safetensors", 5000);
    flip_bit("previous.safetensors", 5000);
    let parts = ["last.safetensors: not a usable checkpoint", "previous.safetensors: not a usable checkpoint"];
    bad(bench.path(), &train("run", &["--resume"]), 2, &parts);
}

#[test]
fn missing_files_are_restored_or_reported() {
    let (bench, expected) = stopped();
    let run = bench.path().join("run");
    fs_err::remove_file(run.join("last.safetensors")).unwrap();
    for name in ["metrics.jsonl", "split.csv", "config.toml"] {
        fs_err::remove_file(run.join(name)).unwrap();
    }
    fs_err::write(run.join(".best.safetensors.grimace-a1B2c3.tmp"), "half").unwrap();
    let done = good(bench.path(), &train("run", &["--resume"]));
    assert!(done.stderr.contains("warning: run/last.safetensors: is missing; resuming from"), "{}", done.all());
    assert!(final_state(&run) == expected, "differs from an uninterrupted run");
    assert!(!run.join(".best.safetensors.grimace-a1B2c3.tmp").exists());
    for name in ["metrics.jsonl", "split.csv", "config.toml"] {
        assert!(run.join(name).exists(), "{name} is not restored");
    }

    let metrics = text(run.join("metrics.jsonl"));
    fs_err::write(run.join("metrics.jsonl"), &metrics.as_bytes()[..metrics.len() - 20]).unwrap();
    good(bench.path(), &train("run", &["--resume"]));
    assert_eq!(text(run.join("metrics.jsonl")), metrics, "a truncated last line is restored");

    // The state after a kill just before the summary is written.
    let summary = text(run.join("summary.json"));
    fs_err::write(run.join("summary.json"), summary.replace("\"epochs\": 8", "\"epochs\": 4")).unwrap();
    good(bench.path(), &train("run", &["--resume"]));
    assert_eq!(json(run.join("summary.json"))["epochs"], 8);

    fs_err::remove_file(run.join("best.safetensors")).unwrap();
    let more = ["--resume", "--set", "train.epochs=9"];
    let done = good(bench.path(), &train("run", &more));
    assert!(done.stderr.contains("best.safetensors"), "{}", done.all());
    assert!(run.join("best.safetensors").exists());

    for name in ["last.safetensors", "previous.safetensors"] {
        fs_err::remove_file(run.join(name)).unwrap();
    }
    bad(bench.path(), &train("run", &more), 2, &["run: holds results but no last.safetensors"]);
}

#[test]
fn worse_weights_never_replace_better_ones() {
    let (bench, _) = stopped();
    let run = bench.path().join("run");
    // The best weights of a longer run, as left by a kill between writing best and last. All later
    // epochs are worse.
    fs_err::copy(bench.path().join("uninterrupted/best.safetensors"), run.join("best.safetensors")).unwrap();
    let best = tensors(&run.join("best.safetensors"));
    let summary = json(bench.path().join("uninterrupted/summary.json"));
    good(bench.path(), &train("run", &["--resume", "--set", "train.epochs=5"]));
    assert!(tensors(&run.join("best.safetensors")) == best);
    assert_eq!(json(run.join("summary.json"))["best_val_accuracy"], summary["best_val_accuracy"]);
    // The checkpoint refers to best weights newer than itself, and can still be resumed from.
    good(bench.path(), &train("run", &["--resume", "--set", "train.epochs=6"]));
    assert!(tensors(&run.join("best.safetensors")) == best);

    good(bench.path(), &["train", "tiny.toml", "--out", "other", "--set", "data.validation=0.3"]);
    fs_err::copy(bench.path().join("other/best.safetensors"), run.join("best.safetensors")).unwrap();
    bad(bench.path(), &train("run", &["--resume"]), 2, &["best.safetensors: belongs to a run on other data"]);
}

#[test]
fn a_divergence_is_rolled_back_with_half_the_learning_rate() {
    let bench = bench();
    let diverging = ["--set", "train.optimizer={kind=\"sgd\",lr=2.0,momentum=0.99}", "--set", "train.epochs=2"];
    let args = |out, more: &[&'static str]| train(out, &[&diverging[..], more].concat());
    bad(bench.path(), &args("stops", &[]), 1, &["not a finite number in epoch 1", "--set train.max_rollbacks=3"]);
    good(bench.path(), &args("stops", &["--resume", "--set", "train.max_rollbacks=20"]));
    let done = good(bench.path(), &args("back", &["--set", "train.max_rollbacks=20"]));
    let first = "rolled back to the start with half the learning rate, 1.00e0 (rollback 1 of 20)";
    assert!(done.stderr.contains(first), "{}", done.all());
    let summary = json(bench.path().join("back/summary.json"));
    let rollbacks = summary["rollbacks"].as_u64().unwrap();
    assert_eq!((summary["stopped"].as_str(), rollbacks > 0), (Some("epochs"), true));
    // The result does not depend on the checkpoint interval: rollback is to the end of an epoch.
    let dense = ["--set", "train.max_rollbacks=20", "--set", "train.checkpoint_every={steps=1}"];
    good(bench.path(), &args("dense", &dense));
    assert!(final_state(&bench.path().join("dense")) == final_state(&bench.path().join("back")));
    let metrics = timeless_metrics(&bench.path().join("back"));
    assert_eq!(metrics.last().unwrap()["lr"].as_f64(), Some(2.0 * 0.5f64.powi(rollbacks as i32)));
    assert!(metrics.iter().all(|line| line["val_loss"].is_number()));
}

#[test]
fn a_changed_patience_is_allowed_and_logged() {
    let (bench, _) = stopped();
    let done = good(bench.path(), &train("run", &["--resume", "--set", "train.early_stop.patience=9"]));
    assert!(done.stderr.contains("train.early_stop.patience changed from 0 to 9"), "{}", done.all());
    assert!(done.stderr.contains("train.epochs changed from 4 to 8"), "{}", done.all());
    assert!(text(bench.path().join("run/log.txt")).contains("train.epochs changed from 4 to 8"));
}

/// A run keeps its number of threads if the config leaves it open: results depend on it.
#[test]
fn a_resumed_run_keeps_its_threads() {
    let (bench, expected) = stopped();
    let output = command(bench.path(), &train("run", &["--resume"])).env("OMP_NUM_THREADS", "2").output().unwrap();
    let done = Done::from(output);
    assert_eq!((done.code, done.stderr.contains("1 thread\n")), (0, true), "{}", done.all());
    assert!(final_state(&bench.path().join("run")) == expected, "differs from an uninterrupted run");
    let threads = ["--resume", "--set", "threads=2", "--set", "train.epochs=9"];
    let done = good(bench.path(), &train("run", &threads));
    assert!(done.stderr.contains("warning: 1 threads before, 2 now"), "{}", done.all());
}
