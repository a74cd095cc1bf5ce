//! The metric that early stopping and the plateau schedule watch.

use serde::{Deserialize, Serialize};

/// The figure that early stopping or `train.schedule` watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// Validation accuracy, higher is better.
    ValAccuracy,
    /// Validation loss, lower is better.
    ValLoss,
}
