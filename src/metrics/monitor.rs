//! The metric monitored by early stopping and the plateau schedule.

use serde::{Deserialize, Serialize};

/// A validation metric to monitor, as `monitor` of Keras' `EarlyStopping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// Validation accuracy, higher is better.
    ValAccuracy,
    /// Validation loss, lower is better.
    ValLoss,
}
