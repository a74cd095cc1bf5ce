//! The data of a run: reads the files of `[data]` and splits them into training and validation.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::advice::Advice;
use super::class_counts::count_rows;
use super::config::{DataConfig, LabelSource, SplitKind, Validation};
use super::duplicates::duplicate_mask;
use super::exclude;
use super::images::{ImageHash, Images, TRAINING, is_usage};
use super::label_map::LabelMap;
use super::read;
use super::soft_labels::{SoftLabels, VoteFile};
use super::split::{self, Rows, SplitRequest};
use super::split_csv::SplitCsv;
use crate::data::read_options::{LabelPolicy, ReadOptions};
use crate::util::error::input;
use crate::util::files::check_regular_file;
use crate::util::text::count;

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
    /// Hash of `split.csv`.
    pub split_hash: String,
    /// Whether the validation images are of another file.
    pub has_separate_validation: bool,
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

    /// Row, part and hash of each image.
    pub fn split_csv(&self) -> SplitCsv<'_> {
        let is_separate = self.has_separate_validation;
        SplitCsv { train: &self.train, validation: &self.validation, is_separate }
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
/// Input errors: those of [`read::read`] and [`VoteFile::read`], a missing Usage, a class without
/// training rows.
pub fn load(data: &DataConfig, seed: u64) -> Result<Dataset> {
    let start = Instant::now();
    let map = LabelMap::new(&data.classes, &data.labels);
    let mut notes = Vec::new();
    let mut all = read_labeled(&data.train, data, &mut notes)?;
    let votes = match &data.soft_labels {
        Some(path) => {
            check_regular_file(path, "a CSV of soft labels")?;
            Some(VoteFile::read(path, &map, &all, &data.train)?)
        }
        None => None,
    };
    // After the votes, which may belong to the rows by their position.
    if let Some(path) = &data.exclude {
        all = exclude::apply(path, all, &data.train, &mut notes)?;
    }
    if let (LabelSource::SoftLabels, Some(votes)) = (data.label_source, &votes) {
        let labeled = votes.select(&all, &data.train)?;
        note_without_votes(all.len() - labeled.kept.len(), "row", data, &mut notes);
        all = all.select(&labeled.kept);
        all.labels = Some(labeled.soft.labels());
    }
    let mut hashes = vec![all.content_hash()];
    let (mut train, validation) = split_parts(all, data, seed, &mut notes, &mut hashes)?;
    let mut soft_labels = None;
    if let Some(votes) = &votes {
        let labeled = votes.select(&train, &data.train)?;
        note_without_votes(train.len() - labeled.kept.len(), "training row", data, &mut notes);
        train = train.select(&labeled.kept);
        soft_labels = Some(labeled.soft);
    }
    check_parts(&train, &validation, soft_labels.as_ref(), data)?;
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
    let is_separate = matches!(data.validation, Validation::Path(_));
    let split_hash = SplitCsv { train: &train, validation: &validation, is_separate }.hash()?;
    let load_time = start.elapsed();
    Ok(Dataset {
        train,
        soft_labels,
        validation,
        validation_duplicates,
        data_hash,
        split_hash,
        has_separate_validation: is_separate,
        load_time,
        notes,
    })
}

/// Reads labeled images of the config. They are read again when the run is resumed, so a pipe is
/// refused.
fn read_labeled(path: &Path, data: &DataConfig, notes: &mut Vec<String>) -> Result<Images> {
    read::check_repeatable(path)?;
    // Labels from votes replace the column.
    let replaced = data.label_source == LabelSource::SoftLabels && path == data.train;
    let labels = if replaced { LabelPolicy::Ignored } else { LabelPolicy::Required };
    let options = ReadOptions::new(&data.classes, labels);
    if let (Some(group), true) = (&data.group, path.is_dir()) {
        let display = path.display();
        return Err(input(format!(
            "data.group = {group:?} is the column of a CSV, and {display} is a folder; remove it"
        )));
    }
    let options =
        ReadOptions { label_names: &data.labels, group: data.group.as_deref(), on_bad_row: data.on_bad_row, ..options };
    let images = read::read(path, options)?;
    notes.extend(images.notes.iter().cloned());
    if path == data.train {
        notes.extend(Advice::Config.unused_labels(&images.unused_labels));
    }
    notes.extend(images.skipped.describe().map(|skipped| format!("{}: {skipped}", path.display())));
    Ok(images)
}

fn note_without_votes(number: usize, what: &str, data: &DataConfig, notes: &mut Vec<String>) {
    if let (1.., Some(path)) = (number, &data.soft_labels) {
        let rows = count(number, what);
        notes.push(format!("{}: leaves out {rows} without a vote for a class", path.display()));
    }
}

/// The training and validation images. Adds the content hash of a separate validation file to
/// `hashes`.
fn split_parts(
    all: Images,
    data: &DataConfig,
    seed: u64,
    notes: &mut Vec<String>,
    hashes: &mut Vec<String>,
) -> Result<(Images, Images)> {
    let training = |all: Images| if all.usages.is_some() { all.with_usage(TRAINING, &data.train) } else { Ok(all) };
    match &data.validation {
        Validation::Usage(usage) if is_usage(usage, TRAINING) => {
            let expected = "expected another Usage, such as \"PublicTest\"";
            Err(input(format!("data.validation = {usage:?}: these are the training rows; {expected}")))
        }
        Validation::Usage(usage) => {
            if all.usages.is_none() {
                let display = data.train.display();
                return Err(input(format!(
                    "data.validation = {usage:?} selects rows by their Usage, but {display} has no column Usage; \
                     expected a fraction such as 0.2, or the path of a CSV file"
                )));
            }
            Ok((all.with_usage(TRAINING, &data.train)?, all.with_usage(usage, &data.train)?))
        }
        Validation::Path(path) => {
            let validation = read_labeled(path, data, notes)?;
            hashes.push(validation.content_hash());
            if validation.usages.iter().flatten().any(|usage| is_usage(usage, TRAINING)) {
                let display = path.display();
                return Err(input(format!(
                    "{display}: contains rows with Usage Training; to validate on a Usage of data.train, set data.validation to it, such as \"PublicTest\""
                )));
            }
            Ok((training(all)?, validation))
        }
        Validation::Fraction(fraction) => {
            let rows = training(all)?;
            let request = SplitRequest { fraction: *fraction, ..split_request(data, seed) };
            let mask = split::validation_mask(rows_to_split(&rows), request);
            Ok(divide(&rows, &mask))
        }
        Validation::Fold(fold) => {
            let rows = training(all)?;
            let folds = split::folds(rows_to_split(&rows), split_request(data, seed), fold.folds);
            Ok(divide(&rows, &folds.iter().map(|of_row| *of_row == fold.fold).collect::<Vec<_>>()))
        }
    }
}

fn rows_to_split(images: &Images) -> Rows<'_> {
    Rows { numbers: &images.rows, hashes: &images.hashes, labels: images.labels.as_deref().unwrap_or_default() }
}

/// How rows are sampled, without a fraction.
fn split_request(data: &DataConfig, seed: u64) -> SplitRequest {
    let seed = data.split_seed.unwrap_or(seed);
    SplitRequest { fraction: 0.0, kind: data.split, group_duplicates: data.group_duplicates, seed }
}

/// The rows where `mask` is false, and those where it is true.
fn divide(rows: &Images, mask: &[bool]) -> (Images, Images) {
    let part = |validation: bool| -> Vec<usize> {
        mask.iter().enumerate().filter(|(_, v)| **v == validation).map(|(position, _)| position).collect()
    };
    (rows.select(&part(false)), rows.select(&part(true)))
}

fn check_parts(train: &Images, validation: &Images, soft: Option<&SoftLabels>, data: &DataConfig) -> Result<()> {
    let display = data.train.display();
    let rows_of = |images: &Images| -> Vec<usize> {
        count_rows(&data.classes, images.labels.as_deref().unwrap_or_default()).map(|(_, rows)| rows).collect()
    };
    let counts = rows_of(train).into_iter().zip(rows_of(validation));
    for ((number, class), (train_rows, validation_rows)) in data.classes.iter().enumerate().zip(counts) {
        if train_rows > 0 {
            continue;
        }
        let has_votes = soft.is_some_and(|soft| soft.labels().iter().any(|label| usize::from(*label) == number));
        let why = match (&data.validation, validation_rows) {
            _ if has_votes => "its votes are in data.soft_labels: set data.label_source = \"soft_labels\" to take the \
                               labels from them"
                .to_owned(),
            (Validation::Fraction(_), rows) if rows > 0 => {
                format!("all {rows} of its rows are in the validation split: use a smaller data.validation")
            }
            (Validation::Fold(fold), rows) if rows > 0 => {
                format!("all {rows} of its rows are in {fold}: use more folds, or add rows of that class")
            }
            _ => format!(
                "every class of data.classes needs at least one: add rows, or list only the classes that have some, and \
                 set data.labels if the numbers in the file then differ (this file has {})",
                describe_labels(train, data)
            ),
        };
        return Err(input(format!("{display}: no training rows for class {number} ({class}); {why}")));
    }
    if validation.is_empty() {
        let (rows, why) = (train.len(), why_no_validation(train, data));
        return Err(input(format!(
            "{display}: no validation rows: {why}; the file has {}",
            count(rows, "training row")
        )));
    }
    Ok(())
}

/// The classes that have rows, such as `0 angry, 3 happy`.
fn describe_labels(images: &Images, data: &DataConfig) -> String {
    let present: BTreeSet<u8> = images.labels.iter().flatten().copied().collect();
    let name = |label: &u8| data.classes.get(usize::from(*label)).map(|class| format!("{label} {class}"));
    let names: Vec<String> = present.iter().filter_map(name).take(20).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Why a validation fraction gave no rows, and what to do.
fn why_no_validation(train: &Images, data: &DataConfig) -> String {
    let fraction = match data.validation {
        Validation::Fraction(fraction) => fraction,
        Validation::Fold(fold) => return format!("{fold} has none; use fewer folds"),
        _ => return "expected at least one".to_owned(),
    };
    let labels = train.labels.as_deref().unwrap_or_default();
    let largest = count_rows(&data.classes, labels).map(|(_, rows)| rows).max().unwrap_or(0);
    if data.split == SplitKind::Stratified && (fraction * largest as f64).round() < 1.0 {
        return format!(
            "{fraction} of the largest class, which has {}, rounds to 0; use data.validation = {} or more, or \
             data.split = \"random\"",
            count(largest, "row"),
            (50.0 / largest.max(1) as f64).ceil() / 100.0
        );
    }
    let distinct = train.hashes.iter().collect::<BTreeSet<_>>().len();
    format!(
        "they have only {}, and data.group_duplicates keeps the duplicates of an image in one \
         part; use a larger data.validation than {fraction}, or set data.group_duplicates = false, which leaks training \
         images into validation",
        count(distinct, "distinct image")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::PIXELS;

    #[test]
    fn an_empty_validation_part_is_explained() {
        let why = |config: &str, labels: &[u8], distinct: u8| {
            let mut data: DataConfig = toml::from_str(&format!("train = \"x.csv\"\n{config}")).unwrap();
            data.resolve();
            let pixels =
                (0..labels.len()).flat_map(|row| [(row % usize::from(distinct)) as u8; PIXELS]).collect::<Vec<u8>>();
            let images = Images { pixels: pixels.into(), labels: Some(labels.to_vec()), ..Images::default() };
            why_no_validation(&images.with_hashes().unwrap(), &data)
        };
        let rounding = why("validation = 0.04", &[3; 10], 9);
        assert!(rounding.starts_with("0.04 of the largest class, which has 10 rows, rounds to 0;"), "{rounding}");
        assert!(rounding.ends_with("use data.validation = 0.05 or more, or data.split = \"random\""), "{rounding}");
        let one = why("validation = 0.2", &[3], 1);
        assert!(one.starts_with("0.2 of the largest class, which has 1 row, rounds"), "{one}");
        for config in ["validation = 0.2", "validation = 0.2\nsplit = \"random\""] {
            let duplicates = why(config, &[3; 10], 1);
            assert!(
                duplicates.starts_with("they have only 1 distinct image, and data.group_duplicates"),
                "{duplicates}"
            );
        }
    }
}
