//! Confusion matrix: images by true and predicted class.

use serde::Serialize;

/// Counts: outer index the true class, inner the predicted one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Confusion(Vec<Vec<u64>>);

impl Confusion {
    /// Counts pairs; class numbers from `classes` on are left out.
    pub fn of(labels: &[u8], predicted: &[u8], classes: usize) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (label, guess) in labels.iter().zip(predicted) {
            if let Some(count) = counts.get_mut(usize::from(*label)).and_then(|row| row.get_mut(usize::from(*guess))) {
                *count += 1;
            }
        }
        Self(counts)
    }

    /// Rows by true class.
    pub fn rows(&self) -> &[Vec<u64>] {
        &self.0
    }

    /// Images of `class` that were predicted as `class`.
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
    fn true_class_outside_predicted_inside() {
        let confusion = Confusion::of(&[0, 0, 1, 2], &[0, 1, 1, 0], 3);
        assert_eq!(confusion.rows(), [[1, 1, 0], [0, 1, 0], [1, 0, 0]]);
        assert_eq!((confusion.labeled(0), confusion.predicted(0), confusion.correct(0)), (2, 2, 1));
    }
}
