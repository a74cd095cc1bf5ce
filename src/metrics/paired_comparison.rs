//! Two models on the same labeled images: the differences of their metrics, with intervals and tests.

use serde::Serialize;

use super::paired_bootstrap::{
    BootstrapDifference, PairedDifference, RESAMPLES, bootstrap_difference, paired_bootstrap,
};
use super::{ConfusionMatrix, McNemar, Predictions, cross_entropy, holm, macro_f1, wilson_interval};

/// The second model minus the first, on the same images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairedComparison {
    /// Number of images.
    pub rows: usize,
    /// Fraction of images for which both predict the same class.
    pub agreement: f64,
    /// Accuracy of the second model minus that of the first.
    pub accuracy: PairedDifference,
    /// Whether their accuracies differ.
    pub mcnemar: McNemar,
    /// The same without exact duplicates of training images; absent if there are no duplicates, or no
    /// other images.
    pub dedup: Option<DedupComparison>,
    /// Macro-averaged F1.
    pub macro_f1: BootstrapDifference,
    /// Mean cross-entropy in nats; lower is better.
    pub loss: BootstrapDifference,
    /// The classes, in order.
    pub per_class: Vec<ClassComparison>,
    /// Resamples of each bootstrap.
    pub resamples: u32,
    /// Seed of the bootstraps.
    pub seed: u64,
}

/// Accuracy without exact duplicates of training images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DedupComparison {
    /// Accuracy of the second model minus that of the first, and the number of images.
    pub accuracy: PairedDifference,
    /// Whether their accuracies differ.
    pub mcnemar: McNemar,
}

/// The recall of a class: the accuracy over its images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassComparison {
    /// Name of the class.
    pub class: String,
    /// Images of the class.
    pub rows: usize,
    /// Recall of the first model; absent without images of the class.
    pub first: Option<f64>,
    /// Its 95% Wilson interval.
    pub first_interval: Option<(f64, f64)>,
    /// Recall of the second model.
    pub second: Option<f64>,
    /// Its 95% Wilson interval.
    pub second_interval: Option<(f64, f64)>,
    /// Recall of the second model minus that of the first.
    pub difference: Option<PairedDifference>,
    /// Whether their recalls differ.
    pub mcnemar: McNemar,
    /// The p-value adjusted for the number of classes by Holm's method.
    pub p_adjusted: f64,
}

impl PairedComparison {
    /// Compares the predictions of two models. The mask `duplicates` marks exact duplicates of training
    /// images of either. `None` without images.
    pub fn new(
        [first, second]: [&Predictions; 2],
        labels: &[u8],
        duplicates: &[bool],
        classes: &[String],
        seed: u64,
    ) -> Option<Self> {
        let predicted = [first.predicted(), second.predicted()];
        let correct = predicted.each_ref().map(|predicted| {
            labels.iter().zip(predicted).map(|(label, predicted)| label == predicted).collect::<Vec<bool>>()
        });
        let [a, b] = &correct;
        let [predicted_a, predicted_b] = &predicted;
        let same = predicted_a.iter().zip(predicted_b).filter(|(a, b)| a == b).count();
        let [losses_a, losses_b] = [first, second].map(|predictions| row_losses(predictions, labels));
        let losses: Vec<f64> = losses_a.iter().zip(&losses_b).map(|(a, b)| b - a).collect();
        let outcomes = Outcomes::new(labels, predicted_a, predicted_b);
        let count = classes.len();
        Some(Self {
            rows: labels.len(),
            agreement: same as f64 / labels.len().max(1) as f64,
            accuracy: paired_bootstrap(b, a, seed)?,
            mcnemar: McNemar::new(a, b),
            dedup: dedup(&correct, duplicates, seed),
            macro_f1: bootstrap_difference(labels.len(), seed, |rows| outcomes.macro_f1_difference(rows, count))?,
            loss: bootstrap_difference(labels.len(), seed, |rows| mean_of(&losses, rows))?,
            per_class: per_class(&correct, labels, classes, seed),
            resamples: RESAMPLES,
            seed,
        })
    }
}

/// Both masks of correct predictions, where `keep` is true.
fn selected(correct: &[Vec<bool>; 2], keep: &[bool]) -> [Vec<bool>; 2] {
    let select = |correct: &Vec<bool>| {
        correct.iter().zip(keep).filter(|(_, keep)| **keep).map(|(correct, _)| *correct).collect()
    };
    correct.each_ref().map(select)
}

fn dedup(correct: &[Vec<bool>; 2], duplicates: &[bool], seed: u64) -> Option<DedupComparison> {
    if !duplicates.contains(&true) {
        return None;
    }
    let keep: Vec<bool> = duplicates.iter().map(|duplicate| !duplicate).collect();
    let [a, b] = selected(correct, &keep);
    Some(DedupComparison { accuracy: paired_bootstrap(&b, &a, seed)?, mcnemar: McNemar::new(&a, &b) })
}

fn per_class(correct: &[Vec<bool>; 2], labels: &[u8], classes: &[String], seed: u64) -> Vec<ClassComparison> {
    let compare = |(number, class): (usize, &String)| {
        let keep: Vec<bool> = labels.iter().map(|label| usize::from(*label) == number).collect();
        let [a, b] = selected(correct, &keep);
        let hits = |correct: &[bool]| correct.iter().filter(|correct| **correct).count();
        let recall = |correct: &[bool]| (!correct.is_empty()).then(|| hits(correct) as f64 / correct.len() as f64);
        let mcnemar = McNemar::new(&a, &b);
        ClassComparison {
            class: class.clone(),
            rows: a.len(),
            first: recall(&a),
            first_interval: wilson_interval(hits(&a), a.len()),
            second: recall(&b),
            second_interval: wilson_interval(hits(&b), b.len()),
            difference: paired_bootstrap(&b, &a, seed),
            mcnemar,
            p_adjusted: mcnemar.p,
        }
    };
    let mut found: Vec<ClassComparison> = classes.iter().enumerate().map(compare).collect();
    // A class without images is no test.
    let mut tested: Vec<&mut ClassComparison> = found.iter_mut().filter(|class| class.rows > 0).collect();
    let adjusted = holm(&tested.iter().map(|class| class.mcnemar.p).collect::<Vec<_>>());
    tested.iter_mut().zip(adjusted).for_each(|(class, p)| class.p_adjusted = p);
    found
}

/// The label and both predictions of each image, as a number: there are few, so that a resample is
/// counted quickly.
struct Outcomes {
    /// Label, prediction of the first and of the second model, each once.
    kinds: Vec<(u8, u8, u8)>,
    /// `[images]` position in `kinds`.
    kind_of: Vec<usize>,
}

impl Outcomes {
    fn new(labels: &[u8], first: &[u8], second: &[u8]) -> Self {
        let all: Vec<(u8, u8, u8)> =
            labels.iter().zip(first).zip(second).map(|((label, first), second)| (*label, *first, *second)).collect();
        let mut kinds = all.clone();
        kinds.sort_unstable();
        kinds.dedup();
        let kind_of = all.iter().filter_map(|outcome| kinds.binary_search(outcome).ok()).collect();
        Self { kinds, kind_of }
    }

    /// Macro F1 of the second model minus that of the first.
    fn macro_f1_difference(&self, rows: &[usize], classes: usize) -> f64 {
        let mut counts = vec![0u64; self.kinds.len()];
        for row in rows {
            if let Some(count) = self.kind_of.get(*row).and_then(|kind| counts.get_mut(*kind)) {
                *count += 1;
            }
        }
        let kinds = || self.kinds.iter().zip(&counts);
        let first = kinds().map(|((label, first, _), count)| (*label, *first, *count));
        let second = kinds().map(|((label, _, second), count)| (*label, *second, *count));
        macro_f1(&ConfusionMatrix::from_counts(second, classes))
            - macro_f1(&ConfusionMatrix::from_counts(first, classes))
    }
}

/// The cross-entropy of each image.
fn row_losses(predictions: &Predictions, labels: &[u8]) -> Vec<f64> {
    let rows = predictions.logits.chunks(predictions.classes.max(1)).zip(labels);
    rows.map(|(logits, label)| cross_entropy(logits, predictions.classes, &[*label])).collect()
}

fn mean_of(values: &[f64], rows: &[usize]) -> f64 {
    rows.iter().filter_map(|row| values.get(*row)).sum::<f64>() / rows.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Evaluation;
    use crate::util::rng::Rng;

    /// Predictions of three classes that are correct with probability `skill`.
    fn model(labels: &[u8], skill: f64, seed: u64) -> Predictions {
        let mut rng = Rng::new(&[21, seed]);
        let mut logits = Vec::new();
        for label in labels {
            let class = if rng.uniform() < skill { *label } else { (label + 1 + (rng.below(2) as u8)) % 3 };
            logits.extend((0..3).map(|other| if other == class { 2.0 } else { rng.uniform() as f32 }));
        }
        Predictions { logits: logits.clone(), probabilities: logits, classes: 3 }.with_temperature(0.5)
    }

    #[test]
    fn a_better_model_is_found_and_metrics_are_those_of_evaluate() {
        let labels: Vec<u8> = (0..900).map(|row| (row % 3) as u8).collect();
        let classes = ["a", "b", "c"].map(String::from);
        let models = [model(&labels, 0.6, 1), model(&labels, 0.75, 2)];
        let duplicates: Vec<bool> = (0..900).map(|row| row < 100).collect();
        let found = PairedComparison::new([&models[0], &models[1]], &labels, &duplicates, &classes, 42).unwrap();
        let [first, second] = models.each_ref().map(|model| Evaluation::new(model, &labels, &duplicates, &classes));
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(found.accuracy.difference, second.accuracy - first.accuracy));
        assert!(close(found.macro_f1.difference, second.macro_f1 - first.macro_f1));
        assert!(close(found.loss.difference, second.loss - first.loss) && found.loss.high < 0.0);
        let dedup = found.dedup.as_ref().unwrap();
        assert!(close(dedup.accuracy.difference, second.accuracy_dedup.unwrap() - first.accuracy_dedup.unwrap()));
        assert_eq!((found.rows, dedup.accuracy.rows), (900, 800));
        assert!(found.accuracy.low > 0.0 && found.mcnemar.p < 1e-3 && found.macro_f1.low > 0.0);
        for (class, metrics) in found.per_class.iter().zip(&second.per_class) {
            assert_eq!((class.rows, class.second), (300, Some(metrics.recall)));
            assert_eq!(class.second_interval, metrics.recall_interval);
            assert!(class.p_adjusted >= class.mcnemar.p);
        }
        let rows: usize = found.per_class.iter().map(|class| class.mcnemar.discordant()).sum();
        assert_eq!(rows, found.mcnemar.discordant());
    }

    #[test]
    fn equal_models_do_not_differ() {
        let labels = [0, 1, 1, 0];
        let one = model(&labels, 0.5, 3);
        let classes = ["a", "b", "c"].map(String::from);
        let found = PairedComparison::new([&one, &one], &labels, &[false; 4], &classes, 1).unwrap();
        assert_eq!((found.accuracy.difference, found.mcnemar.p, found.agreement), (0.0, 1.0, 1.0));
        assert_eq!((found.loss.low, found.loss.high, found.dedup), (0.0, 0.0, None));
        let empty = &found.per_class[2];
        assert_eq!((empty.rows, empty.first, empty.difference, empty.p_adjusted), (0, None, None, 1.0));
        assert_eq!(PairedComparison::new([&one, &one], &[], &[], &classes, 1), None);
    }
}
