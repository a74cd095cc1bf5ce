//! Adam, AdamW, SGD and Muon on flat tensors: a few in-place operations per step for any number of
//! layers, like `torch.optim` with `foreach=True`.
//!
//! The update rules are those of `torch.optim`, tested against its values for 20 steps. Weight
//! decay applies only to convolution and dense weights, which come first in the flat layout. With
//! layer-wise learning-rate decay, each part of the flat tensors is updated on its own, and so are
//! the matrices of Muon.

use anyhow::Result;
use tch::Tensor;
use torch_ext::{fused, op_profile};

use super::adam_update::{adam, adam_coefficients};
use super::muon;
pub use super::optimizer_config::{AdamConfig, AdamwConfig, MuonConfig, OptimizerConfig, SgdConfig};
use super::parts::{Part, one_part, parts};
use super::step_scalars::{DeviceScalars, StepScalars};
use crate::model::FlatParameters;

/// An optimizer and its state for one network.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    /// One flat tensor per entry of [`state_names`](Self::state_names), in the layout of the
    /// gradients.
    state: Vec<Tensor>,
    /// What is updated on its own.
    parts: Vec<Part>,
    /// Factors of the learning rate of `parts`, float32 [parts] on the device; `None` if all are 1.
    factors: Option<Tensor>,
}

impl Optimizer {
    /// Creates an optimizer with zero state.
    pub fn new(config: &OptimizerConfig, parameters: &FlatParameters) -> Result<Self> {
        let state = Self::state_names(config)
            .iter()
            .map(|_| parameters.gradients.f_zeros_like())
            .collect::<Result<Vec<_>, _>>()?;
        let parts = match config {
            OptimizerConfig::Muon(_) => parts(parameters, |_| 1.0, true),
            _ => one_part(parameters),
        };
        Ok(Self { config: config.clone(), state, parts, factors: None })
    }

    /// Multiplies the learning rate of each tensor by the `factor` of its name.
    pub fn with_factors(self, parameters: &FlatParameters, factor: impl Fn(&str) -> f64) -> Result<Self> {
        let parts = parts(parameters, factor, matches!(self.config, OptimizerConfig::Muon(_)));
        let factors: Vec<f32> = parts.iter().map(|part| part.factor as f32).collect();
        let factors = Some(Tensor::f_from_slice(&factors)?.f_to_device(parameters.values.device())?);
        Ok(Self { parts, factors, ..self })
    }

    /// Names of the state tensors. The momentum of Muon's matrices is in the first moment; they have no
    /// second one, so theirs stays 0.
    pub fn state_names(config: &OptimizerConfig) -> &'static [&'static str] {
        match config {
            OptimizerConfig::Sgd(_) => &["momentum"],
            _ => &["first_moment", "second_moment"],
        }
    }

    /// Name and flat tensor of each state.
    pub fn state(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        Self::state_names(&self.config).iter().copied().zip(&self.state)
    }

    /// Updates the parameters from their gradients: on a GPU with libtorch's fused optimizers, and for
    /// matrices with Muon's operations, which all read the scalars there.
    pub fn step(&mut self, parameters: &mut FlatParameters, scalars: &StepScalars) -> Result<()> {
        let update = || match &scalars.on_device {
            Some(on_device) => self.step_fused(parameters, on_device),
            None => self.step_on_host(parameters, scalars.lr, scalars.number),
        };
        tch::no_grad(|| op_profile::operation("grimace::optimizer", update))
    }

    /// Whether other kinds of processors may round an update differently: matrix products differ, which
    /// the other updates do not have.
    pub fn multiplies_matrices(&self) -> bool {
        self.parts.iter().any(|part| part.matrix.is_some())
    }

    /// Updates the weights of one layer with Muon.
    fn update_matrix(&self, parameters: &FlatParameters, part: &Part, shape: [i64; 2], lr: &Tensor) -> Result<()> {
        let (OptimizerConfig::Muon(config), [momentum, _]) = (&self.config, &self.state[..]) else {
            anyhow::bail!("the optimizer state does not match its kind")
        };
        let of = |flat: &Tensor| part.matrix_of(flat, shape);
        let (mut values, gradient, mut momentum) = (of(&parameters.values)?, of(&parameters.gradients)?, of(momentum)?);
        muon::update(&mut values, &gradient, &mut momentum, lr, config)
    }

    fn step_on_host(&mut self, parameters: &mut FlatParameters, lr: f64, step: u64) -> Result<()> {
        for part in self.parts.iter() {
            if let Some(shape) = part.matrix {
                let lr = Tensor::f_from_slice(&[(lr * part.factor) as f32])?.f_to_device(parameters.values.device())?;
                self.update_matrix(parameters, part, shape, &lr)?;
            }
        }
        let Self { config, state, parts, .. } = self;
        for part in parts.iter().filter(|part| part.matrix.is_none()) {
            let lr = lr * part.factor;
            let gradients = part.of(&parameters.gradients)?;
            let adamw = |c: &AdamwConfig, first: &mut Tensor, second: &mut Tensor| {
                let mut values = part.of(&parameters.values)?;
                let _ = values.f_narrow(0, 0, part.decayed)?.f_mul_scalar_(1.0 - lr * c.weight_decay)?;
                let update = adam_coefficients(lr, step, [c.beta1, c.beta2, c.eps]);
                adam(&mut values, &gradients, [first, second], part, update)
            };
            match (&*config, &mut state[..]) {
                (OptimizerConfig::Adam(c), [first, second]) => {
                    let update = adam_coefficients(lr, step, [c.beta1, c.beta2, c.eps]);
                    adam(&mut part.of(&parameters.values)?, &gradients, [first, second], part, update)?;
                }
                (OptimizerConfig::Adamw(c), [first, second]) => adamw(c, first, second)?,
                (OptimizerConfig::Muon(c), [first, second]) => adamw(&c.adamw(), first, second)?,
                (OptimizerConfig::Sgd(c), [momentum]) => {
                    sgd(&mut part.of(&parameters.values)?, &gradients, &mut part.of(momentum)?, part.decayed, lr, c)?;
                }
                _ => anyhow::bail!("the optimizer state does not match its kind"),
            }
        }
        Ok(())
    }

    fn step_fused(&mut self, parameters: &mut FlatParameters, scalars: &DeviceScalars) -> Result<()> {
        let weight_decay = match &self.config {
            OptimizerConfig::Adam(_) => 0.0,
            OptimizerConfig::Adamw(adamw) => adamw.weight_decay,
            OptimizerConfig::Sgd(sgd) => sgd.weight_decay,
            OptimizerConfig::Muon(muon) => muon.weight_decay,
        };
        // One launch for all learning rates.
        let rates = self.factors.as_ref().map(|factors| factors.f_mul(&scalars.lr)).transpose()?;
        for (part, index) in self.parts.iter().zip(0..) {
            let lr = match &rates {
                Some(rates) => rates.f_narrow(0, index, 1)?,
                None => scalars.lr.shallow_clone(),
            };
            if let Some(shape) = part.matrix {
                self.update_matrix(parameters, part, shape, &lr)?;
                continue;
            }
            // One launch for everything, or with weight decay one for the weights that have it and
            // one for the others.
            let ranges = match weight_decay {
                0.0 => vec![(part.start, part.length, 0.0)],
                _ => vec![
                    (part.start, part.decayed, weight_decay),
                    (part.start + part.decayed, part.length - part.decayed, 0.0),
                ],
            };
            for (start, length, weight_decay) in ranges.into_iter().filter(|(_, length, _)| *length > 0) {
                self.update_fused(parameters, (start, length), weight_decay, scalars, &lr)?;
            }
        }
        Ok(())
    }

    /// Updates `length` elements from `start` with libtorch's fused optimizers.
    fn update_fused(
        &self,
        parameters: &FlatParameters,
        (start, length): (i64, i64),
        weight_decay: f64,
        scalars: &DeviceScalars,
        lr: &Tensor,
    ) -> Result<()> {
        let range = |flat: &Tensor| flat.f_narrow(0, start, length);
        let (values, gradients) = (range(&parameters.values)?, range(&parameters.gradients)?);
        let adam = |beta1: f64, beta2: f64, eps: f64, decoupled: bool| -> Result<()> {
            let [first, second] = &self.state[..] else { anyhow::bail!("the optimizer state does not match its kind") };
            let weight_decay = decoupled.then_some(weight_decay);
            let moments = [&range(first)?, &range(second)?];
            let coefficients = fused::Adam { beta1, beta2, epsilon: eps, weight_decay };
            fused::adam(&values, &gradients, moments, &scalars.number, lr, coefficients)
        };
        match &self.config {
            OptimizerConfig::Adam(c) => adam(c.beta1, c.beta2, c.eps, false),
            OptimizerConfig::Adamw(c) => adam(c.beta1, c.beta2, c.eps, true),
            OptimizerConfig::Muon(c) => adam(c.beta1, c.beta2, c.eps, true),
            OptimizerConfig::Sgd(c) => {
                let [momentum] = &self.state[..] else { anyhow::bail!("the optimizer state does not match its kind") };
                let coefficients = fused::Sgd { weight_decay, momentum: c.momentum, nesterov: c.nesterov };
                fused::sgd(&values, &gradients, &range(momentum)?, lr, coefficients)
            }
        }
    }
}

/// SGD's update, with weight decay for the first `decayed` elements.
fn sgd(
    values: &mut Tensor,
    gradients: &Tensor,
    momentum: &mut Tensor,
    decayed: i64,
    lr: f64,
    config: &SgdConfig,
) -> Result<()> {
    if config.weight_decay > 0.0 {
        let decay = values.f_narrow(0, 0, decayed)?.f_mul_scalar(config.weight_decay)?;
        let _ = gradients.f_narrow(0, 0, decayed)?.f_add_(&decay)?;
    }
    let _ = momentum.f_mul_scalar_(config.momentum)?.f_add_(gradients)?;
    let change = if config.nesterov {
        momentum.f_mul_scalar(config.momentum)?.f_add_(gradients)?.f_mul_scalar_(-lr)?
    } else {
        momentum.f_mul_scalar(-lr)?
    };
    let _ = values.f_add_(&change)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, numbers, signed};
    use tch::{Device, Kind};

    fn configured(record: &serde_json::Value) -> OptimizerConfig {
        let number = |key: &str| record[key].as_f64().unwrap();
        let (lr, weight_decay) = (number("lr"), number("weight_decay"));
        match record["kind"].as_str().unwrap() {
            "Adam" => OptimizerConfig::Adam(AdamConfig {
                lr,
                beta1: number("beta1"),
                beta2: number("beta2"),
                eps: number("eps"),
            }),
            "AdamW" => OptimizerConfig::Adamw(AdamwConfig {
                lr,
                beta1: number("beta1"),
                beta2: number("beta2"),
                eps: number("eps"),
                weight_decay,
            }),
            "SGD" => {
                let nesterov = record["nesterov"].as_bool().unwrap();
                OptimizerConfig::Sgd(SgdConfig { lr, momentum: number("momentum"), nesterov, weight_decay })
            }
            "Muon" => OptimizerConfig::Muon(MuonConfig {
                lr,
                momentum: number("momentum"),
                nesterov: record["nesterov"].as_bool().unwrap(),
                weight_decay,
                beta1: number("beta1"),
                beta2: number("beta2"),
                eps: number("eps"),
            }),
            other => panic!("unknown optimizer {other}"),
        }
    }

    /// Expected values: scripts/golden/torch_optim.py, 20 steps of `torch.optim` on the same
    /// gradients.
    #[test]
    fn agrees_with_pytorch_for_twenty_steps() {
        let golden = golden("torch_optim.json");
        let records = golden["records"].as_array().unwrap();
        assert_eq!(records.len(), 20);
        for (record, fused) in records.iter().flat_map(|record| [(record, false), (record, true)]) {
            let start: Vec<f32> = (0..24).map(|i| signed(i, 100) as f32).collect();
            // The second tensor has no weight decay if decay_second is 0, like biases and norms.
            let exempt = record["decay_second"].as_f64() == Some(0.0);
            let mut parameters = FlatParameters::for_tests(&start, if exempt { 16 } else { 24 });
            let mut optimizer = Optimizer::new(&configured(record), &parameters).unwrap();
            let mut compared = 0;
            for step in 1..=20u32 {
                let gradient: Vec<f32> =
                    (0..24).map(|i| ((0.1 + 0.05 * f64::from(step)) * signed(24 * step + i, 101)) as f32).collect();
                parameters.gradients.copy_(&Tensor::from_slice(&gradient));
                let lr = record[if step > 10 { "lr_after_10" } else { "lr" }].as_f64().unwrap();
                let mut scalars = StepScalars::on_host(lr, u64::from(step), 0.0);
                if fused {
                    let row = DeviceScalars::upload(&[scalars], Device::Cpu).unwrap().select(0, 0);
                    scalars = StepScalars::on_host(lr, u64::from(step), 0.0);
                    scalars.on_device = Some(DeviceScalars::from_row(&row).unwrap());
                }
                optimizer.step(&mut parameters, &scalars).unwrap();
                if let Some(expected) = record["after"].get(step.to_string()) {
                    let expected = Tensor::from_slice(&numbers(expected)).to_kind(Kind::Float);
                    let worst = (&parameters.values - expected).abs().max().double_value(&[]);
                    assert!(worst < 5e-7, "{}, fused {fused}, after step {step}: differs by {worst}", record["name"]);
                    compared += 1;
                }
            }
            assert_eq!(compared, 5);
            assert_eq!(parameters.values.device(), Device::Cpu);
        }
    }
}
