//! What the loop says of an epoch.

use super::epoch_schedule::EpochSchedule;
use crate::metrics::epoch::EpochMetrics;
use crate::report::seconds;
use crate::run_dir::checkpoint::State;

/// The figures of the running epoch, beside the bar.
pub fn progress_text(plan: &EpochSchedule, state: &State) -> String {
    let done = plan.images_before(state.step) as f64;
    let speed = done / state.epoch_seconds;
    format!("loss {:.4}  acc {:.4}  {speed:.0} images/s", state.loss_sum / done, state.correct as f64 / done)
}

/// The line of a finished epoch.
pub fn epoch_text(record: &EpochMetrics, state: &State, epochs: u32) -> String {
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
