//! Prediction files: `id,emotion` as Kaggle takes it, or with a probability for each class; and reading labels for scoring.

use std::path::Path;

use anyhow::{Context, Result};

use crate::data::images::Images;
use crate::metrics::predictions::Predictions;
use crate::util::files::write_atomically;

/// Writes one row an image to `path`, atomically: `id,emotion`, and with `classes` a column per class, named as the class.
///
/// # Errors
/// An I/O error with the path.
pub fn write(path: &Path, images: &Images, predictions: &Predictions, classes: Option<&[String]>) -> Result<()> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let names = classes.unwrap_or_default();
    writer.write_record(["id", "emotion"].into_iter().chain(names.iter().map(String::as_str)))?;
    let rows = predictions.probabilities.chunks(predictions.classes.max(1));
    for ((id, label), row) in images.names().into_iter().zip(predictions.predicted()).zip(rows) {
        let shown = if classes.is_some() { row } else { &[] };
        let cells = [id, label.to_string()].into_iter().chain(shown.iter().map(ToString::to_string));
        writer.write_record(cells)?;
    }
    let bytes = writer.into_inner().context("writing CSV to memory")?;
    write_atomically(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_are_written_with_and_without_probabilities() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let images = Images { rows: vec![0, 2], ..Images::default() };
        let predictions =
            Predictions { logits: vec![0.0, 1.0, 3.0, 1.0], probabilities: vec![0.25, 0.75, 0.9, 0.1], classes: 2 };
        write(&path, &images, &predictions, None).unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "id,emotion\n0,1\n2,0\n");
        write(&path, &images, &predictions, Some(&["sad".into(), "happy".into()])).unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "id,emotion,sad,happy\n0,1,0.25,0.75\n2,0,0.9,0.1\n");
    }
}
