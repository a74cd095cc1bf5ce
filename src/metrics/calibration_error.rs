//! Expected calibration error (ECE): the mean gap between confidence and accuracy, 0 to 1, lower is
//! better (Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017).

use super::predictions::argmax;

/// Number of confidence bins of equal width.
pub const BINS: usize = 15;

/// The images with a confidence (maximum probability) in `(low, high]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrationBin {
    /// Lower bound, exclusive; the first bin includes 0.
    pub low: f64,
    /// Upper bound, inclusive.
    pub high: f64,
    /// Number of images.
    pub rows: u64,
    /// Mean confidence; 0 for an empty bin.
    pub confidence: f64,
    /// Accuracy; 0 for an empty bin.
    pub accuracy: f64,
}

/// The bins of a reliability diagram, in order of confidence.
pub fn calibration_bins(probabilities: &[f32], classes: usize, labels: &[u8]) -> Vec<CalibrationBin> {
    let edge = |number: usize| number as f64 / BINS as f64;
    let sums = sums(probabilities, classes, labels).into_iter().enumerate();
    sums.map(|(number, Sums { rows, confidence, correct })| {
        let mean = |sum: f64| if rows == 0 { 0.0 } else { sum / rows as f64 };
        let (low, high) = (edge(number), edge(number + 1));
        CalibrationBin { low, high, rows, confidence: mean(confidence), accuracy: mean(correct) }
    })
    .collect()
}

/// Mean of |accuracy - confidence| over bins, weighted by images; 0 if there are none.
pub fn expected_calibration_error(probabilities: &[f32], classes: usize, labels: &[u8]) -> f64 {
    // From sums instead of means, which avoids rounding.
    let gap: f64 = sums(probabilities, classes, labels).iter().map(|bin| (bin.confidence - bin.correct).abs()).sum();
    if labels.is_empty() { 0.0 } else { gap / labels.len() as f64 }
}

/// Sums over the images of a bin.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    rows: u64,
    confidence: f64,
    correct: f64,
}

fn sums(probabilities: &[f32], classes: usize, labels: &[u8]) -> [Sums; BINS] {
    let mut bins = [Sums::default(); BINS];
    for (row, label) in probabilities.chunks(classes.max(1)).zip(labels) {
        let (class, confidence) = argmax(row);
        let confidence = f64::from(confidence);
        // Bins are (low, high], as in Guo et al.
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        if let Some(bin) = bins.get_mut(bin) {
            bin.rows += 1;
            bin.confidence += confidence;
            bin.correct += f64::from(u8::from(class == *label));
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_between_confidence_and_accuracy() {
        let confident = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        assert!((expected_calibration_error(&confident, 2, &[0, 0, 0, 1]) - 0.25).abs() < 1e-9);
        // Two bins, 0.6 correct and 0.9 wrong: (|0.6 - 1| + |0.9 - 0|) / 2
        let mixed = [0.6, 0.4, 0.1, 0.9];
        assert!((expected_calibration_error(&mixed, 2, &[0, 0]) - 0.65).abs() < 1e-6);
        assert_eq!(expected_calibration_error(&[], 2, &[]), 0.0);
    }

    #[test]
    fn bins_match_hand_computed_values() {
        // Confidences 0.5, 0.5, 1 and 0.2; the second and the last are wrong.
        let probabilities = [0.5, 0.25, 0.25, 0.25, 0.5, 0.25, 0.0, 0.0, 1.0, 0.2, 0.1, 0.1];
        let bins = calibration_bins(&probabilities, 3, &[0, 0, 2, 1]);
        assert_eq!(bins.len(), BINS);
        // 0.5 is in (7/15, 8/15]. 0.2f32 is slightly more than 3/15.
        let half = CalibrationBin { low: 7.0 / 15.0, high: 8.0 / 15.0, rows: 2, confidence: 0.5, accuracy: 0.5 };
        let full = CalibrationBin { low: 14.0 / 15.0, high: 1.0, rows: 1, confidence: 1.0, accuracy: 1.0 };
        let fifth =
            CalibrationBin { low: 0.2, high: 4.0 / 15.0, rows: 1, confidence: f64::from(0.2f32), accuracy: 0.0 };
        assert_eq!((bins[7], bins[14], bins[3]), (half, full, fifth));
        assert!(bins.iter().enumerate().all(|(number, bin)| [3, 7, 14].contains(&number) || bin.rows == 0));
        assert_eq!(bins[0], CalibrationBin { low: 0.0, high: 1.0 / 15.0, rows: 0, confidence: 0.0, accuracy: 0.0 });
        let error = bins.iter().map(|bin| bin.rows as f64 * (bin.accuracy - bin.confidence).abs()).sum::<f64>() / 4.0;
        assert!((error - expected_calibration_error(&probabilities, 3, &[0, 0, 2, 1])).abs() < 1e-12);
        assert_eq!(calibration_bins(&[], 3, &[]).iter().map(|bin| bin.rows).sum::<u64>(), 0);
        assert_eq!(calibration_bins(&[f32::NAN; 6], 3, &[0, 1])[0].rows, 2);
    }
}
