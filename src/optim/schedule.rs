//! Learning rate schedules: pure functions of the position in a run.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::plateau::{self, Plateau};
use crate::metrics::epoch::EpochMetrics;
use crate::util::validate::{InvalidValue, require};

/// The position of a run before a step.
#[derive(Debug, Clone, Copy)]
pub struct SchedulePosition<'a> {
    /// Finished epochs.
    pub epoch: u32,
    /// Finished steps of the current epoch.
    pub step: u64,
    /// Steps per epoch.
    pub steps: u64,
    /// Total epochs of the run.
    pub epochs: u32,
    /// Metrics of the finished epochs.
    pub records: &'a [EpochMetrics],
}

impl SchedulePosition<'_> {
    /// Fractional epochs after `more` further steps.
    fn epochs_after(&self, more: u64) -> f64 {
        f64::from(self.epoch) + (self.step + more) as f64 / self.steps.max(1) as f64
    }

    /// Factor of a linear warmup over `warmup` epochs: above 0 at the first step, 1 at the last
    /// step of the warmup.
    fn warmup_factor(&self, warmup: f64) -> f64 {
        if warmup > 0.0 { (self.epochs_after(1) / warmup).min(1.0) } else { 1.0 }
    }
}

/// The learning rate of the next step; `base` is the optimizer's.
pub fn learning_rate(schedule: &ScheduleConfig, base: f64, at: &SchedulePosition) -> f64 {
    match schedule {
        ScheduleConfig::Constant(_) => base,
        ScheduleConfig::HoldThenDecay(HoldThenDecay { hold, rate }) => {
            // Like the notebook, multiply by exp(-rate) at the start of epochs hold, hold + 1, ...
            // (from 0).
            let decays = (at.epoch + 1).saturating_sub(*hold);
            base * (-rate * f64::from(decays)).exp()
        }
        ScheduleConfig::Cosine(Cosine { warmup, floor }) => {
            let progress = (at.epochs_after(0) - warmup).max(0.0) / (f64::from(at.epochs) - warmup);
            let cosine = 0.5 * (1.0 + (PI * progress.min(1.0)).cos());
            base * at.warmup_factor(*warmup) * (floor + (1.0 - floor) * cosine)
        }
        ScheduleConfig::Plateau(plateau @ Plateau { monitor, warmup, .. }) => {
            let values = at.records.iter().map(|record| record.monitored_value(*monitor));
            at.warmup_factor(*warmup) * plateau::reduce_lr_on_plateau(plateau, base, values)
        }
    }
}

/// `train.schedule`; `kind` selects the schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ScheduleConfig {
    /// Constant learning rate.
    Constant(Constant),
    /// Constant for some epochs, then exponential decay.
    HoldThenDecay(HoldThenDecay),
    /// Cosine annealing to the last epoch.
    Cosine(Cosine),
    /// Reduced when the monitored validation metric stops improving.
    Plateau(Plateau),
}

/// `train.schedule = { kind = "constant" }`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

/// `train.schedule = { kind = "hold_then_decay", ... }`: constant for `hold` epochs, then
/// multiplied by exp(-rate) at the start of each epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HoldThenDecay {
    /// Epochs at the base learning rate.
    pub hold: u32,
    /// Decay rate per epoch.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub rate: f64,
}

impl Default for HoldThenDecay {
    fn default() -> Self {
        Self { hold: 10, rate: 0.1 }
    }
}

/// `train.schedule = { kind = "cosine", ... }`: linear warmup from 0 over `warmup` epochs (Goyal et
/// al. 2017), then cosine annealing per step until `train.epochs` (Loshchilov and Hutter 2017,
/// without restarts).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// Epochs of linear warmup, below `train.epochs`; fractions are allowed.
    #[schemars(range(min = 0.0))]
    pub warmup: f64,
    /// Final learning rate as a fraction of the optimizer's.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub floor: f64,
}

impl Default for Cosine {
    fn default() -> Self {
        Self { warmup: 1.0, floor: 0.0 }
    }
}

/// Deserializes `train.schedule` on its own: unlike the tagged enum, errors name the wrong key.
pub(crate) fn probe(mut table: toml::Table) -> Result<(), serde_path_to_error::Error<toml::de::Error>> {
    match table.remove("kind").as_ref().and_then(toml::Value::as_str) {
        Some("constant") => serde_path_to_error::deserialize::<_, Constant>(table).map(drop),
        Some("hold_then_decay") => serde_path_to_error::deserialize::<_, HoldThenDecay>(table).map(drop),
        Some("cosine") => serde_path_to_error::deserialize::<_, Cosine>(table).map(drop),
        Some("plateau") => serde_path_to_error::deserialize::<_, Plateau>(table).map(drop),
        _ => Ok(()),
    }
}

impl ScheduleConfig {
    pub(crate) fn check(&self, epochs: u32, lr: f64) -> Result<(), InvalidValue> {
        let check_warmup = |warmup: f64| {
            let allowed = format!("0 to below train.epochs, which is {epochs}");
            require((0.0..f64::from(epochs)).contains(&warmup), "train.schedule.warmup", warmup, &allowed)
        };
        match *self {
            Self::Constant(Constant {}) => Ok(()),
            Self::HoldThenDecay(HoldThenDecay { rate, .. }) => {
                require((0.0..=100.0).contains(&rate), "train.schedule.rate", rate, "0 to 100")
            }
            Self::Cosine(Cosine { warmup, floor }) => {
                check_warmup(warmup)?;
                require((0.0..=1.0).contains(&floor), "train.schedule.floor", floor, "0 to 1")
            }
            Self::Plateau(Plateau { factor, min_lr, warmup, monitor, .. }) => {
                check_warmup(warmup)?;
                require(
                    monitor.selects(),
                    "train.schedule.monitor",
                    "\"last_epoch\"",
                    "a metric: val_accuracy, val_loss or val_macro_f1",
                )?;
                let is_factor = factor > 0.0 && factor < 1.0;
                require(is_factor, "train.schedule.factor", factor, "above 0, below 1")?;
                let allowed = format!("0 to train.optimizer.lr, which is {lr}");
                require((0.0..=lr).contains(&min_lr), "train.schedule.min_lr", min_lr, &allowed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Monitor;
    use crate::optim::schedule::Constant;

    fn position(epoch: u32, step: u64) -> SchedulePosition<'static> {
        SchedulePosition { epoch, step, steps: 10, epochs: 50, records: &[] }
    }

    /// Keras' LearningRateScheduler with `lr if epoch < 10 else lr * exp(-0.1)`:
    /// ```python
    /// lr = 1e-3
    /// for epoch in range(50): lr = lr if epoch < 10 else lr * np.exp(-0.1)
    /// # epoch 9: 1e-3, 10: 9.048374e-4, 11: 8.187308e-4, 49: 1.831564e-5
    /// ```
    #[test]
    fn hold_then_decay_agrees_with_the_notebook() {
        let schedule = ScheduleConfig::HoldThenDecay(HoldThenDecay { hold: 10, rate: 0.1 });
        for (epoch, expected) in [(0, 1e-3), (9, 1e-3), (10, 9.048_374e-4), (11, 8.187_308e-4), (49, 1.831_564e-5)] {
            for step in [0, 9] {
                let lr = learning_rate(&schedule, 1e-3, &position(epoch, step));
                assert!((lr / expected - 1.0).abs() < 1e-6, "epoch {epoch}: {lr}");
            }
        }
        assert_eq!(learning_rate(&ScheduleConfig::Constant(Constant {}), 0.1, &position(1000, 0)), 0.1);
        assert_eq!(learning_rate(&schedule, 1e-3, &position(u32::MAX - 1, 0)), 0.0, "no overflow");
    }

    /// PyTorch's `CosineAnnealingLR(T_max=45 * 10, eta_min=0.1 * lr)` after 5 epochs of `LinearLR`:
    /// eta_min + (lr - eta_min) (1 + cos(pi t / T_max)) / 2.
    #[test]
    fn cosine_agrees_with_pytorch_after_linear_warmup() {
        let schedule = ScheduleConfig::Cosine(Cosine { warmup: 5.0, floor: 0.1 });
        let lr = |epoch, step| learning_rate(&schedule, 2.0, &position(epoch, step));
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a}, expected {b}");
        near(lr(0, 0), 2.0 / 50.0);
        near(lr(2, 4), 2.0 * 25.0 / 50.0);
        near(lr(4, 9), 2.0);
        near(lr(5, 0), 2.0);
        near(lr(20, 0), 0.2 + 1.8 * 0.75);
        near(lr(27, 5), 0.2 + 1.8 * 0.5);
        near(lr(49, 9), 0.2 + 1.8 * 0.5 * (1.0 + (PI * 449.0 / 450.0).cos()));
        near(lr(50, 0), 0.2);
        let no_warmup = ScheduleConfig::Cosine(Cosine { warmup: 0.0, floor: 0.0 });
        near(learning_rate(&no_warmup, 2.0, &position(0, 0)), 2.0);
    }

    #[test]
    fn plateau_follows_the_monitored_metric_after_warmup() {
        let record = |(epoch, val_accuracy, val_loss)| EpochMetrics {
            epoch,
            lr: 0.0,
            loss: 0.0,
            accuracy: 0.0,
            val_loss,
            val_accuracy,
            val_accuracy_dedup: None,
            val_macro_f1: None,
            seconds: 0.0,
            images_per_second: 0.0,
        };
        let records = [(1, 0.2, 2.0), (2, 0.3, 2.0), (3, 0.4, 2.0), (4, 0.4, 1.0)].map(record);
        let lr = |monitor, epoch: usize, step| {
            let plateau = Plateau { patience: 0, warmup: 1.5, monitor, ..Plateau::default() };
            let at = SchedulePosition { records: &records[..epoch], ..position(epoch as u32, step) };
            learning_rate(&ScheduleConfig::Plateau(plateau), 2.0, &at)
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a}, expected {b}");
        near(lr(Monitor::ValAccuracy, 0, 0), 2.0 / 15.0);
        near(lr(Monitor::ValAccuracy, 1, 0), 2.0 * 11.0 / 15.0);
        for (epoch, by_accuracy, by_loss) in [(1, 2.0, 2.0), (2, 2.0, 1.0), (3, 2.0, 0.5), (4, 1.0, 0.5)] {
            near(lr(Monitor::ValAccuracy, epoch, 9), by_accuracy);
            near(lr(Monitor::ValLoss, epoch, 9), by_loss);
        }
    }
}
