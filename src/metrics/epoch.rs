//! The metrics of one epoch: a line of `metrics.jsonl`.

use serde::{Deserialize, Serialize};

use super::Monitor;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: u32,
    /// Learning rate.
    pub lr: f64,
    /// Mean loss over the training images, as augmented and with dropout, while the weights change.
    pub loss: f64,
    /// Accuracy under the same conditions.
    pub accuracy: f64,
    /// Mean loss over the validation images after the epoch.
    pub val_loss: f64,
    /// Accuracy over the validation images after the epoch.
    pub val_accuracy: f64,
    /// The same without images that also stand among the training rows.
    pub val_accuracy_dedup: Option<f64>,
    /// Wall time of the epoch, validation included.
    pub seconds: f64,
    /// Training rows over training seconds.
    pub images_per_second: f64,
}

impl EpochMetrics {
    /// The figure that `monitor` names.
    pub fn watched(&self, monitor: Monitor) -> f64 {
        match monitor {
            Monitor::ValAccuracy => self.val_accuracy,
            Monitor::ValLoss => self.val_loss,
        }
    }

    /// Whether `other` says the same of the same epoch, whatever time it took.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let timeless = |record: &Self| Self { seconds: 0.0, images_per_second: 0.0, ..record.clone() };
        timeless(self) == timeless(other)
    }
}
