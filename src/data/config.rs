//! `[data]`: where the rows come from and how they are divided.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use crate::util::validate::require;

/// Names of FER2013's classes in the order of their numbers 0..6.
pub const CLASSES: [&str; 7] = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

/// Greatest number of classes: labels are bytes, and an image data set has few.
const MAX_CLASSES: usize = 100;

/// Characters of the longest name of a class.
const MAX_NAME: usize = 100;

/// `[data]`: which rows to train and to validate on.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// CSV of training rows.
    pub train: PathBuf,
    /// CSV of rows to predict for a submission; read only where one is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// CSV of votes or probabilities for each training row, to train on beside its label or in its stead; only for networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_labels: Option<PathBuf>,
    /// Validation rows: a fraction of the training rows, a CSV's path, or a Usage of the training CSV.
    #[serde(default)]
    pub validation: Validation,
    /// How a fraction is drawn.
    #[serde(default)]
    pub split: SplitKind,
    /// Seed of the split, where it is not the run's own: runs with several seeds then have one split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_seed: Option<u64>,
    /// Exact copies of an image fall into one part; applies where `validation` is a fraction.
    #[serde(default = "yes")]
    pub group_duplicates: bool,
    /// What to do with a row that cannot be read.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
    /// Class names in the order of their numbers.
    #[serde(default = "default_classes")]
    pub classes: Vec<String>,
}

/// How a validation fraction is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    /// The same fraction of every class.
    #[default]
    Stratified,
    /// Regardless of class, as scikit-learn's `train_test_split` without `stratify`.
    Random,
}

/// What to do with a row that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Stop and name the first ones.
    #[default]
    Error,
    /// Leave it out, count it and say so.
    Skip,
}

fn yes() -> bool {
    true
}

fn default_classes() -> Vec<String> {
    CLASSES.map(String::from).to_vec()
}

impl DataConfig {
    /// Checks what the type does not: class names.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_classes(&self.classes)
    }
}

/// Checks class names: as many as labels can tell apart, distinct, and such that they can head a CSV column.
///
/// # Errors
/// What is wrong, and what is allowed.
pub fn check_classes(classes: &[String]) -> Result<(), String> {
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

/// How the validation images were divided off.
pub fn describe_split(data: &DataConfig, seed: u64) -> String {
    let shown = |path: &Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let train = shown(&data.train);
    match &data.validation {
        Validation::Path(path) => {
            format!("The validation images are those of {}, the training images those of {train}.", shown(path))
        }
        Validation::Usage(usage) => format!("The validation images are the rows of {train} with Usage {usage}."),
        Validation::Fraction(fraction) => {
            let kind = match data.split {
                SplitKind::Stratified => "the same share of every class",
                SplitKind::Random => "regardless of class",
            };
            let copies =
                if data.group_duplicates { "copies of an image kept together" } else { "copies of an image ignored" };
            let seed = data.split_seed.unwrap_or(seed);
            format!(
                "The validation images are {}% of {train}, drawn with seed {seed}, {kind}, {copies}.",
                100.0 * fraction
            )
        }
    }
}

/// `data.validation`: where the validation rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Validation {
    /// This fraction of the training rows.
    Fraction(f64),
    /// A CSV of its own.
    Path(PathBuf),
    /// The rows of the training CSV that have this Usage.
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
                // Kaggle's usages are bare words; whatever looks like a path is one.
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
