//! Significance: a confidence interval for a mean over seeds, and a paired bootstrap over images.

use serde::Serialize;

use crate::util::rng::{Rng, Stream};

/// Quantiles 0.975 of Student's t distribution for 1 to 30 degrees of freedom.
///
/// ```python
/// [round(scipy.stats.t.ppf(0.975, n), 3) for n in range(1, 31)]
/// ```
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12,
    2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The quantile for 31 degrees of freedom, slightly conservative for more.
const T_BEYOND: f64 = 2.04;

/// Half the width of the 95% confidence interval (Student's t) for the mean of the normal
/// distribution that `values` are samples of; `None` for fewer than two values.
pub fn confidence_half_width(values: &[f64]) -> Option<f64> {
    let freedom = values.len().checked_sub(1).filter(|freedom| *freedom > 0)?;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / freedom as f64;
    let quantile = T.get(freedom - 1).copied().unwrap_or(T_BEYOND);
    Some(quantile * (variance / values.len() as f64).sqrt())
}

/// Resamples of the bootstrap.
pub const RESAMPLES: u32 = 10_000;

/// The difference of two accuracies on the same images, with a bootstrap over the images (Efron and
/// Tibshirani 1993).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedDifference {
    /// Number of images.
    pub rows: usize,
    /// Accuracy of the first model minus that of the second.
    pub difference: f64,
    /// Lower end of the 95% percentile interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Fraction of resamples in which the first is not better.
    pub not_better: f64,
}

/// Compares two models by their correct predictions `[images]` with a paired bootstrap. `None`
/// without images.
pub fn paired_bootstrap(first: &[bool], second: &[bool], seed: u64) -> Option<PairedDifference> {
    let rows = first.len().min(second.len());
    if rows == 0 {
        return None;
    }
    let signs: Vec<i64> = first.iter().zip(second).map(|(a, b)| i64::from(*a) - i64::from(*b)).collect();
    let mut rng = Rng::new(&[Stream::Bootstrap as u64, seed]);
    let mut sums: Vec<i64> = (0..RESAMPLES)
        .map(|_| {
            let resample = (0..rows).map(|_| signs.get(rng.below(rows as u64) as usize).copied().unwrap_or(0));
            resample.sum()
        })
        .collect();
    sums.sort_unstable();
    let mean = |sum: i64| sum as f64 / rows as f64;
    let percentile = |quantile: f64| {
        let index = (quantile * f64::from(RESAMPLES - 1)).round() as usize;
        mean(sums.get(index).copied().unwrap_or(0))
    };
    let not_better = sums.iter().filter(|sum| **sum <= 0).count() as f64 / f64::from(RESAMPLES);
    Some(PairedDifference {
        rows,
        difference: mean(signs.iter().sum()),
        low: percentile(0.025),
        high: percentile(0.975),
        not_better,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// x = [0.61, 0.62, 0.60, 0.63, 0.615]
    /// scipy.stats.t.interval(0.95, 4, np.mean(x), scipy.stats.sem(x))     # (0.601118, 0.628882)
    /// ```
    #[test]
    fn the_interval_is_students_t() {
        let half = confidence_half_width(&[0.61, 0.62, 0.60, 0.63, 0.615]).unwrap();
        assert!((half - 0.013_882).abs() < 1e-5, "{half}");
        assert_eq!(confidence_half_width(&[0.6]), None);
        assert_eq!(confidence_half_width(&[]), None);
        assert_eq!(confidence_half_width(&[0.5, 0.5]), Some(0.0));
        assert!(confidence_half_width(&[0.1, 0.2].repeat(40)).is_some());
    }

    #[test]
    fn the_bootstrap_finds_a_clear_difference_and_none_between_equals() {
        // Of 1000 images the first is correct on 60 more; they differ on 100.
        let first: Vec<bool> = (0..1000).map(|image| image < 580 || (600..680).contains(&image)).collect();
        let second: Vec<bool> = (0..1000).map(|image| image < 600).collect();
        let found = paired_bootstrap(&first, &second, 1).unwrap();
        assert_eq!((found.rows, found.difference), (1000, 0.06));
        // Standard error: sqrt((100 / 1000 - 0.06²) / 1000) = 0.0098.
        assert!((found.low - 0.041).abs() < 0.002 && (found.high - 0.079).abs() < 0.002, "{found:?}");
        assert!(found.not_better < 0.001);
        assert_eq!(found, paired_bootstrap(&first, &second, 1).unwrap(), "the seed fixes it");
        let same = paired_bootstrap(&first, &first, 1).unwrap();
        assert_eq!((same.difference, same.low, same.high, same.not_better), (0.0, 0.0, 0.0, 1.0));
        assert_eq!(paired_bootstrap(&[], &[], 1), None);
    }
}
