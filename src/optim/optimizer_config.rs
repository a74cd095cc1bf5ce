//! `train.optimizer`

use serde::{Deserialize, Serialize};

use crate::util::validate::{InvalidValue, require};

/// `train.optimizer`; `kind` selects the optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// Kingma and Ba 2015.
    Adam(AdamConfig),
    /// Adam with decoupled weight decay, Loshchilov and Hutter 2019.
    Adamw(AdamwConfig),
    /// Stochastic gradient descent with momentum.
    Sgd(SgdConfig),
    /// Muon (Jordan et al. 2024) for convolutions and hidden dense layers, AdamW for everything else.
    Muon(MuonConfig),
}

/// `train.optimizer = { kind = "adam", ... }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamConfig {
    /// Learning rate at the start.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 100))]
    pub lr: f64,
    /// Decay of the first moment.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// Decay of the second moment.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Added to the root of the second moment after bias correction, as PyTorch does.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub eps: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-7 }
    }
}

/// `train.optimizer = { kind = "adamw", ... }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamwConfig {
    /// Learning rate at the start.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 100))]
    pub lr: f64,
    /// Decay of the first moment.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// Decay of the second moment.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Added to the root of the second moment after bias correction.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub eps: f64,
    /// Decoupled decay of convolution and dense weights; biases and norms are exempt.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub weight_decay: f64,
}

impl Default for AdamwConfig {
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-7, weight_decay: 0.01 }
    }
}

/// `train.optimizer = { kind = "sgd", ... }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SgdConfig {
    /// Learning rate at the start.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 100))]
    pub lr: f64,
    /// Momentum factor.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// Nesterov momentum, as in PyTorch; needs a momentum above 0.
    pub nesterov: bool,
    /// L2 penalty on convolution and dense weights; biases and norms are exempt.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { lr: 0.01, momentum: 0.9, nesterov: true, weight_decay: 0.0 }
    }
}

/// `train.optimizer = { kind = "muon", ... }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MuonConfig {
    /// Learning rate at the start, of Muon and AdamW: an update of Muon is scaled to be as large as
    /// one of AdamW.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 100))]
    pub lr: f64,
    /// Muon's momentum factor.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// Nesterov momentum.
    pub nesterov: bool,
    /// Decoupled decay of convolution and dense weights; biases and norms are exempt.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub weight_decay: f64,
    /// AdamW's decay of the first moment.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Added to the root of AdamW's second moment after bias correction.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub eps: f64,
}

impl Default for MuonConfig {
    fn default() -> Self {
        let AdamwConfig { lr, beta1, beta2, eps, .. } = AdamwConfig::default();
        Self { lr, momentum: 0.95, nesterov: true, weight_decay: 0.1, beta1, beta2, eps }
    }
}

impl MuonConfig {
    /// What updates the tensors that are not Muon's.
    pub fn adamw(&self) -> AdamwConfig {
        let Self { lr, beta1, beta2, eps, weight_decay, .. } = *self;
        AdamwConfig { lr, beta1, beta2, eps, weight_decay }
    }
}

/// Deserializes `train.optimizer` on its own: unlike the tagged enum, errors name the wrong key.
pub(crate) fn probe_optimizer(mut table: toml::Table) -> Result<(), serde_path_to_error::Error<toml::de::Error>> {
    match table.remove("kind").as_ref().and_then(toml::Value::as_str) {
        Some("adam") => serde_path_to_error::deserialize::<_, AdamConfig>(table).map(drop),
        Some("adamw") => serde_path_to_error::deserialize::<_, AdamwConfig>(table).map(drop),
        Some("sgd") => serde_path_to_error::deserialize::<_, SgdConfig>(table).map(drop),
        Some("muon") => serde_path_to_error::deserialize::<_, MuonConfig>(table).map(drop),
        _ => Ok(()),
    }
}

impl OptimizerConfig {
    /// The base learning rate, before the schedule.
    pub fn lr(&self) -> f64 {
        match self {
            Self::Adam(adam) => adam.lr,
            Self::Adamw(adamw) => adamw.lr,
            Self::Sgd(sgd) => sgd.lr,
            Self::Muon(muon) => muon.lr,
        }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        let lr = self.lr();
        require(lr > 0.0 && lr <= 100.0, "train.optimizer.lr", lr, "above 0, at most 100")?;
        let moments = |beta1: f64, beta2: f64, eps: f64| {
            require((0.0..1.0).contains(&beta1), "train.optimizer.beta1", beta1, "0 to below 1")?;
            require((0.0..1.0).contains(&beta2), "train.optimizer.beta2", beta2, "0 to below 1")?;
            require(eps > 0.0 && eps <= 1.0, "train.optimizer.eps", eps, "above 0, at most 1")
        };
        let momentum = |value: f64, nesterov: bool| {
            require((0.0..1.0).contains(&value), "train.optimizer.momentum", value, "0 to below 1")?;
            let nesterov = nesterov && value == 0.0;
            require(!nesterov, "train.optimizer.nesterov", "true", "false if momentum is 0")
        };
        let decay =
            |value: f64| require((0.0..=10.0).contains(&value), "train.optimizer.weight_decay", value, "0 to 10");
        match self {
            Self::Adam(adam) => moments(adam.beta1, adam.beta2, adam.eps),
            Self::Adamw(adamw) => moments(adamw.beta1, adamw.beta2, adamw.eps).and_then(|()| decay(adamw.weight_decay)),
            Self::Sgd(sgd) => momentum(sgd.momentum, sgd.nesterov).and_then(|()| decay(sgd.weight_decay)),
            Self::Muon(muon) => {
                momentum(muon.momentum, muon.nesterov)?;
                moments(muon.beta1, muon.beta2, muon.eps)?;
                decay(muon.weight_decay)
            }
        }
    }
}
