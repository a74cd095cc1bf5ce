//! What a sweep leaves: the comparison, the report, the best run as TorchScript, and its predictions for the test faces.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::comparison::Comparison;
use super::folder::SweepDir;
use super::plan::Member;
use super::report;
use crate::config::DeviceChoice;
use crate::data::columns::{Labels, ReadOptions};
use crate::data::csv;
use crate::export::export;
use crate::files::write_atomically;
use crate::rundir::{RunDir, TrainedNet, TrainedRun};
use crate::submit;
use crate::train::conclude::split_in_words;

/// Writes the comparison and the report, and unless the sweep was interrupted what the best run is handed over as; what was
/// handed over, line by line.
///
/// # Errors
/// As [`hand_over`] and [`report::write`].
pub fn write(
    dir: &SweepDir,
    found: &Comparison,
    members: &[Member],
    command: &str,
    interrupted: bool,
) -> Result<Vec<String>> {
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
    let split = members.first().map_or(String::new(), |member| split_in_words(&member.config.data, member.config.seed));
    let provenance = [("version", version), ("command", command)];
    let provenance = provenance.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    report::write(dir, found, &split, provenance)?;
    match &found.best_run {
        Some(best) if !interrupted => hand_over(dir, &dir.file(best)),
        _ => Ok(Vec::new()),
    }
}

/// Writes `model.pt` (and `model.json`) of the run at `best`, and `submission.csv` where its config names test faces; what was
/// done, line by line.
///
/// # Errors
/// Those of exporting and predicting; I/O errors with their path.
fn hand_over(dir: &SweepDir, best: &Path) -> Result<Vec<String>> {
    let net = TrainedNet::open(RunDir::open(best)?)?;
    let model = dir.file("model.pt");
    let done = export(&net, &model)?;
    let mut lines =
        vec![format!("{}: {} as TorchScript, compared on {} faces", model.display(), net.config.name, done.faces)];
    let data = net.config.data.clone();
    let Some(test) = data.test.as_deref() else {
        lines.push("no submission: the config names no data.test".to_owned());
        return Ok(lines);
    };
    if !test.exists() {
        lines.push(format!("no submission: data.test = {}: no such file", test.display()));
        return Ok(lines);
    }
    let options = ReadOptions { classes: &data.classes, labels: Labels::Ignored, on_bad_row: data.on_bad_row };
    let faces = csv::read(test, options)?;
    submit::check_ids(&faces, test)?;
    let submission = dir.file("submission.csv");
    let outputs = TrainedRun::Net(Box::new(net)).outputs(&faces, DeviceChoice::Auto)?;
    submit::write(&submission, &faces, &outputs, None)?;
    lines.push(format!("{}: predictions for the {} faces of {}", submission.display(), faces.len(), test.display()));
    Ok(lines)
}
