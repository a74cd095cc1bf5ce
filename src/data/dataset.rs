//! What a config's `[data]` names, read and divided: the training and the validation images of a run.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::config::{DataConfig, Validation};
use super::csv;
use super::images::{ImageHash, Images};
use super::soft_labels::{self, SoftLabels};
use super::split::{self, SplitRequest};
use crate::data::csv::columns::{Labels, ReadOptions};
use crate::util::error::input;

/// The Usage that Kaggle gives training rows.
const TRAINING: &str = "Training";

/// Training and validation images, all labeled.
#[derive(Debug, Default)]
pub struct Dataset {
    /// Training rows in file order.
    pub train: Images,
    /// Soft labels of the training rows, where `data.soft_labels` names some.
    pub soft_labels: Option<SoftLabels>,
    /// Validation rows in file order.
    pub validation: Images,
    /// For each validation image whether it also stands among the training rows.
    pub validation_seen: Vec<bool>,
    /// Hash of all images and labels read, in file order, whatever their CSV layout and however they are divided.
    pub data_hash: String,
    /// `split.csv`: which row of which image went where.
    pub split_csv: String,
    /// Time it took to read and divide them.
    pub load_time: Duration,
    /// What a reader of the log should know: rows left out, copies across the parts.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Validation images alone, for tests.
    #[cfg(test)]
    pub fn of_validation(validation: Images, validation_seen: Vec<bool>) -> Self {
        Self { validation, validation_seen, ..Self::default() }
    }

    /// Hash of `split.csv`.
    pub fn split_hash(&self) -> String {
        blake3::hash(self.split_csv.as_bytes()).to_hex().to_string()
    }

    /// Hash of the soft labels, where there are any.
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

/// Reads what `[data]` of a config names and divides it; a fraction is drawn by `seed`, unless `data` has a seed for that.
///
/// # Errors
/// Input errors: those of [`csv::read`], those of [`soft_labels::read`], a Usage that is not there, a class
/// without training rows.
pub fn load(data: &DataConfig, seed: u64) -> Result<Dataset> {
    let began = Instant::now();
    let all = read(&data.train, data)?;
    let mut notes = Vec::new();
    note_skipped(&all, &data.train, &mut notes);
    let mut hashes = vec![all.content_hash()];
    let labeled = |usage: &str| all.with_usage(usage, &data.train);
    let (train, validation) = match &data.validation {
        Validation::Usage(usage) if usage == TRAINING => {
            let expected = "expected another Usage, such as \"PublicTest\"";
            return Err(input(format!("data.validation = \"Training\": those are the training rows; {expected}")));
        }
        Validation::Usage(usage) => (labeled(TRAINING)?, labeled(usage)?),
        Validation::Path(path) => {
            let validation = read(path, data)?;
            note_skipped(&validation, path, &mut notes);
            hashes.push(validation.content_hash());
            if validation.usages.iter().flatten().any(|usage| usage == TRAINING) {
                let shown = path.display();
                return Err(input(format!(
                    "{shown}: holds rows of Usage Training; as validation rows give a Usage of data.train, such as data.validation = \"PublicTest\""
                )));
            }
            (if all.usages.is_some() { labeled(TRAINING)? } else { all }, validation)
        }
        Validation::Fraction(fraction) => {
            let rows = if all.usages.is_some() { labeled(TRAINING)? } else { all };
            let request = SplitRequest {
                fraction: *fraction,
                kind: data.split,
                group_duplicates: data.group_duplicates,
                seed: data.split_seed.unwrap_or(seed),
            };
            let taken = split::draw(&rows.hashes, rows.labels.as_deref().unwrap_or_default(), request)?;
            let part = |wanted: bool| -> Vec<usize> {
                taken.iter().enumerate().filter(|(_, v)| **v == wanted).map(|(position, _)| position).collect()
            };
            (rows.select(&part(false)), rows.select(&part(true)))
        }
    };
    check_parts(&train, &validation, data)?;
    let soft_labels = data.soft_labels.as_deref();
    let soft_labels =
        soft_labels.map(|path| soft_labels::read(path, &data.classes, &train, &data.train)).transpose()?;
    let known: HashSet<ImageHash> = train.hashes.iter().copied().collect();
    let validation_seen = split::seen_in(&validation.hashes, &known);
    let seen = validation_seen.iter().filter(|seen| **seen).count();
    if seen > 0 {
        notes.push(format!(
            "{seen} of {} validation images are exact copies of training images; figures without them stand beside",
            validation.len()
        ));
    }
    let data_hash = blake3::hash(hashes.concat().as_bytes()).to_hex().to_string();
    let split_csv = split_csv(&train, &validation, matches!(data.validation, Validation::Path(_)));
    let load_time = began.elapsed();
    Ok(Dataset { train, soft_labels, validation, validation_seen, data_hash, split_csv, load_time, notes })
}

fn read(path: &Path, data: &DataConfig) -> Result<Images> {
    csv::read(path, ReadOptions { classes: &data.classes, labels: Labels::Needed, on_bad_row: data.on_bad_row })
}

fn note_skipped(images: &Images, path: &Path, notes: &mut Vec<String>) {
    if let Some(first) = images.skipped.first() {
        notes.push(format!("{}: {} bad rows left out, the first at {first}", path.display(), images.skipped.count()));
    }
}

fn check_parts(train: &Images, validation: &Images, data: &DataConfig) -> Result<()> {
    let shown = data.train.display();
    for (number, class) in data.classes.iter().enumerate() {
        let rows = |images: &Images| {
            let labels = images.labels.iter().flatten();
            labels.filter(|label| usize::from(**label) == number).count()
        };
        if rows(train) == 0 {
            let why = match (&data.validation, rows(validation)) {
                (Validation::Fraction(_), rows) if rows > 0 => {
                    format!("its {rows} rows all went to validation: use a smaller data.validation")
                }
                _ => "every class of data.classes needs at least one".to_owned(),
            };
            return Err(input(format!("{shown}: no training rows for class {number} ({class}); {why}")));
        }
    }
    if validation.is_empty() {
        return Err(input(format!(
            "{shown}: no validation rows: {} rows are too few for this data.validation",
            train.len()
        )));
    }
    Ok(())
}

/// `row,part,hash`: rows from 0 in their own file, in file order; a validation file of its own follows the training rows.
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

/// The images that a run's `split.csv` names as training rows.
///
/// # Errors
/// When a line is not one that [`load`] writes.
pub fn training_images(split_csv: &str, path: &Path) -> Result<HashSet<ImageHash>> {
    let mut known = HashSet::new();
    for (number, line) in split_csv.lines().enumerate().skip(1) {
        let mut fields = line.split(',').skip(1);
        let (part, image) = (fields.next(), fields.next().and_then(ImageHash::from_hex));
        match (part, image) {
            (Some("train"), Some(image)) => drop(known.insert(image)),
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
    Ok(known)
}
