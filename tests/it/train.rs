//! `grimace train`: run directory, reproducibility, interruption and resume, early stopping,
//! errors.

use std::path::Path;
use std::time::Duration;

use crate::common::{DIVERGING, Done, bad, bench, command, good, json, tensors, text, timeless_metrics, workshop};

#[test]
fn a_run_directory_is_complete() {
    let run = workshop().join("run");
    let summary = json(run.join("summary.json"));
    for key in [
        "name",
        "parameters",
        "device",
        "precision",
        "threads",
        "seed",
        "epochs",
        "best_epoch",
        "best_val_accuracy",
        "best_val_accuracy_dedup",
        "monitor",
        "best_monitor_value",
        "last_val_accuracy",
        "stopped",
        "seconds",
        "train_images_per_second",
    ] {
        assert!(!summary[key].is_null(), "summary.json has no {key}");
    }
    for key in ["version", "libtorch", "kernels", "command", "data_hash", "split_hash"] {
        assert!(summary["provenance"][key].as_str().is_some_and(|text| !text.is_empty()), "provenance has no {key}");
    }
    assert_eq!(summary["stopped"], "epochs");
    let lines: Vec<serde_json::Value> =
        text(run.join("metrics.jsonl")).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["epoch"], number as u64 + 1);
        for key in
            ["lr", "loss", "accuracy", "val_loss", "val_accuracy", "val_macro_f1", "seconds", "images_per_second"]
        {
            assert!(line[key].is_number(), "metrics.jsonl has no {key}");
        }
    }
    assert!(lines[2]["loss"].as_f64() < lines[0]["loss"].as_f64(), "the loss decreases");
    let split = text(run.join("split.csv"));
    assert!(split.starts_with("row,part,hash\n0,"));
    assert_eq!(split.lines().count(), 601);
    assert_eq!(split.lines().filter(|line| line.contains(",validation,")).count(), 120, "20% of each class, rounded");
    assert!(text(run.join("config.toml")).contains("beta2 = 0.999"), "config.toml has defaults filled in");
    assert!(text(run.join("log.txt")).contains("epoch   3/3"));
    let best: Vec<String> = tensors(&run.join("best.safetensors")).into_iter().map(|(name, _)| name).collect();
    assert!(best.contains(&"block1.conv.weight".to_owned()) && best.iter().all(|name| !name.starts_with("optimizer")));
    let last = tensors(&run.join("last.safetensors"));
    assert!(last.iter().any(|(name, _)| name == "optimizer.second_moment.block1.conv.weight"));
}

#[test]
fn profile_reports_phases_and_operators() {
    let bench = bench();
    let done = good(bench.path(), &["train", "tiny.toml", "--out", "profiled", "--set", "train.epochs=1", "--profile"]);
    for part in ["gather and augment", "backward", "validation", "aten::", "outside operators", "start to first step: "]
    {
        assert!(done.stderr.contains(part), "no {part:?} in {}", done.stderr);
    }
    assert!(text(bench.path().join("profiled/log.txt")).contains("profile of "), "the profile is also in the log");
    assert!(
        !good(bench.path(), &["train", "tiny.toml", "--out", "plain", "--set", "train.epochs=1"])
            .stderr
            .contains("aten::")
    );
}

/// With two threads, bf16, a last batch of one image, and a run resumed after its first epoch.
#[test]
fn a_resumed_run_is_identical_with_two_threads_and_bf16() {
    let bench = bench();
    let sets = ["threads=2", "precision=bf16", "train.batch=479", "train.epochs=2", "train.checkpoint_every={steps=1}"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let run = |out: &str, more: &[&str]| {
        good(bench.path(), &[&["train", "tiny.toml", "--out", out], &sets[..], more].concat())
    };
    run("uninterrupted", &[]);
    run("resumed", &["--set", "train.epochs=1"]);
    run("resumed", &["--resume"]);
    let result = |out: &str| {
        (timeless_metrics(&bench.path().join(out)), tensors(&bench.path().join(out).join("last.safetensors")))
    };
    assert_eq!(result("uninterrupted"), result("resumed"));
}

/// Compares a run with custom kernels to one with libtorch's operators: equal up to rounding.
#[test]
fn custom_kernels_match_libtorch() {
    let bench = bench();
    fn arguments(out: &str) -> [&str; 7] {
        ["train", "tiny.toml", "--out", out, "--set", "train.epochs=1", "--profile"]
    }
    let loss = |kernels: &str| {
        let done = command(bench.path(), &arguments(kernels)).env("GRIMACE_KERNELS", kernels).output().unwrap();
        let done = Done::from(done);
        assert_eq!(done.code, 0, "{}", done.all());
        assert_eq!(done.stderr.contains("grimace::conv_max_pool backward"), kernels != "none", "{}", done.all());
        assert_eq!(done.stderr.contains("grimace::norm_act backward"), kernels != "none", "{}", done.all());
        let line = text(bench.path().join(kernels).join("metrics.jsonl"));
        serde_json::from_str::<serde_json::Value>(line.lines().next().unwrap()).unwrap()["loss"].as_f64().unwrap()
    };
    let reference = loss("none");
    for kernels in ["auto", "avx2", "no-winograd"] {
        let loss = loss(kernels);
        assert!((loss - reference).abs() < 0.02, "{kernels}: {loss}, libtorch's operators {reference}");
    }
    let done: Done = command(bench.path(), &arguments("x")).env("GRIMACE_KERNELS", "sse").output().unwrap().into();
    assert!(done.code == 2 && done.stderr.contains("GRIMACE_KERNELS"), "{}", done.all());
}

#[test]
fn the_same_seed_gives_the_same_result() {
    let bench = bench();
    good(bench.path(), &["train", "tiny.toml", "--out", "same"]);
    good(bench.path(), &["train", "tiny.toml", "--out", "other", "--set", "seed=43"]);
    assert_eq!(timeless_metrics(&bench.path().join("same")), timeless_metrics(&workshop().join("run")));
    let best = |run: &Path| tensors(&run.join("best.safetensors"));
    assert_eq!(best(&bench.path().join("same")), best(&workshop().join("run")));
    assert_ne!(timeless_metrics(&bench.path().join("other")), timeless_metrics(&workshop().join("run")));
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let bench = bench();
    let out = bench.path().join("stopped");
    let long =
        ["train", "tiny.toml", "--out", "stopped", "--set", "train.epochs=40", "--set", "train.early_stop.patience=0"];
    let child = command(bench.path(), &long)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let finished_epochs =
        || if out.join("metrics.jsonl").exists() { text(out.join("metrics.jsonl")).lines().count() } else { 0 };
    while finished_epochs() < 2 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let signaled = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signaled.success());
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, 130, "{}", done.all());
    assert!(
        done.stderr.contains(concat!("resume with: ", env!("CARGO_BIN_EXE_grimace"), " train tiny.toml")),
        "{}",
        done.all()
    );
    assert_eq!(json(out.join("summary.json"))["stopped"], "interrupted");
    let before = text(out.join("metrics.jsonl"));
    let epochs = before.lines().count() + 2;

    let epochs = format!("train.epochs={epochs}");
    let changed = ["--set", &epochs, "--set", "train.early_stop.patience=0"];
    let done = good(bench.path(), &[&["train", "tiny.toml", "--out", "stopped", "--resume"], &changed[..]].concat());
    assert!(done.stderr.contains("resuming"), "{}", done.all());
    assert!(text(out.join("metrics.jsonl")).starts_with(&before), "lines of finished epochs stay byte for byte");
    good(bench.path(), &[&["train", "tiny.toml", "--out", "uninterrupted"], &changed[..]].concat());
    let uninterrupted = bench.path().join("uninterrupted");
    assert_eq!(timeless_metrics(&out), timeless_metrics(&uninterrupted));
    for name in ["best.safetensors", "last.safetensors"] {
        assert!(
            tensors(&out.join(name)) == tensors(&uninterrupted.join(name)),
            "{name} differs from that of an uninterrupted run"
        );
    }
}

#[test]
fn early_stopping_stops_patience_epochs_after_the_best() {
    let bench = bench();
    let sets = ["--set", "train.epochs=60", "--set", "train.early_stop.patience=2"];
    good(bench.path(), &[&["train", "tiny.toml", "--out", "early"], &sets[..]].concat());
    let summary = json(bench.path().join("early/summary.json"));
    assert_eq!(summary["stopped"], "early_stop");
    assert_eq!(summary["epochs"].as_u64().unwrap(), summary["best_epoch"].as_u64().unwrap() + 2);
}

/// Also without early stopping. Of equal epochs, the first is the best.
#[test]
fn the_best_weights_follow_the_monitored_metric() {
    let bench = bench();
    for (monitor, patience) in [("val_accuracy", 0), ("val_loss", 0), ("val_macro_f1", 0), ("val_macro_f1", 2)] {
        let out = format!("{monitor}{patience}");
        let monitored = format!("train.early_stop={{monitor=\"{monitor}\",patience={patience}}}");
        let sets =
            ["--set", "train.epochs=10", "--set", "train.optimizer={kind=\"adam\",lr=2e-2}", "--set", &monitored];
        let done = good(bench.path(), &[&["train", "tiny.toml", "--out", &out], &sets[..]].concat());
        let run = bench.path().join(&out);
        let epochs: Vec<serde_json::Value> =
            text(run.join("metrics.jsonl")).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let sign = if monitor == "val_loss" { -1.0 } else { 1.0 };
        let value = |epoch: &serde_json::Value| sign * epoch[monitor].as_f64().unwrap();
        let best = epochs.iter().rev().max_by(|a, b| value(a).total_cmp(&value(b))).unwrap();
        let summary = json(run.join("summary.json"));
        assert_eq!(summary["monitor"], monitor);
        assert_eq!(summary["best_epoch"], best["epoch"], "{monitor}");
        assert_eq!(summary["best_monitor_value"], best[monitor], "{monitor}");
        assert_eq!(summary["best_val_accuracy"], best["val_accuracy"], "{monitor}");
        assert_eq!(summary["best_val_accuracy_dedup"], best["val_accuracy_dedup"], "{monitor}");
        // The report's predictions are by the weights in best.safetensors.
        let predictions = text(run.join("report.html"));
        assert!(predictions.contains(&format!("{:.4}", best["val_accuracy"].as_f64().unwrap())), "{monitor}");
        let named = if monitor == "val_accuracy" { "  best".to_owned() } else { format!("  best {monitor}") };
        assert!(done.stderr.contains(&named), "{}", done.all());
        if monitor != "val_accuracy" {
            let listed = good(bench.path(), &["runs", &out]).stdout;
            assert!(listed.contains(&format!("by {monitor} ")), "{listed}");
        }
    }
}

#[test]
fn the_last_epoch_can_be_the_best() {
    let bench = bench();
    let refused = |key: &str, part: &str| {
        bad(bench.path(), &["train", "tiny.toml", "--out", "last", "--set", key], 2, &[part]);
    };
    refused("train.early_stop={monitor=\"last_epoch\"}", "train.early_stop.patience = 5");
    refused("train.schedule={kind=\"plateau\",monitor=\"last_epoch\"}", "train.schedule.monitor");

    for (epochs, more) in [("train.epochs=4", &[][..]), ("train.epochs=7", &["--resume"])] {
        let monitored = "train.early_stop={monitor=\"last_epoch\",patience=0}";
        let sets = ["--set", epochs, "--set", "train.optimizer={kind=\"adam\",lr=2e-2}", "--set", monitored];
        let done = good(bench.path(), &[&["train", "tiny.toml", "--out", "last"], &sets[..], more].concat());
        assert!(!done.stderr.contains("  best"), "{}", done.stderr);
        let run = bench.path().join("last");
        let metrics = text(run.join("metrics.jsonl"));
        let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
        let summary = json(run.join("summary.json"));
        assert_eq!((&summary["best_epoch"], &summary["monitor"]), (&last["epoch"], &"last_epoch".into()));
        assert_eq!(summary["best_val_accuracy"], last["val_accuracy"]);
        // The report's predictions are by the weights in best.safetensors.
        let report = text(run.join("report.html"));
        assert!(report.contains(&format!("{:.4}", last["val_accuracy"].as_f64().unwrap())));
        assert!(report.contains("These validation images did not select it.") && !report.contains("optimistic"));
        assert!(
            report.contains("epoch of the weights") && report.contains(", the last") && !report.contains("best epoch")
        );
    }
    let scored = good(bench.path(), &["evaluate", "last", "--data", "data/my_emotion_train.csv"]);
    let note = "which selected its temperature, so its calibration error is optimistic";
    assert!(scored.stderr.contains(note), "{}", scored.stderr);
    let watched = good(bench.path(), &["watch", "last"]).stdout;
    assert!(watched.contains("kept     val_acc 0.") && watched.contains("in epoch 7, the last"), "{watched}");
    let listed = good(bench.path(), &["runs", "last"]).stdout;
    assert!(listed.contains("last epoch 0."), "{listed}");
}

/// Resumed twice, so that the best epoch may be in any of three processes.
#[test]
fn a_resumed_run_has_the_same_best_epoch_by_the_monitored_metric() {
    let bench = bench();
    for monitor in ["val_loss", "val_macro_f1"] {
        let monitored = format!("train.early_stop={{monitor=\"{monitor}\",patience=0}}");
        let train = |out: &str, epochs: usize, more: &[&str]| {
            let epochs = format!("train.epochs={epochs}");
            let sets = ["--set", &epochs, "--set", "train.optimizer={kind=\"adam\",lr=2e-2}", "--set", &monitored];
            good(bench.path(), &[&["train", "tiny.toml", "--out", out], &sets[..], more].concat());
            bench.path().join(out)
        };
        let (whole, parts) = (format!("{monitor}-whole"), format!("{monitor}-parts"));
        let whole = train(&whole, 8, &[]);
        train(&parts, 2, &[]);
        train(&parts, 5, &["--resume"]);
        let resumed = train(&parts, 8, &["--resume"]);
        assert_eq!(timeless_metrics(&resumed), timeless_metrics(&whole), "{monitor}");
        let summary = |run: &Path, key: &str| json(run.join("summary.json"))[key].clone();
        for key in ["monitor", "best_epoch", "best_monitor_value", "best_val_accuracy", "best_val_accuracy_dedup"] {
            assert_eq!(summary(&resumed, key), summary(&whole, key), "{monitor}: {key}");
        }
        let best = |run: &Path| tensors(&run.join("best.safetensors"));
        assert!(best(&resumed) == best(&whole), "{monitor}");
    }
}

#[test]
fn config_variants_train() {
    let bench = bench();
    let variants: [&[&str]; 7] = [
        &["precision=bf16"],
        &["train.optimizer={kind=\"muon\",lr=2e-3}", "model.dense=[32]", "train.layer_decay=0.9"],
        &["train.optimizer={kind=\"adamw\",weight_decay=0.05}", "train.schedule={kind=\"constant\"}"],
        &["train.optimizer={kind=\"sgd\",lr=0.05}", "train.early_stop.monitor=val_loss"],
        &["model.pooling=average", "model.convolutions=2", "model.padding=same", "model.activation=gelu"],
        &["augment.rotate=0", "augment.shift=0", "augment.zoom=0", "augment.flip=false", "model.dense=[]"],
        &["threads=2", "train.batch=1000", "train.checkpoint_every={steps=1}", "model.normalization=false"],
    ];
    for (number, variant) in variants.iter().enumerate() {
        let out = format!("variant{number}");
        let sets = variant.iter().flat_map(|set| ["--set", set]);
        let args: Vec<&str> =
            ["train", "tiny.toml", "--out", &out, "--set", "train.epochs=2"].into_iter().chain(sets).collect();
        good(bench.path(), &args);
        let summary = json(bench.path().join(&out).join("summary.json"));
        assert_eq!(summary["epochs"], 2, "{variant:?}");
        assert_eq!(summary["precision"], if number == 0 { "bf16" } else { "f32" });
        assert_eq!(summary["threads"], if number == 6 { 2 } else { 1 });
        let lines = text(bench.path().join(&out).join("metrics.jsonl"));
        assert!(!lines.contains("null"), "{variant:?}: {lines}");
    }
}

#[test]
fn validation_can_be_a_file_or_a_usage() {
    let bench = bench();
    let train = text(bench.path().join("data/my_emotion_train.csv"));
    let rows: Vec<&str> = train.lines().skip(1).collect();
    let part = |from: usize, to: usize| format!("emotion,pixels\n{}\n", rows[from..to].join("\n"));
    fs_err::write(bench.path().join("train.csv"), part(0, 450)).unwrap();
    fs_err::write(bench.path().join("validation.csv"), part(440, 600)).unwrap();
    let kaggle: Vec<String> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| format!("{row},{}", ["Training", "PublicTest"][usize::from(i >= 450)]))
        .collect();
    fs_err::write(bench.path().join("fer2013.csv"), format!("emotion,pixels,Usage\n{}\n", kaggle.join("\n"))).unwrap();
    let short = ["--set", "train.epochs=1"];
    let by_path = ["--set", "data.train=train.csv", "--set", "data.validation=validation.csv"];
    let done = good(bench.path(), &[&["train", "tiny.toml", "--out", "p"], &by_path[..], &short].concat());
    assert!(done.stderr.contains("450 training and 160 validation images"), "{}", done.all());
    assert!(
        done.stderr.contains("10 of 160 validation images are exact duplicates of training images"),
        "{}",
        done.all()
    );
    let by_usage = ["--set", "data.train=fer2013.csv", "--set", "data.validation=PublicTest"];
    let done = good(bench.path(), &[&["train", "tiny.toml", "--out", "u"], &by_usage[..], &short].concat());
    assert!(done.stderr.contains("450 training and 150 validation images"), "{}", done.all());
    let wrong = ["--set", "data.train=fer2013.csv", "--set", "data.validation=PrivateTest"];
    bad(bench.path(), &[&["train", "tiny.toml", "--out", "w"], &wrong[..]].concat(), 2, &["PrivateTest", "PublicTest"]);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    let bench = bench();
    let args = [&["train", "tiny.toml", "--out", "nan"], &DIVERGING[..]].concat();
    bad(bench.path(), &args, 1, &["the loss is not a finite number in epoch ", "step ", "smaller train.optimizer.lr"]);
    assert_eq!(json(bench.path().join("nan/summary.json"))["stopped"], "diverged");
    assert!(text(bench.path().join("nan/log.txt")).contains("not a finite number"));
    // Also with ReLU and batch norm: custom kernels must propagate NaN.
    let args =
        ["train", "tiny.toml", "--out", "nan2", "--set", "train.optimizer={kind=\"sgd\",lr=100.0,momentum=0.99}"];
    bad(bench.path(), &args, 1, &["is not a finite number"]);
}

#[test]
fn invalid_arguments_are_refused() {
    let bench = bench();
    let folder = bench.path();
    let train = |args: &[&str], parts: &[&str]| bad(folder, &[&["train", "tiny.toml"], args].concat(), 2, parts);
    fs_err::create_dir(folder.join("full")).unwrap();
    fs_err::write(folder.join("full/notes.txt"), "mine").unwrap();
    train(&["--out", "full"], &["full: exists and is not empty", "--resume"]);
    train(&["--out", "full", "--resume"], &["not a run directory"]);
    for more in [&[][..], &["--resume"]] {
        let args = [&["train", "tiny.toml", "--out", "tiny.toml"], more].concat();
        bad(folder, &args, 1, &["tiny.toml: is a file; expected a folder"]);
    }
    train(&["--resume"], &["there is no runs/tiny-<time> to resume"]);
    train(&["--out", "x", "--set", "train.batches=3"], &["--set train.batches=3", "expected one of", "batch, "]);
    train(&["--out", "x", "--set", "data.train=no.csv"], &["no.csv: no such file"]);
    train(
        &["--out", "x", "--set", "data.classes=[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\"]"],
        &["no training rows for class 7 (h)"],
    );
    assert_eq!(text(folder.join("full/notes.txt")), "mine");

    good(folder, &["train", "tiny.toml", "--out", "finished"]);
    let resume = |sets: &[&str], parts: &[&str]| train(&[&["--out", "finished", "--resume"], sets].concat(), parts);
    resume(&["--set", "model.dropout=0.4"], &["cannot resume: model.dropout was 0.5, now it is 0.4"]);
    resume(&["--set", "data.validation=0.3"], &["cannot resume: the split into training and validation differs"]);
    let monitor = ["--set", "train.early_stop.monitor=val_loss"];
    resume(&monitor, &["cannot resume: train.early_stop.monitor was ", "val_accuracy", "val_loss"]);
    resume(&["--set", "seed=7"], &["cannot resume: seed was 42, now it is 7"]);
    resume(&["--set", "train.epochs=2"], &["cannot resume: 3 epochs are finished"]);
    let rows = text(folder.join("data/my_emotion_train.csv"));
    let reversed: String = rows.lines().rev().take(600).map(|line| format!("{line}\n")).collect();
    fs_err::write(folder.join("other.csv"), format!("emotion,pixels\n{reversed}")).unwrap();
    resume(&["--set", "data.train=other.csv"], &["cannot resume: the images or labels in other.csv differ"]);
    let summary = text(folder.join("finished/summary.json"));
    good(folder, &["train", "tiny.toml", "--out", "finished", "--resume"]);
    assert_eq!(text(folder.join("finished/summary.json")), summary, "the summary of a finished run is unchanged");
    train(&["--out", "x", "--set", "data.validation=Training"], &["these are the training rows"]);
}
