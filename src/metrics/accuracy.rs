//! Accuracy: the fraction of correct predictions, 0 to 1, higher is better.

/// Accuracy over all images; 0 if there are none.
pub fn accuracy(labels: &[u8], predicted: &[u8]) -> f64 {
    accuracy_excluding(labels, predicted, &[]).unwrap_or(0.0)
}

/// Accuracy over the images where the mask `excluded` is false; `None` if there are none. A shorter
/// mask is padded with false.
pub fn accuracy_excluding(labels: &[u8], predicted: &[u8], excluded: &[bool]) -> Option<f64> {
    let mask = excluded.iter().copied().chain(std::iter::repeat(false));
    let included = || labels.iter().zip(predicted).zip(mask.clone()).filter(|(_, excluded)| !excluded);
    let count = included().count();
    let correct = included().filter(|((label, predicted), _)| label == predicted).count();
    (count > 0).then(|| correct as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_is_the_fraction_of_correct_predictions() {
        assert_eq!(accuracy(&[1, 2, 3, 4], &[1, 2, 0, 4]), 0.75);
        assert_eq!(accuracy_excluding(&[1, 2, 3, 4], &[1, 2, 0, 4], &[false, true, false, true]), Some(0.5));
        assert_eq!(accuracy_excluding(&[1], &[1], &[true]), None);
        assert_eq!(accuracy(&[], &[]), 0.0);
    }
}
