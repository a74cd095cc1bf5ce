//! Precision, recall and F1 by class, 0 to 1, higher is better; as scikit-learn's with `zero_division=0`.

use serde::Serialize;

use super::Confusion;

/// The figures of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PerClass {
    /// Name of the class.
    pub class: String,
    /// Images of the class.
    pub rows: u64,
    /// Of the images predicted as this class, the share that is.
    pub precision: f64,
    /// Of the images of this class, the share that was predicted so.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// The figures of every class; a ratio without cases counts as 0.
pub fn per_class(confusion: &Confusion, classes: &[String]) -> Vec<PerClass> {
    let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let of = |(number, class): (usize, &String)| {
        let (correct, labeled, predicted) =
            (confusion.correct(number), confusion.labeled(number), confusion.predicted(number));
        PerClass {
            class: class.clone(),
            rows: labeled,
            precision: ratio(correct, predicted),
            recall: ratio(correct, labeled),
            f1: ratio(2 * correct, labeled + predicted),
        }
    };
    classes.iter().enumerate().map(of).collect()
}

/// Mean of F1 over the classes that occur among labels or predictions, as scikit-learn's `f1_score(average="macro")`.
pub fn macro_f1(confusion: &Confusion, per_class: &[PerClass]) -> f64 {
    let occurs = |number: usize| confusion.labeled(number) + confusion.predicted(number) > 0;
    let occurring = || per_class.iter().enumerate().filter(|(number, _)| occurs(*number));
    let count = occurring().count();
    if count == 0 { 0.0 } else { occurring().map(|(_, class)| class.f1).sum::<f64>() / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// from sklearn.metrics import precision_recall_fscore_support as prfs
    /// prfs([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0], zero_division=0)
    /// # (array([0.5, 0.5, 1.]), array([0.5, 1., 0.66666667]), array([0.5, 0.66666667, 0.8]), array([2, 1, 3]))
    /// ```
    #[test]
    fn agrees_with_scikit_learn() {
        let names: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        let confusion = Confusion::of(&[0, 0, 1, 2, 2, 2], &[0, 1, 1, 2, 2, 0], 3);
        let figures = per_class(&confusion, &names);
        let rounded: Vec<_> =
            figures.iter().map(|c| [c.precision, c.recall, c.f1].map(|v| (v * 1e6).round() / 1e6)).collect();
        assert_eq!(rounded, [[0.5, 0.5, 0.5], [0.5, 1.0, 0.666_667], [1.0, 0.666_667, 0.8]]);
        assert!((macro_f1(&confusion, &figures) - 0.655_555_6).abs() < 1e-6);
    }

    /// ```python
    /// f1_score([0, 0, 0, 2], [0, 0, 1, 2], average="macro")  # 0.6: class 1 is predicted, if wrongly, and counts
    /// ```
    #[test]
    fn a_class_that_is_only_predicted_counts_and_one_that_never_occurs_does_not() {
        let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        let confusion = Confusion::of(&[0, 0, 0, 2], &[0, 0, 1, 2], 4);
        assert!((macro_f1(&confusion, &per_class(&confusion, &names)) - 0.6).abs() < 1e-9);
    }
}
