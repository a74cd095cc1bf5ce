//! `validation.csv`: the prediction for each validation image.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::data::dataset::Dataset;
use crate::metrics::predictions::Predictions;
use crate::util::error::input;
use crate::util::files::{check_regular_file, write_atomically};

/// What is read back from `validation.csv`: enough for a paired comparison of two models.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValidationPredictions {
    /// Hash of each validation image.
    pub hashes: Vec<String>,
    /// Whether the predicted class is the label.
    pub correct: Vec<bool>,
}

impl ValidationPredictions {
    /// Writes `row,hash,label,predicted,duplicate` and a probability column per class. `duplicate`
    /// is 1 for an exact duplicate of a training image.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write(path: &Path, data: &Dataset, predictions: &Predictions, classes: &[String]) -> Result<()> {
        let images = &data.validation;
        let mut text = format!("row,hash,label,predicted,duplicate,{}\n", classes.join(","));
        let rows =
            images.rows.iter().zip(&images.hashes).zip(data.validation_labels()).zip(&data.validation_duplicates);
        let outputs =
            predictions.predicted().into_iter().zip(predictions.probabilities.chunks(predictions.classes.max(1)));
        for ((((row, hash), label), duplicate), (predicted, probabilities)) in rows.zip(outputs) {
            // Writing to a String never fails.
            let _ = write!(text, "{row},{hash},{label},{predicted},{}", u8::from(*duplicate));
            for probability in probabilities {
                let _ = write!(text, ",{probability}");
            }
            text.push('\n');
        }
        write_atomically(path, text.as_bytes())
    }

    /// Reads a file written by [`write`](Self::write).
    ///
    /// # Errors
    /// An input error with the first malformed line.
    pub fn read(path: &Path) -> Result<Self> {
        check_regular_file(path, "the validation predictions of a run")?;
        let mut reader = ::csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut read = Self::default();
        for (number, record) in reader.records().enumerate() {
            let record = record.ok().filter(|record| record.len() > 5);
            let fields = record.as_ref().and_then(|record| Some((record.get(1)?, record.get(2)?, record.get(3)?)));
            let Some((hash, label, predicted)) = fields else {
                let (shown, line) = (path.display(), number + 2);
                return Err(input(format!(
                    "{shown}: line {line}: expected row,hash,label,predicted,duplicate and probabilities"
                )));
            };
            read.hashes.push(hash.to_owned());
            read.correct.push(label == predicted);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::{ImageHash, Images};

    #[test]
    fn round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("validation.csv");
        let validation = Images {
            rows: vec![3, 8],
            hashes: vec![ImageHash::new(b"a"), ImageHash::new(b"b")],
            labels: Some(vec![1, 1]),
            ..Images::default()
        };
        let data = Dataset::validation_only(validation, vec![false, true]);
        let predictions =
            Predictions { logits: vec![0.0, 1.0, 2.0, 0.0], probabilities: vec![0.25, 0.75, 0.875, 0.125], classes: 2 };
        ValidationPredictions::write(&path, &data, &predictions, &["sad".into(), "happy".into()]).unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        assert!(text.starts_with("row,hash,label,predicted,duplicate,sad,happy\n3,"), "{text}");
        assert!(text.ends_with(",1,0,1,0.875,0.125\n"), "{text}");
        let back = ValidationPredictions::read(&path).unwrap();
        assert_eq!(back.correct, [true, false]);
        assert_eq!(back.hashes, [ImageHash::new(b"a").to_string(), ImageHash::new(b"b").to_string()]);
        fs_err::write(&path, "row,hash\n1,2\n").unwrap();
        assert!(ValidationPredictions::read(&path).unwrap_err().to_string().contains("line 2: expected row,hash"));
    }
}
