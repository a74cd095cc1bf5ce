//! Metrics, one per file. Labels and predictions are class numbers `[N]`; probabilities and logits
//! are float32 [N, classes], row-major.

mod accuracy;
mod calibration_error;
mod confident_mistakes;
mod confusion_matrix;
mod cross_entropy;
pub mod epoch;
mod f1;
mod intervals;
mod label_errors;
mod mcnemar;
mod monitor;
pub mod paired_bootstrap;
mod paired_comparison;
pub mod predictions;
mod roc;
mod temperature;
mod top_k;
pub mod two_sample;

use serde::Serialize;

pub use accuracy::{accuracy, accuracy_excluding};
pub use calibration_error::{CalibrationBin, calibration_bins, expected_calibration_error};
pub use confident_mistakes::most_confident_mistakes;
pub use confusion_matrix::ConfusionMatrix;
pub use cross_entropy::cross_entropy;
pub use epoch::EpochMetrics;
pub use f1::{ClassMetrics, macro_f1, per_class};
pub use intervals::{
    accuracy_cell, accuracy_interval, bootstrap_interval, describe_accuracy, describe_interval, wilson_interval,
};
pub use label_errors::{LabelError, label_errors};
pub use mcnemar::{McNemar, McNemarMethod, holm};
pub use monitor::Monitor;
pub use paired_comparison::{ClassComparison, DedupComparison, PairedComparison};
pub use predictions::{Predictions, ViewPredictions};
pub use roc::{RocCurve, roc_curve, roc_curves};
pub use temperature::{FittedTemperature, fit_temperature};
pub use top_k::top_k_accuracy;

/// The results of `grimace evaluate` on labeled images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of images.
    pub rows: usize,
    /// Number of images without exact duplicates of training images.
    pub rows_dedup: usize,
    /// Accuracy.
    pub accuracy: f64,
    /// Its 95% Wilson interval; absent without images.
    pub accuracy_interval: Option<(f64, f64)>,
    /// Deduplicated accuracy: without exact duplicates of training images; absent if none are left.
    pub accuracy_dedup: Option<f64>,
    /// Its 95% Wilson interval.
    pub accuracy_dedup_interval: Option<(f64, f64)>,
    /// Fraction of images whose class is among the two most probable; absent with two classes.
    pub top2_accuracy: Option<f64>,
    /// Its 95% Wilson interval.
    pub top2_accuracy_interval: Option<(f64, f64)>,
    /// Mean over classes of the area under the ROC curve, each class against all others; over the
    /// classes that occur.
    pub macro_auc: Option<f64>,
    /// Macro-averaged F1.
    pub macro_f1: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Precision, recall, specificity, F1 and AUC per class.
    pub per_class: Vec<ClassMetrics>,
    /// Counts by true class (outer) and predicted class (inner).
    pub confusion: ConfusionMatrix,
}

impl Evaluation {
    /// Evaluates `predictions`. The mask `duplicates` marks exact duplicates of training images.
    pub fn new(predictions: &Predictions, labels: &[u8], duplicates: &[bool], classes: &[String]) -> Self {
        let predicted = predictions.predicted();
        let confusion = ConfusionMatrix::new(labels, &predicted, classes.len());
        let mut per_class = per_class(&confusion, classes);
        let curves = roc_curves(&predictions.probabilities, predictions.classes, labels);
        for (class, curve) in per_class.iter_mut().zip(&curves) {
            class.auc = curve.as_ref().map(|curve| curve.auc);
        }
        let areas: Vec<f64> = per_class.iter().filter_map(|class| class.auc).collect();
        let rows_dedup = duplicates.iter().filter(|duplicate| !**duplicate).count();
        let (accuracy, accuracy_dedup) =
            (accuracy(labels, &predicted), accuracy_excluding(labels, &predicted, duplicates));
        let top2_accuracy =
            (classes.len() > 2).then(|| top_k_accuracy(&predictions.logits, predictions.classes, labels, 2));
        Self {
            rows: labels.len(),
            rows_dedup,
            accuracy,
            accuracy_interval: accuracy_interval(accuracy, labels.len()),
            accuracy_dedup,
            accuracy_dedup_interval: accuracy_dedup.and_then(|accuracy| accuracy_interval(accuracy, rows_dedup)),
            top2_accuracy,
            top2_accuracy_interval: top2_accuracy.and_then(|accuracy| accuracy_interval(accuracy, labels.len())),
            macro_auc: (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64),
            macro_f1: macro_f1(&confusion),
            ece: expected_calibration_error(&predictions.probabilities, predictions.classes, labels),
            loss: cross_entropy(&predictions.logits, predictions.classes, labels),
            per_class,
            confusion,
        }
    }
}
