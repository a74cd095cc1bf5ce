//! `grimace compare` on two small runs.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::browser::chromium;
use crate::common::{bad, bench, good, json, text, workshop};

const TEST: &str = "data/my_emotion_test.csv";
const LABELS: &str = "data/my_emotion_test_labels.csv";

/// A folder with the workshop's run, one of another seed on the same split, one of another split, and
/// a forest.
fn runs() -> &'static Path {
    static RUNS: OnceLock<TempDir> = OnceLock::new();
    RUNS.get_or_init(|| {
        let folder = bench();
        let train = |out: &str, set: &str| {
            let seed = ["--set", "seed=2", "--set", set, "--set", "train.epochs=2"];
            good(folder.path(), &[&["train", "tiny.toml", "--out", out], &seed[..]].concat());
        };
        train("other", "data.split_seed=42");
        train("split", "data.split_seed=9");
        std::os::unix::fs::symlink(workshop().join("run"), folder.path().join("run")).unwrap();
        let forest =
            "name = \"wood\"\n[data]\ntrain = \"data/my_emotion_train.csv\"\n[forest]\ntrees = 10\nfolds = 0\n";
        fs_err::write(folder.path().join("forest.toml"), forest).unwrap();
        good(folder.path(), &["forest", "forest.toml", "--out", "wood"]);
        folder
    })
    .path()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn validation_images_are_compared_without_data() {
    let done = good(runs(), &["compare", "run", "other", "--json"]);
    let found = done.json();
    for (side, run) in [("first", "run"), ("second", "other")] {
        let summary = json(runs().join(run).join("summary.json"));
        let accuracy = &found[side]["evaluation"]["accuracy"];
        assert!((number(accuracy) - number(&summary["best_val_accuracy"])).abs() < 1e-12, "{side}");
        let interval = &found[side]["evaluation"]["accuracy_interval"];
        assert_eq!(interval, &summary["best_val_accuracy_interval"]);
        let (low, high) = (number(&interval[0]), number(&interval[1]));
        assert!(low < number(accuracy) && number(accuracy) < high, "{interval}");
        let warning = format!("warning: {run} was validated on 120 of these 120 images, which selected its epoch");
        assert!(done.stderr.contains(&warning), "{}", done.stderr);
    }
    let difference = &found["difference"];
    let [a, b] = ["first", "second"].map(|side| number(&found[side]["evaluation"]["accuracy"]));
    assert!((number(&difference["accuracy"]["difference"]) - (b - a)).abs() < 1e-12);
    let mcnemar = &difference["mcnemar"];
    let counts = ["both_correct", "only_first", "only_second", "both_wrong"].map(|key| mcnemar[key].as_u64().unwrap());
    assert_eq!(counts.iter().sum::<u64>(), 120);
    assert!(((counts[2] as f64 - counts[1] as f64) / 120.0 - (b - a)).abs() < 1e-12);
    assert_eq!(difference["per_class"].as_array().unwrap().len(), 7);
    assert_eq!((&difference["resamples"], &difference["seed"]), (&10_000.into(), &42.into()));
    assert_eq!(good(runs(), &["compare", "run", "other", "--json"]).json(), found, "the seed fixes the bootstrap");
    // The sweep's paired bootstrap is the same one.
    let back = good(runs(), &["compare", "other", "run", "--json"]).json();
    assert!((number(&back["difference"]["accuracy"]["difference"]) + (b - a)).abs() < 1e-12);
}

#[test]
fn metrics_are_those_of_evaluate() {
    let data = ["--data", TEST, "--labels", LABELS, "--json"];
    let found = good(runs(), &[&["compare", "run", "wood"], &data[..]].concat()).json();
    for (side, run) in [("first", "run"), ("second", "wood")] {
        let alone = good(runs(), &[&["evaluate", run], &data[..]].concat()).json();
        for key in
            ["accuracy", "accuracy_interval", "top2_accuracy", "macro_f1", "macro_auc", "ece", "loss", "confusion"]
        {
            assert_eq!(found[side]["evaluation"][key], alone[key], "{side} {key}");
            assert!(!alone[key].is_null(), "{key}");
        }
        let class = &alone["per_class"][3];
        for key in ["precision", "recall", "specificity", "f1", "auc"] {
            assert!((0.0..=1.0).contains(&number(&class[key])), "{key}: {class}");
        }
        assert!(number(&class["recall_interval"][0]) <= number(&class["recall"]));
        assert!(number(&alone["top2_accuracy"]) >= number(&alone["accuracy"]));
    }
    let flipped = good(runs(), &[&["compare", "run", "other", "--tta", "flip"], &data[..]].concat()).json();
    assert_eq!((&flipped["first"]["tta"], &flipped["second"]["tta"]), (&"flip".into(), &"flip".into()));
    bad(runs(), &[&["compare", "run", "wood", "--tta", "flip"], &data[..]].concat(), 2, &["wood is a forest run"]);
}

/// scikit-learn is not needed: its definitions in plain Python, on the probabilities of `predict`.
#[test]
fn areas_and_top_two_match_their_definition() {
    let here = runs();
    let out = here.join("areas.csv");
    good(here, &["predict", "run", "--data", TEST, "--probabilities", "--out", out.to_str().unwrap()]);
    let found = good(here, &["evaluate", "run", "--data", TEST, "--labels", LABELS, "--json"]).json();
    let labels = text(here.join(LABELS));
    let label_of = |id: &str| -> usize {
        let line = labels.lines().find(|line| line.split(',').next() == Some(id)).unwrap();
        line.split(',').nth(1).unwrap().parse().unwrap()
    };
    let predictions = text(&out);
    let rows: Vec<(usize, Vec<f64>)> = predictions
        .lines()
        .skip(1)
        .map(|line| {
            let mut fields = line.split(',');
            let label = label_of(fields.next().unwrap());
            (label, fields.skip(1).map(|value| value.parse().unwrap()).collect())
        })
        .collect();
    assert_eq!(rows.len(), 150);
    for class in 0..7 {
        // The fraction of pairs, one of the class and one of another, that are in order.
        let (mut wins, mut pairs) = (0.0, 0.0);
        for (_, own) in rows.iter().filter(|(label, _)| *label == class) {
            for (_, other) in rows.iter().filter(|(label, _)| *label != class) {
                pairs += 1.0;
                wins += if own[class] > other[class] {
                    1.0
                } else if own[class] == other[class] {
                    0.5
                } else {
                    0.0
                };
            }
        }
        let auc = number(&found["per_class"][class]["auc"]);
        assert!((auc - wins / pairs).abs() < 1e-3, "{class}: {auc}, expected {}", wins / pairs);
    }
    for (name, start) in [("roc.svg", &b"<svg"[..]), ("roc.png", b"\x89PNG")] {
        let plot = here.join(name);
        let args = ["evaluate", "run", "--data", TEST, "--labels", LABELS, "--roc", plot.to_str().unwrap()];
        good(here, &args);
        assert!(fs_err::read(&plot).unwrap().starts_with(start), "{name}");
        bad(here, &args, 2, &["exists", "--force"]);
    }
    bad(
        here,
        &["evaluate", "run", "--data", TEST, "--roc", "roc.pdf"],
        2,
        &["roc.pdf: expected a file name that ends in .svg or .png"],
    );
    bad(here, &["evaluate", "run", "--data", TEST, "--roc", "run/curves.svg", "--force"], 2, &["belongs to the run"]);
    let among = |(label, row): &&(usize, Vec<f64>)| row.iter().filter(|value| **value > row[*label]).count() < 2;
    let top2 = rows.iter().filter(among).count() as f64 / 150.0;
    assert!((number(&found["top2_accuracy"]) - top2).abs() < 0.01, "{top2}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let here = runs();
    bad(here, &["compare", "run", "run"], 2, &["run: is given twice"]);
    bad(here, &["compare", "run", "none"], 2, &["none: no such run directory"]);
    bad(here, &["compare", "run", "split"], 2, &["validated on different images", "--data"]);
    bad(here, &["compare", "run", "other", "--tta", "flip"], 2, &["--data"]);
    let folder = bench();
    let classes = r#"data.classes=["a","disgust","fear","happy","sad","surprise","neutral"]"#;
    good(folder.path(), &["train", "tiny.toml", "--set", classes, "--set", "train.epochs=1", "--out", "named"]);
    let named = folder.path().join("named");
    bad(here, &["compare", "run", named.to_str().unwrap()], 2, &["has the classes angry,", "in the same order"]);
    // Images that a run was trained on say nothing.
    let split = text(here.join("run/split.csv"));
    let train: Vec<usize> = split
        .lines()
        .filter(|line| line.contains(",train,"))
        .map(|line| line.split(',').next().unwrap().parse().unwrap())
        .collect();
    let all = text(here.join("data/my_emotion_train.csv"));
    let lines: Vec<&str> = all.lines().collect();
    let seen: Vec<&str> = std::iter::once(lines[0]).chain(train.iter().map(|row| lines[row + 1])).collect();
    fs_err::write(folder.path().join("seen.csv"), seen.join("\n")).unwrap();
    let seen = folder.path().join("seen.csv");
    bad(here, &["compare", "run", "other", "--data", seen.to_str().unwrap()], 2, &["trained on all of these images"]);
    // Some of them are a warning.
    let done = good(here, &["compare", "run", "split", "--data", "data/my_emotion_train.csv"]);
    assert!(
        done.stderr.contains("warning: run was trained on ") && done.stderr.contains("which favors it"),
        "{}",
        done.stderr
    );
    assert!(done.stdout.contains("deduplicated") || done.stderr.contains("each image is"), "{}", done.all());
}

#[test]
fn the_page_and_the_table_have_the_result() {
    let here = runs();
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("comparison.html");
    let args = ["compare", "run", "other", "--data", TEST, "--labels", LABELS, "--out", page.to_str().unwrap()];
    let done = good(here, &args);
    for part in ["A: run (network \"tiny\", seed 42", "B: other", "McNemar", "10,000 resamples, seed 42", "recall of A"]
    {
        assert!(done.stdout.contains(part), "{part} is not in {}", done.stdout);
    }
    assert!(done.stdout.lines().all(|line| line.chars().count() <= 130), "{}", done.stdout);
    let html = text(&page);
    for part in ["comparison of two runs", "recall of A", "surprise", "<svg", "B correct", "deduplicated"] {
        assert!(html.contains(part) || part == "deduplicated", "{part}");
    }
    assert!(!html.contains("<script") && !html.replace("http://www.w3.org/2000/svg", "").contains("http"));
    bad(here, &args, 2, &["comparison.html: exists", "--force"]);
    good(here, &[&args[..], &["--force"]].concat());
    bad(here, &["compare", "run", "other", "--out", "run/report.html", "--force"], 2, &["belongs to the run"]);
    bad(here, &["compare", "run", "other", "--out", "-", "--json"], 2, &["standard output"]);
    assert!(good(here, &["compare", "run", "other", "--out", "-"]).stdout.starts_with("<!DOCTYPE html>"));
    if let Some(browser) = chromium("the_page_and_the_table_have_the_result") {
        let shot = folder.path().join("shot.png");
        let mut command = Command::new("timeout");
        command.arg("120").arg(browser).args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
        ]);
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        command.arg(format!("--screenshot={}", shot.display())).arg(format!("file://{}", page.display()));
        let done = command.output().unwrap();
        let log = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && shot.exists() && !log.contains("CONSOLE"), "{log}");
    }
}

/// Every accuracy that a command prints has an interval.
#[test]
fn accuracies_have_intervals() {
    let here = runs();
    let run = ["--data", TEST, "--labels", LABELS];
    let evaluate = good(here, &[&["evaluate", "run"], &run[..]].concat()).stdout;
    let ensemble = good(here, &[&["ensemble", "run", "other"], &run[..]].concat()).stdout;
    let list = good(here, &["runs", "."]).stdout;
    let interval = |line: &str| line.contains(" to 0.") || line.contains(" to 1.");
    for line in evaluate.lines().filter(|line| line.contains("accuracy")) {
        assert!(interval(line), "{line}");
    }
    for (text, name) in [(&ensemble, "ensemble "), (&list, "other"), (&list, "wood")] {
        let line = text.lines().find(|line| line.contains(name)).unwrap();
        assert!(interval(line), "{line}");
    }
    let json = good(here, &["runs", ".", "--json"]).json();
    assert!(json.as_array().unwrap().iter().all(|run| run["best_interval"].is_array()), "{json}");
}
