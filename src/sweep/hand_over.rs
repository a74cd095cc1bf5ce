//! What a sweep hands over: the best run as TorchScript, and its predictions for the test faces.

use std::path::Path;

use anyhow::Result;

use super::folder::SweepDir;
use crate::config::DeviceChoice;
use crate::data::columns::{Labels, ReadOptions};
use crate::data::csv;
use crate::export::export;
use crate::rundir::{RunDir, TrainedNet, TrainedRun};
use crate::submit;

/// Writes `model.pt` (and `model.json`) of the run at `best`, and `submission.csv` where its config names test faces; what was
/// done, line by line.
///
/// # Errors
/// Those of exporting and predicting; I/O errors with their path.
pub fn hand_over(dir: &SweepDir, best: &Path) -> Result<Vec<String>> {
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
