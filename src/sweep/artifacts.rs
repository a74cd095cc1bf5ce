//! What a sweep leaves: the comparison, the report, the best run as TorchScript, and its predictions for the test images.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::comparison::Comparison;
use super::html_report;
use super::plan::PlannedRun;
use super::sweep_dir::SweepDir;
use crate::data::config::{DataConfig, describe_split};
use crate::data::csv;
use crate::data::csv::columns::{Labels, ReadOptions};
use crate::data::images::Images;
use crate::export::export;
use crate::inference::submission;
use crate::inference::trained_run::{TrainedNet, TrainedRun};
use crate::run_dir::RunDir;
use crate::util::files::write_atomically;

/// Writes the comparison and the report.
///
/// # Errors
/// As [`html_report::write`]; I/O errors with their path.
pub fn write(
    dir: &SweepDir,
    found: &Comparison,
    planned_runs: &[PlannedRun],
    command: &str,
    interrupted: bool,
) -> Result<()> {
    write_atomically(&dir.file("comparison.csv"), &found.csv()?)?;
    write_atomically(&dir.file("comparison.md"), found.markdown().as_bytes())?;
    let version = env!("CARGO_PKG_VERSION");
    let summary = json!({
        "version": version,
        "command": command,
        "complete": found.is_complete() && !interrupted,
        "best_run": found.best_run,
        "comparison": found,
    });
    write_atomically(&dir.file("summary.json"), (serde_json::to_string_pretty(&summary)? + "\n").as_bytes())?;
    let best = planned_runs.iter().find(|planned_run| Some(&planned_run.folder) == found.best_run.as_ref());
    let split =
        best.map_or(String::new(), |planned_run| describe_split(&planned_run.config.data, planned_run.config.seed));
    let provenance = [("version", version), ("command", command)];
    let provenance = provenance.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    html_report::write(dir, found, &split, provenance)
}

/// Tells of test images that cannot be read, before anything takes time.
///
/// # Errors
/// Those of reading a CSV.
pub fn check_tests(planned_runs: &[PlannedRun]) -> Result<()> {
    let mut seen: Vec<&DataConfig> = Vec::new();
    for data in planned_runs.iter().map(|planned_run| &planned_run.config.data) {
        if !seen.iter().any(|known| known.test == data.test) {
            seen.push(data);
            test_images(data)?;
        }
    }
    Ok(())
}

/// The test images that a config names, and where they are; `None` where it names none, or the file is not there.
fn test_images(data: &DataConfig) -> Result<Option<(&Path, Images)>> {
    let Some(test) = data.test.as_deref().filter(|test| test.exists()) else { return Ok(None) };
    let options = ReadOptions { classes: &data.classes, labels: Labels::Ignored, on_bad_row: data.on_bad_row };
    let images = csv::read(test, options)?;
    images.check_ids(test)?;
    Ok(Some((test, images)))
}

/// Writes `model.pt` (and `model.json`) of the best run, and `submission.csv` where its config names test images; what was done,
/// line by line.
///
/// # Errors
/// Those of exporting and predicting; I/O errors with their path.
pub fn hand_over(dir: &SweepDir, best: &PlannedRun) -> Result<Vec<String>> {
    let net = TrainedNet::open(RunDir::open(&dir.run_path(best))?)?;
    let (model, submission) = (dir.file("model.pt"), dir.file("submission.csv"));
    let tta = best.config.predict.tta;
    let done = export(&net, tta, &model)?;
    let mut lines = vec![format!("{}: {}, compared on {} images", model.display(), best.folder, done.images)];
    match test_images(&best.config.data)? {
        Some((test, images)) => {
            let predictions = TrainedRun::Net(Box::new(net)).predictions(&images, best.config.device, tta)?;
            submission::write(&submission, &images, &predictions, None)?;
            let (count, test) = (images.len(), test.display());
            lines.push(format!("{}: predictions for the {count} images of {test}", submission.display()));
        }
        None => {
            // An earlier one is another model's.
            if submission.exists() {
                fs_err::remove_file(&submission)?;
            }
            lines.push(match &best.config.data.test {
                Some(test) => format!("no submission: data.test = {}: no such file", test.display()),
                None => "no submission: the config names no data.test".to_owned(),
            });
        }
    }
    Ok(lines)
}
