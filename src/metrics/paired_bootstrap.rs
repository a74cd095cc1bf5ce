//! A paired bootstrap over images: the difference of two models' metrics, with its interval.

use rayon::prelude::*;
use serde::Serialize;

use crate::util::rng::{Rng, Stream};

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

/// The difference of any metric of two models on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BootstrapDifference {
    /// The metric of one model minus that of the other.
    pub difference: f64,
    /// Lower end of the 95% percentile interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Bootstraps a difference over `rows` images: `difference` gets the positions of a resample. Each
/// resample has its own random numbers, so threads do not matter. `None` without images.
pub fn bootstrap_difference(
    rows: usize,
    seed: u64,
    difference: impl Fn(&[usize]) -> f64 + Sync,
) -> Option<BootstrapDifference> {
    if rows == 0 {
        return None;
    }
    let resample = |number: u32| {
        let mut rng = Rng::new(&[Stream::Bootstrap as u64, seed, u64::from(number)]);
        difference(&(0..rows).map(|_| rng.below(rows as u64) as usize).collect::<Vec<_>>())
    };
    let mut values: Vec<f64> = (0..RESAMPLES).into_par_iter().map(resample).collect();
    values.sort_by(f64::total_cmp);
    let percentile = |quantile: f64| values.get((quantile * f64::from(RESAMPLES - 1)).round() as usize).copied();
    Some(BootstrapDifference {
        difference: difference(&(0..rows).collect::<Vec<_>>()),
        low: percentile(0.025)?,
        high: percentile(0.975)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bootstrap_of_a_mean_difference_has_its_standard_error() {
        // 0 or 1 with equal frequency, 400 times: standard error 0.025.
        let mean = |rows: &[usize]| rows.iter().map(|row| (row % 2) as f64).sum::<f64>() / rows.len() as f64;
        let found = bootstrap_difference(400, 1, mean).unwrap();
        assert_eq!(found.difference, 0.5);
        assert!((found.low - 0.451).abs() < 0.003 && (found.high - 0.549).abs() < 0.003, "{found:?}");
        assert_eq!(Some(found), bootstrap_difference(400, 1, mean), "the seed fixes it");
        assert_eq!(bootstrap_difference(0, 1, mean), None);
    }

    /// Of 95% intervals from samples of a known distribution, 95% include the true difference. One model
    /// is correct on 60% of images, the other on 65%, and both on 50%.
    #[test]
    fn intervals_cover_the_true_difference() {
        let trials = 200;
        let covers = (0..trials).into_par_iter().filter(|trial| {
            let mut rng = Rng::new(&[11, *trial]);
            let pair = |value: f64| (value < 0.6, value < 0.5 || (0.6..0.75).contains(&value));
            let (first, second): (Vec<bool>, Vec<bool>) = (0..200).map(|_| pair(rng.uniform())).unzip();
            let found = paired_bootstrap(&second, &first, *trial).unwrap();
            (found.low..=found.high).contains(&0.05)
        });
        // 190 are expected, with a standard deviation of 3.1.
        let covers = covers.count();
        assert!((180..=199).contains(&covers), "{covers} of {trials}");
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
