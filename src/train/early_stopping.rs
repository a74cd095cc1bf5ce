//! Early stopping as in Keras' `EarlyStopping`: requires strict improvement, and stops `patience`
//! epochs after the best epoch.

use crate::config::EarlyStopConfig;

/// Whether to stop after `epoch` if the best epoch was `best_epoch` (both from 1).
pub fn should_stop(config: &EarlyStopConfig, epoch: u32, best_epoch: u32) -> bool {
    config.patience > 0 && epoch.saturating_sub(best_epoch) >= config.patience
}

/// Why training stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// `train.epochs` are finished.
    Epochs,
    /// No improvement for `patience` epochs.
    EarlyStop,
    /// Received this signal; a checkpoint was saved.
    Interrupted(i32),
    /// Reached `RunOptions::stop_after`; a checkpoint was saved.
    Paused,
    /// Loss, gradients, weights or optimizer state became NaN or infinite.
    Diverged,
}

/// The error of a run that diverged more often than `train.max_rollbacks` allows.
#[derive(Debug, thiserror::Error)]
#[error("{what}: training diverged; {advice}")]
pub struct Diverged {
    /// What is not a finite number, and when.
    pub what: String,
    /// What to do about a run on its own.
    pub advice: String,
}

impl StopReason {
    /// The value of `stopped` in `summary.json`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Epochs => "epochs",
            Self::EarlyStop => "early_stop",
            Self::Interrupted(_) => "interrupted",
            Self::Paused => "paused",
            Self::Diverged => "diverged",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Monitor;

    /// The epoch after which a run with these validation metrics stops.
    fn stopping_epoch(monitor: Monitor, patience: u32, values: &[f64]) -> Option<u32> {
        let config = EarlyStopConfig { monitor, patience };
        let mut best: Option<(f64, u32)> = None;
        (1..).zip(values).find_map(|(epoch, value)| {
            if monitor.is_better(*value, best.map(|b| b.0)) {
                best = Some((*value, epoch));
            }
            should_stop(&config, epoch, best.map_or(0, |b| b.1)).then_some(epoch)
        })
    }

    #[test]
    fn patience_counts_from_the_best_epoch_and_requires_strict_improvement() {
        let values = [0.3, 0.5, 0.4, 0.5, 0.5, 0.6, 0.1, 0.1, 0.1];
        assert_eq!(stopping_epoch(Monitor::ValAccuracy, 3, &values), Some(5), "equal is not better");
        assert_eq!(stopping_epoch(Monitor::ValAccuracy, 4, &values), None);
        assert_eq!(stopping_epoch(Monitor::ValAccuracy, 0, &values), None, "0 disables it");
        assert_eq!(stopping_epoch(Monitor::ValMacroF1, 3, &values), Some(5), "equal is not better");
        assert_eq!(stopping_epoch(Monitor::ValLoss, 2, &values), Some(3), "a lower loss is better");
    }

    #[test]
    fn nan_is_never_an_improvement() {
        for monitor in [Monitor::ValAccuracy, Monitor::ValLoss, Monitor::ValMacroF1] {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                assert!(!monitor.is_better(value, None) && !monitor.is_better(value, Some(0.5)), "{monitor} {value}");
            }
            assert!(monitor.is_better(0.5, None) && !monitor.is_better(0.5, Some(0.5)), "{monitor}");
            assert_eq!(stopping_epoch(monitor, 2, &[f64::NAN, 0.5, f64::NAN, f64::NAN]), Some(4), "{monitor}");
        }
        assert!(Monitor::ValAccuracy.is_better(0.6, Some(0.5)) && !Monitor::ValAccuracy.is_better(0.4, Some(0.5)));
        assert!(Monitor::ValMacroF1.is_better(0.6, Some(0.5)) && !Monitor::ValMacroF1.is_better(0.4, Some(0.5)));
        assert!(Monitor::ValLoss.is_better(0.4, Some(0.5)) && !Monitor::ValLoss.is_better(0.6, Some(0.5)));
    }
}
