//! Imbalanced classes (`train.sampling`, `train.class_weights`) and
//! `train.schedule = { kind = "plateau" }`.

use std::path::Path;

use crate::common::{bad, bench, good, json, shown_warnings, tensors, text, timeless_metrics, workshop};

fn train(folder: &Path, out: &str, sets: &[&str], more: &[&str]) {
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    good(folder, &[&["train", "tiny.toml", "--out", out], &sets[..], more].concat());
}

/// The predicted classes of the validation images.
fn predicted(run: &Path) -> Vec<String> {
    text(run.join("validation.csv")).lines().skip(1).map(|line| line.split(',').nth(3).unwrap().to_owned()).collect()
}

#[test]
fn learning_rate_is_reduced_on_plateau() {
    let bench = bench();
    // At so small a learning rate the accuracy hardly changes.
    let sets = [
        "train.optimizer.lr=1e-6",
        "model.normalization=false",
        "train.epochs=6",
        "train.early_stop.patience=0",
        "train.schedule={kind=\"plateau\",factor=0.25,patience=1,min_lr=1e-7}",
    ];
    train(bench.path(), "run", &sets, &[]);
    let records = timeless_metrics(&bench.path().join("run"));
    let metric = |key: &str| records.iter().map(|record| record[key].as_f64().unwrap()).collect::<Vec<_>>();
    let (mut lr, mut best, mut bad_epochs) = (1e-6f64, f64::NEG_INFINITY, 0);
    for (found, accuracy) in metric("lr").into_iter().zip(metric("val_accuracy")) {
        assert!((found / lr - 1.0).abs() < 1e-9, "{found}, expected {lr}, in {records:?}");
        if accuracy > best * 1.0001 {
            (best, bad_epochs) = (accuracy, 0);
        } else {
            bad_epochs += 1;
        }
        if bad_epochs > 1 {
            (lr, bad_epochs) = ((lr * 0.25).max(1e-7), 0);
        }
    }
    assert!(metric("lr")[5] < 1e-6, "not reduced: {records:?}");
}

#[test]
fn only_classes_with_weight_are_learned() {
    let bench = bench();
    // Some batches of 8 have no image of class 3 and must not divide by zero.
    let sets = ["train.class_weights=[0,0,0,1,0,0,0]", "train.batch=8", "train.epochs=2"];
    train(bench.path(), "one", &sets, &[]);
    let all = predicted(&bench.path().join("one"));
    assert!(all.len() == 120 && all.iter().all(|class| class == "3"), "{all:?}");
    assert!(text(bench.path().join("one/config.toml")).contains("class_weights = [0.0, 0.0, 0.0, 1.0"));
}

#[test]
fn resumed_balanced_run_equals_an_uninterrupted_run() {
    let bench = bench();
    let sets = [
        "train.sampling=balanced",
        "train.class_weights=balanced",
        "train.label_smoothing=0.1",
        "train.schedule={kind=\"plateau\",patience=0,warmup=0.5,monitor=\"val_loss\"}",
    ];
    train(bench.path(), "uninterrupted", &sets, &["--set", "train.epochs=3"]);
    for (epochs, more) in [("1", &[][..]), ("2", &["--resume"]), ("3", &["--resume"])] {
        train(bench.path(), "resumed", &sets, &[&["--set", &format!("train.epochs={epochs}")], more].concat());
    }
    let result = |out: &str| {
        (timeless_metrics(&bench.path().join(out)), tensors(&bench.path().join(out).join("last.safetensors")))
    };
    assert_eq!(result("uninterrupted"), result("resumed"));

    let plain = timeless_metrics(&workshop().join("run"));
    for set in ["train.sampling=balanced", "train.class_weights=balanced"] {
        train(bench.path(), set, &[set], &["--set", "train.epochs=1"]);
        assert_ne!(timeless_metrics(&bench.path().join(set))[0]["loss"], plain[0]["loss"], "{set}");
    }
    let refuse = |set: &str, parts: &[&str]| {
        let sets = sets.iter().chain([&set]).flat_map(|set| ["--set", set]).collect::<Vec<_>>();
        bad(
            bench.path(),
            &[&["train", "tiny.toml", "--out", "uninterrupted", "--resume"], &sets[..]].concat(),
            2,
            parts,
        );
    };
    refuse("train.sampling=shuffle", &["cannot resume: train.sampling was \"balanced\", now it is \"shuffle\""]);
    refuse("train.class_weights=none", &["cannot resume: train.class_weights was \"balanced\", now it is \"none\""]);
    refuse("train.schedule.factor=0.1", &["cannot resume: train.schedule.factor was 0.5, now it is 0.1"]);
}

#[test]
fn validation_without_a_class_is_a_warning() {
    let bench = bench();
    let folder = bench.path();
    let rows = text(folder.join("data/my_emotion_train.csv"));
    let rows: String =
        rows.lines().filter(|line| !line.starts_with("1,")).take(300).map(|line| format!("{line}\n")).collect();
    fs_err::write(folder.join("valid.csv"), rows).unwrap();
    // The tests limit the program to one core.
    let sets = ["--set", "data.validation=valid.csv", "--set", "train.epochs=1", "--set", "threads=2"];
    let args = [&["train", "tiny.toml", "--out", "run"], &sets[..]].concat();
    let done = good(folder, &args);
    let run = folder.join("run");
    let warnings = shown_warnings(&run, &done);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("no validation row is of class disgust:"), "{warnings:?}");
    assert!(warnings[1].starts_with("threads = 2 is more than the 1 core "), "{warnings:?}");
    assert_eq!(json(workshop().join("run/summary.json"))["warnings"], serde_json::json!([]));

    let stderr = good(folder, &[&args[..], &["--resume"]].concat()).stderr;
    let advice = "to train longer, raise train.epochs (such as --set train.epochs=2)\n";
    assert!(stderr.contains("nothing is left to train: ") && stderr.contains(advice), "{stderr}");
}

#[test]
fn invalid_values_name_the_key() {
    let bench = bench();
    for (set, parts) in [
        ("train.class_weights=[1,2]", ["train.class_weights = [1.0, 2.0]", "7 numbers, one for each class: 0 to 1e6"]),
        ("train.class_weights=equal", ["train.class_weights = \"equal\" is not allowed", "\"balanced\" or a list"]),
        ("train.sampling=weighted", ["train.sampling = \"weighted\" is not allowed", "\"balanced\""]),
        ("train.schedule={kind=\"plateau\",factor=1.5}", ["train.schedule.factor = 1.5", "above 0, below 1"]),
        ("train.schedule={kind=\"plateau\",factor=0}", ["train.schedule.factor = 0 ", "above 0, below 1"]),
        ("train.schedule={kind=\"plateau\",min_lr=1}", ["train.schedule.min_lr = 1 ", "0 to train.optimizer.lr"]),
        ("train.schedule={kind=\"plateau\",patience=-1}", ["train.schedule.patience", "-1"]),
        ("train.schedule={kind=\"plateau\",monitor=\"loss\"}", ["train.schedule.monitor", "\"val_loss\""]),
        ("train.schedule={kind=\"plateau\",warmup=3}", ["train.schedule.warmup = 3", "below train.epochs"]),
    ] {
        bad(bench.path(), &["train", "tiny.toml", "--out", "none", "--set", set], 2, &parts);
    }
    assert!(!bench.path().join("none").exists());
}
