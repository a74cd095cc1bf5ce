//! How a run ends; and early stopping, as Keras' `EarlyStopping`: strict improvement, stop `patience` epochs after the best one.

use crate::config::EarlyStopConfig;
use crate::metrics::Monitor;

/// Whether `value` is better than the best so far.
pub fn improves(monitor: Monitor, value: f64, best: Option<f64>) -> bool {
    match (monitor, best) {
        (_, None) => value.is_finite(),
        (Monitor::ValAccuracy, Some(best)) => value > best,
        (Monitor::ValLoss, Some(best)) => value < best,
    }
}

/// Whether a run whose best epoch was `best_epoch` stops after `epoch` (both from 1).
pub fn is_over(config: &EarlyStopConfig, epoch: u32, best_epoch: u32) -> bool {
    config.patience > 0 && epoch.saturating_sub(best_epoch) >= config.patience
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// All epochs are done.
    Epochs,
    /// No improvement for `patience` epochs.
    EarlyStop,
    /// By this signal, after saving.
    Interrupted(i32),
    /// Something was not a finite number.
    Diverged,
}

impl Stopped {
    /// As `summary.json` says it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Epochs => "epochs",
            Self::EarlyStop => "early_stop",
            Self::Interrupted(_) => "interrupted",
            Self::Diverged => "diverged",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The epoch after which a run with these validation figures stops.
    fn stops_after(monitor: Monitor, patience: u32, values: &[f64]) -> Option<u32> {
        let config = EarlyStopConfig { monitor, patience };
        let mut best: Option<(f64, u32)> = None;
        (1..).zip(values).find_map(|(epoch, value)| {
            if improves(monitor, *value, best.map(|b| b.0)) {
                best = Some((*value, epoch));
            }
            is_over(&config, epoch, best.map_or(0, |b| b.1)).then_some(epoch)
        })
    }

    #[test]
    fn counts_from_the_best_and_needs_strict_improvement() {
        let values = [0.3, 0.5, 0.4, 0.5, 0.5, 0.6, 0.1, 0.1, 0.1];
        assert_eq!(stops_after(Monitor::ValAccuracy, 3, &values), Some(5), "equal is not better");
        assert_eq!(stops_after(Monitor::ValAccuracy, 4, &values), None);
        assert_eq!(stops_after(Monitor::ValAccuracy, 0, &values), None, "0 never stops");
        assert_eq!(stops_after(Monitor::ValLoss, 2, &values), Some(3), "a loss is better when lower");
    }
}
