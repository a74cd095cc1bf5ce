//! Expected calibration error: how far confidence is from accuracy, 0 to 1, lower is better
//! (Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017).

use crate::model::infer::greatest;

/// Bins of equal width over confidence.
pub const BINS: usize = 15;

/// Mean over faces of |accuracy - confidence| of the bin that the face's greatest probability falls into; 0 for no faces.
pub fn expected_calibration_error(probabilities: &[f32], classes: usize, labels: &[u8]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for (row, label) in probabilities.chunks(classes.max(1)).zip(labels) {
        let (class, confidence) = greatest(row);
        let confidence = f64::from(confidence);
        // Bins are open below and closed above, as in Guo et al.
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        if let Some((sum, hits)) = bins.get_mut(bin) {
            *sum += confidence;
            *hits += f64::from(u8::from(class == *label));
        }
    }
    let gap: f64 = bins.iter().map(|(sum, hits)| (sum - hits).abs()).sum();
    if labels.is_empty() { 0.0 } else { gap / labels.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_between_confidence_and_accuracy() {
        let always_sure = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        assert!((expected_calibration_error(&always_sure, 2, &[0, 0, 0, 1]) - 0.25).abs() < 1e-9);
        // Two bins: 0.6 right, 0.9 wrong: (|0.6 - 1| + |0.9 - 0|) / 2
        let mixed = [0.6, 0.4, 0.1, 0.9];
        assert!((expected_calibration_error(&mixed, 2, &[0, 0]) - 0.65).abs() < 1e-6);
        assert_eq!(expected_calibration_error(&[], 2, &[]), 0.0);
    }
}
