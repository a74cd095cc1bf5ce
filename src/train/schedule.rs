//! Learning rates: pure functions of the epoch.

use crate::config::{HoldThenDecay, ScheduleConfig};

/// The learning rate of `epoch` (from 0), given the optimizer's own.
pub fn learning_rate(schedule: &ScheduleConfig, base: f64, epoch: u32) -> f64 {
    match schedule {
        ScheduleConfig::Constant(_) => base,
        ScheduleConfig::HoldThenDecay(HoldThenDecay { hold, rate }) => {
            // The notebook multiplies by exp(-rate) at the start of epochs hold, hold + 1, ...: one decay at epoch `hold`.
            let decays = (epoch + 1).saturating_sub(*hold);
            base * (-rate * f64::from(decays)).exp()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let lr = learning_rate(&schedule, 1e-3, epoch);
            assert!((lr / wanted - 1.0).abs() < 1e-6, "epoch {epoch}: {lr}");
        }
        assert_eq!(learning_rate(&ScheduleConfig::Constant(crate::config::Constant {}), 0.1, 1000), 0.1);
        assert_eq!(learning_rate(&schedule, 1e-3, u32::MAX - 1), 0.0, "far out it ends at 0");
    }
}
