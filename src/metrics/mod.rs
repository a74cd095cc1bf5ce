//! Metrics, one per file. Labels and predictions are class numbers `[N]`; probabilities and logits
//! are float32 [N, classes], row-major.

mod accuracy;
mod calibration;
mod confident_mistakes;
mod confusion_matrix;
mod cross_entropy;
pub mod epoch;
mod f1;
mod monitor;
pub mod predictions;

use serde::Serialize;

pub use accuracy::{accuracy, accuracy_excluding};
pub use calibration::{CalibrationBin, calibration_bins, expected_calibration_error};
pub use confident_mistakes::most_confident_mistakes;
pub use confusion_matrix::ConfusionMatrix;
pub use cross_entropy::cross_entropy;
pub use epoch::EpochMetrics;
pub use f1::{ClassMetrics, macro_f1, per_class};
pub use monitor::Monitor;
pub use predictions::Predictions;

/// The results of `grimace evaluate` on labeled images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of images.
    pub rows: usize,
    /// Number of images without exact duplicates of training images.
    pub rows_dedup: usize,
    /// Accuracy.
    pub accuracy: f64,
    /// Deduplicated accuracy: without exact duplicates of training images; absent if none are left.
    pub accuracy_dedup: Option<f64>,
    /// Macro-averaged F1.
    pub macro_f1: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Precision, recall and F1 per class.
    pub per_class: Vec<ClassMetrics>,
    /// Counts by true class (outer) and predicted class (inner).
    pub confusion: ConfusionMatrix,
}

impl Evaluation {
    /// Evaluates `predictions`. The mask `duplicates` marks exact duplicates of training images.
    pub fn new(predictions: &Predictions, labels: &[u8], duplicates: &[bool], classes: &[String]) -> Self {
        let predicted = predictions.predicted();
        let confusion = ConfusionMatrix::new(labels, &predicted, classes.len());
        let per_class = per_class(&confusion, classes);
        Self {
            rows: labels.len(),
            rows_dedup: duplicates.iter().filter(|duplicate| !**duplicate).count(),
            accuracy: accuracy(labels, &predicted),
            accuracy_dedup: accuracy_excluding(labels, &predicted, duplicates),
            macro_f1: macro_f1(&confusion),
            ece: expected_calibration_error(&predictions.probabilities, predictions.classes, labels),
            loss: cross_entropy(&predictions.logits, predictions.classes, labels),
            per_class,
            confusion,
        }
    }
}
