//! Config files: TOML text -> [`RawConfig`] (every key known, every type right) -> [`Config`] (every value in range).
//!
//! Only [`Config`] reaches the work, and only [`RawConfig::check`] makes one.

mod augment;
mod class_weights;
mod complaint;
mod forest;
mod load;
mod model;
mod predict;
mod schedule;
mod table;
mod train;
mod values;

use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use augment::AugmentConfig;
pub use class_weights::{ClassWeights, Sampling};
pub use forest::{Finder, ForestConfig, ForestTable, MaxFeatures, RawForestConfig};
pub use load::{Checked, LARGEST_CONFIG, from_text, load};
pub use model::{Activation, BlockShape, CnnConfig, ModelConfig, Padding, Pooling, ResnetConfig, VggConfig};
pub use predict::{PredictConfig, Views};
pub use schedule::{Constant, Cosine, HoldThenDecay, Plateau, ScheduleConfig};
pub use table::{differing_keys, read_table, shown_key};
pub use train::{
    AdamConfig, AdamwConfig, CheckpointEvery, EarlyStopConfig, MOST_EPOCHS, MOST_ROLLBACKS, Monitor, OptimizerConfig,
    ProgressiveConfig, SgdConfig, TrainConfig,
};
pub use values::{DeviceChoice, Validation};

/// Names of FER2013's classes in the order of their numbers 0..6.
pub const CLASSES: [&str; 7] = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

/// Edge of a face in pixels.
pub const SIDE: usize = 48;
/// Pixels of a face, row-major.
pub const PIXELS: usize = SIDE * SIDE;

/// A checked config: names are known, values are in range. Reads as [`RawConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct Config(RawConfig);

impl Deref for Config {
    type Target = RawConfig;

    fn deref(&self) -> &RawConfig {
        &self.0
    }
}

/// A config as written: keys and types are right, values not yet looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Name of the run; the default run directory is `runs/<name>-<UTC time>`.
    pub name: String,
    /// Every random number of a run follows from it.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// Where to train.
    #[serde(default)]
    pub device: DeviceChoice,
    /// Number format of the forward and backward pass; weights and optimizer state are float32 always.
    #[serde(default)]
    pub precision: Precision,
    /// CPU threads; 0 takes one per core.
    #[serde(default)]
    pub threads: usize,
    /// Which rows to train and to validate on.
    pub data: DataConfig,
    /// Random changes to every training face.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// The network.
    pub model: ModelConfig,
    /// How to train it.
    #[serde(default)]
    pub train: TrainConfig,
    /// How to use it when it is trained.
    #[serde(default)]
    pub predict: PredictConfig,
}

/// Number format of the forward and backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where the device computes it natively, float32 elsewhere.
    #[default]
    Auto,
    /// float32.
    F32,
    /// bfloat16 with float32 weights.
    Bf16,
}

/// `[data]`: which rows to train and to validate on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Exact copies of a face fall into one part; applies where `validation` is a fraction.
    #[serde(default = "defaults::yes")]
    pub keep_copies_together: bool,
    /// What to do with a row that cannot be read.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
    /// Class names in the order of their numbers.
    #[serde(default = "defaults::classes")]
    pub classes: Vec<String>,
}

/// How a validation fraction is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    /// The same fraction of every class.
    #[default]
    Stratified,
    /// Regardless of class, as scikit-learn's `train_test_split` without `stratify`.
    Random,
}

/// What to do with a row that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Stop and name the first ones.
    #[default]
    Error,
    /// Leave it out, count it and say so.
    Skip,
}

mod defaults {
    pub fn seed() -> u64 {
        42
    }
    pub fn yes() -> bool {
        true
    }
    pub fn classes() -> Vec<String> {
        super::CLASSES.map(String::from).to_vec()
    }
}

/// Greatest number of classes: labels are bytes, and a face data set has few.
const MAX_CLASSES: usize = 100;

/// Characters of the longest name of a class.
const LONGEST_NAME: usize = 100;

impl Config {
    /// The config as TOML with every key, as `config.toml` and checkpoints hold it.
    ///
    /// # Errors
    /// Only the TOML writer's, which no checked config causes.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(&self.0)?)
    }
}

impl RawConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// The first value out of range: its key, the value, and what is allowed.
    pub fn check(self) -> Result<Config, String> {
        check_common(&self.name, self.seed, self.threads, &self.data)?;
        self.augment.check()?;
        self.model.check()?;
        self.train.check()?;
        if self.train.progressive.is_on() {
            let from = self.train.progressive.from;
            let allowed =
                "48 (off), or model.kind = \"resnet\" with so few stages that a pixel is left of such pictures";
            require(self.model.takes(from), "train.progressive.from", from, allowed)?;
        }
        self.train.class_weights.check(self.data.classes.len())?;
        let (is_soft, share) = (self.data.soft_labels.is_some(), self.train.soft_share);
        require(is_soft || share == 1.0, "train.soft_share", share, "data.soft_labels beside it, whose share it is")?;
        Ok(Config(self))
    }
}

/// What configs of networks and of forests have in common.
fn check_common(name: &str, seed: u64, threads: usize, data: &DataConfig) -> Result<(), String> {
    let name_ok = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
    let named = !name.is_empty() && name.len() <= 100 && !name.starts_with('.');
    require(
        named && name.chars().all(name_ok),
        "name",
        name,
        "1 to 100 letters, digits or -_.+, not starting with a dot",
    )?;
    for (key, seed) in [("seed", Some(seed)), ("data.split_seed", data.split_seed)] {
        let seed = seed.unwrap_or(0);
        require(seed <= i64::MAX as u64, key, seed, "at most 9223372036854775807, the greatest integer of TOML")?;
    }
    require(threads <= 1024, "threads", threads, "0 (one per core) to 1024")?;
    require(!data.train.as_os_str().is_empty(), "data.train", "\"\"", "the path of a CSV file")?;
    if let Some(path) = &data.soft_labels {
        require(!path.as_os_str().is_empty(), "data.soft_labels", "\"\"", "the path of a CSV file")?;
    }
    if let Validation::Fraction(fraction) = data.validation {
        require(
            fraction > 0.0 && fraction < 1.0,
            "data.validation",
            fraction,
            "a fraction above 0 and below 1, a CSV's path, or a Usage",
        )?;
    }
    check_classes(&data.classes)
}

/// Checks class names: as many as labels can tell apart, distinct, and such that they can head a CSV column.
///
/// # Errors
/// What is wrong, and what is allowed.
pub fn check_classes(classes: &[String]) -> Result<(), String> {
    require((2..=MAX_CLASSES).contains(&classes.len()), "data.classes", classes.len(), "2 to 100 names")?;
    let distinct: BTreeSet<&String> = classes.iter().collect();
    let plain = |name: &String| {
        let fits = !name.trim().is_empty() && name.chars().count() <= LONGEST_NAME;
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

fn require(holds: bool, key: &str, value: impl std::fmt::Display, allowed: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{key} = {value} is not allowed: expected {allowed}")) }
}
