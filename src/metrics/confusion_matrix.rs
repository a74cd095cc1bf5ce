//! Confusion matrix: image counts by true and predicted class.

use serde::Serialize;

/// Counts indexed by true class, then predicted class, as scikit-learn's `confusion_matrix`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ConfusionMatrix(Vec<Vec<u64>>);

impl ConfusionMatrix {
    /// Counts pairs; class numbers of `classes` or more are ignored.
    pub fn new(labels: &[u8], predicted: &[u8], classes: usize) -> Self {
        Self::from_counts(labels.iter().zip(predicted).map(|(label, predicted)| (*label, *predicted, 1)), classes)
    }

    /// Sums counts of (label, predicted); class numbers of `classes` or more are ignored.
    pub fn from_counts(counts: impl Iterator<Item = (u8, u8, u64)>, classes: usize) -> Self {
        let mut matrix = vec![vec![0u64; classes]; classes];
        for (label, predicted, count) in counts {
            let row = matrix.get_mut(usize::from(label));
            if let Some(cell) = row.and_then(|row| row.get_mut(usize::from(predicted))) {
                *cell += count;
            }
        }
        Self(matrix)
    }

    /// One row per true class.
    pub fn rows(&self) -> &[Vec<u64>] {
        &self.0
    }

    /// Correct predictions of `class`.
    pub fn correct(&self, class: usize) -> u64 {
        self.0.get(class).and_then(|row| row.get(class)).copied().unwrap_or(0)
    }

    /// Images of `class`.
    pub fn labeled(&self, class: usize) -> u64 {
        self.0.get(class).map_or(0, |row| row.iter().sum())
    }

    /// Images predicted as `class`.
    pub fn predicted(&self, class: usize) -> u64 {
        self.0.iter().filter_map(|row| row.get(class)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_true_classes() {
        let confusion = ConfusionMatrix::new(&[0, 0, 1, 2], &[0, 1, 1, 0], 3);
        assert_eq!(confusion.rows(), [[1, 1, 0], [0, 1, 0], [1, 0, 0]]);
        assert_eq!((confusion.labeled(0), confusion.predicted(0), confusion.correct(0)), (2, 2, 1));
    }
}
