//! Test-time augmentation: `predict.tta` and `--tta`.

use std::path::Path;

use crate::common::{bad, bench, good, json, tensors, text, timeless_metrics, workshop};

const TEST: &str = "data/my_emotion_test.csv";
const LABELS: &str = "data/my_emotion_test_labels.csv";

/// The rows that `predict --probabilities` writes for the images of `data`, before calibration, whose
/// temperature differs between TTAs.
fn probabilities(run: &str, data: &str, tta: &str) -> Vec<Vec<f64>> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.csv");
    let out = out.to_str().unwrap();
    let args = ["predict", run, "--data", data, "--out", out, "--probabilities", "--tta", tta, "--no-calibration"];
    good(workshop(), &args);
    text(out).lines().skip(1).map(|line| line.split(',').skip(2).map(|v| v.parse().unwrap()).collect()).collect()
}

/// Writes the test images, flipped horizontally.
fn write_flipped_images(path: &Path) {
    let flipped = |line: &str| {
        let (id, pixels) = line.split_once(',').unwrap();
        let pixels: Vec<&str> = pixels.split(' ').collect();
        let rows: Vec<&str> = pixels.chunks(48).flat_map(|row| row.iter().rev().copied()).collect();
        format!("{id},{}\n", rows.join(" "))
    };
    let test = text(workshop().join(TEST));
    let lines: String = test.lines().skip(1).map(flipped).collect();
    fs_err::write(path, format!("id,pixels\n{lines}")).unwrap();
}

fn max_difference(one: &[Vec<f64>], other: &[Vec<f64>]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter().flatten().zip(other.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn flip_averages_an_image_and_its_horizontal_flip() {
    let folder = tempfile::tempdir().unwrap();
    let flipped = folder.path().join("flipped.csv");
    write_flipped_images(&flipped);
    let flipped = flipped.to_str().unwrap();
    let (one, other) = (probabilities("run", TEST, "none"), probabilities("run", flipped, "none"));
    assert!(max_difference(&one, &other) > 1e-3, "the network is not symmetric");
    let mean: Vec<Vec<f64>> = one
        .iter()
        .zip(&other)
        .map(|(one, other)| one.iter().zip(other).map(|(a, b)| (a + b) / 2.0).collect())
        .collect();
    let flip = probabilities("run", TEST, "flip");
    assert!(max_difference(&flip, &mean) < 1e-6);
    assert!(max_difference(&flip, &probabilities("run", flipped, "flip")) < 1e-6);
    let crops = probabilities("run", TEST, "ten_crop");
    assert!(max_difference(&crops, &probabilities("run", flipped, "ten_crop")) < 1e-6);
    assert!(max_difference(&crops, &flip) > 1e-3, "ten_crop differs from flip");
}

#[test]
fn evaluate_reports_metrics_of_averaged_probabilities() {
    let labels: Vec<usize> = text(workshop().join(LABELS))
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(1).unwrap().parse().unwrap())
        .collect();
    for tta in ["none", "flip", "ten_crop"] {
        let args = ["evaluate", "run", "--data", TEST, "--labels", LABELS, "--tta", tta, "--no-calibration"];
        let found = good(workshop(), &[&args[..], &["--json"]].concat()).json();
        let rows = probabilities("run", TEST, tta);
        let loss = rows.iter().zip(&labels).map(|(row, label)| -row[*label].ln()).sum::<f64>() / 150.0;
        let correct = rows.iter().zip(&labels).filter(|(row, label)| row.iter().all(|v| *v <= row[**label])).count();
        assert_eq!(found["tta"], tta);
        assert!((found["loss"].as_f64().unwrap() - loss).abs() < 1e-5, "{tta}: {loss}, {found}");
        assert_eq!(found["accuracy"].as_f64(), Some(correct as f64 / 150.0), "{tta}");
        let stdout = good(workshop(), &args).stdout;
        assert!(stdout.contains(&format!("TTA: {tta}")), "{stdout}");
    }
}

#[test]
fn predict_tta_is_the_default_and_training_ignores_it() {
    let bench = bench();
    let here = bench.path();
    good(here, &["train", "tiny.toml", "--set", "predict.tta=flip", "--out", "run"]);
    // Bit-identical metrics to the workshop's run, which has no [predict].
    assert_eq!(timeless_metrics(&here.join("run")), timeless_metrics(&workshop().join("run")));
    let train = "data/my_emotion_train.csv";
    let evaluate = |more: &[&str]| good(here, &[&["evaluate", "run", "--data", train, "--json"], more].concat()).json();
    assert_eq!(evaluate(&[])["tta"], "flip");
    let none = evaluate(&["--tta", "none"]);
    assert_eq!(none["accuracy_dedup"], json(here.join("run/summary.json"))["best_val_accuracy"]);
    assert_ne!(none["loss"], evaluate(&[])["loss"]);
    good(here, &["predict", "run", "--data", TEST, "--out", "config.csv", "--probabilities"]);
    good(here, &["predict", "run", "--data", TEST, "--out", "flag.csv", "--probabilities", "--tta", "flip"]);
    assert_eq!(text(here.join("config.csv")), text(here.join("flag.csv")));
    let done = good(here, &["export", "run", "--out", "model.pt", "--json"]).json();
    assert_eq!((&done["tta"], &json(here.join("model.json"))["tta"]), (&"flip".into(), &"flip".into()));
    // It may change when a run is resumed, even a finished one.
    let weights = tensors(&here.join("run/best.safetensors"));
    let more = ["--set", "predict.tta=ten_crop"];
    let done = good(here, &[&["train", "tiny.toml", "--out", "run", "--resume"], &more[..]].concat());
    assert!(done.stderr.contains("predict.tta changed from \"flip\" to \"ten_crop\""), "{}", done.stderr);
    assert_eq!(evaluate(&[])["tta"], "ten_crop");
    assert!(tensors(&here.join("run/best.safetensors")) == weights);
}

#[test]
fn sweep_artifacts_use_predict_tta() {
    let bench = bench();
    let here = bench.path();
    let sets = ["--set", "predict.tta=flip", "--set", "train.epochs=1", "--set", "data.test=data/my_emotion_test.csv"];
    good(here, &[&["sweep", "tiny.toml", "--out", "s"], &sets[..]].concat());
    assert_eq!(json(here.join("s/model.json"))["tta"], "flip");
    let predict = |tta: &str| {
        good(here, &["predict", "s/tiny-seed42", "--data", TEST, "--out", "x.csv", "--tta", tta]);
        text(here.join("x.csv"))
    };
    assert_eq!(text(here.join("s/submission.csv")), predict("flip"));
}

#[test]
fn unknown_or_unsupported_tta_is_rejected() {
    let unknown: &[&str] = &["invalid value 'both' for '--tta", "[possible values: none, flip, ten_crop]"];
    bad(workshop(), &["evaluate", "run", "--data", TEST, "--tta", "both"], 2, unknown);
    bad(workshop(), &["export", "run", "--out", "x.pt", "--tta", "both"], 2, unknown);
    let bench = bench();
    let forest = "name = \"woods\"\n[data]\ntrain = \"data/my_emotion_train.csv\"\n[forest]\ntrees = 3\nfolds = 0\n";
    fs_err::write(bench.path().join("forest.toml"), forest).unwrap();
    good(bench.path(), &["forest", "forest.toml", "--out", "wood"]);
    let evaluate = ["evaluate", "wood", "--data", TEST, "--labels", LABELS, "--tta"];
    bad(bench.path(), &[&evaluate[..], &["flip"]].concat(), 2, &["--tta flip: wood is a forest run"]);
    let predict = ["predict", "wood", "--data", TEST, "--out", "x.csv", "--tta", "ten_crop"];
    bad(bench.path(), &predict, 2, &["--tta ten_crop: wood is a forest run", "omit --tta"]);
    assert_eq!(good(bench.path(), &[&evaluate[..], &["none", "--json"]].concat()).json()["tta"], "none");
}
