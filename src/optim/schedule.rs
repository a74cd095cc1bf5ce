//! Learning rates: pure functions of where a run stands.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::plateau::{self, Plateau};
use crate::metrics::epoch::EpochMetrics;
use crate::util::validate::require;

/// Where a run stands before a step.
#[derive(Debug, Clone, Copy)]
pub struct SchedulePosition<'a> {
    /// Epochs that are done.
    pub epoch: u32,
    /// Steps of the running epoch that are done.
    pub step: u64,
    /// Steps of an epoch.
    pub steps: u64,
    /// Epochs that the run will have.
    pub epochs: u32,
    /// Records of the epochs that are done.
    pub records: &'a [EpochMetrics],
}

impl SchedulePosition<'_> {
    /// Epochs that are done once `more` further steps are.
    fn epochs_done(&self, more: u64) -> f64 {
        f64::from(self.epoch) + (self.step + more) as f64 / self.steps.max(1) as f64
    }

    /// The factor of a linear rise from 0 over `warmup` epochs: above 0 in the first step, 1 in the last of them.
    fn warmup(&self, warmup: f64) -> f64 {
        if warmup > 0.0 { (self.epochs_done(1) / warmup).min(1.0) } else { 1.0 }
    }
}

/// The learning rate of the next step, given the optimizer's own.
pub fn learning_rate(schedule: &ScheduleConfig, base: f64, at: &SchedulePosition) -> f64 {
    match schedule {
        ScheduleConfig::Constant(_) => base,
        ScheduleConfig::HoldThenDecay(HoldThenDecay { hold, rate }) => {
            // The notebook multiplies by exp(-rate) at the start of epochs hold, hold + 1, ...: one decay at epoch `hold`.
            let decays = (at.epoch + 1).saturating_sub(*hold);
            base * (-rate * f64::from(decays)).exp()
        }
        ScheduleConfig::Cosine(Cosine { warmup, floor }) => {
            let done = (at.epochs_done(0) - warmup).max(0.0) / (f64::from(at.epochs) - warmup);
            let wave = 0.5 * (1.0 + (PI * done.min(1.0)).cos());
            base * at.warmup(*warmup) * (floor + (1.0 - floor) * wave)
        }
        ScheduleConfig::Plateau(plateau @ Plateau { monitor, warmup, .. }) => {
            let watched = at.records.iter().map(|record| record.watched(*monitor));
            at.warmup(*warmup) * plateau::reduced(plateau, base, watched)
        }
    }
}

/// `train.schedule`; `kind` names the function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ScheduleConfig {
    /// The learning rate stays.
    Constant(Constant),
    /// It stays for a while, then decays.
    HoldThenDecay(HoldThenDecay),
    /// It falls along half a cosine wave to the last epoch.
    Cosine(Cosine),
    /// It falls where the validation figures get no better.
    Plateau(Plateau),
}

/// `train.schedule = { kind = "constant" }`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

/// `train.schedule = { kind = "hold_then_decay", ... }`: the learning rate stays for `hold` epochs, then is multiplied by
/// exp(-rate) at the start of every further epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldThenDecay {
    /// Epochs at the full rate.
    pub hold: u32,
    /// Decay an epoch.
    pub rate: f64,
}

impl Default for HoldThenDecay {
    fn default() -> Self {
        Self { hold: 10, rate: 0.1 }
    }
}

/// `train.schedule = { kind = "cosine", ... }`: after `warmup` epochs of linear rise from 0 the learning rate falls from
/// step to step along half a cosine wave, which ends with `train.epochs` (Loshchilov and Hutter 2017, without restarts;
/// warm-up as Goyal et al. 2017).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// Epochs of linear rise; fractions are allowed.
    pub warmup: f64,
    /// What the learning rate ends at, as a share of the optimizer's: 0 to 1.
    pub floor: f64,
}

impl Default for Cosine {
    fn default() -> Self {
        Self { warmup: 1.0, floor: 0.0 }
    }
}

/// Reads `train.schedule` by itself: unlike the tagged enum, it tells which key is wrong.
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
    pub(crate) fn check(&self, epochs: u32, lr: f64) -> Result<(), String> {
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
            Self::Plateau(Plateau { factor, min_lr, warmup, .. }) => {
                check_warmup(warmup)?;
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

    fn before(epoch: u32, step: u64) -> SchedulePosition<'static> {
        SchedulePosition { epoch, step, steps: 10, epochs: 50, records: &[] }
    }

    /// Keras' LearningRateScheduler with `lr if epoch < 10 else lr * exp(-0.1)`:
    /// ```python
    /// lr = 1e-3
    /// for epoch in range(50): lr = lr if epoch < 10 else lr * np.exp(-0.1)
    /// # epoch 9: 1e-3, 10: 9.048374e-4, 11: 8.187308e-4, 49: 1.831564e-5
    /// ```
    #[test]
    fn holds_then_decays_as_the_notebook() {
        let schedule = ScheduleConfig::HoldThenDecay(HoldThenDecay { hold: 10, rate: 0.1 });
        for (epoch, wanted) in [(0, 1e-3), (9, 1e-3), (10, 9.048_374e-4), (11, 8.187_308e-4), (49, 1.831_564e-5)] {
            for step in [0, 9] {
                let lr = learning_rate(&schedule, 1e-3, &before(epoch, step));
                assert!((lr / wanted - 1.0).abs() < 1e-6, "epoch {epoch}: {lr}");
            }
        }
        assert_eq!(learning_rate(&ScheduleConfig::Constant(Constant {}), 0.1, &before(1000, 0)), 0.1);
        assert_eq!(learning_rate(&schedule, 1e-3, &before(u32::MAX - 1, 0)), 0.0, "far out it ends at 0");
    }

    /// PyTorch's `CosineAnnealingLR(T_max=45 * 10, eta_min=0.1 * lr)` after 5 epochs of `LinearLR`:
    /// eta_min + (lr - eta_min) (1 + cos(pi t / T_max)) / 2.
    #[test]
    fn rises_then_falls_along_a_cosine() {
        let schedule = ScheduleConfig::Cosine(Cosine { warmup: 5.0, floor: 0.1 });
        let lr = |epoch, step| learning_rate(&schedule, 2.0, &before(epoch, step));
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} instead of {b}");
        near(lr(0, 0), 2.0 / 50.0);
        near(lr(2, 4), 2.0 * 25.0 / 50.0);
        near(lr(4, 9), 2.0);
        near(lr(5, 0), 2.0);
        near(lr(20, 0), 0.2 + 1.8 * 0.75);
        near(lr(27, 5), 0.2 + 1.8 * 0.5);
        near(lr(49, 9), 0.2 + 1.8 * 0.5 * (1.0 + (PI * 449.0 / 450.0).cos()));
        near(lr(50, 0), 0.2);
        let from_the_start = ScheduleConfig::Cosine(Cosine { warmup: 0.0, floor: 0.0 });
        near(learning_rate(&from_the_start, 2.0, &before(0, 0)), 2.0);
    }

    #[test]
    fn falls_on_a_plateau_of_the_watched_figure_after_its_warm_up() {
        let record = |(epoch, val_accuracy, val_loss)| EpochMetrics {
            epoch,
            lr: 0.0,
            loss: 0.0,
            accuracy: 0.0,
            val_loss,
            val_accuracy,
            val_accuracy_dedup: None,
            seconds: 0.0,
            images_per_second: 0.0,
        };
        let records = [(1, 0.2, 2.0), (2, 0.3, 2.0), (3, 0.4, 2.0), (4, 0.4, 1.0)].map(record);
        let lr = |monitor, epoch: usize, step| {
            let plateau = Plateau { patience: 0, warmup: 1.5, monitor, ..Plateau::default() };
            let at = SchedulePosition { records: &records[..epoch], ..before(epoch as u32, step) };
            learning_rate(&ScheduleConfig::Plateau(plateau), 2.0, &at)
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} instead of {b}");
        near(lr(Monitor::ValAccuracy, 0, 0), 2.0 / 15.0);
        near(lr(Monitor::ValAccuracy, 1, 0), 2.0 * 11.0 / 15.0);
        for (epoch, by_accuracy, by_loss) in [(1, 2.0, 2.0), (2, 2.0, 1.0), (3, 2.0, 0.5), (4, 1.0, 0.5)] {
            near(lr(Monitor::ValAccuracy, epoch, 9), by_accuracy);
            near(lr(Monitor::ValLoss, epoch, 9), by_loss);
        }
    }
}
