//! What a comparison says of runs that ended, failed or are missing.

use super::*;
use crate::config::{Config, from_text};

/// Members of two models, and for each what its run left behind: nothing, an error, or an end.
fn sweep(folder: &std::path::Path) -> (SweepDir, Vec<PlannedRun>) {
    let dir = SweepDir::open(&folder.join("sweep"), false).unwrap();
    let planned_run = |model: &str, seed: u64| {
        let text = format!("name = \"{model}\"\nseed = {seed}\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n");
        let config: Config = from_text(&text, "x.toml").unwrap();
        PlannedRun { model: model.to_owned(), config, folder: format!("{model}-seed{seed}") }
    };
    (dir, vec![planned_run("a", 1), planned_run("a", 2), planned_run("b", 1), planned_run("b", 2)])
}

/// A run that ended so, and was right on the first `right` of ten images.
fn finish(dir: &SweepDir, planned_run: &PlannedRun, best: f64, last: f64, right: usize) {
    let run = dir.run_path(planned_run);
    fs_err::create_dir(&run).unwrap();
    fs_err::write(run.join("config.toml"), planned_run.config.to_toml().unwrap()).unwrap();
    let provenance = serde_json::json!({"version": "", "libtorch": "", "kernels": "", "command": "", "resumed": [], "data_hash": "", "split_hash": ""});
    let summary = serde_json::json!({
        "name": planned_run.model, "parameters": 1000, "device": "cpu", "precision": "f32", "threads": 1, "seed": planned_run.config.seed,
        "epochs": 20, "best_epoch": 15, "best_val_accuracy": best, "best_val_accuracy_dedup": best - 0.01,
        "last_val_accuracy": last, "train_rows": 40, "validation_rows": 10, "stopped": "early_stop", "rollbacks": 0,
        "seconds": 60.0, "train_images_per_second": 100.0, "provenance": provenance,
    });
    fs_err::write(run.join("summary.json"), summary.to_string()).unwrap();
    let rows = (0..10).map(|image| format!("{image},image{image},1,{},0,0.5,0.5\n", u8::from(image < right)));
    let head = "row,hash,label,predicted,duplicate,x,y\n".to_owned();
    fs_err::write(run.join("validation.csv"), head + &rows.collect::<String>()).unwrap();
}

#[test]
fn rows_are_over_seeds_and_what_is_missing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, planned_runs) = sweep(folder.path());
    finish(&dir, &planned_runs[0], 0.6, 0.5, 6);
    finish(&dir, &planned_runs[1], 0.7, 0.6, 7);
    finish(&dir, &planned_runs[2], 0.9, 0.8, 9);
    dir.note_failure(&planned_runs[3], &anyhow::anyhow!("training diverged")).unwrap();
    let found = gather(&dir, &planned_runs, None).unwrap();
    let models: Vec<&str> = found.rows.iter().map(|row| row.model.as_str()).collect();
    assert_eq!(models, ["b", "a"], "from the best mean to the least");
    let a = &found.rows[1];
    assert!((a.mean.unwrap() - 0.55).abs() < 1e-12 && (a.deviation.unwrap() - 0.05).abs() < 1e-12);
    assert_eq!((a.best, a.best_run.as_deref(), a.state.as_str()), (Some(0.7), Some("a-seed2"), "2 runs"));
    // Student's t with one degree of freedom: 12.706 times 0.05.
    assert_eq!(a.interval.map(|(low, high)| (low, (high * 1e3).round())), Some((0.0, 1000.0)));
    assert_eq!((found.rows[0].state.as_str(), found.rows[0].interval), ("1 of 2 runs; 1 failed", None));
    assert_eq!(found.best_run.as_deref(), Some("b-seed1"));
    assert!(!found.is_complete());
    let next = found.against_next.as_ref().unwrap();
    assert_eq!(next.run, "a-seed2");
    assert!((next.difference.unwrap().difference - 0.2).abs() < 1e-12);

    let csv = String::from_utf8(found.csv().unwrap()).unwrap();
    assert!(csv.starts_with("Model,Mean Accuracy,Std Deviation,Best Accuracy,"), "{csv}");
    assert!(
        csv.contains(
            "\na,0.550000,0.050000,0.700000,0.690000,0.000000,1.000000,0.650000,20.0,1000,60.0,100.0,a-seed2,2 runs\n"
        ),
        "{csv}"
    );
    let markdown = found.markdown();
    for part in
        ["| b | 0.8000 | - | - | 0.9000 |", "flatters it", "b-seed2 failed: training diverged", "Against a-seed2"]
    {
        assert!(markdown.contains(part), "{part} is not in {markdown}");
    }
}

#[test]
fn runs_on_other_images_are_not_compared_and_nothing_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, planned_runs) = sweep(folder.path());
    let none = gather(&dir, &planned_runs, None).unwrap();
    assert_eq!(
        (none.best_run.as_deref(), none.rows[0].mean, none.rows[0].state.as_str()),
        (None, None, "0 of 2 runs; 2 unfinished")
    );
    assert!(none.markdown().contains("Unfinished: a-seed1, a-seed2, b-seed1, b-seed2."));
    assert!(none.csv().is_ok());
    finish(&dir, &planned_runs[0], 0.6, 0.5, 6);
    finish(&dir, &planned_runs[2], 0.9, 0.8, 9);
    let path = dir.run_path(&planned_runs[2]).join("validation.csv");
    fs_err::write(&path, fs_err::read_to_string(&path).unwrap().replace("image3", "image33")).unwrap();
    let found = gather(&dir, &planned_runs, None).unwrap();
    let why = found.against_next.unwrap().why_not.unwrap();
    assert!(why.contains("not validated on the same images"), "{why}");
}
