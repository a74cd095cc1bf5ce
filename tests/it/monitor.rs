//! `grimace monitor`: drift of images and predictions, and the accuracy without labels.

use std::path::Path;

use serde_json::Value;

use crate::common::{bad, bench, good, grimace, text, workshop};

const TEST: &str = "data/my_emotion_test.csv";
const LABELS: &str = "data/my_emotion_test_labels.csv";

/// Writes the test images with their pixels changed, to `out`.
fn changed(out: &Path, change: impl Fn(&[u8]) -> Vec<u8>) {
    let source = text(workshop().join(TEST));
    let mut lines = source.lines();
    let header = lines.next().unwrap();
    let column = header.split(',').position(|name| name == "pixels").unwrap();
    let mut csv = header.to_owned() + "\n";
    for line in lines {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        let pixels: Vec<u8> = cells[column].split(' ').map(|pixel| pixel.parse().unwrap()).collect();
        cells[column] = change(&pixels).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        csv += &(cells.join(",") + "\n");
    }
    fs_err::write(out, csv).unwrap();
}

/// The report of `--json`, and the exit code.
fn monitor(data: &str, more: &[&str]) -> (i32, Value) {
    let done = grimace(workshop(), &[&["monitor", "run", "--data", data, "--json"], more].concat());
    assert!([0, 3].contains(&done.code), "{}", done.all());
    (done.code, done.json())
}

fn drifting(report: &Value) -> Vec<&str> {
    let signals = report["signals"].as_array().unwrap().iter();
    signals.filter(|signal| signal["is_drift"] == true).map(|signal| signal["signal"].as_str().unwrap()).collect()
}

#[test]
fn images_like_those_of_the_validation_are_no_drift() {
    let (code, report) = monitor(TEST, &["--labels", LABELS]);
    assert_eq!((code, &report["drift"]), (0, &Value::Bool(false)), "{report}");
    assert_eq!((&report["reference_images"], &report["new_images"]), (&120.into(), &150.into()));
    assert_eq!(report["signals"].as_array().unwrap().len(), 5);
    // The accuracy is that of evaluate, and the estimate has it in its interval.
    let evaluated = good(workshop(), &["evaluate", "run", "--data", TEST, "--labels", LABELS, "--json"]).json();
    let number = |value: &Value| value.as_f64().unwrap();
    let (accuracy, estimate) = (number(&report["accuracy"]["accuracy"]), &report["estimated_accuracy"]);
    assert_eq!(accuracy, number(&evaluated["accuracy"]));
    assert!((number(&estimate["low"])..=number(&estimate["high"])).contains(&accuracy), "{report}");
    let unlabeled = monitor(TEST, &[]).1;
    assert_eq!(unlabeled["accuracy"], Value::Null);
    assert_eq!(unlabeled["estimated_accuracy"], *estimate);
}

#[test]
fn darker_and_blurred_images_are_drift() {
    let folder = tempfile::tempdir().unwrap();
    let (dark, blurred) = (folder.path().join("dark.csv"), folder.path().join("blurred.csv"));
    changed(&dark, |pixels| pixels.iter().map(|pixel| (f64::from(*pixel) * 0.8) as u8).collect());
    changed(&blurred, |pixels| {
        let mean = |at: usize| {
            let around = [at.saturating_sub(48), at.saturating_sub(1), at, at + 1, at + 48];
            let values: Vec<u32> = around.iter().filter_map(|at| pixels.get(*at)).map(|p| u32::from(*p)).collect();
            (values.iter().sum::<u32>() / values.len() as u32) as u8
        };
        (0..pixels.len()).map(mean).collect()
    });
    let (code, report) = monitor(dark.to_str().unwrap(), &[]);
    assert!(code == 3 && drifting(&report).contains(&"brightness"), "{report}");
    let (code, report) = monitor(blurred.to_str().unwrap(), &[]);
    assert!(code == 3 && drifting(&report).contains(&"sharpness"), "{report}");
    assert!(!drifting(&report).contains(&"brightness"), "{report}");
    let warnings = report["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning.as_str().unwrap().contains("may be wrong by more than")), "{report}");
    // Another reference, and limits that let it pass.
    let reference = ["--reference", "data/my_emotion_train.csv"];
    let seen = monitor(dark.to_str().unwrap(), &reference).1;
    assert_eq!(seen["reference_images"], 600);
    assert!(
        seen["warnings"][0].as_str().unwrap().starts_with("run was trained on 480 of the 600 reference images"),
        "{seen}"
    );
    let args = ["monitor", "run", "--data", blurred.to_str().unwrap(), "--min-distance", "0.99"];
    let done = good(workshop(), &args);
    // Not for want of images.
    assert!(done.stdout.starts_with("No drift: "), "{}", done.all());
}

#[test]
fn few_images_are_too_few_to_tell() {
    let folder = bench();
    let few: String = text(folder.path().join(TEST)).lines().take(6).map(|line| format!("{line}\n")).collect();
    fs_err::write(folder.path().join("few.csv"), few).unwrap();
    let run = workshop().join("run");
    let done = good(folder.path(), &["monitor", run.to_str().unwrap(), "--data", "few.csv", "--alpha", "1e-3"]);
    assert!(
        done.stdout.starts_with("Too few images to tell: 5 new images beside 120 reference images"),
        "{}",
        done.all()
    );
    assert!(
        done.stderr
            .contains("with 5 new and 120 reference images, a single signal that differs is significant from 0."),
        "{}",
        done.all()
    );
}

#[test]
fn initial_weights_that_have_seen_the_reference_are_reported() {
    let folder = bench();
    let run = workshop().join("run");
    let init = format!("train.init={}", run.display());
    // Another split: most of its validation images are training images of the first run.
    let sets = ["--set", "train.epochs=1", "--set", "data.split_seed=9", "--set", &init];
    good(folder.path(), &[&["train", "tiny.toml", "--out", "next"], &sets[..]].concat());
    let done = grimace(folder.path(), &["monitor", "next", "--data", TEST]);
    let warning = "warning: the initial weights of next (";
    assert!(done.stderr.contains(warning) && done.stderr.contains("of its 120 validation images"), "{}", done.all());
}

#[test]
fn the_page_shows_every_signal() {
    let folder = bench();
    let dark = folder.path().join("dark.csv");
    changed(&dark, |pixels| pixels.iter().map(|pixel| pixel / 2).collect());
    let run = workshop().join("run");
    let args = ["monitor", run.to_str().unwrap(), "--data", "dark.csv", "--out", "drift.html"];
    let done = grimace(folder.path(), &args);
    assert_eq!(done.code, 3, "{}", done.all());
    assert!(done.stdout.starts_with("Drift in brightness"), "{}", done.stdout);
    assert!(done.stdout.contains("estimated accuracy on the new images: "), "{}", done.stdout);
    let page = text(folder.path().join("drift.html"));
    for part in ["Drift in brightness", "<svg", "predicted class", "sharpness", "accuracy on the reference images"] {
        assert!(page.contains(part), "{part}");
    }
    bad(folder.path(), &args, 2, &["drift.html: exists", "--force"]);
    let to_stdout = grimace(folder.path(), &[&args[..5], &["-"]].concat());
    assert!(to_stdout.code == 3 && to_stdout.stdout.starts_with("<!DOCTYPE html>"), "{}", to_stdout.all());
}

#[test]
fn missing_or_changed_references_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let data = folder.path().join("train.csv");
    fs_err::copy(workshop().join("data/my_emotion_train.csv"), &data).unwrap();
    let train = ["train", "tiny.toml", "--set", "train.epochs=1", "--out", run.to_str().unwrap()];
    let set = format!("data.train={}", data.display());
    good(workshop(), &[&train[..], &["--set", &set]].concat());
    let args = ["monitor", run.to_str().unwrap(), "--data", TEST];
    let source = text(&data);
    let (last, _) = source.trim_end().rsplit_once('\n').unwrap();
    fs_err::write(&data, last).unwrap();
    bad(workshop(), &args, 2, &["has changed since", "--reference"]);
    fs_err::remove_file(&data).unwrap();
    bad(workshop(), &args, 2, &["train.csv: no such file", "--reference"]);
    bad(
        workshop(),
        &[&args[..], &["--reference", TEST]].concat(),
        2,
        &["--reference", "has no labels", "--labels is for"],
    );
    bad(workshop(), &[&args[..], &["--alpha", "1"]].concat(), 2, &["above 0 and below 1"]);
}
