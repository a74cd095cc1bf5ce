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
pub use epoch::EpochRecord;
pub use f1::{PerClass, macro_f1, per_class};
pub use loss::cross_entropy;
pub use mistakes::most_confident_mistakes;
pub use monitor::Monitor;
pub use predictions::Outputs;

/// Everything that `grimace evaluate` reports about labelled faces.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Faces looked at.
    pub rows: usize,
    /// Faces that do not also stand among the training rows.
    pub rows_without_copies: usize,
    /// Share of faces whose label was predicted.
    pub accuracy: f64,
    /// The same over faces that do not also stand among the training rows; absent when there are none.
    pub accuracy_without_copies: Option<f64>,
    /// Mean over classes of F1.
    pub macro_f1: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// Mean cross entropy in nats.
    pub loss: f64,
    /// Precision, recall and F1 of each class.
    pub per_class: Vec<PerClass>,
    /// Faces by true class (outer) and predicted class (inner).
    pub confusion: Confusion,
}

impl Evaluation {
    /// Compares `outputs` with `labels`; `seen` says which faces also stand among the training rows.
    pub fn of(outputs: &Outputs, labels: &[u8], seen: &[bool], classes: &[String]) -> Self {
        let predicted = outputs.predicted();
        let confusion = Confusion::of(labels, &predicted, classes.len());
        let per_class = per_class(&confusion, classes);
        Self {
            rows: labels.len(),
            rows_without_copies: seen.iter().filter(|seen| !**seen).count(),
            accuracy: accuracy(labels, &predicted),
            accuracy_without_copies: accuracy_without(labels, &predicted, seen),
            macro_f1: macro_f1(&confusion, &per_class),
            ece: expected_calibration_error(&outputs.probabilities, outputs.classes, labels),
            loss: cross_entropy(&outputs.logits, outputs.classes, labels),
            per_class,
            confusion,
        }
    }
}
