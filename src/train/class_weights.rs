//! `train.class_weights`: what each class counts in the loss.

use crate::config::ClassWeights;

/// The weight of each class, given its number of training faces; `None` where all count the same.
///
/// "balanced" is N / (classes * count), as scikit-learn's `compute_class_weight`, for a class without faces 0.
pub fn class_weights(config: &ClassWeights, counts: &[u64]) -> Option<Vec<f32>> {
    match config {
        ClassWeights::None => None,
        ClassWeights::Given(weights) => Some(weights.iter().map(|weight| *weight as f32).collect()),
        ClassWeights::Balanced => {
            let share = counts.iter().sum::<u64>() as f64 / counts.len().max(1) as f64;
            let weight = |count: &u64| if *count == 0 { 0.0 } else { (share / *count as f64) as f32 };
            Some(counts.iter().map(weight).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn's example: `compute_class_weight("balanced", classes=[0, 1], y=[1, 1, 1, 1, 0, 0])` is [1.5, 0.75].
    #[test]
    fn balanced_is_scikit_learns() {
        assert_eq!(class_weights(&ClassWeights::Balanced, &[2, 4]), Some(vec![1.5, 0.75]));
        assert_eq!(class_weights(&ClassWeights::Balanced, &[3, 0, 3]), Some(vec![2.0 / 3.0, 0.0, 2.0 / 3.0]));
        assert_eq!(class_weights(&ClassWeights::Balanced, &[0, 0]), Some(vec![0.0, 0.0]));
        assert_eq!(class_weights(&ClassWeights::Given(vec![0.5, 2.0]), &[2, 4]), Some(vec![0.5, 2.0]));
        assert_eq!(class_weights(&ClassWeights::None, &[2, 4]), None);
    }
}
