//! Running a network over many images.

use anyhow::{Context as _, Result, ensure};

/// Logits and probabilities of all images, read back: each float32 [N, classes], row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// Before the softmax; of an average, the logarithm of its probabilities, whose softmax they are as well.
    pub logits: Vec<f32>,
    /// After it; of an average, the mean of the probabilities.
    pub probabilities: Vec<f32>,
    /// Number of classes.
    pub classes: usize,
}

impl Predictions {
    /// The mean of the probabilities of `parts`, all of the same images and classes; one part comes back as it is.
    ///
    /// Probabilities and not logits: the softmax forgets a constant in a row of logits, and their scale differs from network
    /// to network, so a mean of them weighs those more that exaggerate. The mean of the probabilities is a distribution
    /// itself, whose cross entropy is never above the mean of the parts' (Jensen's inequality); it is how deep ensembles are
    /// combined (Lakshminarayanan, Pritzel, Blundell 2017). Its logits are its logarithm, taken as log-sum-exp in double
    /// precision, so that a probability too small for float32 does not make the loss infinite.
    ///
    /// # Errors
    /// When there are no parts, or they differ in images or classes.
    pub fn average(parts: &[Self]) -> Result<Self> {
        let (first, others) = parts.split_first().context("an average needs at least one part")?;
        if others.is_empty() {
            return Ok(first.clone());
        }
        let fits = |part: &Self| part.classes == first.classes && part.logits.len() == first.logits.len();
        ensure!(others.iter().all(fits), "an average needs parts of the same images and classes");
        let mut sums = vec![f64::NEG_INFINITY; first.logits.len()];
        for part in parts {
            let width = part.classes.max(1);
            for (sums, logits) in sums.chunks_mut(width).zip(part.logits.chunks(width)) {
                let total = logits.iter().fold(f64::NEG_INFINITY, |total, logit| log_add(total, f64::from(*logit)));
                sums.iter_mut().zip(logits).for_each(|(sum, logit)| *sum = log_add(*sum, f64::from(*logit) - total));
            }
        }
        let count = (parts.len() as f64).ln();
        Ok(Self {
            logits: sums.iter().map(|sum| (sum - count) as f32).collect(),
            probabilities: sums.iter().map(|sum| (sum - count).exp() as f32).collect(),
            classes: first.classes,
        })
    }

    /// The class of the greatest logit of each image; the lowest of equals.
    pub fn predicted(&self) -> Vec<u8> {
        self.logits.chunks(self.classes.max(1)).map(|row| argmax(row).0).collect()
    }
}

/// ln(exp(a) + exp(b)), whatever their size; minus infinity stands for ln 0.
fn log_add(a: f64, b: f64) -> f64 {
    let (less, greater) = if a < b { (a, b) } else { (b, a) };
    if less == f64::NEG_INFINITY { greater } else { greater + (less - greater).exp().ln_1p() }
}

/// The class with the greatest value of a row, the lowest of equals, and that value. Configs allow at most 100 classes.
pub fn argmax(row: &[f32]) -> (u8, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, value) in (0u8..).zip(row) {
        if *value > best.1 {
            best = (class, *value);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::metrics::cross_entropy;

    fn softmax(logits: &[f64]) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        logits.iter().map(|logit| logit.exp() / sum).collect()
    }

    fn predictions(logits: &[f32]) -> Predictions {
        let rows = logits.chunks(3);
        let probabilities =
            rows.flat_map(|row| softmax(&row.iter().map(|logit| f64::from(*logit)).collect::<Vec<_>>()));
        Predictions { logits: logits.to_vec(), probabilities: probabilities.map(|p| p as f32).collect(), classes: 3 }
    }

    #[test]
    fn the_average_is_the_mean_of_probabilities() {
        let parts = [predictions(&[1.0, 2.0, 3.0, 50.0, 51.0, 49.0]), predictions(&[0.5, -1.0, 0.0, 2.0, 0.0, 2.0])];
        let mean = Predictions::average(&parts).unwrap();
        for place in 0..6 {
            let wanted = (parts[0].probabilities[place] + parts[1].probabilities[place]) / 2.0;
            assert!((mean.probabilities[place] - wanted).abs() < 1e-6, "{place}");
            assert!((mean.logits[place] - wanted.ln()).abs() < 1e-5, "{place}");
        }
        assert_eq!(Predictions::average(&parts[..1]).unwrap(), parts[0], "one part stays, bit for bit");
        assert!(
            Predictions::average(&[]).is_err()
                && Predictions::average(&[predictions(&[0.0; 3]), predictions(&[0.0; 6])]).is_err()
        );
    }

    #[test]
    fn a_probability_below_float32_leaves_the_loss_finite() {
        // Softmax gives exp(-300) here, which is 0 as a float32.
        let parts = [predictions(&[300.0, 0.0, 0.0]), predictions(&[300.0, 0.0, 0.0])];
        let mean = Predictions::average(&parts).unwrap();
        assert_eq!(mean.probabilities[1], 0.0);
        assert!((cross_entropy(&mean.logits, 3, &[1]) - 300.0).abs() < 1e-4);
        let sure = predictions(&[0.0, f32::NEG_INFINITY, 0.0]);
        let mean = Predictions::average(&[sure.clone(), sure]).unwrap();
        assert_eq!(mean.probabilities, [0.5, 0.0, 0.5], "a class that nobody thinks possible is no NaN");
    }
}
