//! Test-time augmentation: `predict.tta` and `--tta`.

use std::path::Path;

use crate::common::{bad, bench, good, json, tensors, text, timeless_metrics, workshop};

const TEST: &str = "data/my_emotion_test.csv";
const LABELS: &str = "data/my_emotion_test_labels.csv";

/// What `predict --probabilities` gives for the images of `data`, row by row.
fn probabilities(run: &str, data: &str, views: &str) -> Vec<Vec<f64>> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.csv");
    let out = out.to_str().unwrap();
    good(workshop(), &["predict", run, "--data", data, "--out", out, "--probabilities", "--tta", views]);
    text(out).lines().skip(1).map(|line| line.split(',').skip(2).map(|v| v.parse().unwrap()).collect()).collect()
}

/// Writes the test images with every row of pixels from right to left.
fn mirrored_images(path: &Path) {
    let mirrored = |line: &str| {
        let (id, pixels) = line.split_once(',').unwrap();
        let pixels: Vec<&str> = pixels.split(' ').collect();
        let rows: Vec<&str> = pixels.chunks(48).flat_map(|row| row.iter().rev().copied()).collect();
        format!("{id},{}\n", rows.join(" "))
    };
    let test = text(workshop().join(TEST));
    let lines: String = test.lines().skip(1).map(mirrored).collect();
    fs_err::write(path, format!("id,pixels\n{lines}")).unwrap();
}

fn greatest_difference(one: &[Vec<f64>], other: &[Vec<f64>]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter().flatten().zip(other.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn flip_averages_a_image_and_its_mirror_image() {
    let folder = tempfile::tempdir().unwrap();
    let mirrored = folder.path().join("mirrored.csv");
    mirrored_images(&mirrored);
    let mirrored = mirrored.to_str().unwrap();
    let (own, other) = (probabilities("run", TEST, "one"), probabilities("run", mirrored, "one"));
    assert!(greatest_difference(&own, &other) > 1e-3, "the network tells an image from its mirror image");
    let mean: Vec<Vec<f64>> = own
        .iter()
        .zip(&other)
        .map(|(own, other)| own.iter().zip(other).map(|(a, b)| (a + b) / 2.0).collect())
        .collect();
    let flip = probabilities("run", TEST, "flip");
    assert!(greatest_difference(&flip, &mean) < 1e-6);
    assert!(greatest_difference(&flip, &probabilities("run", mirrored, "flip")) < 1e-6);
    let crops = probabilities("run", TEST, "ten_crop");
    assert!(greatest_difference(&crops, &probabilities("run", mirrored, "ten_crop")) < 1e-6);
    assert!(greatest_difference(&crops, &flip) > 1e-3, "crops show something else than the whole image");
}

#[test]
fn evaluate_scores_the_averaged_probabilities_and_says_so() {
    let truth: Vec<usize> = text(workshop().join(LABELS))
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(1).unwrap().parse().unwrap())
        .collect();
    for views in ["one", "flip", "ten_crop"] {
        let args = ["evaluate", "run", "--data", TEST, "--labels", LABELS, "--tta", views];
        let found = good(workshop(), &[&args[..], &["--json"]].concat()).json();
        let given = probabilities("run", TEST, views);
        let loss = given.iter().zip(&truth).map(|(row, label)| -row[*label].ln()).sum::<f64>() / 150.0;
        let correct = given.iter().zip(&truth).filter(|(row, label)| row.iter().all(|v| *v <= row[**label])).count();
        assert_eq!(found["views"], views);
        assert!((found["loss"].as_f64().unwrap() - loss).abs() < 1e-5, "{views}: {loss}, {found}");
        assert_eq!(found["accuracy"].as_f64(), Some(correct as f64 / 150.0), "{views}");
        let shown = good(workshop(), &args).stdout;
        assert!(shown.contains(&format!("views {views}: ")), "{shown}");
    }
}

#[test]
fn a_config_chooses_the_views_and_training_looks_at_whole_images_all_the_same() {
    let bench = bench();
    let here = bench.path();
    good(here, &["train", "tiny.toml", "--set", "predict.tta=flip", "--out", "run"]);
    // The same epochs, to the last digit, as the workshop's run, which has no [predict].
    assert_eq!(timeless_metrics(&here.join("run")), timeless_metrics(&workshop().join("run")));
    let train = "data/my_emotion_train.csv";
    let evaluate = |more: &[&str]| good(here, &[&["evaluate", "run", "--data", train, "--json"], more].concat()).json();
    assert_eq!(evaluate(&[])["views"], "flip");
    let one = evaluate(&["--tta", "one"]);
    assert_eq!(one["accuracy_dedup"], json(here.join("run/summary.json"))["best_val_accuracy"]);
    assert_ne!(one["loss"], evaluate(&[])["loss"]);
    good(here, &["predict", "run", "--data", TEST, "--out", "config.csv", "--probabilities"]);
    good(here, &["predict", "run", "--data", TEST, "--out", "flag.csv", "--probabilities", "--tta", "flip"]);
    assert_eq!(text(here.join("config.csv")), text(here.join("flag.csv")));
    let done = good(here, &["export", "run", "--out", "model.pt", "--json"]).json();
    assert_eq!((&done["views"], &json(here.join("model.json"))["views"]), (&"flip".into(), &"flip".into()));
    // Free to change when a run goes on.
    let weights = tensors(&here.join("run/best.safetensors"));
    let more = ["--set", "predict.tta=ten_crop"];
    let done = good(here, &[&["train", "tiny.toml", "--out", "run", "--resume"], &more[..]].concat());
    assert!(done.stderr.contains("predict.tta changed from \"flip\" to \"ten_crop\""), "{}", done.stderr);
    assert_eq!(evaluate(&[])["views"], "ten_crop", "of a finished run, too");
    assert!(tensors(&here.join("run/best.safetensors")) == weights);
}

#[test]
fn a_sweep_hands_over_what_the_config_says() {
    let bench = bench();
    let here = bench.path();
    let sets = ["--set", "predict.tta=flip", "--set", "train.epochs=1", "--set", "data.test=data/my_emotion_test.csv"];
    good(here, &[&["sweep", "tiny.toml", "--out", "s"], &sets[..]].concat());
    assert_eq!(json(here.join("s/model.json"))["views"], "flip");
    let predict = |views: &str| {
        good(here, &["predict", "s/tiny-seed42", "--data", TEST, "--out", "x.csv", "--tta", views]);
        text(here.join("x.csv"))
    };
    assert_eq!(text(here.join("s/submission.csv")), predict("flip"));
}

#[test]
fn views_that_cannot_be_had_are_named() {
    let unknown: &[&str] = &["unknown views \"both\": expected one, flip or ten_crop"];
    bad(workshop(), &["evaluate", "run", "--data", TEST, "--tta", "both"], 2, unknown);
    bad(workshop(), &["export", "run", "--out", "x.pt", "--tta", "both"], 2, unknown);
    let bench = bench();
    let forest = "name = \"woods\"\n[data]\ntrain = \"data/my_emotion_train.csv\"\n[forest]\ntrees = 3\nfolds = 0\n";
    fs_err::write(bench.path().join("forest.toml"), forest).unwrap();
    good(bench.path(), &["forest", "forest.toml", "--out", "wood"]);
    let evaluate = ["evaluate", "wood", "--data", TEST, "--labels", LABELS, "--tta"];
    bad(bench.path(), &[&evaluate[..], &["flip"]].concat(), 2, &["--tta flip: wood is a forest's run"]);
    let predict = ["predict", "wood", "--data", TEST, "--out", "x.csv", "--tta", "ten_crop"];
    bad(bench.path(), &predict, 2, &["--tta ten_crop: wood is a forest's run", "leave --tta out"]);
    assert_eq!(good(bench.path(), &[&evaluate[..], &["one", "--json"]].concat()).json()["views"], "one");
}
