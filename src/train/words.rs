//! What the loop says of an epoch, and the figures it rounds.

use super::plan::EpochPlan;
use crate::checkpoint::{EpochRecord, State};
use crate::report::seconds;

/// The figures of the running epoch, beside the bar.
pub fn progress_text(plan: &EpochPlan, state: &State) -> String {
    let done = plan.faces_before(state.step) as f64;
    let speed = done / state.epoch_seconds;
    format!("loss {:.4}  acc {:.4}  {speed:.0} images/s", state.loss_sum / done, state.hits as f64 / done)
}

/// The line of a finished epoch.
pub fn epoch_text(record: &EpochRecord, state: &State, epochs: u32) -> String {
    let best = state.best.map_or(String::new(), |best| {
        if best.epoch == record.epoch {
            "  best".to_owned()
        } else {
            format!("  best {:.4} (epoch {})", best.val_accuracy, best.epoch)
        }
    });
    format!(
        "epoch {:>3}/{epochs}  loss {:.4}  acc {:.4}  val_loss {:.4}  val_acc {:.4}  lr {:.2e}  {:.0} images/s  {}{best}",
        record.epoch,
        record.loss,
        record.accuracy,
        record.val_loss,
        record.val_accuracy,
        record.lr,
        record.images_per_second,
        seconds(record.seconds),
    )
}

/// `value` to so many decimal digits.
pub fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// The middle value, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => values.get(middle).copied(),
        _ => Some(f64::midpoint(*values.get(middle - 1)?, *values.get(middle)?)),
    }
}

/// Mean and population standard deviation, as numpy's `mean` and `std`; of at least one value.
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
    fn mean_and_deviation_are_numpys() {
        assert_eq!(mean_and_deviation(&[1.0, 2.0, 4.0, 5.0]), (3.0, 2.5f64.sqrt()));
    }

    #[test]
    fn median_of_few() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
