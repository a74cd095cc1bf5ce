//! `[train]`: epochs, optimizer, learning rate, stopping, checkpoints.

use serde::{Deserialize, Serialize};

use crate::data::sampler::Sampling;
use crate::metrics::Monitor;
use crate::optim::class_weights::ClassWeights;
use crate::optim::optimizer::{AdamConfig, OptimizerConfig};
use crate::optim::schedule::{HoldThenDecay, ScheduleConfig};
use crate::transforms::resize::ProgressiveConfig;
use crate::util::validate::require;

/// The greatest `epochs`.
pub const MAX_EPOCHS: u32 = 100_000;

/// The greatest `max_rollbacks`.
pub const MAX_ROLLBACKS: u32 = 100;

/// `[train]`: how to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Greatest number of epochs.
    pub epochs: u32,
    /// Images in a step; the last of an epoch may hold fewer.
    pub batch: usize,
    /// The optimizer and its learning rate.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes with the epochs.
    pub schedule: ScheduleConfig,
    /// Share of every target that is spread evenly over all classes: 0 to below 1 (Szegedy et al. 2016).
    pub label_smoothing: f64,
    /// What each class counts in the loss.
    pub class_weights: ClassWeights,
    /// Which training images an epoch has.
    pub sampling: Sampling,
    /// Share of `data.soft_labels` in the targets, 0 to 1; the rest is the label's.
    pub soft_label_weight: f64,
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
            soft_label_weight: 1.0,
            ema: 0.0,
            clip_norm: 0.0,
            progressive: ProgressiveConfig::default(),
            early_stop: EarlyStopConfig::default(),
            checkpoint_every: CheckpointEvery { epochs: Some(1), steps: None, seconds: None },
            max_rollbacks: 0,
        }
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

impl TrainConfig {
    /// Whether epochs that are done hang on how many there will be: then `train.epochs` may not change when a run goes on.
    pub fn depends_on_epochs(&self) -> bool {
        matches!(self.schedule, ScheduleConfig::Cosine(_)) || self.progressive.is_on()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        require((1..=MAX_EPOCHS).contains(&self.epochs), "train.epochs", self.epochs, "1 to 100000")?;
        require((1..=65_536).contains(&self.batch), "train.batch", self.batch, "1 to 65536")?;
        require(self.max_rollbacks <= MAX_ROLLBACKS, "train.max_rollbacks", self.max_rollbacks, "0 to 100")?;
        self.optimizer.check()?;
        self.schedule.check(self.epochs, self.optimizer.lr())?;
        self.progressive.check()?;
        let smoothing = self.label_smoothing;
        require((0.0..1.0).contains(&smoothing), "train.label_smoothing", smoothing, "0 (off) to below 1")?;
        require(
            (0.0..=1.0).contains(&self.soft_label_weight),
            "train.soft_label_weight",
            self.soft_label_weight,
            "0 to 1",
        )?;
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
