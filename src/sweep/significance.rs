//! Significance: a confidence interval for a mean over seeds. That of a difference on the same images
//! is in [`crate::metrics::paired_bootstrap`].

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
}
