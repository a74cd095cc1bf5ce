//! Means, medians and rounding.

/// The 0.975 quantile of the normal distribution: half the width of a 95% interval in standard errors.
pub const Z_95: f64 = 1.959_964;

/// Rounds `value` to `digits` decimal places.
pub fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// Median: the middle value, or the mean of the two middle values; `None` without values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => values.get(middle).copied(),
        _ => Some(f64::midpoint(*values.get(middle - 1)?, *values.get(middle)?)),
    }
}

/// Mean and population standard deviation (numpy's `mean` and `std`) of at least one value.
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// np.mean([1, 2, 4, 5]), np.std([1, 2, 4, 5])     # 3.0, 1.5811388300841898
    /// ```
    #[test]
    fn mean_and_deviation_match_numpy() {
        assert_eq!(mean_and_deviation(&[1.0, 2.0, 4.0, 5.0]), (3.0, 2.5f64.sqrt()));
    }

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
