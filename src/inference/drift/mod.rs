//! Drift: whether new images, and what a model predicts for them, differ from reference images.

mod estimate;
mod signals;

use serde::Serialize;

use crate::metrics::holm;
use crate::metrics::two_sample::{TwoSample, chi_squared, kolmogorov_smirnov, stability_index};

pub use estimate::{EstimatedAccuracy, estimate_accuracy};
pub use signals::Signals;

/// Bins of a histogram and of the stability index.
pub const BINS: usize = 10;

/// Name of the test of predicted classes.
pub const CLASSES: &str = "predicted class";

/// When a difference counts as drift: both must hold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// The corrected p-value is below this: the maximum rate of alarms on images without drift.
    pub alpha: f64,
    /// The distance is at least this: with many images, tests find differences too small to matter.
    pub min_distance: f64,
}

/// One signal of reference and new images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignalDrift {
    /// `brightness`, ..., or [`CLASSES`].
    pub signal: &'static str,
    /// Mean of the reference images; absent for classes.
    pub reference_mean: Option<f64>,
    /// Mean of the new images; absent for classes.
    pub new_mean: Option<f64>,
    /// Distance of the distributions, 0 to 1: Kolmogorov and Smirnov's, or the total variation distance
    /// of classes.
    pub distance: f64,
    /// Population stability index.
    pub stability_index: f64,
    /// p-value, corrected for the number of signals.
    pub p_value: f64,
    /// Whether it is drift by the limits.
    pub is_drift: bool,
    /// Upper ends of the bins but the last; empty for classes.
    pub bin_ends: Vec<f64>,
    /// Reference images in each bin or class.
    pub reference_counts: Vec<u64>,
    /// New images in each bin or class.
    pub new_counts: Vec<u64>,
}

/// The distance from which on a continuous signal that alone differs is significant, for samples of
/// these sizes: the one whose p-value by Kolmogorov and Smirnov (asymptotic), corrected as for the most
/// significant of `signals` signals, is `alpha`. At most 1. The minimum distance of `limits` is apart.
pub fn detectable_distance(reference: usize, new: usize, signals: usize, limits: Limits) -> f64 {
    let (n, m) = (reference as f64, new as f64);
    let root = (n * m / (n + m)).sqrt();
    // The first term of the series, which is all but exact for small p-values.
    let quantile = (-0.5 * (limits.alpha / signals.max(1) as f64 / 2.0).ln()).sqrt();
    (quantile / (root + 0.12 + 0.11 / root)).min(1.0)
}

/// Compares `new` with `reference`, for a model of `classes` classes. Signals without images in
/// either are left out.
pub fn compare(reference: &Signals, new: &Signals, classes: usize, limits: Limits) -> Vec<SignalDrift> {
    let mut signals: Vec<SignalDrift> = Vec::new();
    for ((name, before), (_, after)) in reference.continuous().into_iter().zip(new.continuous()) {
        if let Some(found) = kolmogorov_smirnov(before, after) {
            let ends = bin_ends(before);
            let counts = [histogram(before, &ends), histogram(after, &ends)];
            let means = (Some(mean(before)), Some(mean(after)));
            let drift = SignalDrift::new(name, found, counts);
            signals.push(SignalDrift { reference_mean: means.0, new_mean: means.1, bin_ends: ends, ..drift });
        }
    }
    let counts = [reference.class_counts(classes), new.class_counts(classes)];
    let [before, after] = &counts;
    if let Some(found) = chi_squared(before, after) {
        signals.push(SignalDrift::new(CLASSES, found, counts));
    }
    let p_values = holm(&signals.iter().map(|signal| signal.p_value).collect::<Vec<_>>());
    for (signal, p_value) in signals.iter_mut().zip(p_values) {
        signal.p_value = p_value;
        signal.is_drift = p_value < limits.alpha && signal.distance >= limits.min_distance;
    }
    signals
}

impl SignalDrift {
    /// A test of counts of reference and new images, not corrected yet.
    fn new(signal: &'static str, found: TwoSample, [reference_counts, new_counts]: [Vec<u64>; 2]) -> Self {
        Self {
            signal,
            reference_mean: None,
            new_mean: None,
            distance: found.distance,
            stability_index: stability_index(&reference_counts, &new_counts),
            p_value: found.p_value,
            is_drift: false,
            bin_ends: Vec::new(),
            reference_counts,
            new_counts,
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The deciles of `values`, which end all bins but the last; fewer if some are equal.
fn bin_ends(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut ends: Vec<f64> = (1..BINS).filter_map(|bin| sorted.get(bin * sorted.len() / BINS).copied()).collect();
    ends.dedup();
    ends
}

/// Values in each bin; a value equal to an end is in the bin below it.
fn histogram(values: &[f64], ends: &[f64]) -> Vec<u64> {
    let mut counts = vec![0; ends.len() + 1];
    for value in values {
        if let Some(count) = counts.get_mut(ends.partition_point(|end| end < value)) {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    const LIMITS: Limits = Limits { alpha: 0.05, min_distance: 0.05 };

    /// Just above it, the test finds drift; just below, it does not.
    #[test]
    fn the_detectable_distance_is_where_the_test_decides() {
        for (reference, new) in [(500, 40), (2000, 300), (800, 9)] {
            let distance = detectable_distance(reference, new, 5, LIMITS);
            // Steps of a distribution of `new` values: the first is at the value that is looked for.
            let fine: Vec<f64> = (0..reference).map(|value| value as f64 / reference as f64).collect();
            let shifted = |by: f64| -> Vec<f64> {
                (0..new).map(|value| (value as f64 + 0.5) / new as f64 * (1.0 - by)).collect()
            };
            let found = |by: f64| kolmogorov_smirnov(&fine, &shifted(by)).unwrap();
            let step = 2.0 / new as f64;
            assert!(5.0 * found(distance - step).p_value > 0.05, "{reference} {new}");
            assert!(5.0 * found((distance + step).min(0.99)).p_value < 0.05, "{reference} {new}");
        }
        assert!(detectable_distance(1_000_000, 1_000_000, 5, LIMITS) < 0.01);
        assert_eq!(detectable_distance(100, 1, 5, LIMITS), 1.0);
    }

    /// `count` images of a population; `shift` moves their brightness by standard deviations.
    fn sample(seed: u64, count: usize, shift: f64) -> Signals {
        let mut rng = Rng::new(&[11, seed]);
        let mut found = Signals::default();
        for _ in 0..count {
            found.brightness.push(128.0 + 30.0 * (rng.normal() + shift));
            found.contrast.push(50.0 + 10.0 * rng.normal());
            found.sharpness.push(rng.uniform());
            found.confidence.push(rng.between(0.3, 1.0));
            found.predicted.push(rng.below(7) as u8);
        }
        found
    }

    fn drifted(reference: &Signals, new: &Signals) -> Vec<&'static str> {
        compare(reference, new, 7, LIMITS)
            .into_iter()
            .filter(|found| found.is_drift)
            .map(|found| found.signal)
            .collect()
    }

    #[test]
    fn the_same_distribution_rarely_raises_an_alarm() {
        let alarms =
            (0..200).filter(|draw| !drifted(&sample(1000 + draw, 1000, 0.0), &sample(*draw, 300, 0.0)).is_empty());
        let alarms = alarms.count();
        assert!(alarms <= 10 + 6, "{alarms} of 200: 10 expected at most, with a deviation of 3");
    }

    #[test]
    fn a_shift_is_found_in_its_signal_alone() {
        let reference = sample(1, 1000, 0.0);
        assert_eq!(drifted(&reference, &sample(2, 300, 0.5)), ["brightness"]);
        let mut other_classes = sample(3, 300, 0.0);
        other_classes.predicted.iter_mut().step_by(3).for_each(|class| *class = 0);
        assert_eq!(drifted(&reference, &other_classes), [CLASSES]);
    }

    #[test]
    fn a_small_difference_of_many_images_is_no_drift() {
        let (reference, new) = (sample(1, 40_000, 0.0), sample(2, 40_000, 0.05));
        let found = compare(&reference, &new, 7, LIMITS);
        let [brightness, ..] = found.as_slice() else { panic!("{found:?}") };
        assert!(brightness.p_value < 0.01 && brightness.distance < 0.05 && !brightness.is_drift, "{brightness:?}");
        assert!(!drifted(&reference, &new).contains(&"brightness"));
    }

    #[test]
    fn bins_are_deciles_of_the_reference() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let ends = bin_ends(&values);
        assert_eq!(ends.len(), BINS - 1);
        assert!(histogram(&values, &ends).iter().all(|count| (9..=11).contains(count)));
        assert_eq!(bin_ends(&[1.0; 30]), [1.0]);
        assert_eq!(histogram(&[0.0, 1.0, 2.0], &[1.0]), [2, 1]);
        assert!(compare(&Signals::default(), &sample(1, 3, 0.0), 7, LIMITS).is_empty());
    }
}
