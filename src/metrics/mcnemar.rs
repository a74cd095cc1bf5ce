//! McNemar's test: whether two models have the same accuracy on the same images.

use serde::Serialize;

/// With fewer discordant images than this, the test is exact.
const MIN_CHI_SQUARED: usize = 25;

/// How the p-value was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum McNemarMethod {
    /// The binomial distribution of the discordant images, two-sided.
    ExactBinomial,
    /// Chi-squared with one degree of freedom and Edwards' continuity correction.
    ChiSquaredCorrected,
}

/// The test's result (McNemar 1947, "Note on the sampling error of the difference between correlated
/// proportions or percentages").
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemar {
    /// Images that both models classify correctly.
    pub both_correct: usize,
    /// Images that only the first model classifies correctly.
    pub only_first: usize,
    /// Images that only the second model classifies correctly.
    pub only_second: usize,
    /// Images that neither classifies correctly.
    pub both_wrong: usize,
    /// Probability of counts at least this unequal if both models are equally accurate; 1 without
    /// discordant images.
    pub p: f64,
    /// How `p` was computed.
    pub method: McNemarMethod,
}

impl McNemar {
    /// Tests two models by their correct predictions `[images]`.
    pub fn new(first: &[bool], second: &[bool]) -> Self {
        let count = |pair: (bool, bool)| first.iter().zip(second).filter(|(a, b)| (**a, **b) == pair).count();
        let (only_first, only_second) = (count((true, false)), count((false, true)));
        let (p, method) = p_value(only_first, only_second);
        Self {
            both_correct: count((true, true)),
            only_first,
            only_second,
            both_wrong: count((false, false)),
            p,
            method,
        }
    }

    /// Images that exactly one of the models classifies correctly.
    pub fn discordant(&self) -> usize {
        self.only_first + self.only_second
    }

    /// The name of the method, for people.
    pub fn describe_method(&self) -> &'static str {
        match self.method {
            McNemarMethod::ExactBinomial => "exact binomial",
            McNemarMethod::ChiSquaredCorrected => "chi-squared with continuity correction",
        }
    }
}

fn p_value(only_first: usize, only_second: usize) -> (f64, McNemarMethod) {
    let discordant = only_first + only_second;
    if discordant < MIN_CHI_SQUARED {
        return (exact(only_first.min(only_second), discordant), McNemarMethod::ExactBinomial);
    }
    let corrected = (only_first.abs_diff(only_second) as f64 - 1.0).max(0.0);
    let statistic = corrected * corrected / discordant as f64;
    // A chi-squared variable with one degree of freedom is the square of a normal one.
    (libm::erfc((statistic / 2.0).sqrt()), McNemarMethod::ChiSquaredCorrected)
}

/// Twice the probability of at most `fewer` heads in `tosses` tosses of a fair coin, at most 1.
fn exact(fewer: usize, tosses: usize) -> f64 {
    let mut coefficient = 1.0;
    let mut sum = 0.0;
    for heads in 0..=fewer {
        sum += coefficient;
        coefficient *= (tosses - heads) as f64 / (heads + 1) as f64;
    }
    (2.0 * sum * 0.5f64.powf(tosses as f64)).min(1.0)
}

/// The p-values of several tests, adjusted so that the probability of any false alarm stays below the
/// level (Holm 1979, "A simple sequentially rejective multiple test procedure").
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (rank, (index, p)) in order.into_iter().enumerate() {
        largest = largest.max((p * (p_values.len() - rank) as f64).min(1.0));
        if let Some(value) = adjusted.get_mut(index) {
            *value = largest;
        }
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// from statsmodels.stats.contingency_tables import mcnemar
    /// for b, c in [(3, 9), (0, 6), (7, 7), (10, 14), (0, 0)]:
    ///     print(mcnemar([[0, b], [c, 0]], exact=True).pvalue)
    /// for b, c in [(5, 20), (40, 70), (300, 393), (600, 601)]:
    ///     print(mcnemar([[0, b], [c, 0]], exact=False, correction=True).pvalue)
    /// ```
    #[test]
    fn p_values_match_statsmodels() {
        use McNemarMethod::{ChiSquaredCorrected, ExactBinomial};
        for (only_first, only_second, p, method) in [
            (3, 9, 0.145_996_093_75, ExactBinomial),
            (0, 6, 0.031_25, ExactBinomial),
            (7, 7, 1.0, ExactBinomial),
            (10, 14, 0.541_256_189_346_313_5, ExactBinomial),
            (0, 0, 1.0, ExactBinomial),
            (5, 20, 0.005_110_260_660_855_866, ChiSquaredCorrected),
            (40, 70, 0.005_691_555_284_687_295_5, ChiSquaredCorrected),
            (300, 393, 0.000_474_433_087_181_575_67, ChiSquaredCorrected),
            (600, 601, 1.0, ChiSquaredCorrected),
        ] {
            let (found, by) = p_value(only_first, only_second);
            assert!((found - p).abs() < 1e-12 && by == method, "{only_first} {only_second}: {found} {by:?}");
            assert_eq!(p_value(only_second, only_first), (found, by));
        }
    }

    #[test]
    fn pairs_are_counted() {
        let found = McNemar::new(&[true, true, false, false, true], &[true, false, true, false, false]);
        assert_eq!((found.both_correct, found.only_first, found.only_second, found.both_wrong), (1, 2, 1, 1));
        assert_eq!((found.discordant(), found.p), (3, 1.0));
        assert_eq!(serde_json::to_value(found).unwrap()["method"], "exact_binomial");
        assert_eq!(McNemar::new(&[], &[]).p, 1.0);
    }

    /// ```python
    /// from statsmodels.stats.multitest import multipletests
    /// multipletests([0.01, 0.04, 0.03, 0.005, 0.9], method="holm")[1]   # 0.04 0.09 0.09 0.025 0.9
    /// ```
    #[test]
    fn holm_matches_statsmodels() {
        let found = holm(&[0.01, 0.04, 0.03, 0.005, 0.9]);
        let expected = [0.04, 0.09, 0.09, 0.025, 0.9];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        assert!(holm(&[]).is_empty());
        assert_eq!(holm(&[1.0, 1.0]), [1.0, 1.0]);
    }

    /// Under equal accuracy the test rejects in at most 5% of cases.
    #[test]
    fn false_alarms_are_within_the_level() {
        use crate::util::rng::Rng;
        for (images, rate) in [(60, 0.3), (600, 0.3)] {
            let mut rng = Rng::new(&[9, images]);
            let alarms = (0..2000)
                .filter(|_| {
                    let mut correct = || (0..images).map(|_| rng.uniform() < rate).collect::<Vec<_>>();
                    let (first, second) = (correct(), correct());
                    McNemar::new(&first, &second).p < 0.05
                })
                .count();
            // 2,000 trials at 5%: 100, standard deviation 9.7. The test is conservative.
            assert!((30..=125).contains(&alarms), "{alarms} of 2,000 with {images} images");
        }
    }
}
