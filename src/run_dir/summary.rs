//! `summary.json`: the result of a run and its provenance.

use serde::{Deserialize, Serialize};

use super::checkpoint_state::InitRecord;
use crate::config::Config;
use crate::metrics::{Monitor, accuracy_interval};

/// Maximum size of a summary or a config of a run in bytes.
pub const MAX_SUMMARY: u64 = 1 << 22;

/// `summary.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the run.
    pub name: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// `cpu`, `cuda:N` or `mps`.
    pub device: String,
    /// `f32` or `bf16`.
    pub precision: String,
    /// CPU threads.
    pub threads: usize,
    /// RNG seed.
    pub seed: u64,
    /// Finished epochs.
    pub epochs: u32,
    /// The metric by which the best epoch is the best: `train.early_stop.monitor`. Older versions
    /// lack it: there it is accuracy.
    #[serde(default)]
    pub monitor: Monitor,
    /// Epoch of `best.safetensors`, from 1.
    pub best_epoch: Option<u32>,
    /// Its value of `monitor`.
    #[serde(default)]
    pub best_monitor_value: Option<f64>,
    /// Its validation accuracy.
    pub best_val_accuracy: Option<f64>,
    /// The 95% Wilson interval of `best_val_accuracy`, over the validation images. Older versions lack
    /// the intervals.
    #[serde(default)]
    pub best_val_accuracy_interval: Option<(f64, f64)>,
    /// The same without validation images that are exact duplicates of training images.
    pub best_val_accuracy_dedup: Option<f64>,
    /// Its 95% Wilson interval.
    #[serde(default)]
    pub best_val_accuracy_dedup_interval: Option<(f64, f64)>,
    /// Validation accuracy of the last epoch.
    pub last_val_accuracy: Option<f64>,
    /// Its 95% Wilson interval.
    #[serde(default)]
    pub last_val_accuracy_interval: Option<(f64, f64)>,
    /// Number of training images.
    pub train_rows: usize,
    /// Number of validation images.
    pub validation_rows: usize,
    /// `epochs`, `early_stop`, `interrupted`, `paused` (by `grimace tune`) or `diverged`.
    pub stopped: String,
    /// Number of rollbacks after a divergence.
    pub rollbacks: u32,
    /// Training and validation time, resumed runs included.
    pub seconds: f64,
    /// Median over epochs of training images per second.
    pub train_images_per_second: Option<f64>,
    /// What makes the result mean less, or the run slower; without the prefix `warning: `. Older
    /// versions lack it.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What the result was computed with.
    pub provenance: Provenance,
}

impl Summary {
    /// The state as `grimace runs` shows it, such as `done`.
    pub fn state(&self) -> &str {
        describe_stop_reason(&self.stopped)
    }

    /// The interval of `best_val_accuracy`, also for a run of an older version.
    pub fn best_interval(&self) -> Option<(f64, f64)> {
        let computed = || accuracy_interval(self.best_val_accuracy?, self.validation_rows);
        self.best_val_accuracy_interval.or_else(computed)
    }

    /// The interval of `last_val_accuracy`, also for a run of an older version.
    pub fn last_interval(&self) -> Option<(f64, f64)> {
        let computed = || accuracy_interval(self.last_val_accuracy?, self.validation_rows);
        self.last_val_accuracy_interval.or_else(computed)
    }

    /// What `best_val_accuracy` is, such as `best validation accuracy`; names the monitored metric
    /// unless that is accuracy.
    pub fn best_accuracy_name(&self) -> String {
        match self.monitor {
            Monitor::ValAccuracy => "best validation accuracy".to_owned(),
            Monitor::LastEpoch => "validation accuracy of the last epoch".to_owned(),
            monitor => format!("validation accuracy of the best epoch (by {monitor})"),
        }
    }

    /// Whether training is finished. A config with more epochs makes it resumable again.
    pub fn is_finished(&self, config: &Config) -> bool {
        match self.stopped.as_str() {
            "early_stop" => true,
            "epochs" => self.epochs >= config.train.epochs,
            _ => false,
        }
    }
}

/// What a result was computed with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Provenance {
    /// Grimace's version.
    pub version: String,
    /// libtorch's version.
    pub libtorch: String,
    /// CPU kernels used.
    pub kernels: String,
    /// The command that started the run.
    pub command: String,
    /// The commands that resumed it.
    pub resumed: Vec<String>,
    /// Hash of the images and labels.
    pub data_hash: String,
    /// Hash of `split.csv`.
    pub split_hash: String,
    /// The file of the initial weights, unless they were random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<InitRecord>,
}

/// `stopped` in `summary.json` while a run trains; it stays there if the process is killed.
pub const RUNNING: &str = "running";

/// Display text of `stopped` in `summary.json`.
pub fn describe_stop_reason(stopped: &str) -> &str {
    match stopped {
        "early_stop" => "early stop",
        "epochs" => "done",
        other => other,
    }
}

/// `summary.json` of a forest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForestSummary {
    /// Name of the run.
    pub name: String,
    /// RNG seed.
    pub seed: u64,
    /// CPU threads.
    pub threads: usize,
    /// Number of trees configured.
    pub trees: usize,
    /// Features sampled per node.
    pub max_features: usize,
    /// `histogram` or `linfa`.
    pub finder: String,
    /// Nodes of all trees; `None` if the forest was not fitted.
    pub nodes: Option<usize>,
    /// Cross-validation folds configured; 0 for none.
    pub folds: usize,
    /// Accuracy of each fitted fold.
    pub cv_accuracies: Vec<f64>,
    /// Their mean; `None` unless all folds were fitted.
    pub cv_mean: Option<f64>,
    /// Their population standard deviation (`ddof=0`), as `numpy.std`.
    pub cv_std: Option<f64>,
    /// The 95% Wilson interval of `cv_mean`, over the training images: each is scored in one fold. Older
    /// versions lack the intervals.
    #[serde(default)]
    pub cv_interval: Option<(f64, f64)>,
    /// Mean over folds of the accuracy without exact duplicates of the fold's training images.
    pub cv_mean_dedup: Option<f64>,
    /// Validation accuracy of the forest fitted on all training rows.
    pub val_accuracy: Option<f64>,
    /// Its 95% Wilson interval.
    #[serde(default)]
    pub val_accuracy_interval: Option<(f64, f64)>,
    /// The same without validation images that are exact duplicates of training images.
    pub val_accuracy_dedup: Option<f64>,
    /// Its 95% Wilson interval.
    #[serde(default)]
    pub val_accuracy_dedup_interval: Option<(f64, f64)>,
    /// Wall time of cross-validation.
    pub cv_seconds: Option<f64>,
    /// Wall time of the fit on all training rows.
    pub fit_seconds: Option<f64>,
    /// Number of training images.
    pub train_rows: usize,
    /// Number of validation images.
    pub validation_rows: usize,
    /// `done` or `interrupted`.
    pub stopped: String,
    /// What makes the result mean less, or the run slower; without the prefix `warning: `. Older
    /// versions lack it.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What the result was computed with.
    pub provenance: ForestProvenance,
}

/// What a forest's result was computed with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForestProvenance {
    /// Grimace's version.
    pub version: String,
    /// The command.
    pub command: String,
    /// Hash of the images and labels.
    pub data_hash: String,
    /// Hash of `split.csv`.
    pub split_hash: String,
}
