//! `train.schedule = { kind = "plateau" }`: PyTorch's `ReduceLROnPlateau` as a pure function of the
//! finished epochs.

use serde::{Deserialize, Serialize};

use crate::metrics::Monitor;

/// `train.schedule = { kind = "plateau", ... }`: multiplies the learning rate by `factor` after
/// more than `patience` epochs without improvement of `monitor`, as PyTorch's `ReduceLROnPlateau`.
/// Linear warmup from 0 over `warmup` epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Plateau {
    /// Factor of each reduction.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub factor: f64,
    /// Epochs without improvement before the next one reduces the learning rate.
    pub patience: u32,
    /// The monitored metric; not `"last_epoch"`.
    pub monitor: Monitor,
    /// Minimum learning rate; at most the optimizer's.
    #[schemars(range(min = 0.0))]
    pub min_lr: f64,
    /// Epochs of linear warmup, below `train.epochs`; fractions are allowed.
    #[schemars(range(min = 0.0))]
    pub warmup: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { factor: 0.5, patience: 3, monitor: Monitor::ValAccuracy, min_lr: 0.0, warmup: 0.0 }
    }
}

/// Minimum relative improvement: PyTorch's `threshold` with `threshold_mode="rel"`.
const THRESHOLD: f64 = 1e-4;

/// Smaller or equal reductions are skipped: PyTorch's `eps`.
const EPS: f64 = 1e-8;

/// The learning rate after epochs with the monitored `values`, starting at `base`.
///
/// Follows `torch.optim.lr_scheduler.ReduceLROnPlateau(mode, factor, patience, threshold=1e-4,
/// threshold_mode="rel", cooldown=0, min_lr, eps=1e-8)`, stepped once per epoch, with `mode` "min"
/// for loss and "max" for the other metrics. A resumed run recomputes it from its metrics, so it has
/// no state.
pub fn reduce_lr_on_plateau(config: &Plateau, base: f64, values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut lr, mut best, mut bad_epochs) = (base, None, 0u32);
    for value in values {
        if is_better(config.monitor, value, best) {
            (best, bad_epochs) = (Some(value), 0);
        } else {
            bad_epochs += 1;
        }
        if bad_epochs > config.patience {
            let lower = (lr * config.factor).max(config.min_lr);
            if lr - lower > EPS {
                lr = lower;
            }
            bad_epochs = 0;
        }
    }
    lr
}

fn is_better(monitor: Monitor, value: f64, best: Option<f64>) -> bool {
    match (monitor, best) {
        (_, None) => true,
        (Monitor::ValAccuracy | Monitor::ValMacroF1 | Monitor::LastEpoch, Some(best)) => {
            value > best * (1.0 + THRESHOLD)
        }
        (Monitor::ValLoss, Some(best)) => value < best * (1.0 - THRESHOLD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The learning rate before the first epoch and after each of `values`.
    fn rates(config: &Plateau, base: f64, values: &[f64]) -> Vec<f64> {
        let after = |epochs: usize| reduce_lr_on_plateau(config, base, values[..epochs].iter().copied());
        (0..=values.len()).map(after).collect()
    }

    fn assert_near(actual: &[f64], expected: &[f64]) {
        let near = |(a, b): (&f64, &f64)| (a / b - 1.0).abs() < 1e-12;
        assert!(actual.len() == expected.len() && actual.iter().zip(expected).all(near), "{actual:?}");
    }

    /// Expected values from a Python transcription of PyTorch's documentation, not from PyTorch
    /// itself:
    /// ```python
    /// best, bad, out = -math.inf, 0, [lr]     # mode "min": best = math.inf
    /// for a in values:
    ///     if a > best * (1 + 1e-4): best, bad = a, 0      # mode "min": a < best * (1 - 1e-4)
    ///     else: bad += 1
    ///     if bad > patience:
    ///         new = max(lr * factor, min_lr)
    ///         if lr - new > 1e-8: lr = new
    ///         bad = 0
    ///     out.append(lr)
    /// ```
    #[test]
    fn follows_pytorchs_rule() {
        let accuracies =
            [0.30, 0.50, 0.50, 0.50004, 0.49, 0.51, 0.40, 0.40, 0.40, 0.40, 0.40, 0.40, 0.52, 0.1, 0.1, 0.1];
        let (a, b, c, d, e) = (1e-3, 5e-4, 2.5e-4, 1.25e-4, 6.25e-5);
        let config = Plateau { factor: 0.5, patience: 2, ..Plateau::default() };
        assert_near(&rates(&config, 1e-3, &accuracies), &[a, a, a, a, a, b, b, b, b, c, c, c, d, d, d, d, e]);
        let at_once = Plateau { factor: 0.1, patience: 0, min_lr: 1e-5, ..Plateau::default() };
        assert_near(&rates(&at_once, 1e-3, &accuracies[..7]), &[1e-3, 1e-3, 1e-3, 1e-4, 1e-5, 1e-5, 1e-5, 1e-5]);

        let losses = [2.0, 1.5, 1.5, 1.4999, 1.49, 1.6, 1.48990, 1.4, 1.4, 1.4, 1.4, 1.4];
        let config =
            Plateau { factor: 0.1, patience: 1, monitor: Monitor::ValLoss, min_lr: 2e-3, ..Plateau::default() };
        let (a, b, c) = (0.1, 0.01, 2e-3);
        assert_near(&rates(&config, 0.1, &losses), &[a, a, a, a, b, b, b, c, c, c, c, c, c]);
    }

    #[test]
    fn reductions_up_to_eps_are_skipped() {
        let config = Plateau { patience: 0, monitor: Monitor::ValLoss, ..Plateau::default() };
        let (a, b, c, d) = (1e-7, 5e-8, 2.5e-8, 1.25e-8);
        assert_near(&rates(&config, 1e-7, &[1.0; 8]), &[a, a, b, c, d, d, d, d, d]);
        let near = Plateau { patience: 0, min_lr: 9.999_95e-4, ..Plateau::default() };
        assert_near(&rates(&near, 1e-3, &[1.0; 4]), &[1e-3; 5]);
    }
}
