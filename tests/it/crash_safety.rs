//! Nothing is lost: kills, signals, damaged and missing files, divergence. `scripts/fault_injection.sh` does the same at length.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Done, bad, bench, command, good, json, tensors, text, timeless_metrics};

/// A training of a few seconds that can be stopped anywhere.
const LONG: [&str; 6] =
    ["--set", "train.epochs=8", "--set", "train.early_stop.patience=0", "--set", "data.on_bad_row=skip"];

fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "tiny.toml", "--out", out], &LONG[..], more].concat()
}

fn spawn(folder: &Path, args: &[&str]) -> Child {
    command(folder, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send(signal: &str, child: &Child) {
    assert!(
        std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success()
    );
}

/// Waits until the run has that many finished epochs.
fn wait_for_epochs(run: &Path, epochs: usize) {
    let began = Instant::now();
    let path = run.join("metrics.jsonl");
    while !path.exists() || text(&path).lines().count() < epochs {
        assert!(began.elapsed() < Duration::from_secs(60), "no {epochs} epochs after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The tensors of a checkpoint.
type Tensors = Vec<(String, Vec<u8>)>;

/// Everything that must be the same in a run that died and one that did not.
type Ending = (Value, Vec<Value>, Tensors, Tensors);

fn ending(run: &Path) -> Ending {
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
fn killed_anywhere_and_resumed_it_ends_as_if_nothing_had_happened() {
    let bench = bench();
    let cadence = ["--set", "train.checkpoint_every={epochs=2,steps=3}"];
    let began = Instant::now();
    good(bench.path(), &train("whole", &cadence));
    let whole = began.elapsed();
    for (number, parts) in [[0.1, 0.5], [0.35, 0.3], [0.6, 0.8], [0.9, 0.2], [0.75, 0.95]].into_iter().enumerate() {
        let out = format!("killed{number}");
        let run = bench.path().join(&out);
        let args = train(&out, &[&cadence[..], &["--resume"]].concat());
        let mut finished = String::new();
        for part in parts {
            let mut child = spawn(bench.path(), &args);
            std::thread::sleep(whole.mul_f64(part));
            send("KILL", &child);
            child.wait().unwrap();
            if run.join("metrics.jsonl").exists() {
                let now = text(run.join("metrics.jsonl"));
                assert!(now.starts_with(&finished), "lines of finished epochs stay byte for byte");
                finished = now;
            }
        }
        good(bench.path(), &args);
        assert!(text(run.join("metrics.jsonl")).starts_with(&finished), "lines of finished epochs stay byte for byte");
        assert!(ending(&run) == ending(&bench.path().join("whole")), "{out} ended otherwise");
        let left = fs_err::read_dir(&run)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".tmp"));
        assert_eq!(left.count(), 0, "temporary files of killed processes are removed");
    }
}

#[test]
fn each_signal_saves_and_has_its_exit_code() {
    let bench = bench();
    good(bench.path(), &train("whole", &[]));
    for (signal, code) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        let child = spawn(bench.path(), &train(signal, &[]));
        let run = bench.path().join(signal);
        wait_for_epochs(&run, 2);
        let began = Instant::now();
        send(signal, &child);
        let done: Done = child.wait_with_output().unwrap().into();
        assert_eq!(done.code, code, "{}", done.all());
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(done.stderr.contains("to go on: grimace train tiny.toml"), "{}", done.all());
        assert_eq!(json(run.join("summary.json"))["stopped"], "interrupted");
        good(bench.path(), &train(signal, &["--resume"]));
        assert!(ending(&run) == ending(&bench.path().join("whole")), "{signal}");
    }
}

#[test]
fn a_signal_before_there_is_anything_to_save_ends_it_at_once() {
    let bench = bench();
    let mut child = spawn(bench.path(), &train("early", &[]));
    // The program's own handlers are there before anything is read; before them the system's default ends it.
    std::thread::sleep(Duration::from_millis(30));
    send("TERM", &child);
    let status = child.wait().unwrap();
    let by_default = std::os::unix::process::ExitStatusExt::signal(&status) == Some(15);
    assert!(status.code() == Some(143) || by_default, "{status}");
}

#[test]
fn a_second_signal_does_not_wait() {
    let bench = bench();
    // A step of many seconds: the first signal alone would wait for its end.
    let slow = ["--set", "model.filters=[512,512]", "--set", "model.convolutions=2", "--set", "train.batch=480"];
    let child = spawn(bench.path(), &train("twice", &slow));
    let run = bench.path().join("twice");
    let began = Instant::now();
    while !run.join("last.safetensors").exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never begins");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    send("INT", &child);
    std::thread::sleep(Duration::from_millis(50));
    send("INT", &child);
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, 130, "{}", done.all());
    assert!(!run.join("summary.json").exists() && began.elapsed() < Duration::from_secs(5), "{}", done.all());
}

#[test]
fn a_terminal_that_hangs_up_twice_loses_nothing() {
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
fn runs_that_begin_together_have_places_of_their_own() {
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
fn a_hangup_that_was_ignored_stays_so() {
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
fn one_process_at_a_time() {
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
    assert!(done.stderr.contains("going on"), "a dead owner locks nobody out: {}", done.all());
}

/// A run that was stopped after its fourth epoch, and what it would have become.
fn stopped() -> (tempfile::TempDir, Ending) {
    let bench = bench();
    good(bench.path(), &train("whole", &[]));
    let end = ending(&bench.path().join("whole"));
    good(bench.path(), &train("run", &["--set", "train.epochs=4"]));
    (bench, end)
}

#[test]
fn a_damaged_last_falls_back_and_a_damaged_best_is_an_error() {
    let (bench, end) = stopped();
    let run = bench.path().join("run");
    let flip = |name: &str, place: usize| {
        let mut bytes = fs_err::read(run.join(name)).unwrap();
        bytes[place] ^= 4;
        fs_err::write(run.join(name), bytes).unwrap();
    };
    let best = fs_err::read(run.join("best.safetensors")).unwrap();
    flip("best.safetensors", best.len() / 2);
    let parts = ["best.safetensors: not a usable checkpoint", "checksum", "delete run/best.safetensors"];
    bad(bench.path(), &train("run", &["--resume"]), 2, &parts);
    let evaluate = ["evaluate", "run", "--data", "data/my_emotion_train.csv"];
    bad(bench.path(), &evaluate, 2, &["best.safetensors: not a usable checkpoint"]);
    fs_err::write(run.join("best.safetensors"), best).unwrap();

    // In the metadata: a digit of the state.
    flip("last.safetensors", 700);
    let done = good(bench.path(), &train("run", &["--resume"]));
    assert!(done.stderr.contains("warning: run/last.safetensors: not a usable checkpoint"), "{}", done.all());
    assert!(done.stderr.contains("going on from run/previous.safetensors"), "{}", done.all());
    assert!(ending(&run) == end, "it ended otherwise");

    flip("last.safetensors", 5000);
    flip("previous.safetensors", 5000);
    let parts = ["last.safetensors: not a usable checkpoint", "previous.safetensors: not a usable checkpoint"];
    bad(bench.path(), &train("run", &["--resume"]), 2, &parts);
}

#[test]
fn what_is_missing_is_made_again_or_named() {
    let (bench, end) = stopped();
    let run = bench.path().join("run");
    fs_err::remove_file(run.join("last.safetensors")).unwrap();
    for name in ["metrics.jsonl", "split.csv", "config.toml"] {
        fs_err::remove_file(run.join(name)).unwrap();
    }
    fs_err::write(run.join(".best.safetensors.4711.tmp"), "half").unwrap();
    let done = good(bench.path(), &train("run", &["--resume"]));
    assert!(done.stderr.contains("warning: run/last.safetensors: is missing; going on from"), "{}", done.all());
    assert!(ending(&run) == end, "it ended otherwise");
    assert!(!run.join(".best.safetensors.4711.tmp").exists());
    for name in ["metrics.jsonl", "split.csv", "config.toml"] {
        assert!(run.join(name).exists(), "{name} is written again");
    }

    let metrics = text(run.join("metrics.jsonl"));
    fs_err::write(run.join("metrics.jsonl"), &metrics.as_bytes()[..metrics.len() - 20]).unwrap();
    good(bench.path(), &train("run", &["--resume"]));
    assert_eq!(text(run.join("metrics.jsonl")), metrics, "a torn last line is made whole");

    // As a process leaves it that is killed before it writes its summary.
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
fn better_weights_are_never_replaced_by_worse_ones() {
    let (bench, _) = stopped();
    let run = bench.path().join("run");
    // The best of a longer run, as left by one that died between its two checkpoints; all that comes is worse.
    fs_err::copy(bench.path().join("whole/best.safetensors"), run.join("best.safetensors")).unwrap();
    let best = tensors(&run.join("best.safetensors"));
    let known = json(bench.path().join("whole/summary.json"));
    good(bench.path(), &train("run", &["--resume", "--set", "train.epochs=5"]));
    assert!(tensors(&run.join("best.safetensors")) == best);
    assert_eq!(json(run.join("summary.json"))["best_val_accuracy"], known["best_val_accuracy"]);
    // The checkpoint knows of a best that is newer than itself, and is one to go on from all the same.
    good(bench.path(), &train("run", &["--resume", "--set", "train.epochs=6"]));
    assert!(tensors(&run.join("best.safetensors")) == best);

    good(bench.path(), &["train", "tiny.toml", "--out", "other", "--set", "data.validation=0.3"]);
    fs_err::copy(bench.path().join("other/best.safetensors"), run.join("best.safetensors")).unwrap();
    bad(bench.path(), &train("run", &["--resume"]), 2, &["best.safetensors: belongs to a run on other data"]);
}

#[test]
fn a_divergence_goes_back_with_half_the_learning_rate() {
    let bench = bench();
    let wild = ["--set", "train.optimizer={kind=\"sgd\",lr=2.0,momentum=0.99}", "--set", "train.epochs=2"];
    let args = |out, more: &[&'static str]| train(out, &[&wild[..], more].concat());
    bad(bench.path(), &args("stops", &[]), 1, &["not a finite number in epoch 1", "--set train.max_rollbacks=3"]);
    good(bench.path(), &args("stops", &["--resume", "--set", "train.max_rollbacks=20"]));
    let done = good(bench.path(), &args("back", &["--set", "train.max_rollbacks=20"]));
    let first = "back to the start with half the learning rate, 1.00e0 (rollback 1 of 20)";
    assert!(done.stderr.contains(first), "{}", done.all());
    let summary = json(bench.path().join("back/summary.json"));
    let rollbacks = summary["rollbacks"].as_u64().unwrap();
    assert_eq!((summary["stopped"].as_str(), rollbacks > 0), (Some("epochs"), true));
    // The same end whatever the cadence of checkpoints: a divergence goes back to the end of an epoch.
    let dense = ["--set", "train.max_rollbacks=20", "--set", "train.checkpoint_every={steps=1}"];
    good(bench.path(), &args("dense", &dense));
    assert!(ending(&bench.path().join("dense")) == ending(&bench.path().join("back")));
    let metrics = timeless_metrics(&bench.path().join("back"));
    assert_eq!(metrics.last().unwrap()["lr"].as_f64(), Some(2.0 * 0.5f64.powi(rollbacks as i32)));
    assert!(metrics.iter().all(|line| line["val_loss"].is_number()));
}

#[test]
fn a_changed_patience_is_allowed_and_noted() {
    let (bench, _) = stopped();
    let done = good(bench.path(), &train("run", &["--resume", "--set", "train.early_stop.patience=9"]));
    assert!(done.stderr.contains("train.early_stop.patience changed from 0 to 9"), "{}", done.all());
    assert!(done.stderr.contains("train.epochs changed from 4 to 8"), "{}", done.all());
    assert!(text(bench.path().join("run/log.txt")).contains("train.epochs changed from 4 to 8"));
}

/// Where a config leaves the number of threads open, a run keeps what it had: its figures hang on it.
#[test]
fn a_run_goes_on_with_the_threads_it_had() {
    let (bench, end) = stopped();
    let more = command(bench.path(), &train("run", &["--resume"])).env("OMP_NUM_THREADS", "2").output().unwrap();
    let done = Done::from(more);
    assert_eq!((done.code, done.stderr.contains("1 thread\n")), (0, true), "{}", done.all());
    assert!(ending(&bench.path().join("run")) == end, "it ended otherwise");
    let threads = ["--resume", "--set", "threads=2", "--set", "train.epochs=9"];
    let done = good(bench.path(), &train("run", &threads));
    assert!(done.stderr.contains("warning: 1 threads before, 2 now"), "{}", done.all());
}
