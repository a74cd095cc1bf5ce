//! `train.schedule`: how the learning rate changes.

use serde::{Deserialize, Serialize};

use super::require;
use super::train::Monitor;

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

/// `train.schedule = { kind = "plateau", ... }`: the learning rate is multiplied by `factor` when `monitor` was no better for more
/// than `patience` epochs, as PyTorch's `ReduceLROnPlateau`; before that it rises linearly from 0 over `warmup` epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plateau {
    /// What the learning rate is multiplied by: above 0, below 1.
    pub factor: f64,
    /// Epochs without improvement that are waited through; the next one lowers the learning rate.
    pub patience: u32,
    /// The figure watched.
    pub monitor: Monitor,
    /// The learning rate that is not gone below: 0 to the optimizer's.
    pub min_lr: f64,
    /// Epochs of linear rise; fractions are allowed.
    pub warmup: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { factor: 0.5, patience: 3, monitor: Monitor::ValAccuracy, min_lr: 0.0, warmup: 0.0 }
    }
}

/// Reads `train.schedule` by itself: unlike the tagged enum, it tells which key is wrong.
pub(super) fn probe(mut table: toml::Table) -> Result<(), serde_path_to_error::Error<toml::de::Error>> {
    match table.remove("kind").as_ref().and_then(toml::Value::as_str) {
        Some("constant") => serde_path_to_error::deserialize::<_, Constant>(table).map(drop),
        Some("hold_then_decay") => serde_path_to_error::deserialize::<_, HoldThenDecay>(table).map(drop),
        Some("cosine") => serde_path_to_error::deserialize::<_, Cosine>(table).map(drop),
        Some("plateau") => serde_path_to_error::deserialize::<_, Plateau>(table).map(drop),
        _ => Ok(()),
    }
}

impl ScheduleConfig {
    pub(super) fn check(&self, epochs: u32, lr: f64) -> Result<(), String> {
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
