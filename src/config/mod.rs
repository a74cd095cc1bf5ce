//! Config files: TOML text -> [`RawConfig`] (every key known, every type right) -> [`Config`] (every value in range).
//!
//! Only [`Config`] reaches the work, and only [`RawConfig::check`] makes one.

mod load;
mod values;

use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use load::{differing_keys, from_text, load, shown_key};
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
    /// Validation rows: a fraction of the training rows, a CSV's path, or a Usage of the training CSV.
    #[serde(default)]
    pub validation: Validation,
    /// How a fraction is drawn.
    #[serde(default)]
    pub split: SplitKind,
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

/// `[augment]`: random changes to every training face; 0 or false turns one off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// Greatest rotation in degrees, either way: 0 to 180.
    pub rotate: f64,
    /// Greatest shift as a fraction of height and width, either way: 0 to 1.
    pub shift: f64,
    /// Greatest zoom, in and out, x and y apart: 0 to below 1.
    pub zoom: f64,
    /// Mirror every second face.
    pub flip: bool,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self { rotate: 10.0, shift: 0.1, zoom: 0.1, flip: true }
    }
}

/// `[model]`: the network; `kind` names the architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelConfig {
    /// Blocks of convolution, pooling and batch norm, then dense layers.
    Cnn(CnnConfig),
}

/// `[model] kind = "cnn"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CnnConfig {
    /// Filters of each block: 1 to 8 blocks.
    pub filters: Vec<i64>,
    /// Convolutions in each block.
    pub convolutions: usize,
    /// Edge of the convolution kernel, odd.
    pub kernel: i64,
    /// Whether convolutions keep the picture's size.
    pub padding: Padding,
    /// How each block halves the picture.
    pub pooling: Pooling,
    /// Batch normalisation at the end of each block.
    pub normalization: bool,
    /// Widths of the hidden dense layers; may be empty.
    pub dense: Vec<i64>,
    /// Dropout probability after each hidden dense layer: 0 to below 1.
    pub dropout: f64,
    /// After each convolution and each hidden dense layer.
    pub activation: Activation,
}

impl Default for CnnConfig {
    fn default() -> Self {
        Self {
            filters: vec![32, 64, 128],
            convolutions: 1,
            kernel: 3,
            padding: Padding::Valid,
            pooling: Pooling::Max,
            normalization: true,
            dense: vec![256],
            dropout: 0.5,
            activation: Activation::Relu,
        }
    }
}

/// Padding of convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// None: each convolution takes kernel - 1 pixels off height and width.
    Valid,
    /// Zeros around: the size stays.
    Same,
}

/// Pooling over 2x2 pixels, stride 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The greatest.
    Max,
    /// The mean.
    Average,
}

/// Activation functions, as PyTorch's of the same name with its default parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(0, x)
    Relu,
    /// x where positive, else x/100
    LeakyRelu,
    /// x where positive, else exp(x) - 1
    Elu,
    /// x * Phi(x)
    Gelu,
    /// x * sigmoid(x)
    Silu,
}

/// `[train]`: how to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Greatest number of epochs.
    pub epochs: u32,
    /// Faces in a step; the last of an epoch may hold fewer.
    pub batch: usize,
    /// The optimizer and its learning rate.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes with the epochs.
    pub schedule: ScheduleConfig,
    /// When to stop before `epochs`.
    pub early_stop: EarlyStopConfig,
    /// How often `last.safetensors` is written; at least one of the three.
    pub checkpoint_every: CheckpointEvery,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 50,
            batch: 64,
            optimizer: OptimizerConfig::Adam(AdamConfig::default()),
            schedule: ScheduleConfig::HoldThenDecay { hold: 10, rate: 0.1 },
            early_stop: EarlyStopConfig::default(),
            checkpoint_every: CheckpointEvery { epochs: Some(1), steps: None, seconds: None },
        }
    }
}

/// `train.optimizer`; `kind` names the rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// Kingma and Ba 2015.
    Adam(AdamConfig),
    /// Adam with decoupled weight decay, Loshchilov and Hutter 2019.
    Adamw(AdamwConfig),
    /// Stochastic gradient descent with momentum.
    Sgd(SgdConfig),
}

/// `train.optimizer = { kind = "adam", ... }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamConfig {
    /// Learning rate at the start.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment after bias correction, as PyTorch does.
    pub eps: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-7 }
    }
}

/// `train.optimizer = { kind = "adamw", ... }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamwConfig {
    /// Learning rate at the start.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment after bias correction.
    pub eps: f64,
    /// Decoupled decay of convolution and dense weights; biases and norms are exempt.
    pub weight_decay: f64,
}

impl Default for AdamwConfig {
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-7, weight_decay: 0.01 }
    }
}

/// `train.optimizer = { kind = "sgd", ... }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SgdConfig {
    /// Learning rate at the start.
    pub lr: f64,
    /// Share of the last update that is kept: 0 to below 1.
    pub momentum: f64,
    /// Look ahead along the momentum (Nesterov), as PyTorch does.
    pub nesterov: bool,
    /// L2 penalty on convolution and dense weights; biases and norms are exempt.
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { lr: 0.01, momentum: 0.9, nesterov: true, weight_decay: 0.0 }
    }
}

/// `train.schedule`; `kind` names the function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// The learning rate stays.
    Constant,
    /// It stays for `hold` epochs, then is multiplied by exp(-rate) at the start of every further epoch.
    HoldThenDecay {
        /// Epochs at the full rate.
        #[serde(default = "defaults::hold")]
        hold: u32,
        /// Decay an epoch.
        #[serde(default = "defaults::rate")]
        rate: f64,
    },
}

/// `train.early_stop`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EarlyStopConfig {
    /// The figure watched.
    pub monitor: Monitor,
    /// Stop this many epochs after the best one; 0 never stops.
    pub patience: u32,
}

impl Default for EarlyStopConfig {
    fn default() -> Self {
        Self { monitor: Monitor::ValAccuracy, patience: 5 }
    }
}

/// The figure that early stopping watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// Validation accuracy, higher is better.
    ValAccuracy,
    /// Validation loss, lower is better.
    ValLoss,
}

/// `train.checkpoint_every`: whichever comes first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointEvery {
    /// Every so many epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// Every so many steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Every so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

mod defaults {
    pub fn seed() -> u64 {
        42
    }
    pub fn yes() -> bool {
        true
    }
    pub fn hold() -> u32 {
        10
    }
    pub fn rate() -> f64 {
        0.1
    }
    pub fn classes() -> Vec<String> {
        super::CLASSES.map(String::from).to_vec()
    }
}

/// Greatest number of classes: labels are bytes, and a face data set has few.
const MAX_CLASSES: usize = 100;

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
        self.check_general()?;
        self.augment.check()?;
        match &self.model {
            ModelConfig::Cnn(cnn) => cnn.check()?,
        }
        self.train.check()?;
        Ok(Config(self))
    }

    fn check_general(&self) -> Result<(), String> {
        let name_ok = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
        let named = !self.name.is_empty() && self.name.len() <= 100 && !self.name.starts_with('.');
        require(
            named && self.name.chars().all(name_ok),
            "name",
            &self.name,
            "1 to 100 letters, digits or -_.+, not starting with a dot",
        )?;
        require(
            self.seed <= i64::MAX as u64,
            "seed",
            self.seed,
            "at most 9223372036854775807, the greatest integer of TOML",
        )?;
        require(self.threads <= 1024, "threads", self.threads, "0 (one per core) to 1024")?;
        if let Validation::Fraction(fraction) = self.data.validation {
            require(
                fraction > 0.0 && fraction < 1.0,
                "data.validation",
                fraction,
                "a fraction above 0 and below 1, a CSV's path, or a Usage",
            )?;
        }
        let classes = &self.data.classes;
        require((2..=MAX_CLASSES).contains(&classes.len()), "data.classes", classes.len(), "2 to 100 names")?;
        let distinct: BTreeSet<&String> = classes.iter().collect();
        let plain = |name: &String| !name.trim().is_empty() && !name.contains(['"', ',', '\n', '\r']);
        require(
            distinct.len() == classes.len() && classes.iter().all(plain),
            "data.classes",
            format!("{classes:?}"),
            "distinct names without quotes, commas and line breaks",
        )
    }
}

impl AugmentConfig {
    fn check(&self) -> Result<(), String> {
        require((0.0..=180.0).contains(&self.rotate), "augment.rotate", self.rotate, "0 to 180 degrees")?;
        require((0.0..=1.0).contains(&self.shift), "augment.shift", self.shift, "0 to 1, a fraction of the edge")?;
        require((0.0..1.0).contains(&self.zoom), "augment.zoom", self.zoom, "0 to below 1")
    }
}

impl CnnConfig {
    fn check(&self) -> Result<(), String> {
        let widths = |values: &[i64], most: i64| values.iter().all(|v| (1..=most).contains(v));
        let filters = format!("{:?}", self.filters);
        require(
            (1..=8).contains(&self.filters.len()) && widths(&self.filters, 4096),
            "model.filters",
            filters,
            "1 to 8 numbers of 1 to 4096",
        )?;
        require((1..=8).contains(&self.convolutions), "model.convolutions", self.convolutions, "1 to 8 a block")?;
        require(
            (1..=15).contains(&self.kernel) && self.kernel % 2 == 1,
            "model.kernel",
            self.kernel,
            "an odd number, 1 to 15",
        )?;
        let dense = format!("{:?}", self.dense);
        require(
            self.dense.len() <= 8 && widths(&self.dense, 65536),
            "model.dense",
            dense,
            "up to 8 numbers of 1 to 65536",
        )?;
        require((0.0..1.0).contains(&self.dropout), "model.dropout", self.dropout, "0 to below 1")?;
        if self.side_after_blocks().is_none() {
            let shape =
                format!("{} blocks of {} convolutions, kernel {}", self.filters.len(), self.convolutions, self.kernel);
            let advice =
                "blocks that leave at least one pixel of 48x48: fewer blocks, a smaller kernel, or padding = \"same\"";
            return require(false, "model.filters", shape, advice);
        }
        Ok(())
    }

    /// Edge of the feature map after the last block; `None` when a block would leave nothing.
    pub fn side_after_blocks(&self) -> Option<i64> {
        let lost = if self.padding == Padding::Valid { (self.kernel - 1) * self.convolutions as i64 } else { 0 };
        self.filters.iter().try_fold(SIDE as i64, |side, _| Some((side - lost).max(0) / 2).filter(|side| *side > 0))
    }
}

impl TrainConfig {
    fn check(&self) -> Result<(), String> {
        require((1..=1_000_000).contains(&self.epochs), "train.epochs", self.epochs, "1 to 1000000")?;
        require((1..=65_536).contains(&self.batch), "train.batch", self.batch, "1 to 65536")?;
        self.optimizer.check()?;
        if let ScheduleConfig::HoldThenDecay { rate, .. } = self.schedule {
            require((0.0..=100.0).contains(&rate), "train.schedule.rate", rate, "0 to 100")?;
        }
        let every = &self.checkpoint_every;
        let positive =
            every.epochs != Some(0) && every.steps != Some(0) && every.seconds.is_none_or(|s| s > 0.0 && s.is_finite());
        let some = every.epochs.is_some() || every.steps.is_some() || every.seconds.is_some();
        require(
            positive && some,
            "train.checkpoint_every",
            format!("{every:?}"),
            "at least one of epochs, steps, seconds, above 0",
        )
    }
}

impl OptimizerConfig {
    /// The learning rate before the schedule.
    pub fn lr(&self) -> f64 {
        match self {
            Self::Adam(adam) => adam.lr,
            Self::Adamw(adamw) => adamw.lr,
            Self::Sgd(sgd) => sgd.lr,
        }
    }

    fn check(&self) -> Result<(), String> {
        let lr = self.lr();
        require(lr > 0.0 && lr <= 100.0, "train.optimizer.lr", lr, "above 0, at most 100")?;
        let moments = |beta1: f64, beta2: f64, eps: f64| {
            require((0.0..1.0).contains(&beta1), "train.optimizer.beta1", beta1, "0 to below 1")?;
            require((0.0..1.0).contains(&beta2), "train.optimizer.beta2", beta2, "0 to below 1")?;
            require(eps > 0.0 && eps <= 1.0, "train.optimizer.eps", eps, "above 0, at most 1")
        };
        let decay =
            |value: f64| require((0.0..=10.0).contains(&value), "train.optimizer.weight_decay", value, "0 to 10");
        match self {
            Self::Adam(adam) => moments(adam.beta1, adam.beta2, adam.eps),
            Self::Adamw(adamw) => moments(adamw.beta1, adamw.beta2, adamw.eps).and_then(|()| decay(adamw.weight_decay)),
            Self::Sgd(sgd) => {
                require((0.0..1.0).contains(&sgd.momentum), "train.optimizer.momentum", sgd.momentum, "0 to below 1")?;
                require(
                    !sgd.nesterov || sgd.momentum > 0.0,
                    "train.optimizer.nesterov",
                    "true",
                    "false where momentum is 0",
                )?;
                decay(sgd.weight_decay)
            }
        }
    }
}

fn require(holds: bool, key: &str, value: impl std::fmt::Display, allowed: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{key} = {value} is not allowed: expected {allowed}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_network_ends_at_four_by_four() {
        assert_eq!(CnnConfig::default().side_after_blocks(), Some(4));
        let deep = CnnConfig { filters: vec![8; 6], ..CnnConfig::default() };
        assert_eq!(deep.side_after_blocks(), None);
        let same = CnnConfig { filters: vec![8; 5], padding: Padding::Same, ..CnnConfig::default() };
        assert_eq!(same.side_after_blocks(), Some(1));
    }
}
