//! Whether two samples come from the same distribution, and how far apart they are.

use statrs::function::gamma::gamma_ur;

/// A test of two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoSample {
    /// Distance of the distributions, 0 to 1.
    pub distance: f64,
    /// Probability of such a distance, or a larger one, if the distributions are equal.
    pub p_value: f64,
}

/// Tests continuous values by Kolmogorov and Smirnov: the distance is the largest difference of the
/// cumulative distributions. The p-value is asymptotic, with Stephens' correction for few values
/// (Stephens 1970, "Use of the Kolmogorov-Smirnov, Cramér-von Mises and Related Statistics Without
/// Extensive Tables"); with ties it is too large rather than too small. `None` without values in
/// either sample.
pub fn kolmogorov_smirnov(one: &[f64], other: &[f64]) -> Option<TwoSample> {
    if one.is_empty() || other.is_empty() {
        return None;
    }
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let (one, other) = (sorted(one), sorted(other));
    let (n, m) = (one.len() as f64, other.len() as f64);
    let below = |values: &[f64], value: f64| values.partition_point(|other| *other <= value) as f64;
    let distance = one
        .iter()
        .chain(&other)
        .map(|value| (below(&one, *value) / n - below(&other, *value) / m).abs())
        .fold(0.0, f64::max);
    let root = (n * m / (n + m)).sqrt();
    Some(TwoSample { distance, p_value: kolmogorov((root + 0.12 + 0.11 / root) * distance) })
}

/// The survival function of the Kolmogorov distribution, as `scipy.special.kolmogorov`.
fn kolmogorov(value: f64) -> f64 {
    // Below this, the result is 1 in float64, and the series converges slowly.
    if value < 0.2 {
        return 1.0;
    }
    let term = |k: i32| (-2.0 * f64::from(k * k) * value * value).exp() * if k % 2 == 0 { -1.0 } else { 1.0 };
    (2.0 * (1..=100).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

/// Tests counts of categories by Pearson's chi-squared test of homogeneity; the distance is the total
/// variation distance of the fractions. Categories that few would expect (fewer than 5 in a sample,
/// Cochran 1954) are taken together. `None` without counts in either sample; the p-value is 1 if only
/// one category is left.
pub fn chi_squared(one: &[u64], other: &[u64]) -> Option<TwoSample> {
    let (n, m) = (one.iter().sum::<u64>() as f64, other.iter().sum::<u64>() as f64);
    if n == 0.0 || m == 0.0 {
        return None;
    }
    let pairs: Vec<(f64, f64)> = one.iter().zip(other).map(|(a, b)| (*a as f64, *b as f64)).collect();
    let distance = pairs.iter().map(|(a, b)| (a / n - b / m).abs()).sum::<f64>() / 2.0;
    let expected = |(a, b): (f64, f64), total: f64| (a + b) * total / (n + m);
    let (rare, mut kept): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|pair| expected(*pair, n.min(m)) < 5.0);
    let rest = rare.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    if rest.0 + rest.1 > 0.0 {
        kept.push(rest);
    }
    let statistic: f64 = kept
        .iter()
        .map(|pair| {
            let (first, second) = (expected(*pair, n), expected(*pair, m));
            (pair.0 - first).powi(2) / first + (pair.1 - second).powi(2) / second
        })
        .sum();
    let freedom = kept.len() as f64 - 1.0;
    let p_value = if freedom > 0.0 && statistic > 0.0 { gamma_ur(freedom / 2.0, statistic / 2.0) } else { 1.0 };
    Some(TwoSample { distance, p_value })
}

/// The population stability index of two samples of counts in the same bins: the symmetric
/// Kullback-Leibler divergence of their fractions. Half a value is added to each bin, so that an
/// empty one does not make it infinite. By a common rule of thumb, below 0.1 is stable and above 0.25
/// a shift.
pub fn stability_index(reference: &[u64], new: &[u64]) -> f64 {
    let fractions = |counts: &[u64]| -> Vec<f64> {
        let total = counts.iter().sum::<u64>() as f64 + 0.5 * counts.len() as f64;
        counts.iter().map(|count| (*count as f64 + 0.5) / total).collect()
    };
    fractions(reference).iter().zip(fractions(new)).map(|(p, q)| (q - p) * (q / p).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::rng::Rng;

    /// ```python
    /// scipy.special.kolmogorov([0.5, 1.0, 1.358, 2.0])   # 0.963945, 0.270000, 0.050027, 0.000671
    /// ```
    #[test]
    fn the_kolmogorov_distribution_matches_scipy() {
        for (value, expected) in [(0.0, 1.0), (0.5, 0.963_945), (1.0, 0.270_000), (1.358, 0.050_027), (2.0, 0.000_671)]
        {
            assert!((kolmogorov(value) - expected).abs() < 2e-6, "{value}: {}", kolmogorov(value));
        }
    }

    #[test]
    fn distances_are_those_of_the_cumulative_distributions() {
        let found = kolmogorov_smirnov(&[1.0, 2.0, 3.0, 4.0], &[3.0, 4.0, 5.0, 6.0]).unwrap();
        assert!((found.distance - 0.5).abs() < 1e-12 && found.p_value > 0.3, "{found:?}");
        let same = kolmogorov_smirnov(&[1.0; 50], &[1.0; 70]).unwrap();
        assert_eq!((same.distance, same.p_value), (0.0, 1.0));
        let apart = kolmogorov_smirnov(&[0.0; 50], &[1.0; 50]).unwrap();
        assert!(apart.distance == 1.0 && apart.p_value < 1e-12);
        assert_eq!(kolmogorov_smirnov(&[], &[1.0]), None);
    }

    /// ```python
    /// scipy.stats.chi2_contingency([[30, 50, 20], [45, 35, 20]])[:2]     # 5.6470588, 0.0593961
    /// ```
    #[test]
    fn chi_squared_matches_scipy() {
        let found = chi_squared(&[30, 50, 20], &[45, 35, 20]).unwrap();
        assert!((found.p_value - 0.059_396).abs() < 1e-5, "{found:?}");
        assert!((found.distance - 0.15).abs() < 1e-12);
        // Rare categories are one category, and absent ones none.
        let merged = chi_squared(&[100, 3, 1, 0], &[100, 1, 4, 0]).unwrap();
        assert!(merged.p_value > 0.5, "{merged:?}");
        assert_eq!(chi_squared(&[10, 0], &[7, 0]).unwrap().p_value, 1.0);
        assert_eq!(chi_squared(&[0, 0], &[7, 0]), None);
    }

    #[test]
    fn the_stability_index_grows_with_the_shift() {
        let equal = stability_index(&[100, 200, 300], &[50, 100, 150]);
        let shifted = stability_index(&[100, 200, 300], &[300, 200, 100]);
        assert!(equal.abs() < 1e-3 && (0.6..0.9).contains(&shifted), "{equal} {shifted}");
        assert!(stability_index(&[10, 0], &[0, 10]).is_finite());
    }

    #[test]
    fn equal_distributions_rarely_have_small_p_values() {
        let trials = 400;
        let mut rng = Rng::new(&[3]);
        let (mut continuous, mut counted) = (0, 0);
        for _ in 0..trials {
            let mut sample = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.uniform().powi(2)).collect() };
            let (one, other) = (sample(400), sample(150));
            continuous += usize::from(kolmogorov_smirnov(&one, &other).unwrap().p_value < 0.05);
            let counts = |values: &[f64]| -> Vec<u64> {
                (0..5).map(|bin| values.iter().filter(|value| (**value * 5.0) as u64 == bin).count() as u64).collect()
            };
            counted += usize::from(chi_squared(&counts(&one), &counts(&other)).unwrap().p_value < 0.05);
        }
        // 5% of 400 is 20, with a deviation of 4.4.
        for found in [continuous, counted] {
            assert!((5..=36).contains(&found), "{continuous} {counted}");
        }
    }
}
