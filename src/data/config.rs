//! `[data]`: the data files, their classes and the train/validation split.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer};

use super::advice::Advice;
use super::device_images::Resident;
pub use super::label_map::CLASSES;
use super::label_map::LabelNames;
use super::read;
pub use super::validation::{Fold, MAX_FOLDS, Validation};
use crate::util::files::is_standard_input;
use crate::util::validate::{InvalidValue, check_seed, require};

/// Labels are stored as bytes; real datasets have far fewer classes.
const MAX_CLASSES: usize = 100;

/// Maximum length of a class name in characters.
const MAX_NAME: usize = 100;

/// `[data]`: training and validation data.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Training images: a CSV, a folder with a folder for each class, or a packed file.
    pub train: PathBuf,
    /// Test images, a CSV, a folder or a packed file, optional; only a sweep reads it, to write a submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// CSV of votes or probabilities per training row, or a packed file with such, optional, to train on with or instead of the
    /// label. A forest uses it only with `label_source = "soft_labels"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_labels: Option<PathBuf>,
    /// CSV of rows of `train` to leave out, optional, such as the `review.csv` of `grimace data audit`: by `row` from 0, by
    /// `id`, or both; with a column `exclude`, those with a 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<PathBuf>,
    /// Where the pixels are during training and inference.
    #[serde(default, skip_serializing_if = "Resident::is_auto")]
    #[schemars(extend("default" = "auto"))]
    pub resident: Resident,
    /// Where the labels of the rows of `train` come from.
    #[serde(default, skip_serializing_if = "LabelSource::is_default")]
    #[schemars(extend("default" = "emotion"))]
    pub label_source: LabelSource,
    /// Validation images: a fraction of the training images, the path of a CSV, a folder or a packed
    /// file, a Usage
    /// of `train` (of a folder, the name of the folder of a split, such as `test`), or a fold of a cross-validation.
    #[serde(default)]
    pub validation: Validation,
    /// How a validation fraction or folds are sampled.
    #[serde(default)]
    pub split: SplitKind,
    /// Seed of the split. Without it, the seed of the run; set it to compare several seeds on one split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = i64::MAX))]
    pub split_seed: Option<u64>,
    /// Keep exact duplicates of an image in the same part; applies if `validation` is a fraction or a fold.
    #[serde(default = "yes")]
    pub group_duplicates: bool,
    /// Column of the CSVs with a group of each row, such as an age, optional: a model card has the
    /// metrics of each group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub group: Option<String>,
    /// What to do with a row or an image that cannot be read.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
    /// Class names, in the order of the class numbers. Without it they are FER2013's, those that
    /// `labels` names, the class folders of `train` in alphabetical order, or the classes of the packed
    /// file `train`; the list is empty until
    /// the config is checked.
    #[serde(default, deserialize_with = "at_least_one")]
    #[schemars(length(min = 2, max = MAX_CLASSES))]
    pub classes: Vec<String>,
    /// The class of each label in the files.
    #[serde(default, skip_serializing_if = "LabelNames::is_classes")]
    pub labels: LabelNames,
}

/// Where the labels of the rows of `data.train` come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelSource {
    /// The column `emotion`.
    #[default]
    Emotion,
    /// The class with the largest soft label; of equal ones, the first.
    SoftLabels,
}

impl LabelSource {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a validation fraction is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    /// The same fraction of each class.
    #[default]
    Stratified,
    /// Regardless of class; as scikit-learn's `train_test_split` without `stratify`.
    Random,
}

/// What to do with a row that cannot be read.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, clap::ValueEnum, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Fail with the first bad rows.
    #[default]
    Error,
    /// Skip the row and log the count.
    Skip,
}

fn yes() -> bool {
    true
}

/// An empty list would be taken for a list that is not set.
fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let classes = Vec::<String>::deserialize(deserializer)?;
    if classes.is_empty() {
        return Err(de::Error::invalid_length(0, &"2 to 100 class names"));
    }
    Ok(classes)
}

impl DataConfig {
    /// Sets `classes` if the config does not: to those of `train` ([`read::default_classes`]), to those that `labels` names, or to FER2013's.
    pub(crate) fn resolve(&mut self) {
        if self.classes.is_empty() {
            let of_data = read::default_classes(&self.train, &self.labels);
            self.classes = of_data.unwrap_or_else(|| self.labels.default_classes());
        }
    }

    /// Checks what the types do not: paths, the validation fraction, seed and class names.
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        check_seed("data.split_seed", self.split_seed.unwrap_or(0))?;
        let paths = [("data.train", Some(&self.train)), ("data.test", self.test.as_ref())];
        let more = [("data.soft_labels", self.soft_labels.as_ref()), ("data.exclude", self.exclude.as_ref())];
        for (key, path) in paths.into_iter().chain(more) {
            let Some(path) = path else { continue };
            require(!path.as_os_str().is_empty(), key, "\"\"", "the path of a CSV file")?;
            let expected = "the path of a CSV file: standard input cannot be read again when the run is resumed";
            require(!is_standard_input(path), key, format!("{path:?}"), expected)?;
        }
        if let Some(group) = &self.group {
            require(!group.trim().is_empty(), "data.group", "\"\"", "the name of a column")?;
        }
        let has_votes = self.label_source == LabelSource::Emotion || self.soft_labels.is_some();
        require(
            has_votes,
            "data.label_source",
            "soft_labels",
            "emotion, or data.soft_labels set to the path of a CSV file",
        )?;
        self.validation.check()?;
        check_classes(&self.classes).map_err(|problem| self.explain_numbered_folders(problem))?;
        self.labels.check(&self.classes, Advice::Config)
    }
}

impl DataConfig {
    /// A better explanation of classes that are the numbers of class folders.
    fn explain_numbered_folders(&self, problem: InvalidValue) -> InvalidValue {
        let is_number = |class: &String| class.parse::<usize>().is_ok();
        if !(self.labels.is_classes() && self.train.is_dir() && self.classes.iter().any(is_number)) {
            return problem;
        }
        let expected = format!(
            "names: class folders of {} are numbers; say what they mean, such as data.labels = {{ 1 = \"surprise\", 2 = \
             \"fear\" }}",
            self.train.display()
        );
        InvalidValue { expected, ..problem }
    }
}

/// Checks that class names are 2 to 100, distinct, and usable as CSV column names.
pub fn check_classes(classes: &[String]) -> Result<(), InvalidValue> {
    require((2..=MAX_CLASSES).contains(&classes.len()), "data.classes", classes.len(), "2 to 100 names")?;
    // Columns of CSV files match regardless of case.
    let distinct: BTreeSet<String> = classes.iter().map(|name| name.to_lowercase()).collect();
    let plain = |(number, name): (usize, &String)| {
        let fits = !name.is_empty() && name.trim() == name && name.chars().count() <= MAX_NAME;
        let reserved = ["id", "emotion"].contains(&name.to_lowercase().as_str());
        // A label that is a number is a position.
        let ambiguous = name.parse::<usize>().is_ok_and(|value| value != number);
        fits && !reserved && !ambiguous && !name.contains(['"', ',']) && !name.chars().any(char::is_control)
    };
    require(
        distinct.len() == classes.len() && classes.iter().enumerate().all(plain),
        "data.classes",
        format!("{classes:?}"),
        "names of 1 to 100 characters that differ not only in case, without quotes, commas, control characters and \
         outer spaces, not id or emotion, and no number but the class's own, from 0",
    )
}

/// Describes the train/validation split in a sentence, for reports.
pub fn describe_split(data: &DataConfig, seed: u64) -> String {
    let file_name = |path: &Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let train = file_name(&data.train);
    match &data.validation {
        Validation::Path(path) => format!("Trained on {train}, validated on {}.", file_name(path)),
        Validation::Usage(usage) => format!("Validated on the rows of {train} with Usage {usage}."),
        Validation::Fraction(fraction) => {
            format!("Validated on {}% of {train}: {}.", 100.0 * fraction, describe_sampling(data, seed))
        }
        Validation::Fold(fold) => format!("Validated on {fold} of {train}: {}.", describe_sampling(data, seed)),
    }
}

/// How rows are assigned to the parts of a split.
fn describe_sampling(data: &DataConfig, seed: u64) -> String {
    let kind = match data.split {
        SplitKind::Stratified => "stratified by class",
        SplitKind::Random => "random",
    };
    let duplicates =
        if data.group_duplicates { "exact duplicates kept together" } else { "exact duplicates not grouped" };
    format!("{kind}, seed {}, {duplicates}", data.split_seed.unwrap_or(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_are_unambiguous_in_csv_files() {
        let check = |names: &[&str]| check_classes(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert!(check(&["sad", "happy"]).is_ok() && check(&["0", "1"]).is_ok() && check(&["a b", "7x"]).is_ok());
        for names in [
            &["sad"][..],
            &["sad", "Sad"],
            &[" sad", "happy"],
            &["sad ", "happy"],
            &["ID", "happy"],
            &["1", "2"],
            &["a,b", "c"],
            &["", "c"],
        ] {
            assert!(check(names).is_err(), "{names:?}");
        }
    }
}
