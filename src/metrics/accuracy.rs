//! Accuracy: the share of images whose label was predicted, 0 to 1, higher is better.

/// Over all images; 0 for none.
pub fn accuracy(labels: &[u8], predicted: &[u8]) -> f64 {
    accuracy_without(labels, predicted, &[]).unwrap_or(0.0)
}

/// Over the images that `left_out` does not mark (missing marks count as false); `None` when that leaves none.
pub fn accuracy_without(labels: &[u8], predicted: &[u8], left_out: &[bool]) -> Option<f64> {
    let marks = left_out.iter().copied().chain(std::iter::repeat(false));
    let kept = || labels.iter().zip(predicted).zip(marks.clone()).filter(|(_, mark)| !mark);
    let count = kept().count();
    let correct = kept().filter(|((label, guess), _)| label == guess).count();
    (count > 0).then(|| correct as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_correct() {
        assert_eq!(accuracy(&[1, 2, 3, 4], &[1, 2, 0, 4]), 0.75);
        assert_eq!(accuracy_without(&[1, 2, 3, 4], &[1, 2, 0, 4], &[false, true, false, true]), Some(0.5));
        assert_eq!(accuracy_without(&[1], &[1], &[true]), None);
        assert_eq!(accuracy(&[], &[]), 0.0);
    }
}
