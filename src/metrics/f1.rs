//! Precision, recall, specificity and F1 per class, 0 to 1, higher is better; as scikit-learn's
//! `precision_recall_fscore_support` with `zero_division=0`.

use serde::Serialize;

use super::{ConfusionMatrix, wilson_interval};

/// The metrics of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// Name of the class.
    pub class: String,
    /// Images of the class (support).
    pub rows: u64,
    /// True positives over predicted positives.
    pub precision: f64,
    /// True positives over images of the class (sensitivity).
    pub recall: f64,
    /// Its 95% Wilson interval; absent without images of the class.
    pub recall_interval: Option<(f64, f64)>,
    /// True negatives over images of other classes.
    pub specificity: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Area under the ROC curve of the class against all others; absent if all images or none are of
    /// the class, and from [`per_class`], which has no probabilities.
    pub auc: Option<f64>,
}

/// Metrics per class; 0 / 0 is 0.
pub fn per_class(confusion: &ConfusionMatrix, classes: &[String]) -> Vec<ClassMetrics> {
    let total: u64 = confusion.rows().iter().flatten().sum();
    let metrics = |(number, class): (usize, &String)| {
        let (correct, labeled, predicted) =
            (confusion.correct(number), confusion.labeled(number), confusion.predicted(number));
        let others = total - labeled;
        ClassMetrics {
            class: class.clone(),
            rows: labeled,
            precision: ratio(correct, predicted),
            recall: ratio(correct, labeled),
            recall_interval: wilson_interval(correct as usize, labeled as usize),
            specificity: ratio(others - (predicted - correct), others),
            f1: f1(confusion, number),
            auc: None,
        }
    };
    classes.iter().enumerate().map(metrics).collect()
}

/// Mean F1 over the classes that occur in labels or predictions, as scikit-learn's
/// `f1_score(average="macro")`.
pub fn macro_f1(confusion: &ConfusionMatrix) -> f64 {
    let occurs = |class: &usize| confusion.labeled(*class) + confusion.predicted(*class) > 0;
    let occurring = || (0..confusion.rows().len()).filter(occurs);
    let count = occurring().count();
    if count == 0 { 0.0 } else { occurring().map(|class| f1(confusion, class)).sum::<f64>() / count as f64 }
}

/// F1 of one class.
fn f1(confusion: &ConfusionMatrix, class: usize) -> f64 {
    ratio(2 * confusion.correct(class), confusion.labeled(class) + confusion.predicted(class))
}

/// A fraction; 0 / 0 is 0.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// from sklearn.metrics import precision_recall_fscore_support as prfs
    /// prfs([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0], zero_division=0)
    /// # (array([0.5, 0.5, 1.]), array([0.5, 1., 0.66666667]), array([0.5, 0.66666667, 0.8]),
    /// #  array([2, 1, 3]))
    /// ```
    /// ```python
    /// m = multilabel_confusion_matrix([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0])
    /// [x[0, 0] / (x[0, 0] + x[0, 1]) for x in m]    # 0.75, 0.8, 1.0
    /// ```
    #[test]
    fn agrees_with_scikit_learn() {
        let names: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        let confusion = ConfusionMatrix::new(&[0, 0, 1, 2, 2, 2], &[0, 1, 1, 2, 2, 0], 3);
        let metrics = per_class(&confusion, &names);
        let rounded: Vec<_> =
            metrics.iter().map(|c| [c.precision, c.recall, c.f1].map(|v| (v * 1e6).round() / 1e6)).collect();
        assert_eq!(rounded, [[0.5, 0.5, 0.5], [0.5, 1.0, 0.666_667], [1.0, 0.666_667, 0.8]]);
        assert!((macro_f1(&confusion) - 0.655_555_6).abs() < 1e-6);
        assert_eq!(metrics.iter().map(|class| class.specificity).collect::<Vec<_>>(), [0.75, 0.8, 1.0]);
        assert_eq!(metrics[0].recall_interval, wilson_interval(1, 2));
    }

    /// ```python
    /// # Class 1 is predicted, so it counts.
    /// f1_score([0, 0, 0, 2], [0, 0, 1, 2], average="macro")  # 0.6
    /// ```
    #[test]
    fn macro_f1_ignores_classes_that_never_occur() {
        let confusion = ConfusionMatrix::new(&[0, 0, 0, 2], &[0, 0, 1, 2], 4);
        assert!((macro_f1(&confusion) - 0.6).abs() < 1e-9);
    }
}
