//! Prediction files: a Kaggle submission `id,emotion`, optionally with class probabilities.

use std::path::Path;

use anyhow::{Context, Result};

use crate::data::images::Images;
use crate::metrics::predictions::Predictions;
use crate::util::files::write_atomically;

/// Writes the CSV of [`to_csv`] to `path`, atomically.
///
/// # Errors
/// An I/O error with the path.
pub fn write(path: &Path, images: &Images, predictions: &Predictions, classes: Option<&[String]>) -> Result<()> {
    write_atomically(path, &to_csv(images, predictions, classes)?)
}

/// A CSV with one row per image: `id,emotion`, followed by one probability column per class if
/// `classes` names them.
///
/// # Errors
/// None in practice: the CSV is written to memory.
pub fn to_csv(images: &Images, predictions: &Predictions, classes: Option<&[String]>) -> Result<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let names = classes.unwrap_or_default();
    writer.write_record(["id", "emotion"].into_iter().chain(names.iter().map(String::as_str)))?;
    let rows = predictions.probabilities.chunks(predictions.classes.max(1));
    for ((id, label), row) in images.row_ids().into_iter().zip(predictions.predicted()).zip(rows) {
        let probabilities = if classes.is_some() { row } else { &[] };
        let cells = [id, label.to_string()].into_iter().chain(probabilities.iter().map(ToString::to_string));
        writer.write_record(cells)?;
    }
    writer.into_inner().context("cannot build the CSV in memory")
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
