//! The metrics of an epoch.

use serde::{Deserialize, Serialize};

use super::Monitor;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Epoch, from 1.
    pub epoch: u32,
    /// Learning rate of the first step.
    pub lr: f64,
    /// Running mean of the training loss, with augmentation and dropout.
    pub loss: f64,
    /// Running training accuracy, with augmentation and dropout.
    pub accuracy: f64,
    /// Validation loss after the epoch.
    pub val_loss: f64,
    /// Validation accuracy after the epoch.
    pub val_accuracy: f64,
    /// Deduplicated validation accuracy: without exact duplicates of training images.
    pub val_accuracy_dedup: Option<f64>,
    /// Wall time of the epoch in seconds, including validation.
    pub seconds: f64,
    /// Training rows per second of training.
    pub images_per_second: f64,
}

impl EpochMetrics {
    /// The value of the metric `monitor`.
    pub fn monitored_value(&self, monitor: Monitor) -> f64 {
        match monitor {
            Monitor::ValAccuracy => self.val_accuracy,
            Monitor::ValLoss => self.val_loss,
        }
    }

    /// Whether all fields but the timings are equal.
    pub fn equals_except_time(&self, other: &Self) -> bool {
        let without_time = |record: &Self| Self { seconds: 0.0, images_per_second: 0.0, ..record.clone() };
        without_time(self) == without_time(other)
    }
}
