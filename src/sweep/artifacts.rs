//! What a sweep leaves: the comparison, the report, the best run as TorchScript, and its predictions for the test faces.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::comparison::Comparison;
use super::html_report;
use super::plan::Member;
use super::sweep_dir::SweepDir;
use crate::data::config::{DataConfig, describe_split};
use crate::data::csv;
use crate::data::csv::columns::{Labels, ReadOptions};
use crate::data::images::Faces;
use crate::export::export;
use crate::inference::submission;
use crate::inference::trained_run::{TrainedNet, TrainedRun};
use crate::run_dir::RunDir;
use crate::util::files::write_atomically;

/// Writes the comparison and the report.
///
/// # Errors
/// As [`html_report::write`]; I/O errors with their path.
pub fn write(dir: &SweepDir, found: &Comparison, members: &[Member], command: &str, interrupted: bool) -> Result<()> {
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
    let best = members.iter().find(|member| Some(&member.folder) == found.best_run.as_ref());
    let split = best.map_or(String::new(), |member| describe_split(&member.config.data, member.config.seed));
    let provenance = [("version", version), ("command", command)];
    let provenance = provenance.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    html_report::write(dir, found, &split, provenance)
}

/// Tells of test faces that cannot be read, before anything takes time.
///
/// # Errors
/// Those of reading a CSV.
pub fn check_tests(members: &[Member]) -> Result<()> {
    let mut seen: Vec<&DataConfig> = Vec::new();
    for data in members.iter().map(|member| &member.config.data) {
        if !seen.iter().any(|known| known.test == data.test) {
            seen.push(data);
            test_faces(data)?;
        }
    }
    Ok(())
}

/// The test faces that a config names, and where they are; `None` where it names none, or the file is not there.
fn test_faces(data: &DataConfig) -> Result<Option<(&Path, Faces)>> {
    let Some(test) = data.test.as_deref().filter(|test| test.exists()) else { return Ok(None) };
    let options = ReadOptions { classes: &data.classes, labels: Labels::Ignored, on_bad_row: data.on_bad_row };
    let faces = csv::read(test, options)?;
    faces.check_ids(test)?;
    Ok(Some((test, faces)))
}

/// Writes `model.pt` (and `model.json`) of the best run, and `submission.csv` where its config names test faces; what was done,
/// line by line.
///
/// # Errors
/// Those of exporting and predicting; I/O errors with their path.
pub fn hand_over(dir: &SweepDir, best: &Member) -> Result<Vec<String>> {
    let net = TrainedNet::open(RunDir::open(&dir.member(best))?)?;
    let (model, submission) = (dir.file("model.pt"), dir.file("submission.csv"));
    let views = best.config.predict.views;
    let done = export(&net, views, &model)?;
    let mut lines = vec![format!("{}: {}, compared on {} faces", model.display(), best.folder, done.faces)];
    match test_faces(&best.config.data)? {
        Some((test, faces)) => {
            let outputs = TrainedRun::Net(Box::new(net)).outputs(&faces, best.config.device, views)?;
            submission::write(&submission, &faces, &outputs, None)?;
            let (count, test) = (faces.len(), test.display());
            lines.push(format!("{}: predictions for the {count} faces of {test}", submission.display()));
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
