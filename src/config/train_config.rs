//! `[train]`: epochs, optimizer, learning rate, early stopping, checkpoints.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cuda_graph::CudaGraph;
use crate::data::sampler::Sampling;
use crate::metrics::Monitor;
use crate::model::{LayerGroups, ModelConfig};
use crate::optim::class_weights::ClassWeights;
use crate::optim::optimizer::{AdamConfig, OptimizerConfig};
use crate::optim::schedule::{HoldThenDecay, ScheduleConfig};
use crate::transforms::resize::ProgressiveConfig;
use crate::util::validate::{InvalidValue, require};

/// Maximum of `train.epochs`.
pub const MAX_EPOCHS: u32 = 100_000;

/// Maximum of `train.max_rollbacks`.
pub const MAX_ROLLBACKS: u32 = 100;

/// `[train]`: training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// What a new run starts from instead of random weights, optional: a run directory (its best
    /// weights), a checkpoint, or weights in safetensors with the names of this network or of
    /// torchvision's ResNet. A resumed run does not read it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Layers that are not trained, by name: of `cnn` `block1`, ..., `dense1`, ..., `output`; of
    /// `vgg` `stage1`, ..., `dense1`, ..., `output`; of `resnet` `stem`, `stage1`, ..., `output`.
    /// Their batch norms use and keep their running statistics.
    pub freeze: Vec<String>,
    /// Layer-wise learning-rate decay: the learning rate of each layer is this times that of the
    /// next, and that of the output is the optimizer's; 1 is off (Clark et al. 2020; as in BEiT and
    /// timm).
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub layer_decay: f64,
    /// Maximum number of epochs.
    #[schemars(range(min = 1, max = MAX_EPOCHS))]
    pub epochs: u32,
    /// Batch size; the last batch of an epoch may be smaller. Several processes that train together
    /// share each batch.
    #[schemars(range(min = 1, max = 65536))]
    pub batch: usize,
    /// Optimizer and initial learning rate.
    pub optimizer: OptimizerConfig,
    /// Learning rate schedule.
    pub schedule: ScheduleConfig,
    /// Label smoothing: this weight of each target is spread evenly over all classes (Szegedy et al.
    /// 2016); 0 is off.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub label_smoothing: f64,
    /// Weight of each class in the loss.
    pub class_weights: ClassWeights,
    /// Sampling of the training images in an epoch.
    pub sampling: Sampling,
    /// Weight of `data.soft_labels` in the targets; the hard label has the rest.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub soft_label_weight: f64,
    /// Decay per step of an exponential moving average (EMA) of weights and norm statistics; 0 is off.
    /// The EMA is validated and saved as best (Polyak and Juditsky 1992).
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub ema: f64,
    /// Maximum global norm of the gradients; 0 is off (Pascanu et al. 2013;
    /// `torch.nn.utils.clip_grad_norm_`).
    #[schemars(range(min = 0.0, max = 1e6))]
    pub clip_norm: f64,
    /// Progressive resizing: smaller images in the first epochs, or in all.
    pub progressive: ProgressiveConfig,
    /// Early stopping.
    pub early_stop: EarlyStopConfig,
    /// Checkpoint interval of `last.safetensors`; at least one of the three keys.
    pub checkpoint_every: CheckpointEvery,
    /// How many times a diverged run rolls back to its last good checkpoint, each time with half
    /// the learning rate; with 0 it stops.
    #[schemars(range(min = 0, max = MAX_ROLLBACKS))]
    pub max_rollbacks: u32,
    /// Whether a step on an NVIDIA GPU is recorded once as a CUDA graph and launched as a whole;
    /// otherwise its operations are launched one by one. `"auto"` is `false` until it has been
    /// measured on GPUs.
    pub cuda_graph: CudaGraph,
    /// Whether batch norms of several processes that train together use the statistics of the whole
    /// batch, as one process does (PyTorch: `torch.nn.SyncBatchNorm`), rather than those of the part
    /// of each process.
    pub sync_batch_norm: bool,
    /// How many seconds a process waits for others that train with it: longer than any of them may be
    /// busy alone, such as with writing a checkpoint.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 86400))]
    pub timeout: f64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            init: None,
            freeze: Vec::new(),
            layer_decay: 1.0,
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
            cuda_graph: CudaGraph::Auto,
            sync_batch_norm: true,
            timeout: 60.0,
        }
    }
}

/// `train.early_stop`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EarlyStopConfig {
    /// The metric that selects `best.safetensors` and ends the run when it stops improving. It
    /// selects the best epoch also if `patience` is 0. `"last_epoch"` needs `patience = 0`.
    pub monitor: Monitor,
    /// Stop after this many epochs without improvement; 0 never stops.
    pub patience: u32,
}

impl Default for EarlyStopConfig {
    fn default() -> Self {
        Self { monitor: Monitor::ValAccuracy, patience: 5 }
    }
}

/// `train.checkpoint_every`: the interval that ends first counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointEvery {
    /// Interval in epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub epochs: Option<u32>,
    /// Interval in steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub steps: Option<u64>,
    /// Interval in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1e9))]
    pub seconds: Option<f64>,
}

impl TrainConfig {
    /// Whether every epoch depends on the total number of epochs, so that a resumed run must not
    /// change `train.epochs`.
    pub fn depends_on_epochs(&self) -> bool {
        matches!(self.schedule, ScheduleConfig::Cosine(_)) || self.progressive.grows()
    }

    /// Checks the layers to freeze against those of the network.
    pub(crate) fn check_layers(&self, model: &ModelConfig) -> Result<(), InvalidValue> {
        let layers = LayerGroups::new(model);
        let names = layers.names();
        let listed = names.join(", ");
        for name in &self.freeze {
            let allowed = format!("layers of this network: {listed}");
            require(names.contains(&name.as_str()), "train.freeze", format!("[{name:?}]"), &allowed)?;
        }
        let trains = names.iter().any(|name| self.freeze.iter().all(|frozen| frozen != name));
        require(trains, "train.freeze", format!("{:?}", self.freeze), &format!("not all of {listed}: one must train"))
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        let is_named = self.init.as_deref() != Some(Path::new(""));
        require(is_named, "train.init", "\"\"", "a run directory or a file of weights; omit it for random weights")?;
        let decay = self.layer_decay;
        require(decay > 0.0 && decay <= 1.0, "train.layer_decay", decay, "above 0, at most 1 (off)")?;
        require((1..=MAX_EPOCHS).contains(&self.epochs), "train.epochs", self.epochs, "1 to 100000")?;
        require((1..=65_536).contains(&self.batch), "train.batch", self.batch, "1 to 65536")?;
        require(self.max_rollbacks <= MAX_ROLLBACKS, "train.max_rollbacks", self.max_rollbacks, "0 to 100")?;
        let EarlyStopConfig { monitor, patience } = self.early_stop;
        require(
            monitor.selects() || patience == 0,
            "train.early_stop.patience",
            patience,
            "0, because monitor = \"last_epoch\" selects nothing",
        )?;
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
        let timeout = self.timeout;
        require(timeout > 0.0 && timeout <= 86_400.0, "train.timeout", timeout, "above 0, at most 86400 seconds")?;
        let every = &self.checkpoint_every;
        let in_range = |seconds: f64| seconds > 0.0 && seconds <= 1e9;
        let positive = every.epochs != Some(0) && every.steps != Some(0) && every.seconds.is_none_or(in_range);
        let some = every.epochs.is_some() || every.steps.is_some() || every.seconds.is_some();
        let found = toml::to_string(every).unwrap_or_default().trim().replace('\n', ", ");
        let allowed = "at least one of epochs, steps, seconds, each above 0, at most 1e9 seconds";
        require(positive && some, "train.checkpoint_every", format!("{{ {found} }}"), allowed)
    }
}
