//! Event files, read with TensorBoard's own reader.

use std::path::Path;
use std::process::Command;

use crate::common::{Done, bad, bench, good, python, text, workshop};

/// Event files in a folder, sorted by name, with whether each is empty.
fn event_files(folder: &Path) -> Vec<(String, bool)> {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let all = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len() == 0));
    let is_event_file = |name: &str| name.starts_with("events.out.tfevents.") && name.ends_with(".grimace");
    let mut found: Vec<_> = all.filter(|(name, _)| is_event_file(name)).collect();
    found.sort();
    found
}

#[test]
fn tensorboard_reads_every_epoch_once() {
    let bench = bench();
    let run = bench.path().join("run");
    good(bench.path(), &["train", "tiny.toml", "--out", "run", "--set", "train.epochs=2"]);
    let before = event_files(&run);
    let [(name, false)] = &before[..] else { panic!("{before:?}") };

    // The script reads the events, resumes the run with the given command, and reads again.
    let config: toml::Table = text(run.join("config.toml")).parse().unwrap();
    let output = Command::new(python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/check_tensorboard.py"))
        .arg(&run)
        .arg(serde_json::to_string(&config).unwrap())
        .arg(env!("CARGO_BIN_EXE_grimace"))
        .args(["train", "tiny.toml", "--out", "run", "--resume", "--set", "train.epochs=3"])
        .current_dir(bench.path())
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let done: Done = output.into();
    assert_eq!(done.code, 0, "{}", done.all());
    assert!(done.stdout.contains("checks passed"), "{}", done.all());
    let after = event_files(&run);
    assert!(after.len() == 2 && after[0] == (name.clone(), true) && !after[1].1, "{after:?}");
}

#[test]
fn a_folder_in_place_of_an_event_file_is_reported() {
    let bench = bench();
    good(bench.path(), &["train", "tiny.toml", "--out", "run", "--set", "train.epochs=1"]);
    let name = "events.out.tfevents.0000000007.1.grimace";
    fs_err::create_dir(bench.path().join("run").join(name)).unwrap();
    let resume = ["train", "tiny.toml", "--out", "run", "--resume"];
    bad(bench.path(), &resume, 1, &[name, "is a folder"]);
    fs_err::remove_dir(bench.path().join("run").join(name)).unwrap();
    good(bench.path(), &resume);
}

#[test]
fn no_command_overwrites_an_event_file() {
    let event_file = format!("run/{}", event_files(&workshop().join("run"))[0].0);
    let predict = ["predict", "run", "--data", "data/my_emotion_test.csv", "--out", &event_file];
    bad(workshop(), &predict, 2, &["belongs to the run"]);
}
