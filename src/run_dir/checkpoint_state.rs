//! Where a run stands: everything that is not a tensor.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::config::{MAX_EPOCHS, MAX_ROLLBACKS};
use crate::metrics::EpochMetrics;

/// Where a run stands: everything that is not a tensor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// Finished epochs.
    pub epoch: u32,
    /// Finished steps of the running epoch; all of them where only its validation is missing.
    pub step: u64,
    /// Sum over the images of those steps of their loss.
    pub loss_sum: f64,
    /// Correct predictions in those steps.
    pub correct: i64,
    /// Seconds spent in those steps.
    pub epoch_seconds: f64,
    /// Seconds spent in training and validation so far, over all resumptions.
    pub seconds: f64,
    /// The best epoch by validation accuracy.
    pub best: Option<Best>,
    /// The best value of the monitored figure, and its epoch (from 1).
    pub monitor: Option<(f64, u32)>,
    /// One record for each finished epoch: what `metrics.jsonl` holds.
    pub records: Vec<EpochMetrics>,
    /// How often the run diverged and was rolled back; each time halved the learning rate.
    pub rollbacks: u32,
    /// Hash of the images trained on.
    pub data_hash: String,
    /// Hash of their split.
    pub split_hash: String,
    /// Hash of the soft labels trained on, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_labels_hash: Option<String>,
    /// CPU threads used.
    pub threads: usize,
    /// Number format used, `f32` or `bf16`.
    pub precision: String,
    /// Device used.
    pub device: String,
    /// Our own CPU kernels used, as `grimace doctor` says it.
    pub kernels: String,
    /// The command that began the run, then those that went on with it.
    pub commands: Vec<String>,
}

impl State {
    /// Checks what the rest relies on: a checksum proves that a file is whole, not that its writer meant well.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn check(&self) -> Result<()> {
        let is_time = |seconds: f64| (0.0..1e12).contains(&seconds);
        let records = self.records.iter().zip(1..).all(|(record, epoch)| {
            let numbers = [record.lr, record.loss, record.accuracy, record.val_loss, record.val_accuracy];
            let finite = numbers.iter().all(|number| number.is_finite());
            record.epoch == epoch && finite && is_time(record.seconds) && is_time(record.images_per_second)
        });
        // The best on disk may be of a later epoch than the checkpoint: a run may have died between the two.
        let known = |best: Best| (1..=MAX_EPOCHS).contains(&best.epoch) && (0.0..=1.0).contains(&best.val_accuracy);
        let best = self.best.is_none_or(known);
        let monitor = self.monitor.is_none_or(|(value, epoch)| (1..=self.epoch).contains(&epoch) && value.is_finite());
        for (holds, what) in [
            (self.records.len() == self.epoch as usize && records, "its records are not those of its epochs"),
            (best && monitor, "its best epoch is none"),
            (is_time(self.seconds) && is_time(self.epoch_seconds), "its times are none"),
            (self.loss_sum.is_finite() && self.loss_sum.abs() < 1e30, "its sum of losses is none"),
            ((0..1 << 40).contains(&self.correct), "its number of correct predictions is none"),
            (self.rollbacks <= MAX_ROLLBACKS, "it was rolled back more often than a config allows"),
        ] {
            ensure!(holds, "{what}");
        }
        Ok(())
    }
}

/// The best epoch by validation accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// From 1.
    pub epoch: u32,
    /// Over all validation images.
    pub val_accuracy: f64,
    /// Over those that do not also stand among the training rows.
    pub val_accuracy_dedup: Option<f64>,
}
