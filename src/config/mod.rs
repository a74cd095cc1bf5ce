//! Config files: TOML text -> [`RawConfig`] (every key known, every type right) -> [`Config`] (every value in range).
//!
//! Only [`Config`] reaches the work, and only [`RawConfig::check`] makes one.

mod diagnostic;
pub(crate) mod load;
mod overrides;
mod toml_table;
mod train_config;

use std::ops::Deref;

use serde::{Deserialize, Serialize};

pub use load::{Checked, MAX_CONFIG, from_text, load};
pub use toml_table::{differing_keys, read_table, shown_key};
pub use train_config::{CheckpointEvery, EarlyStopConfig, MAX_EPOCHS, MAX_ROLLBACKS, TrainConfig};

use crate::data::config::{DataConfig, Validation};
use crate::device::{DeviceChoice, Precision};
use crate::model::ModelConfig;
use crate::transforms::AugmentConfig;
use crate::transforms::tta::PredictConfig;
use crate::util::validate::require;

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
    /// Random changes to every training image.
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

pub(crate) mod defaults {
    pub fn seed() -> u64 {
        42
    }
}

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
        let (is_soft, share) = (self.data.soft_labels.is_some(), self.train.soft_label_weight);
        require(
            is_soft || share == 1.0,
            "train.soft_label_weight",
            share,
            "data.soft_labels beside it, whose share it is",
        )?;
        Ok(Config(self))
    }
}

/// What configs of networks and of forests have in common.
pub(crate) fn check_common(name: &str, seed: u64, threads: usize, data: &DataConfig) -> Result<(), String> {
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
    data.check()
}
