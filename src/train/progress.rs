//! Progress of an epoch as text.

use super::epoch_schedule::EpochPlan;
use crate::metrics::Monitor;
use crate::metrics::epoch::EpochMetrics;
use crate::report::seconds;
use crate::run_dir::checkpoint::State;

/// Metrics of the current epoch, beside the progress bar.
pub fn progress_text(plan: EpochPlan, state: &State) -> String {
    let done = plan.images_before(state.step) as f64;
    let speed = done / state.epoch_seconds;
    format!("loss {:.4}  acc {:.4}  {speed:.0} images/s", state.loss_sum / done, state.correct as f64 / done)
}

/// The log line of a finished epoch.
pub fn epoch_text(metrics: &EpochMetrics, state: &State, epochs: u32) -> String {
    // The newest epoch is the best of those that nothing selects.
    let selected = state.best.filter(|best| best.monitor().selects());
    let best = selected.map_or(String::new(), |best| {
        let name = match best.monitor() {
            Monitor::ValAccuracy => "best".to_owned(),
            monitor => format!("best {monitor}"),
        };
        if best.epoch == metrics.epoch {
            format!("  {name}")
        } else {
            format!("  {name} {:.4} (epoch {})", best.monitored_value(), best.epoch)
        }
    });
    // Only where it selects the best epoch: the line is long enough.
    let macro_f1 = match (state.best.map(|best| best.monitor()), metrics.val_macro_f1) {
        (Some(Monitor::ValMacroF1), Some(value)) => format!("  val_macro_f1 {value:.4}"),
        _ => String::new(),
    };
    format!(
        "epoch {:>3}/{epochs}  loss {:.4}  acc {:.4}  val_loss {:.4}  val_acc {:.4}{macro_f1}  lr {:.2e}  {:.0} images/s  {}{best}",
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
