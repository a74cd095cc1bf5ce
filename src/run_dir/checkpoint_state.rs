//! The state of a run in a checkpoint: everything but tensors.

use std::fmt::{self, Display, Formatter};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::config::{MAX_EPOCHS, MAX_ROLLBACKS};
use crate::metrics::{EpochMetrics, Monitor};

/// The state of a run: everything in a checkpoint but tensors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// Finished epochs.
    pub epoch: u32,
    /// Finished steps of the current epoch; all of them if only its validation is left.
    pub step: u64,
    /// Sum of the per-image loss in those steps.
    pub loss_sum: f64,
    /// Correct predictions in those steps.
    pub correct: i64,
    /// Seconds spent in those steps.
    pub epoch_seconds: f64,
    /// Seconds spent in finished epochs, training and validation, resumed runs included.
    pub seconds: f64,
    /// The best epoch by `train.early_stop.monitor`, whose weights are in `best.safetensors`.
    pub best: Option<BestEpoch>,
    /// The best value of `train.early_stop.monitor` for early stopping, and its epoch (from 1).
    /// Unlike `best`, it is rolled back after a divergence.
    pub monitor: Option<(f64, u32)>,
    /// Metrics of each finished epoch, as in `metrics.jsonl`.
    pub records: Vec<EpochMetrics>,
    /// Number of rollbacks after a divergence; each halved the learning rate.
    pub rollbacks: u32,
    /// Hash of the images and labels.
    pub data_hash: String,
    /// Hash of `split.csv`.
    pub split_hash: String,
    /// Hash of the soft labels, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_labels_hash: Option<String>,
    /// CPU threads used.
    pub threads: usize,
    /// Precision used, `f32` or `bf16`.
    pub precision: String,
    /// Device used.
    pub device: String,
    /// CPU kernels used, as `grimace doctor` prints them.
    pub kernels: String,
    /// The command that started the run, then those that resumed it.
    pub commands: Vec<String>,
    /// The weights that the run started from, unless they were random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<InitRecord>,
}

/// The file of the initial weights of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitRecord {
    /// Its path.
    pub path: String,
    /// BLAKE3 of its bytes, in hex.
    pub hash: String,
    /// Number of validation images of the run.
    pub validation_images: usize,
    /// How many of them the initial weights were trained on; `None` if that is not known.
    pub seen_validation_images: Option<usize>,
}

impl State {
    /// Checks ranges and consistency. A checksum proves that a file is complete, not that its
    /// content makes sense.
    ///
    /// # Errors
    /// The field that is invalid.
    pub fn check(&self) -> Result<()> {
        let is_time = |seconds: f64| (0.0..1e12).contains(&seconds);
        let records_are_valid = self.records.iter().zip(1..).all(|(record, epoch)| {
            let numbers = [record.lr, record.loss, record.accuracy, record.val_loss, record.val_accuracy];
            let are_finite = numbers.iter().chain(record.val_macro_f1.iter()).all(|number| number.is_finite());
            record.epoch == epoch && are_finite && is_time(record.seconds) && is_time(record.images_per_second)
        });
        // best.safetensors may be newer than the checkpoint: the run may have died between writing
        // the two.
        let is_valid_best = |best: BestEpoch| {
            (1..=MAX_EPOCHS).contains(&best.epoch)
                && (0.0..=1.0).contains(&best.val_accuracy)
                && best.monitored_value().is_finite()
        };
        let best_is_valid = self.best.is_none_or(is_valid_best);
        let monitor_is_valid =
            self.monitor.is_none_or(|(value, epoch)| (1..=self.epoch).contains(&epoch) && value.is_finite());
        for (is_valid, problem) in [
            (self.records.len() == self.epoch as usize && records_are_valid, "its records do not match its epochs"),
            (best_is_valid && monitor_is_valid, "its best epoch is invalid"),
            (is_time(self.seconds) && is_time(self.epoch_seconds), "its times are invalid"),
            (self.loss_sum.is_finite() && self.loss_sum.abs() < 1e30, "its sum of losses is invalid"),
            ((0..1 << 40).contains(&self.correct), "its number of correct predictions is invalid"),
            (self.rollbacks <= MAX_ROLLBACKS, "it was rolled back more often than any config allows"),
        ] {
            ensure!(is_valid, "{problem}");
        }
        Ok(())
    }
}

/// The best epoch by `train.early_stop.monitor`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestEpoch {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Accuracy over all validation images.
    pub val_accuracy: f64,
    /// Accuracy without exact duplicates of training images.
    pub val_accuracy_dedup: Option<f64>,
    /// The metric by which it is the best, and its value. Absent in checkpoints of older versions,
    /// where it is always accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitored: Option<(Monitor, f64)>,
}

impl BestEpoch {
    /// The metric by which it is the best.
    pub fn monitor(&self) -> Monitor {
        self.monitored.map_or(Monitor::ValAccuracy, |(monitor, _)| monitor)
    }

    /// The value of that metric.
    pub fn monitored_value(&self) -> f64 {
        self.monitored.map_or(self.val_accuracy, |(_, value)| value)
    }

    /// Its value of `monitor`, from `records` if it was selected by another metric; `None` if they
    /// lack it.
    pub fn value_of(&self, monitor: Monitor, records: &[EpochMetrics]) -> Option<f64> {
        if self.monitor() == monitor {
            return Some(self.monitored_value());
        }
        let record = records.iter().find(|record| record.epoch == self.epoch)?;
        Some(record.monitored_value(monitor)).filter(|value| value.is_finite())
    }
}

impl Display for BestEpoch {
    /// Formats as `val_acc 0.5012`, followed by the metric that selected it unless that is
    /// accuracy.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "val_acc {:.4}", self.val_accuracy)?;
        match self.monitor() {
            Monitor::ValAccuracy => Ok(()),
            monitor => write!(f, ", {}", monitor.describe(self.monitored_value())),
        }
    }
}
