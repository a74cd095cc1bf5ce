//! Progress of an epoch as text.

use super::epoch_schedule::EpochSchedule;
use crate::metrics::epoch::EpochMetrics;
use crate::report::seconds;
use crate::run_dir::checkpoint::State;

/// Metrics of the current epoch, beside the progress bar.
pub fn progress_text(schedule: &EpochSchedule, state: &State) -> String {
    let done = schedule.images_before(state.step) as f64;
    let speed = done / state.epoch_seconds;
    format!("loss {:.4}  acc {:.4}  {speed:.0} images/s", state.loss_sum / done, state.correct as f64 / done)
}

/// The log line of a finished epoch.
pub fn epoch_text(metrics: &EpochMetrics, state: &State, epochs: u32) -> String {
    let best = state.best.map_or(String::new(), |best| {
        if best.epoch == metrics.epoch {
            "  best".to_owned()
        } else {
            format!("  best {:.4} (epoch {})", best.val_accuracy, best.epoch)
        }
    });
    format!(
        "epoch {:>3}/{epochs}  loss {:.4}  acc {:.4}  val_loss {:.4}  val_acc {:.4}  lr {:.2e}  {:.0} images/s  {}{best}",
        metrics.epoch,
        metrics.loss,
        metrics.accuracy,
        metrics.val_loss,
        metrics.val_accuracy,
        metrics.lr,
        metrics.images_per_second,
        seconds(metrics.seconds),
    )
}
