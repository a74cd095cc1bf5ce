//! Comparisons of finished, failed and missing runs.

use super::*;
use crate::config::{Config, from_text};

/// An empty sweep of two models with two seeds each.
fn sweep(folder: &std::path::Path) -> (SweepDir, Vec<PlannedRun>) {
    let dir = SweepDir::open(&folder.join("sweep"), false).unwrap();
    let plan = |model: &str, seed: u64| {
        let text = format!("name = \"{model}\"\nseed = {seed}\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n");
        let config: Config = from_text(&text, "x.toml").unwrap();
        PlannedRun { model: model.to_owned(), config, folder: format!("{model}-seed{seed}") }
    };
    (dir, vec![plan("a", 1), plan("a", 2), plan("b", 1), plan("b", 2)])
}

/// Writes the files of a finished run with these accuracies and correct predictions for the first
/// `correct` of ten images.
fn finish(dir: &SweepDir, planned: &PlannedRun, best: f64, last: f64, correct: usize) {
    let run = dir.run_path(planned);
    fs_err::create_dir(&run).unwrap();
    fs_err::write(run.join("config.toml"), planned.config.to_toml().unwrap()).unwrap();
    let provenance = serde_json::json!({"version": "", "libtorch": "", "kernels": "", "command": "", "resumed": [], "data_hash": "", "split_hash": ""});
    let summary = serde_json::json!({
        "name": planned.model, "parameters": 1000, "device": "cpu", "precision": "f32", "threads": 1, "seed": planned.config.seed,
        "epochs": 20, "best_epoch": 15, "best_val_accuracy": best, "best_val_accuracy_dedup": best - 0.01,
        "last_val_accuracy": last, "train_rows": 40, "validation_rows": 10, "stopped": "early_stop", "rollbacks": 0,
        "seconds": 60.0, "train_images_per_second": 100.0, "provenance": provenance,
    });
    fs_err::write(run.join("summary.json"), summary.to_string()).unwrap();
    let rows = (0..10).map(|image| format!("{image},image{image},1,{},0,0.5,0.5\n", u8::from(image < correct)));
    let head = "row,hash,label,predicted,duplicate,x,y\n".to_owned();
    fs_err::write(run.join("validation.csv"), head + &rows.collect::<String>()).unwrap();
}

#[test]
fn rows_are_over_seeds_and_name_missing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, runs) = sweep(folder.path());
    finish(&dir, &runs[0], 0.6, 0.5, 6);
    finish(&dir, &runs[1], 0.7, 0.6, 7);
    finish(&dir, &runs[2], 0.9, 0.8, 9);
    dir.record_failure(&runs[3], &anyhow::anyhow!("training diverged")).unwrap();
    let found = gather(&dir, &runs, None).unwrap();
    let models: Vec<&str> = found.rows.iter().map(|row| row.model.as_str()).collect();
    assert_eq!(models, ["b", "a"], "by descending mean");
    let a = &found.rows[1];
    assert!((a.mean.unwrap() - 0.55).abs() < 1e-12 && (a.deviation.unwrap() - 0.05).abs() < 1e-12);
    assert_eq!((a.best, a.best_run.as_deref(), a.state.as_str()), (Some(0.7), Some("a-seed2"), "2 runs"));
    assert!((a.mean_of_bests.unwrap() - 0.65).abs() < 1e-12 && (a.deviation_of_bests.unwrap() - 0.05).abs() < 1e-12);
    // Student's t with one degree of freedom: 12.706 times 0.05.
    assert_eq!(a.interval.map(|(low, high)| (low, (high * 1e3).round())), Some((0.0, 1000.0)));
    assert_eq!((found.rows[0].state.as_str(), found.rows[0].interval), ("1 of 2 runs; 1 failed", None));
    assert_eq!(found.best_run.as_deref(), Some("b-seed1"));
    assert!(!found.is_complete());
    let next = found.against_next.as_ref().unwrap();
    assert_eq!(next.run, "a-seed2");
    assert!((next.difference.unwrap().difference - 0.2).abs() < 1e-12);

    let csv = String::from_utf8(found.to_csv().unwrap()).unwrap();
    assert!(csv.starts_with("Model,Mean Accuracy,Std Deviation,Best Accuracy,"), "{csv}");
    assert!(
        csv.contains(
            "\na,0.550000,0.050000,0.700000,0.690000,0.000000,1.000000,0.650000,0.050000,20.0,1000,60.0,100.0,a-seed2,2 runs,0.396778,0.892209\n"
        ),
        "{csv}"
    );
    let markdown = found.to_markdown();
    for part in [
        "| b | 0.8000 | - | - | 0.9000 (0.5958 to 0.9821) | 0.8900 | 0.9000 |",
        "| 0.6500 +- 0.0500 | 2 runs |",
        "optimistic",
        "b-seed2 failed: training diverged",
        "Against a-seed2",
    ] {
        assert!(markdown.contains(part), "{part} is not in {markdown}");
    }
}

#[test]
fn runs_on_other_images_are_not_compared_and_an_empty_sweep_has_a_comparison() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, runs) = sweep(folder.path());
    let none = gather(&dir, &runs, None).unwrap();
    assert_eq!(
        (none.best_run.as_deref(), none.rows[0].mean, none.rows[0].state.as_str()),
        (None, None, "0 of 2 runs; 2 unfinished")
    );
    assert!(none.to_markdown().contains("Unfinished: a-seed1, a-seed2, b-seed1, b-seed2."));
    assert!(none.to_csv().is_ok());
    finish(&dir, &runs[0], 0.6, 0.5, 6);
    finish(&dir, &runs[2], 0.9, 0.8, 9);
    let path = dir.run_path(&runs[2]).join("validation.csv");
    fs_err::write(&path, fs_err::read_to_string(&path).unwrap().replace("image3", "image33")).unwrap();
    let found = gather(&dir, &runs, None).unwrap();
    let why = found.against_next.unwrap().why_not.unwrap();
    assert!(why.contains("not validated on the same images"), "{why}");
}

#[test]
fn each_warning_is_listed_once_with_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, runs) = sweep(folder.path());
    let warnings = [&["no fear", "slow"][..], &[], &["no fear"]];
    for (run, warnings) in runs.iter().zip(warnings) {
        finish(&dir, run, 0.6, 0.5, 6);
        let path = dir.run_path(run).join("summary.json");
        let mut summary: serde_json::Value = serde_json::from_str(&fs_err::read_to_string(&path).unwrap()).unwrap();
        summary["warnings"] = warnings.into();
        fs_err::write(&path, summary.to_string()).unwrap();
    }
    // The last run is of an older version, without a list.
    finish(&dir, &runs[3], 0.6, 0.5, 6);
    let found = gather(&dir, &runs, None).unwrap();
    assert_eq!(found.warnings, ["Warning of a-seed1, b-seed1: no fear.", "Warning of a-seed1: slow."]);
    for warning in &found.warnings {
        assert_eq!(found.to_markdown().matches(warning).count(), 1, "{warning}");
    }
}
