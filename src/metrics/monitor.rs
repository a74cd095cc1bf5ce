//! The metric monitored by early stopping, the best weights and the plateau schedule.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// A validation metric to monitor, as `monitor` of Keras' `EarlyStopping`.
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
}

impl Monitor {
    /// The name in configs and in `metrics.jsonl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ValAccuracy => "val_accuracy",
            Self::ValLoss => "val_loss",
            Self::ValMacroF1 => "val_macro_f1",
        }
    }

    /// Whether `value` is strictly better than the best value so far. NaN and infinity never are.
    pub fn is_better(self, value: f64, best: Option<f64>) -> bool {
        let is_improvement = |best| match self {
            Self::ValAccuracy | Self::ValMacroF1 => value > best,
            Self::ValLoss => value < best,
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
        for monitor in [Monitor::ValAccuracy, Monitor::ValLoss, Monitor::ValMacroF1] {
            assert_eq!(serde_json::to_value(monitor).unwrap(), monitor.name());
        }
    }
}
