//! Config files: TOML -> [`RawConfig`] (known keys, right types) -> [`Config`] (values in range).
//!
//! Everything else takes a [`Config`], and only [`RawConfig::check`] creates one.

mod cuda_graph;
mod diagnostic;
mod kind_change;
pub(crate) mod load;
mod overrides;
mod serde_message;
mod toml_table;
mod train_config;

use std::ops::Deref;

use serde::{Deserialize, Serialize};

pub use cuda_graph::CudaGraph;
pub use diagnostic::find_line;
pub use load::{ConfigError, ConfigFile, MAX_CONFIG, from_text, load, load_with_overrides, with_values};
pub use overrides::Override;
pub use toml_table::{differing_keys, format_value, read_table, value_at};
pub use train_config::{CheckpointEvery, EarlyStopConfig, MAX_EPOCHS, MAX_ROLLBACKS, TrainConfig};

use crate::data::config::DataConfig;
use crate::device::{DeviceChoice, Precision};
use crate::model::ModelConfig;
use crate::transforms::AugmentConfig;
use crate::transforms::tta::PredictConfig;
use crate::util::validate::{InvalidValue, check_seed, require};

/// A checked config: every value is in range. Dereferences to [`RawConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct Config(RawConfig);

impl Deref for Config {
    type Target = RawConfig;

    fn deref(&self) -> &RawConfig {
        &self.0
    }
}

/// A parsed config: keys and types are right, values are unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Name of the run; the default run directory is `runs/<name>-<UTC time>`.
    pub name: String,
    /// RNG seed of the run.
    #[serde(default = "defaults::seed")]
    #[schemars(range(max = i64::MAX))]
    pub seed: u64,
    /// Device to train on.
    #[serde(default)]
    pub device: DeviceChoice,
    /// dtype of the forward and backward pass; weights and optimizer state are always float32.
    #[serde(default)]
    pub precision: Precision,
    /// CPU threads; 0 means one per core.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1024))]
    pub threads: usize,
    /// Data files, classes and split.
    pub data: DataConfig,
    /// Data augmentation.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// Architecture.
    pub model: ModelConfig,
    /// Training.
    #[serde(default)]
    pub train: TrainConfig,
    /// Inference.
    #[serde(default)]
    pub predict: PredictConfig,
}

pub(crate) mod defaults {
    pub fn seed() -> u64 {
        42
    }
}

impl Config {
    /// Serializes the resolved config, with every key, for `config.toml` and checkpoints.
    ///
    /// # Errors
    /// Those of the TOML serializer, which a checked config does not cause.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(&self.0)?)
    }
}

impl RawConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn check(mut self) -> Result<Config, InvalidValue> {
        self.data.resolve();
        check_common(&self.name, self.seed, self.threads, &self.data)?;
        self.augment.check()?;
        self.model.check()?;
        self.train.check()?;
        self.train.check_layers(&self.model)?;
        if self.train.progressive.is_on() {
            let from = self.train.progressive.from;
            let allowed = "48 (off), or model.kind = \"resnet\" with stages that leave a pixel of the image";
            require(self.model.takes(from), "train.progressive.from", from, allowed)?;
        }
        self.train.class_weights.check(self.data.classes.len())?;
        let (has_soft_labels, weight) = (self.data.soft_labels.is_some(), self.train.soft_label_weight);
        require(
            has_soft_labels || weight == 1.0,
            "train.soft_label_weight",
            weight,
            "1 without data.soft_labels; set data.soft_labels to the path of a CSV file",
        )?;
        Ok(Config(self))
    }
}

/// Checks the keys that networks and forests share.
pub(crate) fn check_common(name: &str, seed: u64, threads: usize, data: &DataConfig) -> Result<(), InvalidValue> {
    let is_allowed = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
    let fits = !name.is_empty() && name.len() <= 100 && !name.starts_with('.');
    require(
        fits && name.chars().all(is_allowed),
        "name",
        name,
        "1 to 100 letters, digits or -_.+, not starting with a dot",
    )?;
    check_seed("seed", seed)?;
    require(threads <= 1024, "threads", threads, "0 (one per core) to 1024")?;
    data.check()
}
/// The text of a resolved config, with defaults for keys that an older version did not have. A text that
/// is not a config stays as it is.
pub fn with_defaults(text: &str) -> String {
    let resolved = from_text::<Config>(text, "").ok().and_then(|config| config.to_toml().ok());
    resolved.unwrap_or_else(|| text.to_owned())
}
