//! Files of a finished sweep: the comparison, the report, and the best run as TorchScript with its
//! predictions for the test images.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::comparison::Comparison;
use super::html_report;
use super::plan::PlannedRun;
use super::sweep_dir::SweepDir;
use crate::data::config::{DataConfig, describe_split};
use crate::data::images::Images;
use crate::data::read;
use crate::data::read_options::{LabelPolicy, ReadOptions};
use crate::export::{ExportPath, ExportedModel, Format, export};
use crate::inference::submission;
use crate::inference::trained_run::{TrainedNet, TrainedRun};
use crate::run_dir::RunDir;
use crate::util::files::write_atomically;

/// Writes `comparison.csv`, `comparison.md`, `summary.json` and the report.
///
/// # Errors
/// As [`html_report::write`]; I/O errors with their path.
pub fn write(
    dir: &SweepDir,
    comparison: &Comparison,
    runs: &[PlannedRun],
    command: &str,
    interrupted: bool,
) -> Result<()> {
    write_atomically(&dir.file("comparison.csv"), &comparison.to_csv()?)?;
    write_atomically(&dir.file("comparison.md"), comparison.to_markdown().as_bytes())?;
    let version = env!("CARGO_PKG_VERSION");
    let summary = json!({
        "version": version,
        "command": command,
        "complete": comparison.is_complete() && !interrupted,
        "best_run": comparison.best_run,
        "comparison": comparison,
    });
    write_atomically(&dir.file("summary.json"), (serde_json::to_string_pretty(&summary)? + "\n").as_bytes())?;
    let best = runs.iter().find(|run| Some(&run.folder) == comparison.best_run.as_ref());
    let split = best.map_or(String::new(), |run| describe_split(&run.config.data, run.config.seed));
    let provenance = [("version", version), ("command", command)];
    let provenance = provenance.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    html_report::write(dir, comparison, &split, provenance)
}

/// Reads the test images of all configs, so that a bad file ends the sweep before any training.
/// Returns the notes about the files.
///
/// # Errors
/// Those of reading a CSV.
pub fn check_test_images(runs: &[PlannedRun]) -> Result<Vec<String>> {
    let (mut seen, mut notes) = (BTreeSet::new(), Vec::new());
    for data in runs.iter().map(|run| &run.config.data) {
        if seen.insert(&data.test)
            && let Some((_, images)) = read_test_images(data)?
        {
            notes.extend(images.notes);
        }
    }
    Ok(notes)
}

/// The test images of a config and their path; `None` if `data.test` is not set or the file does
/// not exist.
fn read_test_images(data: &DataConfig) -> Result<Option<(&Path, Images)>> {
    let Some(test) = data.test.as_deref().filter(|test| test.exists()) else { return Ok(None) };
    let options = ReadOptions::new(&data.classes, LabelPolicy::Ignored);
    let options = ReadOptions { on_bad_row: data.on_bad_row, ..options };
    let images = read::read(test, options)?;
    images.check_ids(test)?;
    Ok(Some((test, images)))
}

/// Exports the best run as `model.pt` and `model.json`, and writes `submission.csv` if its
/// config has test images. Returns a line about each.
///
/// # Errors
/// Those of exporting and predicting; I/O errors with their path.
pub fn export_best(dir: &SweepDir, best: &PlannedRun) -> Result<Vec<String>> {
    let net = TrainedNet::open(RunDir::open(&dir.run_path(best))?)?;
    let (model, submission) = (dir.file("model.pt"), dir.file("submission.csv"));
    let tta = best.config.predict.tta;
    let exported = ExportedModel::from_run(&net, tta, true)?;
    let done = export(&exported, Format::TorchScript, None, &ExportPath::owned(&model))?;
    let mut lines = vec![format!("{}: {}, verified on {} images", model.display(), best.folder, done.images)];
    match read_test_images(&best.config.data)? {
        Some((test, images)) => {
            let predictions = TrainedRun::Net(Box::new(net)).predict(&images, best.config.device, tta)?.mean(1.0)?;
            submission::write(&submission, &images, &predictions, None)?;
            let (count, test) = (images.len(), test.display());
            let skipped = images.skipped.describe().map_or_else(String::new, |skipped| format!("; {skipped}"));
            lines.extend(images.notes.iter().cloned());
            lines.push(format!("{}: predictions for the {count} images of {test}{skipped}", submission.display()));
        }
        None => {
            // One of an earlier sweep is from another model.
            if submission.exists() {
                fs_err::remove_file(&submission)?;
            }
            lines.push(match &best.config.data.test {
                Some(test) => format!("no submission: data.test = {}: no such file", test.display()),
                None => "no submission: the config has no data.test".to_owned(),
            });
        }
    }
    Ok(lines)
}
