//! The comparison of a sweep, its artifacts and notes.

use serde_json::Value;

use super::{RUNS, rows, setup};
use crate::common::{bad, good, json, tensors, text, timeless_metrics};

#[test]
fn every_config_and_seed_is_compared_with_the_forest() {
    let folder = setup();
    let args = ["sweep", "tiny.toml", "other.toml", "--seeds", "2", "--forest", "forest.toml", "--out", "s"];
    let done = good(folder.path(), &args);
    let sweep = folder.path().join("s");
    let rows = rows(&sweep);
    let header = ["Model", "Mean Accuracy", "Std Deviation", "Best Accuracy", "Best Accuracy (Deduplicated)"];
    assert_eq!(rows[0][..5], header);
    let model =
        |name: &str| rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no row {name}: {}", done.all()));
    assert_eq!(rows.len(), 4);
    let summary = |run: &str| json(sweep.join(run).join("summary.json"));
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap();
    for name in ["tiny", "other"] {
        let both = [42, 43].map(|seed| summary(&format!("{name}-seed{seed}")));
        let last = [0, 1].map(|index: usize| number(&both[index], "last_val_accuracy"));
        let (mean, half) = ((last[0] + last[1]) / 2.0, (last[0] - last[1]).abs() / 2.0);
        assert_eq!(model(name)[1..3], [format!("{mean:.6}"), format!("{half:.6}")]);
        let best = both.iter().map(|summary| number(summary, "best_val_accuracy")).fold(0.0, f64::max);
        assert_eq!(model(name)[3], format!("{best:.6}"));
        // Both seeds share a split.
        assert_eq!(both[0]["provenance"]["split_hash"], both[1]["provenance"]["split_hash"]);
        assert_ne!(both[0]["seed"], both[1]["seed"]);
    }
    let woods = summary("woods-seed42");
    assert_eq!(model("woods")[1], format!("{:.6}", number(&woods, "cv_mean")));
    assert!(rows[3][0] == "woods", "the baseline comes last");

    // The exported model and submission are of the best run.
    let found = json(sweep.join("summary.json"));
    let best_run = found["best_run"].as_str().unwrap();
    assert!(
        RUNS.iter()
            .all(|run| number(&summary(run), "best_val_accuracy") <= number(&summary(best_run), "best_val_accuracy"))
    );
    good(
        folder.path(),
        &["predict", &format!("s/{best_run}"), "--data", "data/my_emotion_test.csv", "--out", "by-hand.csv"],
    );
    assert_eq!(text(sweep.join("submission.csv")), text(folder.path().join("by-hand.csv")));
    assert!(sweep.join("model.pt").exists() && sweep.join("model.json").exists());
    let difference = &found["comparison"]["against_next"]["difference"];
    assert_eq!(difference["rows"], 120);
    assert!(number(difference, "low") <= number(difference, "difference"));
    assert!(number(difference, "high") >= number(difference, "difference"));
    let markdown = text(sweep.join("comparison.md"));
    assert!(markdown.contains("optimistic") && markdown.contains("| woods |"), "{markdown}");
    assert!(done.stdout.contains("comparison: s/comparison.md"), "{}", done.stdout);
    let report = text(sweep.join("report.html"));
    assert!(report.contains(best_run) && report.contains("woods") && report.contains("<svg"), "the report");

    // `train` repeats a run of the sweep from its config.
    good(folder.path(), &["train", "s/other-seed43/config.toml", "--out", "again"]);
    let again = folder.path().join("again");
    assert!(tensors(&again.join("best.safetensors")) == tensors(&sweep.join("other-seed43/best.safetensors")));
    assert_eq!(timeless_metrics(&again), timeless_metrics(&sweep.join("other-seed43")));
}

#[test]
fn runs_on_other_images_are_reported() {
    let folder = setup();
    let wide = text(folder.path().join("other.toml")).replace("test = ", "validation = 0.4\ntest = ");
    fs_err::write(folder.path().join("wide.toml"), wide).unwrap();
    let done = good(folder.path(), &["sweep", "tiny.toml", "wide.toml", "--out", "s"]);
    assert!(done.stdout.contains("they were not validated on the same images"), "{}", done.stdout);
    assert!(
        done.stdout.contains("on other images than the best run, so the accuracies cannot be compared: "),
        "{}",
        done.stdout
    );
}

#[test]
fn notes_and_skipped_rows_of_the_test_images_are_reported() {
    let folder = setup();
    let images = text(folder.path().join("data/my_emotion_test.csv"));
    let images = images.replacen("id,pixels", "Image_ID,pixels", 1);
    fs_err::write(folder.path().join("bad.csv"), format!("{images}extra,1 2 3\n")).unwrap();
    let sweep = ["sweep", "tiny.toml", "--set", "train.epochs=1", "--set", "data.test=bad.csv", "--out"];
    let done = good(folder.path(), &[&sweep[..], &["s", "--set", "data.on_bad_row=skip"]].concat());
    let line =
        "s/submission.csv: predictions for the 150 images of bad.csv; skipped 1 bad row: line 152, column pixels";
    assert!(done.stdout.contains(line), "{}", done.all());
    assert_eq!(text(folder.path().join("s/submission.csv")).lines().count(), 151);
    let note = "bad.csv: column \"Image_ID\" is ignored; if it is id, rename it to id";
    assert!(done.stderr.contains(note) && done.stdout.contains(note), "at the start and at the end: {}", done.all());
    // Without skipping, the row is an error before anything is trained.
    bad(folder.path(), &[&sweep[..], &["t"]].concat(), 2, &["bad.csv: line 152, column pixels"]);
    assert!(!folder.path().join("t").exists());
}

#[test]
fn a_warning_of_several_runs_is_listed_once() {
    let folder = setup();
    // The tests limit the program to one core.
    let sets = ["--set", "threads=2", "--set", "train.epochs=1"];
    let done = good(folder.path(), &[&["sweep", "tiny.toml", "other.toml", "--out", "s"], &sets[..]].concat());
    let found = json(folder.path().join("s/summary.json"));
    let warnings = found["comparison"]["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let expected = "Warning of tiny-seed42, other-seed42: threads = 2 is more than the 1 core ";
    let warning = warnings[0].as_str().unwrap();
    assert!(warning.starts_with(expected), "{warning}");
    for shown in [done.stdout, text(folder.path().join("s/comparison.md")), text(folder.path().join("s/report.html"))] {
        assert_eq!(shown.matches(warning).count(), 1, "{shown}");
    }
}
