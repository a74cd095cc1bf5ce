//! Where a run stands: everything that is not a tensor.

use serde::{Deserialize, Serialize};

/// Where a run stands: everything that is not a tensor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// Finished epochs.
    pub epoch: u32,
    /// Finished steps of the running epoch; all of them where only its validation is missing.
    pub step: u64,
    /// Sum over the faces of those steps of their loss.
    pub loss_sum: f64,
    /// Correct predictions in those steps.
    pub hits: i64,
    /// Seconds spent in those steps.
    pub epoch_seconds: f64,
    /// Seconds spent in training and validation so far, over all resumptions.
    pub seconds: f64,
    /// The best epoch by validation accuracy.
    pub best: Option<Best>,
    /// The best value of the monitored figure, and its epoch (from 1).
    pub monitor: Option<(f64, u32)>,
    /// One record for each finished epoch: what `metrics.jsonl` holds.
    pub records: Vec<EpochRecord>,
    /// How often the run diverged and was rolled back; each time halved the learning rate.
    pub rollbacks: u32,
    /// Hash of the faces trained on.
    pub data_hash: String,
    /// Hash of their split.
    pub split_hash: String,
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

/// The best epoch by validation accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// From 1.
    pub epoch: u32,
    /// Over all validation faces.
    pub val_accuracy: f64,
    /// Over those that do not also stand among the training rows.
    pub val_accuracy_without_copies: Option<f64>,
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: u32,
    /// Learning rate.
    pub lr: f64,
    /// Mean loss over the training faces, as augmented and with dropout, while the weights change.
    pub loss: f64,
    /// Accuracy under the same conditions.
    pub accuracy: f64,
    /// Mean loss over the validation faces after the epoch.
    pub val_loss: f64,
    /// Accuracy over the validation faces after the epoch.
    pub val_accuracy: f64,
    /// The same without faces that also stand among the training rows.
    pub val_accuracy_without_copies: Option<f64>,
    /// Wall time of the epoch, validation included.
    pub seconds: f64,
    /// Training rows over training seconds.
    pub images_per_second: f64,
}

impl EpochRecord {
    /// Whether `other` says the same of the same epoch, whatever time it took.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let timeless = |record: &Self| Self { seconds: 0.0, images_per_second: 0.0, ..record.clone() };
        timeless(self) == timeless(other)
    }
}
