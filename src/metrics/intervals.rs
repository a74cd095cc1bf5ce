//! Confidence intervals of metrics over images.

use crate::util::rng::{Rng, Stream};
use crate::util::stats::Z_95 as Z;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 1000;

/// The 95% Wilson score interval of a fraction (Wilson 1927), `(low, high)`; it stays within 0..1
/// also for few images. `None` without images.
pub fn wilson_interval(successes: usize, count: usize) -> Option<(f64, f64)> {
    if count == 0 {
        return None;
    }
    let (n, p) = (count as f64, successes as f64 / count as f64);
    let center = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some(((center - half).max(0.0), (center + half).min(1.0)))
}

/// [`wilson_interval`] of an accuracy over `rows` images.
pub fn accuracy_interval(accuracy: f64, rows: usize) -> Option<(f64, f64)> {
    let is_fraction = (0.0..=1.0).contains(&accuracy);
    is_fraction.then(|| wilson_interval((accuracy * rows as f64).round() as usize, rows)).flatten()
}

/// An interval as `0.5188 to 0.5515`.
pub fn describe_interval((low, high): (f64, f64)) -> String {
    format!("{low:.4} to {high:.4}")
}

/// An accuracy with its interval for a sentence, as `0.5352 (95% CI 0.5188 to 0.5515)`; without one if
/// it is not known.
pub fn describe_accuracy(accuracy: f64, interval: Option<(f64, f64)>) -> String {
    let interval = interval.map_or(String::new(), |interval| format!(" (95% CI {})", describe_interval(interval)));
    format!("{accuracy:.4}{interval}")
}

/// An accuracy with its interval for a table, as `0.5352 (0.5188 to 0.5515)`; `-` if there is none.
pub fn accuracy_cell(accuracy: Option<f64>, interval: Option<(f64, f64)>) -> String {
    let Some(accuracy) = accuracy else { return "-".to_owned() };
    let interval = interval.map_or(String::new(), |interval| format!(" ({})", describe_interval(interval)));
    format!("{accuracy:.4}{interval}")
}

/// The 95% percentile interval of `statistic` over bootstrap samples of `count` images, corrected for
/// bias (Efron and Tibshirani 1993, chapter 10): a calibration error is larger in the images than in
/// truth, and larger again in samples of them by about as much, so the bias is subtracted twice.
/// `statistic` gets the positions of a sample; it is in 0..1. `None` without images.
pub fn bootstrap_interval(count: usize, statistic: impl Fn(&[usize]) -> f64) -> Option<(f64, f64)> {
    if count == 0 {
        return None;
    }
    let mut rng = Rng::new(&[Stream::Bootstrap as u64, count as u64]);
    let mut values: Vec<f64> = (0..RESAMPLES)
        .map(|_| statistic(&(0..count).map(|_| rng.below(count as u64) as usize).collect::<Vec<_>>()))
        .collect();
    values.sort_by(f64::total_cmp);
    let bias = values.iter().sum::<f64>() / RESAMPLES as f64 - statistic(&(0..count).collect::<Vec<_>>());
    let at = |fraction: f64| Some((values.get((fraction * RESAMPLES as f64) as usize)? - 2.0 * bias).clamp(0.0, 1.0));
    Some((at(0.025)?, at(0.975)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// statsmodels.stats.proportion.proportion_confint(8, 10, method="wilson")   # 0.4902, 0.9433
    /// ```
    #[test]
    fn wilson_intervals_match_statsmodels() {
        let (low, high) = wilson_interval(8, 10).unwrap();
        assert!((low - 0.490_16).abs() < 1e-4 && (high - 0.943_32).abs() < 1e-4, "{low} {high}");
        assert_eq!(wilson_interval(0, 0), None);
        let (low, high) = wilson_interval(5, 5).unwrap();
        assert!(low > 0.5 && high == 1.0);
        assert!(wilson_interval(0, 5).unwrap().0.abs() < 1e-12);
    }

    #[test]
    fn an_accuracy_is_described_with_its_interval() {
        assert_eq!(accuracy_interval(0.8, 10), wilson_interval(8, 10));
        assert_eq!((accuracy_interval(0.8, 0), accuracy_interval(f64::NAN, 10)), (None, None));
        assert_eq!(describe_accuracy(0.8, accuracy_interval(0.8, 10)), "0.8000 (95% CI 0.4902 to 0.9433)");
        assert_eq!(describe_accuracy(0.8, None), "0.8000");
        assert_eq!(accuracy_cell(Some(0.8), accuracy_interval(0.8, 10)), "0.8000 (0.4902 to 0.9433)");
        assert_eq!(
            (accuracy_cell(None, Some((0.0, 1.0))), accuracy_cell(Some(0.5), None)),
            ("-".into(), "0.5000".into())
        );
    }

    #[test]
    fn the_bootstrap_of_a_mean_has_its_standard_error() {
        // 0 or 1 with equal frequency, 400 times: standard error 0.025.
        let (low, high) =
            bootstrap_interval(400, |rows| rows.iter().map(|row| (row % 2) as f64).sum::<f64>() / rows.len() as f64)
                .unwrap();
        assert!((low - 0.451).abs() < 0.006 && (high - 0.549).abs() < 0.006, "{low} {high}");
        assert_eq!(bootstrap_interval(0, |_| 0.0), None);
    }
    /// The labels of a calibrated model are sampled from its probabilities: its true error is 0.
    #[test]
    fn the_interval_of_a_calibration_error_includes_the_truth() {
        use crate::metrics::expected_calibration_error;

        let trials = 20;
        let includes_truth = (0..trials).filter(|trial| {
            let mut rng = Rng::new(&[5, *trial]);
            let (mut probabilities, mut labels) = (Vec::new(), Vec::new());
            for _ in 0..600 {
                let p = rng.between(0.5, 1.0) as f32;
                probabilities.push([p, 1.0 - p]);
                labels.push(u8::from(rng.uniform() >= f64::from(p)));
            }
            let error = |rows: &[usize]| {
                let picked: Vec<f32> = rows.iter().flat_map(|row| probabilities[*row]).collect();
                let labels: Vec<u8> = rows.iter().map(|row| labels[*row]).collect();
                expected_calibration_error(&picked, 2, &labels)
            };
            // The truth is the smallest value there is; nearly that counts.
            bootstrap_interval(600, error).unwrap().0 < 0.01
        });
        let count = includes_truth.count();
        assert!(count >= 16, "{count} of {trials}");
        // F1 of perfect predictions but one: resamples of it are not above 1.
        let all_but_one = |rows: &[usize]| rows.iter().filter(|row| **row > 0).count() as f64 / rows.len() as f64;
        assert!(bootstrap_interval(20, all_but_one).unwrap().1 <= 1.0);
    }
}
