//! `grimace export`, looked at from Python without this repository.

use std::path::Path;
use std::process::Command;

use crate::common::{Done, bad, good, json, python, workshop};

#[test]
fn the_exported_file_stands_on_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.pt");
    let done = good(workshop(), &["export", "run", "--out", model.to_str().unwrap()]);
    assert!(done.stdout.contains("compared on 256 faces"), "{}", done.all());
    let beside = json(folder.path().join("model.json"));
    assert_eq!(beside["labels"][3], "happy");

    let predicted = folder.path().join("predicted.csv");
    let test = "data/my_emotion_test.csv";
    good(workshop(), &["predict", "run", "--data", test, "--out", predicted.to_str().unwrap(), "--probabilities"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/check_export.py");
    let output = Command::new(python())
        .arg(script)
        .arg(&model)
        .arg(workshop().join("run/best.safetensors"))
        .arg(workshop().join(test))
        .arg(&predicted)
        .output()
        .unwrap();
    let done: Done = output.into();
    assert_eq!(done.code, 0, "{}", done.all());
    assert!(done.stdout.contains("10 checks passed"), "{}", done.all());
}

#[test]
fn export_refuses_what_it_cannot_write() {
    bad(workshop(), &["export", "run", "--out", "nowhere/model.pt"], 1, &["nowhere: no such folder"]);
    bad(workshop(), &["export", "run", "--out", "run/summary.pt"], 2, &["run/summary.json: would be replaced"]);
    bad(workshop(), &["export", "run", "--out", "data"], 1, &["data: is a folder"]);
    bad(workshop(), &["export", "data", "--out", "model.pt"], 2, &["data: is not a run directory"]);
}
