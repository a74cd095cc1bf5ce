//! One metric per file. Labels and predictions are class numbers `[N]`; probabilities are float32 [N, classes], row-major.

mod accuracy;
mod calibration;
mod confusion;
pub mod epoch;
mod f1;
mod loss;
mod mistakes;
mod monitor;
pub mod predictions;

use serde::Serialize;

pub use accuracy::{accuracy, accuracy_without};
pub use calibration::{CalibrationBin, calibration_bins, expected_calibration_error};
pub use confusion::Confusion;
pub use epoch::EpochMetrics;
pub use f1::{PerClass, macro_f1, per_class};
pub use loss::cross_entropy;
pub use mistakes::most_confident_mistakes;
pub use monitor::Monitor;
pub use predictions::Predictions;

/// Everything that `grimace evaluate` reports about labeled images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Images looked at.
    pub rows: usize,
    /// Images that do not also stand among the training rows.
    pub rows_dedup: usize,
    /// Share of images whose label was predicted.
    pub accuracy: f64,
    /// The same over images that do not also stand among the training rows; absent when there are none.
    pub accuracy_dedup: Option<f64>,
    /// Mean over classes of F1.
    pub macro_f1: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// Mean cross entropy in nats.
    pub loss: f64,
    /// Precision, recall and F1 of each class.
    pub per_class: Vec<PerClass>,
    /// Images by true class (outer) and predicted class (inner).
    pub confusion: Confusion,
}

impl Evaluation {
    /// Compares `predictions` with `labels`; `seen` says which images also stand among the training rows.
    pub fn of(predictions: &Predictions, labels: &[u8], seen: &[bool], classes: &[String]) -> Self {
        let predicted = predictions.predicted();
        let confusion = Confusion::of(labels, &predicted, classes.len());
        let per_class = per_class(&confusion, classes);
        Self {
            rows: labels.len(),
            rows_dedup: seen.iter().filter(|seen| !**seen).count(),
            accuracy: accuracy(labels, &predicted),
            accuracy_dedup: accuracy_without(labels, &predicted, seen),
            macro_f1: macro_f1(&confusion, &per_class),
            ece: expected_calibration_error(&predictions.probabilities, predictions.classes, labels),
            loss: cross_entropy(&predictions.logits, predictions.classes, labels),
            per_class,
            confusion,
        }
    }
}
