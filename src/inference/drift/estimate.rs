//! The accuracy on images without labels, estimated from confidence.

use serde::Serialize;

use crate::util::stats::Z_95 as Z;

/// An estimated accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EstimatedAccuracy {
    /// The estimate, 0 to 1.
    pub accuracy: f64,
    /// Its 95% interval, from the finite number of images of both samples.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Estimates the accuracy on new images: the mean confidence, plus what accuracy and confidence differ
/// by on the reference images (difference of confidences, Guillory et al. 2021, "Predicting with
/// Confidence on Unseen Distributions"). That difference is assumed to stay the same, so the estimate
/// is too high where the model is confidently wrong on images unlike those it was calibrated on.
///
/// `reference`: confidence of each reference image, and whether its prediction is right; `new`:
/// confidence of each new image. `None` if either has fewer than 2 images.
pub fn estimate_accuracy(reference: &[(f64, bool)], new: &[f64]) -> Option<EstimatedAccuracy> {
    let gaps: Vec<f64> =
        reference.iter().map(|(confidence, is_right)| f64::from(u8::from(*is_right)) - confidence).collect();
    let ((gap, gap_error), (confidence, error)) = (mean_and_error(&gaps)?, mean_and_error(new)?);
    let (accuracy, half) = (confidence + gap, Z * gap_error.hypot(error));
    let [accuracy, low, high] = [accuracy, accuracy - half, accuracy + half].map(|value| value.clamp(0.0, 1.0));
    Some(EstimatedAccuracy { accuracy, low, high })
}

/// The mean and its standard error; `None` for fewer than 2 values.
fn mean_and_error(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    Some((mean, (variance / count).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    /// A model that is overconfident by 0.1 everywhere; new images are harder.
    #[test]
    fn the_interval_covers_the_accuracy_of_harder_images() {
        let trials = 200;
        let covered = (0..trials).filter(|trial| {
            let mut rng = Rng::new(&[7, *trial]);
            let reference: Vec<_> = (0..500)
                .map(|_| {
                    let confidence = rng.between(0.5, 1.0);
                    (confidence, rng.uniform() < confidence - 0.1)
                })
                .collect();
            let new: Vec<f64> = (0..300).map(|_| rng.between(0.4, 0.8)).collect();
            let found = estimate_accuracy(&reference, &new).unwrap();
            assert!(found.low <= found.accuracy && found.accuracy <= found.high);
            (found.low..=found.high).contains(&0.5)
        });
        let covered = covered.count();
        assert!((180..=199).contains(&covered), "{covered} of {trials}");
    }

    #[test]
    fn few_images_have_no_estimate() {
        assert_eq!(estimate_accuracy(&[(0.5, true)], &[0.5, 0.6]), None);
        assert_eq!(estimate_accuracy(&[(0.5, true), (0.5, false)], &[0.5]), None);
        assert_eq!(estimate_accuracy(&[(1.0, true), (1.0, true)], &[1.0, 1.0]).unwrap().high, 1.0);
    }
}
