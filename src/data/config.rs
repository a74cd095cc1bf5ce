//! `[data]`: the data files, their classes and the train/validation split.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use crate::util::validate::{InvalidValue, check_seed, require};

/// Names of FER2013's classes 0..6.
pub const CLASSES: [&str; 7] = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

/// Labels are stored as bytes; real datasets have far fewer classes.
const MAX_CLASSES: usize = 100;

/// Maximum length of a class name in characters.
const MAX_NAME: usize = 100;

/// `[data]`: training and validation data.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// CSV of training rows.
    pub train: PathBuf,
    /// CSV of test rows; read only to write a submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// CSV of votes or probabilities per training row, to train on with or instead of the label;
    /// networks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_labels: Option<PathBuf>,
    /// Validation rows: a fraction of the training rows, a CSV's path, or a Usage of the training
    /// CSV.
    #[serde(default)]
    pub validation: Validation,
    /// How a validation fraction is sampled.
    #[serde(default)]
    pub split: SplitKind,
    /// Seed of the split; default the run's seed. Set it to compare several seeds on one split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_seed: Option<u64>,
    /// Keep exact duplicates of an image in the same part; applies if `validation` is a fraction.
    #[serde(default = "yes")]
    pub group_duplicates: bool,
    /// What to do with a row that cannot be read.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
    /// Class names, in the order of the class numbers.
    #[serde(default = "default_classes")]
    pub classes: Vec<String>,
}

/// How a validation fraction is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    /// The same fraction of each class.
    #[default]
    Stratified,
    /// Regardless of class; as scikit-learn's `train_test_split` without `stratify`.
    Random,
}

/// What to do with a row that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
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

fn default_classes() -> Vec<String> {
    CLASSES.map(String::from).to_vec()
}

impl DataConfig {
    /// Checks what the types do not: paths, the validation fraction, seed and class names.
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        check_seed("data.split_seed", self.split_seed.unwrap_or(0))?;
        require(!self.train.as_os_str().is_empty(), "data.train", "\"\"", "the path of a CSV file")?;
        if let Some(path) = &self.soft_labels {
            require(!path.as_os_str().is_empty(), "data.soft_labels", "\"\"", "the path of a CSV file")?;
        }
        if let Validation::Fraction(fraction) = self.validation {
            require(
                fraction > 0.0 && fraction < 1.0,
                "data.validation",
                fraction,
                "a fraction above 0 and below 1, the path of a CSV file, or a Usage",
            )?;
        }
        check_classes(&self.classes)
    }
}

/// Checks that class names are 2 to 100, distinct, and usable as CSV column names.
pub fn check_classes(classes: &[String]) -> Result<(), InvalidValue> {
    require((2..=MAX_CLASSES).contains(&classes.len()), "data.classes", classes.len(), "2 to 100 names")?;
    let distinct: BTreeSet<&String> = classes.iter().collect();
    let plain = |name: &String| {
        let fits = !name.trim().is_empty() && name.chars().count() <= MAX_NAME;
        let reserved = ["id", "emotion"].contains(&name.as_str());
        fits && !reserved && !name.contains(['"', ',']) && !name.chars().any(char::is_control)
    };
    require(
        distinct.len() == classes.len() && classes.iter().all(plain),
        "data.classes",
        format!("{classes:?}"),
        "distinct names of 1 to 100 characters without quotes, commas and control characters, not id or emotion",
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
            let kind = match data.split {
                SplitKind::Stratified => "stratified by class",
                SplitKind::Random => "random",
            };
            let duplicates =
                if data.group_duplicates { "exact duplicates kept together" } else { "exact duplicates not grouped" };
            let seed = data.split_seed.unwrap_or(seed);
            format!("Validated on {}% of {train}: {kind}, seed {seed}, {duplicates}.", 100.0 * fraction)
        }
    }
}

/// `data.validation`: the source of the validation rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Validation {
    /// A fraction of the training rows.
    Fraction(f64),
    /// A separate CSV.
    Path(PathBuf),
    /// The rows of the training CSV with this Usage.
    Usage(String),
}

impl Default for Validation {
    fn default() -> Self {
        Self::Fraction(0.2)
    }
}

impl Serialize for Validation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fraction(fraction) => serializer.serialize_f64(*fraction),
            Self::Path(path) => path.serialize(serializer),
            Self::Usage(usage) => usage.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Validation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Validation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a fraction above 0 and below 1, a CSV's path, or a Usage such as \"PublicTest\"")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Validation, E> {
                Ok(Validation::Fraction(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Validation, E> {
                Ok(Validation::Fraction(value as f64))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Validation, E> {
                // Kaggle's usages are plain words, so anything that looks like a path is a path.
                if value.contains(['/', '.', '\\']) {
                    Ok(Validation::Path(value.into()))
                } else if value.is_empty() {
                    Err(E::invalid_value(de::Unexpected::Str(value), &self))
                } else {
                    Ok(Validation::Usage(value.into()))
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}
