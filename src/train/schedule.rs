//! Learning rates: pure functions of where a run stands.

use std::f64::consts::PI;

use super::plateau;
use crate::checkpoint::{EpochRecord, State};
use crate::config::{Config, Cosine, HoldThenDecay, Plateau, ScheduleConfig};

/// Where a run stands before a step.
#[derive(Debug, Clone, Copy)]
struct Moment<'a> {
    /// Epochs that are done.
    epoch: u32,
    /// Steps of the running epoch that are done.
    step: u64,
    /// Steps of an epoch.
    steps: u64,
    /// Epochs that the run will have.
    epochs: u32,
    /// Records of the epochs that are done.
    records: &'a [EpochRecord],
}

impl Moment<'_> {
    /// Epochs that are done once `more` further steps are.
    fn epochs_done(&self, more: u64) -> f64 {
        f64::from(self.epoch) + (self.step + more) as f64 / self.steps.max(1) as f64
    }

    /// The factor of a linear rise from 0 over `warmup` epochs: above 0 in the first step, 1 in the last of them.
    fn warmup(&self, warmup: f64) -> f64 {
        if warmup > 0.0 { (self.epochs_done(1) / warmup).min(1.0) } else { 1.0 }
    }
}

/// The learning rate of `step` of the running epoch, which has `steps`: the schedule's, halved by each rollback.
pub fn rate(config: &Config, state: &State, steps: u64, step: u64) -> f64 {
    let halved = 0.5f64.powi(i32::try_from(state.rollbacks).unwrap_or(i32::MAX));
    let at = Moment { epoch: state.epoch, step, steps, epochs: config.train.epochs, records: &state.records };
    learning_rate(&config.train.schedule, config.train.optimizer.lr(), &at) * halved
}

/// The learning rate of the next step, given the optimizer's own.
fn learning_rate(schedule: &ScheduleConfig, base: f64, at: &Moment) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Constant, Monitor};

    fn before(epoch: u32, step: u64) -> Moment<'static> {
        Moment { epoch, step, steps: 10, epochs: 50, records: &[] }
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
        let record = |(epoch, val_accuracy, val_loss)| EpochRecord {
            epoch,
            lr: 0.0,
            loss: 0.0,
            accuracy: 0.0,
            val_loss,
            val_accuracy,
            val_accuracy_without_copies: None,
            seconds: 0.0,
            images_per_second: 0.0,
        };
        let records = [(1, 0.2, 2.0), (2, 0.3, 2.0), (3, 0.4, 2.0), (4, 0.4, 1.0)].map(record);
        let lr = |monitor, epoch: usize, step| {
            let plateau = Plateau { patience: 0, warmup: 1.5, monitor, ..Plateau::default() };
            let at = Moment { records: &records[..epoch], ..before(epoch as u32, step) };
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
