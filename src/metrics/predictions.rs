//! The predictions of a network, and their average over models or transforms.

use anyhow::{Context as _, Result, ensure};

/// Logits and probabilities of N images, each float32 [N, classes], row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// Logits; for an average, the logarithm of the probabilities.
    pub logits: Vec<f32>,
    /// Softmax of the logits.
    pub probabilities: Vec<f32>,
    /// Number of classes.
    pub classes: usize,
}

impl Predictions {
    /// Averages the probabilities of `parts`, which must have the same images and classes. A single
    /// part is returned unchanged.
    ///
    /// Probabilities, not logits, as in deep ensembles (Lakshminarayanan, Pritzel, Blundell 2017):
    /// the scale of logits differs between networks, so their mean favors overconfident ones. The
    /// cross-entropy of the mean is at most the mean of the parts' (Jensen's inequality).
    ///
    /// The logits of the average are computed with log-sum-exp in float64, so that a probability
    /// below the range of float32 does not make the loss infinite.
    ///
    /// # Errors
    /// If there are no parts, or they differ in images or classes.
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

    /// The predictions with all logits divided by `temperature`, which is above 0.
    pub fn with_temperature(&self, temperature: f64) -> Self {
        if temperature == 1.0 {
            return self.clone();
        }
        let logits: Vec<f32> = self.logits.iter().map(|logit| (f64::from(*logit) / temperature) as f32).collect();
        let mut probabilities = Vec::with_capacity(logits.len());
        for row in logits.chunks(self.classes.max(1)) {
            let total = row.iter().fold(f64::NEG_INFINITY, |total, logit| log_add(total, f64::from(*logit)));
            probabilities.extend(row.iter().map(|logit| (f64::from(*logit) - total).exp() as f32));
        }
        Self { logits, probabilities, classes: self.classes }
    }

    /// The class with the maximum logit of each image; the first one on ties.
    pub fn predicted(&self) -> Vec<u8> {
        self.logits.chunks(self.classes.max(1)).map(|row| argmax(row).0).collect()
    }
}

/// The predictions of each view of test-time augmentation; a single one without.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewPredictions(pub Vec<Predictions>);

impl ViewPredictions {
    /// The mean over the views, each with its logits divided by `temperature` (1: as they are).
    ///
    /// # Errors
    /// Those of [`Predictions::average`].
    pub fn mean(&self, temperature: f64) -> Result<Predictions> {
        Predictions::average(&self.0.iter().map(|view| view.with_temperature(temperature)).collect::<Vec<_>>())
    }
}

/// ln(exp(a) + exp(b)) without overflow, as `numpy.logaddexp`.
fn log_add(a: f64, b: f64) -> f64 {
    let (min, max) = if a < b { (a, b) } else { (b, a) };
    if min == f64::NEG_INFINITY { max } else { max + (min - max).exp().ln_1p() }
}

/// The class with the maximum value of a row, the first one on ties, and that value. Rows have at
/// most 100 classes.
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
    fn average_is_the_mean_of_probabilities() {
        let parts = [predictions(&[1.0, 2.0, 3.0, 50.0, 51.0, 49.0]), predictions(&[0.5, -1.0, 0.0, 2.0, 0.0, 2.0])];
        let mean = Predictions::average(&parts).unwrap();
        for index in 0..6 {
            let expected = (parts[0].probabilities[index] + parts[1].probabilities[index]) / 2.0;
            assert!((mean.probabilities[index] - expected).abs() < 1e-6, "{index}");
            assert!((mean.logits[index] - expected.ln()).abs() < 1e-5, "{index}");
        }
        assert_eq!(Predictions::average(&parts[..1]).unwrap(), parts[0], "one part is returned unchanged");
        assert!(
            Predictions::average(&[]).is_err()
                && Predictions::average(&[predictions(&[0.0; 3]), predictions(&[0.0; 6])]).is_err()
        );
    }

    #[test]
    fn a_temperature_divides_logits() {
        let plain = predictions(&[2.0, 4.0, 6.0, -1.0, 0.0, 1.0]);
        let (halved, expected) = (plain.with_temperature(2.0), predictions(&[1.0, 2.0, 3.0, -0.5, 0.0, 0.5]));
        assert_eq!(halved.logits, expected.logits);
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-7;
        assert!(halved.probabilities.iter().zip(&expected.probabilities).all(close));
        assert_eq!(plain.with_temperature(1.0), plain);
        let views = ViewPredictions(vec![plain.clone(), halved.clone()]);
        let quarter = [halved, plain.with_temperature(4.0)];
        assert_eq!(views.mean(2.0).unwrap(), Predictions::average(&quarter).unwrap());
    }

    #[test]
    fn probability_below_float32_keeps_the_loss_finite() {
        // The probability exp(-300) is 0 in float32.
        let parts = [predictions(&[300.0, 0.0, 0.0]), predictions(&[300.0, 0.0, 0.0])];
        let mean = Predictions::average(&parts).unwrap();
        assert_eq!(mean.probabilities[1], 0.0);
        assert!((cross_entropy(&mean.logits, 3, &[1]) - 300.0).abs() < 1e-4);
        let impossible = predictions(&[0.0, f32::NEG_INFINITY, 0.0]);
        let mean = Predictions::average(&[impossible.clone(), impossible]).unwrap();
        assert_eq!(mean.probabilities, [0.5, 0.0, 0.5], "probability 0 does not become NaN");
    }
}
