//! Which images of many are explained.

use crate::metrics::{Predictions, most_confident_mistakes};
use crate::util::text::count;

/// Images to explain, and why these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Positions among the images, in the order in which they are shown.
    pub positions: Vec<usize>,
    /// A sentence about them, without its end.
    pub reason: String,
}

impl Selection {
    /// The first `limit` of `total` images without labels.
    pub fn first(total: usize, limit: usize) -> Self {
        let positions: Vec<usize> = (0..total.min(limit)).collect();
        let reason = match positions.len() {
            all if all == total => count(all, "image"),
            shown => format!("the first {shown} of {total} images, in their order because they have no labels"),
        };
        Self { positions, reason }
    }

    /// Up to `limit` images with labels: wrong predictions by decreasing confidence, then the correct
    /// ones in their order, unless `only_errors`.
    pub fn with_labels(predictions: &Predictions, labels: &[u8], limit: usize, only_errors: bool) -> Self {
        let mistakes = most_confident_mistakes(&predictions.probabilities, predictions.classes, labels, labels.len());
        let mut positions: Vec<usize> = mistakes.iter().map(|(position, ..)| *position).take(limit).collect();
        let wrong = positions.len();
        let of = count(labels.len(), "image");
        let errors = match mistakes.len() {
            1 => "the only wrong prediction".to_owned(),
            all if wrong < all => format!("the {wrong} most confident of {all} wrong predictions"),
            all => format!("all {all} wrong predictions, the most confident first"),
        };
        if only_errors || wrong == limit {
            return Self { positions, reason: format!("{errors} on {of}") };
        }
        let correct = predictions.predicted().into_iter().zip(labels).enumerate();
        let correct = correct.filter(|(_, (predicted, label))| predicted == *label).map(|(position, _)| position);
        positions.extend(correct.take(limit - wrong));
        let first = count(positions.len() - wrong, "correct prediction");
        let reason = match wrong {
            0 => format!("the first {first} on {of}; no prediction is wrong"),
            _ => format!("{errors}, then the first {first} on {of}"),
        };
        Self { positions, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions() -> Predictions {
        let probabilities = vec![0.6, 0.4, 0.9, 0.1, 0.3, 0.7, 0.2, 0.8];
        Predictions { logits: probabilities.clone(), probabilities, classes: 2 }
    }

    #[test]
    fn wrong_predictions_come_first() {
        let labels = [1, 1, 1, 1];
        let select = |limit, only| Selection::with_labels(&predictions(), &labels, limit, only);
        assert_eq!(select(9, false).positions, [1, 0, 2, 3]);
        assert_eq!(
            select(9, false).reason,
            "all 2 wrong predictions, the most confident first, then the first 2 correct predictions on 4 images"
        );
        assert_eq!(select(3, false).positions, [1, 0, 2]);
        assert_eq!(select(1, false).positions, [1]);
        assert_eq!(select(1, false).reason, "the 1 most confident of 2 wrong predictions on 4 images");
        assert_eq!(select(9, true).positions, [1, 0]);
        let right = Selection::with_labels(&predictions(), &[0, 0, 1, 1], 9, false);
        assert_eq!(right.positions, [0, 1, 2, 3]);
        assert_eq!(right.reason, "the first 4 correct predictions on 4 images; no prediction is wrong");
        assert!(Selection::with_labels(&predictions(), &[0, 0, 1, 1], 9, true).positions.is_empty());
    }

    #[test]
    fn without_labels_the_first_are_chosen() {
        assert_eq!(Selection::first(5, 3).positions, [0, 1, 2]);
        assert!(Selection::first(5, 3).reason.starts_with("the first 3 of 5 images"));
        assert_eq!(Selection::first(1, 3), Selection { positions: vec![0], reason: "1 image".into() });
    }
}
