//! Temperature scaling: dividing logits by one number makes confidences match accuracies (Guo,
//! Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks").

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::expected_calibration_error;
use super::predictions::{Predictions, ViewPredictions};
use crate::util::rng::{Rng, Stream};

/// Range of a temperature. Beyond it, predictions are uniform or certain.
const RANGE: (f64, f64) = (0.05, 20.0);

/// Steps of the bisection: the temperature is exact to float64.
const STEPS: usize = 100;

/// Points of each pass of the search over several views, and its passes.
const GRID: (u32, u32) = (16, 5);

/// A temperature, and what it changes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FittedTemperature {
    /// What logits are divided by.
    pub temperature: f64,
    /// Number of images it was fitted on.
    pub images: usize,
    /// Calibration error (ECE) of these images at temperature 1.
    pub ece_before: f64,
    /// Calibration error with the temperature of the other half of the images, both halves together.
    pub ece_after: f64,
}

impl FittedTemperature {
    /// Fits the temperature to the predictions of images whose classes are `labels`.
    ///
    /// # Errors
    /// Those of [`ViewPredictions::mean`].
    pub fn fit(views: &ViewPredictions, labels: &[u8]) -> Result<Self> {
        // Sampled: files in a folder may alternate between classes.
        let order = Rng::new(&[Stream::Calibration as u64, labels.len() as u64]).permutation(labels.len());
        let (one, other) = order.split_at(labels.len() / 2);
        let [one, other] = [one, other].map(|rows| select(views, labels, rows));
        // Each half with the temperature of the other, which has not seen it.
        let scaled = |(views, _): &(ViewPredictions, Vec<u8>), (other, labels): &(ViewPredictions, Vec<u8>)| {
            views.mean(fit_temperature(other, labels)?)
        };
        let probabilities = [scaled(&one, &other)?.probabilities, scaled(&other, &one)?.probabilities].concat();
        let labels_of_halves = [one.1.as_slice(), other.1.as_slice()].concat();
        let before = views.mean(1.0)?;
        Ok(Self {
            temperature: fit_temperature(views, labels)?,
            images: labels.len(),
            ece_before: expected_calibration_error(&before.probabilities, before.classes, labels),
            ece_after: expected_calibration_error(&probabilities, before.classes, &labels_of_halves),
        })
    }
}

/// The predictions and labels of `rows`.
fn select(views: &ViewPredictions, labels: &[u8], rows: &[i64]) -> (ViewPredictions, Vec<u8>) {
    let rows = || rows.iter().filter_map(|row| usize::try_from(*row).ok());
    let part = |view: &Predictions| {
        let pick = |values: &[f32]| -> Vec<f32> {
            let row = |row: usize| values.get(row * view.classes..(row + 1) * view.classes).unwrap_or_default();
            rows().flat_map(row).copied().collect()
        };
        Predictions { logits: pick(&view.logits), probabilities: pick(&view.probabilities), classes: view.classes }
    };
    let labels = rows().filter_map(|row| labels.get(row).copied()).collect();
    (ViewPredictions(views.0.iter().map(part).collect()), labels)
}

/// The temperature in 0.05..20 that minimizes the cross-entropy of the mean of `views` and `labels`,
/// `[N]`; 1 if there are none or a logit is not finite.
///
/// The mean of several views is less certain than each of them, so test-time augmentation has a
/// temperature of its own.
///
/// The targets of the cross-entropy are (N + 1) / (N + classes) for the label and
/// 1 / (N + classes) for each other class (as in Platt 1999, "Probabilistic Outputs for Support Vector
/// Machines"), so that a few images which are all predicted correctly do not make a model certain.
///
/// # Errors
/// Those of [`ViewPredictions::mean`].
pub fn fit_temperature(views: &ViewPredictions, labels: &[u8]) -> Result<f64> {
    let is_finite = views.0.iter().all(|view| view.logits.iter().all(|logit| logit.is_finite()));
    match views.0.as_slice() {
        _ if labels.is_empty() || !is_finite => Ok(1.0),
        [view] => Ok(fit_one_view(&view.logits, view.classes, labels)),
        _ => fit_mean(views, labels),
    }
}

/// The temperature of a mean, whose cross-entropy need not be convex: the best point of a grid, which
/// is then refined around it. The last pass is exact to a thousandth.
fn fit_mean(views: &ViewPredictions, labels: &[u8]) -> Result<f64> {
    let (mut low, mut high) = RANGE;
    let mut best = (f64::INFINITY, 1.0);
    for _ in 0..GRID.1 {
        let factor = (high / low).powf(1.0 / f64::from(GRID.0));
        for step in 0..=GRID.0 {
            let temperature = low * factor.powf(f64::from(step));
            let loss = smoothed_cross_entropy(&views.mean(temperature)?, labels);
            if loss < best.0 {
                best = (loss, temperature);
            }
        }
        (low, high) = ((best.1 / factor).max(RANGE.0), (best.1 * factor).min(RANGE.1));
    }
    Ok(best.1)
}

/// The weight of every class in the targets, and the additional weight of the label.
fn target_weights(images: usize, classes: usize) -> (f64, f64) {
    let total = (images + classes) as f64;
    (1.0 / total, images as f64 / total)
}

/// The summed cross-entropy of the targets of [`fit_temperature`] and of predictions whose logits are
/// log-probabilities.
fn smoothed_cross_entropy(predictions: &Predictions, labels: &[u8]) -> f64 {
    let (every, label_weight) = target_weights(labels.len(), predictions.classes);
    let of_row = |(row, label): (&[f32], &u8)| {
        let all: f64 = row.iter().map(|logit| f64::from(*logit)).sum();
        let own = row.get(usize::from(*label)).map_or(0.0, |logit| f64::from(*logit));
        -(every * all + label_weight * own)
    };
    predictions.logits.chunks(predictions.classes.max(1)).zip(labels).map(of_row).sum()
}

/// The temperature of logits, float32 [N, classes].
///
/// The cross-entropy is convex in the inverse temperature b, and its derivative is the mean of the
/// expected logit under softmax(b z) less the expected logit under the targets.
fn fit_one_view(logits: &[f32], classes: usize, labels: &[u8]) -> f64 {
    let (mut low, mut high) = (1.0 / RANGE.1, 1.0 / RANGE.0);
    for _ in 0..STEPS {
        // The geometric mean, because the range is of factors.
        let middle = (low * high).sqrt();
        if derivative(logits, classes, labels, middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    1.0 / (low * high).sqrt()
}

/// The derivative of the summed cross-entropy by the inverse temperature.
fn derivative(logits: &[f32], classes: usize, labels: &[u8], inverse: f64) -> f64 {
    let (every, label_weight) = target_weights(labels.len(), classes);
    let of_row = |(row, label): (&[f32], &u8)| {
        let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let (mut total, mut weighted, mut sum) = (0.0, 0.0, 0.0);
        for logit in row {
            // Relative to the maximum, which cancels.
            let logit = f64::from(*logit) - max;
            let weight = (inverse * logit).exp();
            total += weight;
            weighted += weight * logit;
            sum += logit;
        }
        let own = row.get(usize::from(*label)).map_or(0.0, |logit| f64::from(*logit) - max);
        weighted / total - (every * sum + label_weight * own)
    };
    logits.chunks(classes.max(1)).zip(labels).map(of_row).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::cross_entropy;

    /// Logits of rows whose labels are drawn from the softmax of `logits / scale`.
    fn sample(rows: u32, scale: f64) -> (Vec<f32>, Vec<u8>) {
        let mut rng = crate::util::rng::Rng::new(&[9]);
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let row: Vec<f64> = (0..4).map(|_| 3.0 * rng.normal()).collect();
            let weights: Vec<f64> = row.iter().map(|logit| (logit / scale).exp()).collect();
            let mut left = rng.between(0.0, 1.0) * weights.iter().sum::<f64>();
            let label = weights.iter().position(|weight| {
                left -= weight;
                left < 0.0
            });
            labels.push(label.unwrap_or(3) as u8);
            logits.extend(row.iter().map(|logit| *logit as f32));
        }
        (logits, labels)
    }

    #[test]
    fn the_temperature_of_the_labels_is_found_and_minimizes_the_loss() {
        for scale in [0.5, 1.0, 2.5] {
            let (logits, labels) = sample(20_000, scale);
            let found = fit_one_view(&logits, 4, &labels);
            assert!((found / scale - 1.0).abs() < 0.05, "{found} for {scale}");
            let loss = |temperature: f64| {
                let scaled: Vec<f32> = logits.iter().map(|logit| (f64::from(*logit) / temperature) as f32).collect();
                cross_entropy(&scaled, 4, &labels)
            };
            assert!(loss(found) < loss(found * 1.05) && loss(found) < loss(found / 1.05));
        }
    }

    fn view(logits: &[f32], classes: usize) -> Predictions {
        Predictions { logits: logits.to_vec(), probabilities: Vec::new(), classes }
    }

    #[test]
    fn extremes_stay_in_the_range() {
        for views in [1, 2] {
            let fit = |logits: &[f32], classes, labels: &[u8]| {
                fit_temperature(&ViewPredictions(vec![view(logits, classes); views]), labels).unwrap()
            };
            assert_eq!(fit(&[], 3, &[]), 1.0);
            assert_eq!(fit(&[f32::NAN, 0.0], 2, &[0]), 1.0);
            // Two right ones: 3 to 1.
            let right = fit(&[5.0, 0.0, 0.0, 5.0], 2, &[0, 1]);
            let wrong = fit(&[5.0, 0.0, 0.0, 5.0], 2, &[1, 0]);
            assert!((right - 5.0 / 3f64.ln()).abs() < 5e-3 && (wrong - RANGE.1).abs() < 1e-6, "{right} {wrong}");
            let many = fit(&[5.0, 0.0].repeat(10_000), 2, &[0; 10_000]);
            assert!((many - 5.0 / 10_001f64.ln()).abs() < 1e-3, "{many}");
            let equal = fit(&[1.0, 1.0], 2, &[0]);
            assert!((RANGE.0..=RANGE.1).contains(&equal));
        }
    }

    #[test]
    fn overconfident_predictions_get_a_higher_temperature() {
        // Two classes, always 95% sure, and right in three of four cases.
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for row in 0..400u32 {
            logits.extend([19f32.ln(), 0.0]);
            labels.push(u8::from(row % 4 == 0));
        }
        let predictions = Predictions { logits, probabilities: [0.95f32, 0.05].repeat(400), classes: 2 };
        let found = FittedTemperature::fit(&ViewPredictions(vec![predictions]), &labels).unwrap();
        // Then 301 : 101, with the smoothed targets, is what 19 : 1 becomes.
        let expected = 19f64.ln() / ((300.0 * 401.0 + 100.0) / (100.0f64 * 401.0 + 300.0)).ln();
        assert!((found.temperature - expected).abs() < 1e-6, "{found:?} {expected}");
        assert!((found.ece_before - 0.2).abs() < 1e-6 && found.ece_after < 0.1, "{found:?}");
        assert_eq!(found.images, 400);
    }

    /// Files in the order of their names alternate between the classes, and one class is easy.
    #[test]
    fn halves_have_all_classes_whatever_the_order() {
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for row in 0..400u32 {
            let is_right = row % 2 == 0 || row % 8 == 1;
            logits.extend(if (row % 2 == 0) == is_right { [3.0, 0.0] } else { [0.0f32, 3.0] });
            labels.push((row % 2) as u8);
        }
        let (sure, unsure) = (0.952_574_1f32, 0.047_425_9);
        let probabilities = logits.iter().map(|logit| if *logit > 0.0 { sure } else { unsure }).collect();
        let predictions = Predictions { logits, probabilities, classes: 2 };
        let found = FittedTemperature::fit(&ViewPredictions(vec![predictions]), &labels).unwrap();
        // Halves of one class would have an error of about 0.37.
        assert!(found.ece_before > 0.3 && found.ece_after < 0.12, "{found:?}");
    }

    #[test]
    fn the_mean_of_disagreeing_views_has_a_lower_temperature_than_each() {
        let (logits, labels) = sample(4_000, 1.5);
        // The second view adds noise; equal views are like one.
        let mut rng = crate::util::rng::Rng::new(&[10]);
        let noisy: Vec<f32> = logits.iter().map(|logit| logit + 3.0 * rng.normal() as f32).collect();
        let fit = |views: &[&[f32]]| {
            fit_temperature(&ViewPredictions(views.iter().map(|logits| view(logits, 4)).collect()), &labels).unwrap()
        };
        let (one, other, equal, both) =
            (fit(&[&logits]), fit(&[&noisy]), fit(&[&logits, &logits]), fit(&[&logits, &noisy]));
        assert!((equal / one - 1.0).abs() < 1e-3, "{equal} {one}");
        assert!(both < 0.95 * (one + other) / 2.0, "{both} of {one} and {other}");
        let loss = |temperature: f64| {
            let mean = ViewPredictions(vec![view(&logits, 4), view(&noisy, 4)]).mean(temperature).unwrap();
            cross_entropy(&mean.logits, 4, &labels)
        };
        assert!(loss(both) < loss(both * 1.05) && loss(both) < loss(both / 1.05));
    }
}
