//! `validation.csv`: the prediction for each validation image.

use std::path::Path;

use anyhow::{Context, Result};

use crate::data::dataset::Dataset;
use crate::metrics::predictions::Predictions;
use crate::util::error::input;
use crate::util::files::{check_regular_file, write_atomically};

/// Name of the column with the group of each image.
const GROUP: &str = "data.group";

/// Columns before the probabilities.
const FIRST_COLUMNS: usize = 5;

/// What is read back from `validation.csv`: N images, classes by number.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ValidationPredictions {
    /// `[N]` row of each validation image in its file, from 0.
    pub rows: Vec<u32>,
    /// `[N]` hash of each validation image.
    pub hashes: Vec<String>,
    /// `[N]` class of each image.
    pub labels: Vec<u8>,
    /// `[N]` predicted class.
    pub predicted: Vec<u8>,
    /// `[N]` whether it is an exact duplicate of a training image.
    pub duplicates: Vec<bool>,
    /// [N, classes] probabilities, without calibration.
    pub probabilities: Vec<f32>,
    /// `[N]` group of each image, if `data.group` is set.
    pub groups: Option<Vec<String>>,
}

impl ValidationPredictions {
    /// Whether the predicted class of each image is its label.
    pub fn correct(&self) -> Vec<bool> {
        self.labels.iter().zip(&self.predicted).map(|(label, predicted)| label == predicted).collect()
    }

    /// The probabilities as predictions of `classes` classes. A probability of 0 gets the smallest normal
    /// number, so that its logit is finite.
    pub fn predictions(&self, classes: usize) -> Predictions {
        Predictions {
            logits: self.probabilities.iter().map(|probability| probability.max(f32::MIN_POSITIVE).ln()).collect(),
            probabilities: self.probabilities.clone(),
            classes,
        }
    }

    /// Writes `row,hash,label,predicted,duplicate`, a probability column per class, and the groups.
    /// `duplicate` is 1 for an exact duplicate of a training image.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write(path: &Path, data: &Dataset, predictions: &Predictions, classes: &[String]) -> Result<()> {
        let images = &data.validation;
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        let first = ["row", "hash", "label", "predicted", "duplicate"].map(String::from);
        let last = images.groups.as_ref().map(|_| GROUP.to_owned());
        writer.write_record(first.iter().chain(classes).chain(&last))?;
        let rows =
            images.rows.iter().zip(&images.hashes).zip(data.validation_labels()).zip(&data.validation_duplicates);
        let outputs =
            predictions.predicted().into_iter().zip(predictions.probabilities.chunks(predictions.classes.max(1)));
        for (index, ((((row, hash), label), duplicate), (predicted, probabilities))) in rows.zip(outputs).enumerate() {
            let first = [row.to_string(), hash.to_string(), label.to_string(), predicted.to_string()];
            let duplicate = u8::from(*duplicate).to_string();
            let probabilities = probabilities.iter().map(ToString::to_string);
            let group = images.groups.as_ref().and_then(|groups| groups.get(index)).cloned();
            writer.write_record(first.into_iter().chain([duplicate]).chain(probabilities).chain(group))?;
        }
        write_atomically(path, &writer.into_inner()?)
    }

    /// Reads a file written by [`write`](Self::write).
    ///
    /// # Errors
    /// An input error with the first malformed line.
    pub fn read(path: &Path) -> Result<Self> {
        check_regular_file(path, "the validation predictions of a run")?;
        let mut reader = ::csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
        let header = reader.headers().with_context(|| format!("cannot read {}", path.display()))?;
        let has_groups = header.iter().next_back() == Some(GROUP);
        let classes = header.len().saturating_sub(FIRST_COLUMNS + usize::from(has_groups));
        let mut read = Self { groups: has_groups.then(Vec::new), ..Self::default() };
        for (number, record) in reader.records().enumerate() {
            let parsed = record.ok().and_then(|record| read.push(&record, classes));
            if parsed.is_none() {
                let (shown, line) = (path.display(), number + 2);
                return Err(input(format!(
                    "{shown}: line {line}: expected row,hash,label,predicted,duplicate and probabilities"
                )));
            }
        }
        Ok(read)
    }

    fn push(&mut self, record: &::csv::StringRecord, classes: usize) -> Option<()> {
        let row = record.get(0)?.parse().ok()?;
        let (hash, label) = (record.get(1)?, record.get(2)?.parse().ok()?);
        let (predicted, duplicate) = (record.get(3)?.parse().ok()?, record.get(4)? == "1");
        let probabilities =
            record.iter().skip(FIRST_COLUMNS).take(classes).map(str::parse).collect::<Result<Vec<f32>, _>>();
        let probabilities = probabilities.ok().filter(|found| found.len() == classes && classes > 0)?;
        if let Some(groups) = &mut self.groups {
            groups.push(record.get(FIRST_COLUMNS + classes)?.to_owned());
        }
        self.rows.push(row);
        self.hashes.push(hash.to_owned());
        self.labels.push(label);
        self.predicted.push(predicted);
        self.duplicates.push(duplicate);
        self.probabilities.extend(probabilities);
        Some(())
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
        let grouped = Images { groups: Some(["young, tall", "old"].map(String::from).to_vec()), ..validation.clone() };
        let data = Dataset::validation_only(validation, vec![false, true]);
        let predictions =
            Predictions { logits: vec![0.0, 1.0, 2.0, 0.0], probabilities: vec![0.25, 0.75, 0.875, 0.125], classes: 2 };
        ValidationPredictions::write(&path, &data, &predictions, &["sad".into(), "happy".into()]).unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        assert!(text.starts_with("row,hash,label,predicted,duplicate,sad,happy\n3,"), "{text}");
        assert!(text.ends_with(",1,0,1,0.875,0.125\n"), "{text}");
        let back = ValidationPredictions::read(&path).unwrap();
        assert_eq!((back.correct(), &back.probabilities), (vec![true, false], &predictions.probabilities));
        assert_eq!((&back.duplicates[..], &back.groups), (&[false, true][..], &None));
        let logits = back.predictions(2).logits;
        assert!(logits.iter().zip(&back.probabilities).all(|(logit, p)| (logit.exp() - p).abs() < 1e-6), "{logits:?}");
        assert_eq!(back.rows, [3, 8]);
        assert_eq!(back.hashes, [ImageHash::new(b"a").to_string(), ImageHash::new(b"b").to_string()]);
        let data = Dataset::validation_only(grouped, vec![false, true]);
        ValidationPredictions::write(&path, &data, &predictions, &["sad".into(), "happy".into()]).unwrap();
        let with_groups = ValidationPredictions::read(&path).unwrap();
        assert_eq!(with_groups.groups.unwrap(), ["young, tall", "old"]);
        assert_eq!(with_groups.probabilities, back.probabilities);
        fs_err::write(&path, "row,hash\n1,2\n").unwrap();
        assert!(ValidationPredictions::read(&path).unwrap_err().to_string().contains("line 2: expected row,hash"));
    }
}
