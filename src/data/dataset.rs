//! The data of a run: reads the files of `[data]` and splits them into training and validation.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::config::{DataConfig, Validation};
use super::csv;
use super::duplicates::duplicate_mask;
use super::images::{ImageHash, Images};
use super::soft_labels::{self, SoftLabels};
use super::split::{self, SplitRequest};
use crate::data::csv::columns::{LabelColumn, ReadOptions};
use crate::util::error::input;

/// Kaggle's Usage of training rows.
const TRAINING: &str = "Training";

/// Training and validation images, all labeled.
#[derive(Debug, Default)]
pub struct Dataset {
    /// Training rows in file order.
    pub train: Images,
    /// Soft labels of the training rows, if `data.soft_labels` is set.
    pub soft_labels: Option<SoftLabels>,
    /// Validation rows in file order.
    pub validation: Images,
    /// For each validation image: whether it is an exact duplicate of a training image.
    pub validation_duplicates: Vec<bool>,
    /// Hash of all images and labels in file order, independent of CSV layout and split.
    pub data_hash: String,
    /// Contents of `split.csv`: row, part and hash of each image.
    pub split_csv: String,
    /// Time to read and split the data.
    pub load_time: Duration,
    /// Messages for the log: skipped rows, train/validation leakage.
    pub notes: Vec<String>,
}

impl Dataset {
    /// A dataset without training images, for tests.
    #[cfg(test)]
    pub fn validation_only(validation: Images, validation_duplicates: Vec<bool>) -> Self {
        Self { validation, validation_duplicates, ..Self::default() }
    }

    /// Hash of `split.csv`.
    pub fn split_hash(&self) -> String {
        blake3::hash(self.split_csv.as_bytes()).to_hex().to_string()
    }

    /// Hash of the soft labels, if any.
    pub fn soft_labels_hash(&self) -> Option<String> {
        self.soft_labels.as_ref().map(SoftLabels::hash)
    }

    /// Training labels, `[N]`.
    pub fn train_labels(&self) -> &[u8] {
        self.train.labels.as_deref().unwrap_or_default()
    }

    /// Validation labels, `[N]`.
    pub fn validation_labels(&self) -> &[u8] {
        self.validation.labels.as_deref().unwrap_or_default()
    }
}

/// Reads and splits the data. `seed` selects a validation fraction if `data.split_seed` is not set.
///
/// # Errors
/// Input errors: those of [`csv::read`] and [`soft_labels::read`], a missing Usage, a class without
/// training rows.
pub fn load(data: &DataConfig, seed: u64) -> Result<Dataset> {
    let start = Instant::now();
    let all = read(&data.train, data)?;
    let mut notes = Vec::new();
    note_skipped(&all, &data.train, &mut notes);
    let mut hashes = vec![all.content_hash()];
    let with_usage = |usage: &str| all.with_usage(usage, &data.train);
    let (train, validation) = match &data.validation {
        Validation::Usage(usage) if usage == TRAINING => {
            let expected = "expected another Usage, such as \"PublicTest\"";
            return Err(input(format!("data.validation = \"Training\": these are the training rows; {expected}")));
        }
        Validation::Usage(usage) => (with_usage(TRAINING)?, with_usage(usage)?),
        Validation::Path(path) => {
            let validation = read(path, data)?;
            note_skipped(&validation, path, &mut notes);
            hashes.push(validation.content_hash());
            if validation.usages.iter().flatten().any(|usage| usage == TRAINING) {
                let display = path.display();
                return Err(input(format!(
                    "{display}: contains rows with Usage Training; to validate on a Usage of data.train, set data.validation to it, such as \"PublicTest\""
                )));
            }
            (if all.usages.is_some() { with_usage(TRAINING)? } else { all }, validation)
        }
        Validation::Fraction(fraction) => {
            let rows = if all.usages.is_some() { with_usage(TRAINING)? } else { all };
            let request = SplitRequest {
                fraction: *fraction,
                kind: data.split,
                group_duplicates: data.group_duplicates,
                seed: data.split_seed.unwrap_or(seed),
            };
            let mask = split::validation_mask(&rows.hashes, rows.labels.as_deref().unwrap_or_default(), request)?;
            let part = |validation: bool| -> Vec<usize> {
                mask.iter().enumerate().filter(|(_, v)| **v == validation).map(|(position, _)| position).collect()
            };
            (rows.select(&part(false)), rows.select(&part(true)))
        }
    };
    check_parts(&train, &validation, data)?;
    let soft_labels = data.soft_labels.as_deref();
    let soft_labels =
        soft_labels.map(|path| soft_labels::read(path, &data.classes, &train, &data.train)).transpose()?;
    let train_hashes: HashSet<ImageHash> = train.hashes.iter().copied().collect();
    let validation_duplicates = duplicate_mask(&validation.hashes, &train_hashes);
    let duplicates = validation_duplicates.iter().filter(|duplicate| **duplicate).count();
    if duplicates > 0 {
        notes.push(format!(
            "{duplicates} of {} validation images are exact duplicates of training images; deduplicated metrics exclude them",
            validation.len()
        ));
    }
    let data_hash = blake3::hash(hashes.concat().as_bytes()).to_hex().to_string();
    let split_csv = split_csv(&train, &validation, matches!(data.validation, Validation::Path(_)));
    let load_time = start.elapsed();
    Ok(Dataset { train, soft_labels, validation, validation_duplicates, data_hash, split_csv, load_time, notes })
}

fn read(path: &Path, data: &DataConfig) -> Result<Images> {
    csv::read(path, ReadOptions { classes: &data.classes, labels: LabelColumn::Required, on_bad_row: data.on_bad_row })
}

fn note_skipped(images: &Images, path: &Path, notes: &mut Vec<String>) {
    if let Some(first) = images.skipped.first() {
        notes.push(format!("{}: skipped {} bad rows, the first at {first}", path.display(), images.skipped.count()));
    }
}

fn check_parts(train: &Images, validation: &Images, data: &DataConfig) -> Result<()> {
    let display = data.train.display();
    for (number, class) in data.classes.iter().enumerate() {
        let rows = |images: &Images| {
            let labels = images.labels.iter().flatten();
            labels.filter(|label| usize::from(**label) == number).count()
        };
        if rows(train) == 0 {
            let why = match (&data.validation, rows(validation)) {
                (Validation::Fraction(_), rows) if rows > 0 => {
                    format!("all {rows} of its rows are in the validation split: use a smaller data.validation")
                }
                _ => "every class of data.classes needs at least one".to_owned(),
            };
            return Err(input(format!("{display}: no training rows for class {number} ({class}); {why}")));
        }
    }
    if validation.is_empty() {
        return Err(input(format!(
            "{display}: no validation rows: {} rows are too few for this data.validation",
            train.len()
        )));
    }
    Ok(())
}

/// The lines `row,part,hash` in file order, row indices from 0 per file. The rows of a separate
/// validation file follow those of the training file.
fn split_csv(train: &Images, validation: &Images, separate_files: bool) -> String {
    let mut rows = BTreeMap::new();
    for (part, images, file) in [("train", train, 0), ("validation", validation, u8::from(separate_files))] {
        for (row, image) in images.rows.iter().zip(&images.hashes) {
            rows.insert((file, *row), (part, *image));
        }
    }
    let mut text = String::from("row,part,hash\n");
    for ((_, row), (part, image)) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{row},{part},{image}");
    }
    text
}

/// Parses `split.csv` and returns the hashes of the training rows.
///
/// # Errors
/// An input error for a malformed line.
pub fn training_images(split_csv: &str, path: &Path) -> Result<HashSet<ImageHash>> {
    let mut hashes = HashSet::new();
    for (number, line) in split_csv.lines().enumerate().skip(1) {
        let mut fields = line.split(',').skip(1);
        let (part, image) = (fields.next(), fields.next().and_then(ImageHash::from_hex));
        match (part, image) {
            (Some("train"), Some(image)) => drop(hashes.insert(image)),
            (Some("validation"), Some(_)) => {}
            _ => {
                return Err(input(format!(
                    "{}: line {}: expected row,part,hash, got {line:?}",
                    path.display(),
                    number + 1
                )));
            }
        }
    }
    Ok(hashes)
}
