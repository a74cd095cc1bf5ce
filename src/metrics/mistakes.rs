//! Which images were predicted wrongly with the argmax confidence: often what is wrong about them is their label.

use super::predictions::argmax;

/// The index, predicted class and its probability of at most `count` images that were predicted wrongly, the most confident
/// first, of equals the one with the lower index. Images whose probabilities are none are left out.
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
    // Stable: equals stay in the order of their indices.
    mistakes.sort_by(|(_, _, one), (_, _, other)| other.total_cmp(one));
    mistakes.truncate(count);
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_confident_come_first_and_equals_in_order() {
        let probabilities = [0.6, 0.4, 0.9, 0.1, 0.3, 0.7, 0.6, 0.4, 0.8, 0.2, f32::NAN, f32::NAN];
        let labels = [1, 0, 0, 1, 1, 1];
        let all = [(4, 0, 0.8), (2, 1, 0.7), (0, 0, 0.6), (3, 0, 0.6)];
        assert_eq!(most_confident_mistakes(&probabilities, 2, &labels, 48), all);
        assert_eq!(most_confident_mistakes(&probabilities, 2, &labels, 3), all[..3]);
        assert_eq!(most_confident_mistakes(&[], 2, &[], 3), []);
        assert_eq!(most_confident_mistakes(&[1.0], 0, &[0], 3), []);
    }
}
