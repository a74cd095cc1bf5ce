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
    /// Macro-averaged F1 of the validation images; absent in epochs trained by an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_macro_f1: Option<f64>,
    /// Wall time of the epoch in seconds, including validation.
    pub seconds: f64,
    /// Training rows per second of training.
    pub images_per_second: f64,
}

impl EpochMetrics {
    /// The value of the metric `monitor`; NaN, which is never better, if the epoch lacks it.
    pub fn monitored_value(&self, monitor: Monitor) -> f64 {
        match monitor {
            Monitor::ValAccuracy => self.val_accuracy,
            Monitor::ValLoss => self.val_loss,
            Monitor::ValMacroF1 => self.val_macro_f1.unwrap_or(f64::NAN),
            Monitor::LastEpoch => f64::from(self.epoch),
        }
    }

    /// Whether all fields but the timings are equal. A macro F1 that only one of them has does not
    /// count: older versions did not compute it.
    pub fn equals_except_time(&self, other: &Self) -> bool {
        let val_macro_f1 = |record: &Self| self.val_macro_f1.and(other.val_macro_f1).and(record.val_macro_f1);
        let comparable = |record: &Self| Self {
            seconds: 0.0,
            images_per_second: 0.0,
            val_macro_f1: val_macro_f1(record),
            ..record.clone()
        };
        comparable(self) == comparable(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_of_an_older_version_lack_the_macro_f1() {
        let line = r#"{"epoch":1,"lr":0.001,"loss":1.5,"accuracy":0.4,"val_loss":1.25,"val_accuracy":0.5,"val_accuracy_dedup":null,"seconds":2.0,"images_per_second":100.0}"#;
        let old: EpochMetrics = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&old).unwrap(), line, "its line stays byte for byte");
        assert!(old.monitored_value(Monitor::ValMacroF1).is_nan());
        let new = |val_macro_f1| EpochMetrics { val_macro_f1: Some(val_macro_f1), seconds: 3.0, ..old.clone() };
        assert!(old.equals_except_time(&new(0.25)) && new(0.25).equals_except_time(&old));
        assert!(!new(0.25).equals_except_time(&new(0.5)));
        assert_eq!(new(0.25).monitored_value(Monitor::ValMacroF1), 0.25);
        assert_eq!(new(0.25).monitored_value(Monitor::ValLoss), 1.25);
    }
}
