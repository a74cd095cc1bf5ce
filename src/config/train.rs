//! `[train]`: epochs, optimizer, learning rate, stopping, checkpoints.

use serde::{Deserialize, Serialize};

use super::class_weights::{ClassWeights, Sampling};
use super::schedule::{HoldThenDecay, ScheduleConfig};
use super::{SIDE, require};

/// The greatest `epochs`.
pub const MOST_EPOCHS: u32 = 100_000;

/// The greatest `max_rollbacks`.
pub const MOST_ROLLBACKS: u32 = 100;

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
    /// Share of every target that is spread evenly over all classes: 0 to below 1 (Szegedy et al. 2016).
    pub label_smoothing: f64,
    /// What each class counts in the loss.
    pub class_weights: ClassWeights,
    /// Which training faces an epoch has.
    pub sampling: Sampling,
    /// Share of `data.soft_labels` in the targets, 0 to 1; the rest is the label's.
    pub soft_share: f64,
    /// Decay, per step, of an exponential moving average of weights and norms' statistics, which is then what is validated and kept as best; 0 keeps
    /// the weights themselves (Polyak and Juditsky 1992).
    pub ema: f64,
    /// Greatest Euclidean norm of all gradients together, to which greater ones are scaled; 0 leaves them (Pascanu et al. 2013).
    pub clip_norm: f64,
    /// Whether the first epochs train on smaller pictures.
    pub progressive: ProgressiveConfig,
    /// When to stop before `epochs`.
    pub early_stop: EarlyStopConfig,
    /// How often `last.safetensors` is written; at least one of the three.
    pub checkpoint_every: CheckpointEvery,
    /// How often a run that diverges goes back to its last good checkpoint, each time with half the learning rate; 0 stops it.
    pub max_rollbacks: u32,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 50,
            batch: 64,
            optimizer: OptimizerConfig::Adam(AdamConfig::default()),
            schedule: ScheduleConfig::HoldThenDecay(HoldThenDecay::default()),
            label_smoothing: 0.0,
            class_weights: ClassWeights::None,
            sampling: Sampling::Shuffle,
            soft_share: 1.0,
            ema: 0.0,
            clip_norm: 0.0,
            progressive: ProgressiveConfig::default(),
            early_stop: EarlyStopConfig::default(),
            checkpoint_every: CheckpointEvery { epochs: Some(1), steps: None, seconds: None },
            max_rollbacks: 0,
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

/// `train.progressive`: faces are made `from` x `from` pixels at first, and larger from epoch to epoch, until from the share
/// `until` of all epochs on they have their 48x48: the first epochs, which learn what is coarse, cost less (Howard et al. 2018
/// in DAWNBench; Tan and Le 2021, EfficientNetV2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProgressiveConfig {
    /// Edge of a face in the first epoch, in pixels: a multiple of 4, 16 to 48; 48 is off.
    pub from: usize,
    /// Share of the epochs after which faces have their full size: 0 to 1.
    pub until: f64,
}

impl Default for ProgressiveConfig {
    fn default() -> Self {
        Self { from: SIDE, until: 0.5 }
    }
}

impl ProgressiveConfig {
    /// Whether any epoch has smaller pictures.
    pub fn is_on(&self) -> bool {
        self.from < SIDE && self.until > 0.0
    }

    fn check(&self) -> Result<(), String> {
        let fits = (16..=SIDE).contains(&self.from) && self.from.is_multiple_of(4);
        require(fits, "train.progressive.from", self.from, "a multiple of 4, 16 to 48 (off)")?;
        require((0.0..=1.0).contains(&self.until), "train.progressive.until", self.until, "0 to 1")
    }
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

/// The figure that early stopping or `train.schedule` watches.
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

/// Reads `train.optimizer` by itself: unlike the tagged enum, it tells which key is wrong.
pub(super) fn probe_optimizer(mut table: toml::Table) -> Result<(), serde_path_to_error::Error<toml::de::Error>> {
    match table.remove("kind").as_ref().and_then(toml::Value::as_str) {
        Some("adam") => serde_path_to_error::deserialize::<_, AdamConfig>(table).map(drop),
        Some("adamw") => serde_path_to_error::deserialize::<_, AdamwConfig>(table).map(drop),
        Some("sgd") => serde_path_to_error::deserialize::<_, SgdConfig>(table).map(drop),
        _ => Ok(()),
    }
}

impl TrainConfig {
    /// Whether epochs that are done hang on how many there will be: then `train.epochs` may not change when a run goes on.
    pub fn depends_on_epochs(&self) -> bool {
        matches!(self.schedule, ScheduleConfig::Cosine(_)) || self.progressive.is_on()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        require((1..=MOST_EPOCHS).contains(&self.epochs), "train.epochs", self.epochs, "1 to 100000")?;
        require((1..=65_536).contains(&self.batch), "train.batch", self.batch, "1 to 65536")?;
        require(self.max_rollbacks <= MOST_ROLLBACKS, "train.max_rollbacks", self.max_rollbacks, "0 to 100")?;
        self.optimizer.check()?;
        self.schedule.check(self.epochs, self.optimizer.lr())?;
        self.progressive.check()?;
        let smoothing = self.label_smoothing;
        require((0.0..1.0).contains(&smoothing), "train.label_smoothing", smoothing, "0 (off) to below 1")?;
        require((0.0..=1.0).contains(&self.soft_share), "train.soft_share", self.soft_share, "0 to 1")?;
        require((0.0..1.0).contains(&self.ema), "train.ema", self.ema, "0 (off) to below 1")?;
        require((0.0..=1e6).contains(&self.clip_norm), "train.clip_norm", self.clip_norm, "0 (off) to 1e6")?;
        let every = &self.checkpoint_every;
        let in_range = |seconds: f64| seconds > 0.0 && seconds <= 1e9;
        let positive = every.epochs != Some(0) && every.steps != Some(0) && every.seconds.is_none_or(in_range);
        let some = every.epochs.is_some() || every.steps.is_some() || every.seconds.is_some();
        let shown = toml::to_string(every).unwrap_or_default().trim().replace('\n', ", ");
        let allowed = "at least one of epochs, steps, seconds, each above 0, at most 1e9 seconds";
        require(positive && some, "train.checkpoint_every", format!("{{ {shown} }}"), allowed)
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
