//! The most confident wrong predictions, which often point to label errors.

use super::predictions::argmax;

/// Index, predicted class and probability of up to `count` wrong predictions, by decreasing
/// probability, then by index. NaN probabilities are skipped.
pub fn most_confident_mistakes(
    probabilities: &[f32],
    classes: usize,
    labels: &[u8],
    count: usize,
) -> Vec<(usize, u8, f32)> {
    let rows = probabilities.chunks(classes.max(1)).zip(labels).enumerate();
    let wrong = rows.filter_map(|(index, (row, label))| {
        let (class, confidence) = argmax(row);
        (class != *label && confidence.is_finite()).then_some((index, class, confidence))
    });
    let mut mistakes: Vec<_> = wrong.collect();
    // The sort is stable, so ties stay in index order.
    mistakes.sort_by(|(_, _, one), (_, _, other)| other.total_cmp(one));
    mistakes.truncate(count);
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_by_confidence_then_index() {
        let probabilities = [0.6, 0.4, 0.9, 0.1, 0.3, 0.7, 0.6, 0.4, 0.8, 0.2, f32::NAN, f32::NAN];
        let labels = [1, 0, 0, 1, 1, 1];
        let all = [(4, 0, 0.8), (2, 1, 0.7), (0, 0, 0.6), (3, 0, 0.6)];
        assert_eq!(most_confident_mistakes(&probabilities, 2, &labels, 48), all);
        assert_eq!(most_confident_mistakes(&probabilities, 2, &labels, 3), all[..3]);
        assert_eq!(most_confident_mistakes(&[], 2, &[], 3), []);
        assert_eq!(most_confident_mistakes(&[1.0], 0, &[0], 3), []);
    }
}
