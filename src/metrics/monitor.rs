//! The metric monitored by early stopping, the best weights and the plateau schedule.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// What selects the best epoch: a validation metric, as `monitor` of Keras' `EarlyStopping`, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// Validation accuracy, higher is better.
    #[default]
    ValAccuracy,
    /// Validation loss, lower is better.
    ValLoss,
    /// Macro-averaged F1 of the validation images, higher is better.
    ValMacroF1,
    /// The number of the epoch: the last one counts as the best, so that validation images select
    /// nothing.
    LastEpoch,
}

impl Monitor {
    /// The name in configs and in `metrics.jsonl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ValAccuracy => "val_accuracy",
            Self::ValLoss => "val_loss",
            Self::ValMacroF1 => "val_macro_f1",
            Self::LastEpoch => "last_epoch",
        }
    }

    /// Whether validation images select the best epoch.
    pub fn selects(self) -> bool {
        self != Self::LastEpoch
    }

    /// The metric with its value, such as `val_loss 0.9312`; without it if that is the epoch.
    pub fn describe(self, value: f64) -> String {
        if self.selects() { format!("{self} {value:.4}") } else { self.to_string() }
    }

    /// Whether `value` is strictly better than the best value so far. NaN and infinity never are, and
    /// the newest epoch always is.
    pub fn is_better(self, value: f64, best: Option<f64>) -> bool {
        let is_improvement = |best| match self {
            Self::ValAccuracy | Self::ValMacroF1 => value > best,
            Self::ValLoss => value < best,
            // Also after a rollback to an earlier epoch.
            Self::LastEpoch => true,
        };
        value.is_finite() && best.is_none_or(is_improvement)
    }
}

impl Display for Monitor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_in_configs() {
        for monitor in [Monitor::ValAccuracy, Monitor::ValLoss, Monitor::ValMacroF1, Monitor::LastEpoch] {
            assert_eq!(serde_json::to_value(monitor).unwrap(), monitor.name());
        }
        assert_eq!(Monitor::ValLoss.describe(0.93125), "val_loss 0.9313");
        assert_eq!(Monitor::LastEpoch.describe(3.0), "last_epoch");
    }

    #[test]
    fn the_last_epoch_is_the_best() {
        assert!(Monitor::LastEpoch.is_better(1.0, None) && Monitor::LastEpoch.is_better(2.0, Some(1.0)));
        assert!(Monitor::LastEpoch.is_better(2.0, Some(2.0)), "repeated after a rollback");
    }
}
