//! Adam, AdamW and SGD on flat tensors: a few in-place operations per step for any number of
//! layers, like `torch.optim` with `foreach=True`.
//!
//! The update rules are those of `torch.optim`, tested against its values for 20 steps. Weight
//! decay applies only to convolution and dense weights, which come first in the flat layout.

use anyhow::Result;
use kernels::adam::{self, Update};
use tch::{Device, Tensor};
use torch_ext::{fused, op_profile, parallel, tensor_slice};

pub use super::optimizer_config::{AdamConfig, AdamwConfig, OptimizerConfig, SgdConfig};
use super::step_scalars::{DeviceScalars, StepScalars};
use crate::device;
use crate::model::FlatParameters;

/// An optimizer and its state for one network.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    /// One flat tensor per entry of [`state_names`](Self::state_names), in the layout of the
    /// parameters.
    state: Vec<Tensor>,
}

impl Optimizer {
    /// Creates an optimizer with zero state.
    pub fn new(config: &OptimizerConfig, parameters: &FlatParameters) -> Result<Self> {
        let state = Self::state_names(config)
            .iter()
            .map(|_| parameters.values.f_zeros_like())
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { config: config.clone(), state })
    }

    /// Names of the state tensors.
    pub fn state_names(config: &OptimizerConfig) -> &'static [&'static str] {
        match config {
            OptimizerConfig::Adam(_) | OptimizerConfig::Adamw(_) => &["first_moment", "second_moment"],
            OptimizerConfig::Sgd(_) => &["momentum"],
        }
    }

    /// Name and flat tensor of each state.
    pub fn state(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        Self::state_names(&self.config).iter().copied().zip(&self.state)
    }

    /// Updates the parameters from their gradients: with libtorch's fused optimizers on a GPU, which
    /// read the scalars there.
    pub fn step(&mut self, parameters: &mut FlatParameters, scalars: &StepScalars) -> Result<()> {
        let update = || match &scalars.on_device {
            Some(on_device) => self.step_fused(parameters, on_device),
            None => self.step_on_host(parameters, scalars.lr, scalars.number),
        };
        tch::no_grad(|| op_profile::operation("grimace::optimizer", update))
    }

    fn step_on_host(&mut self, parameters: &mut FlatParameters, lr: f64, step: u64) -> Result<()> {
        match (&self.config, &mut self.state[..]) {
            (OptimizerConfig::Adam(c), [first, second]) => {
                adam(parameters, [first, second], adam_coefficients(lr, step, [c.beta1, c.beta2, c.eps]))
            }
            (OptimizerConfig::Adamw(c), [first, second]) => {
                let _ =
                    parameters.values.f_narrow(0, 0, parameters.decayed)?.f_mul_scalar_(1.0 - lr * c.weight_decay)?;
                adam(parameters, [first, second], adam_coefficients(lr, step, [c.beta1, c.beta2, c.eps]))
            }
            (OptimizerConfig::Sgd(c), [momentum]) => {
                if c.weight_decay > 0.0 {
                    let decay = parameters.values.f_narrow(0, 0, parameters.decayed)?.f_mul_scalar(c.weight_decay)?;
                    let _ = parameters.gradients.f_narrow(0, 0, parameters.decayed)?.f_add_(&decay)?;
                }
                let _ = momentum.f_mul_scalar_(c.momentum)?.f_add_(&parameters.gradients)?;
                let change = if c.nesterov {
                    momentum.f_mul_scalar(c.momentum)?.f_add_(&parameters.gradients)?.f_mul_scalar_(-lr)?
                } else {
                    momentum.f_mul_scalar(-lr)?
                };
                let _ = parameters.values.f_add_(&change)?;
                Ok(())
            }
            _ => anyhow::bail!("the optimizer state does not match its kind"),
        }
    }

    fn step_fused(&mut self, parameters: &mut FlatParameters, scalars: &DeviceScalars) -> Result<()> {
        let size = parameters.values.numel() as i64;
        let weight_decay = match &self.config {
            OptimizerConfig::Adam(_) => 0.0,
            OptimizerConfig::Adamw(adamw) => adamw.weight_decay,
            OptimizerConfig::Sgd(sgd) => sgd.weight_decay,
        };
        // One launch for everything, or with weight decay one for the weights that have it and one
        // for the others.
        let parts = match weight_decay {
            0.0 => vec![(0, size, 0.0)],
            _ => vec![(0, parameters.decayed, weight_decay), (parameters.decayed, size - parameters.decayed, 0.0)],
        };
        for (start, length, weight_decay) in parts.into_iter().filter(|(_, length, _)| *length > 0) {
            let part = |flat: &Tensor| flat.f_narrow(0, start, length);
            let (values, gradients) = (part(&parameters.values)?, part(&parameters.gradients)?);
            let adam = |beta1: f64, beta2: f64, eps: f64, decoupled: bool| -> Result<()> {
                let [first, second] = &self.state[..] else {
                    anyhow::bail!("the optimizer state does not match its kind")
                };
                let weight_decay = decoupled.then_some(weight_decay);
                let moments = [&part(first)?, &part(second)?];
                let coefficients = fused::Adam { beta1, beta2, epsilon: eps, weight_decay };
                fused::adam(&values, &gradients, moments, &scalars.number, &scalars.lr, coefficients)
            };
            match &self.config {
                OptimizerConfig::Adam(c) => adam(c.beta1, c.beta2, c.eps, false)?,
                OptimizerConfig::Adamw(c) => adam(c.beta1, c.beta2, c.eps, true)?,
                OptimizerConfig::Sgd(c) => {
                    let [momentum] = &self.state[..] else {
                        anyhow::bail!("the optimizer state does not match its kind")
                    };
                    let coefficients = fused::Sgd { weight_decay, momentum: c.momentum, nesterov: c.nesterov };
                    fused::sgd(&values, &gradients, &part(momentum)?, &scalars.lr, coefficients)?;
                }
            }
        }
        Ok(())
    }
}

/// Adam's update: a fused kernel on the CPU, libtorch operations elsewhere.
fn adam(p: &mut FlatParameters, moments: [&mut Tensor; 2], update: Update) -> Result<()> {
    if p.values.device() == Device::Cpu && kernels::isa().is_some() {
        adam_fused(p, moments, update)
    } else {
        adam_reference(p, moments, update)
    }
}

/// The coefficients of the update at `step`, counted from 1.
fn adam_coefficients(lr: f64, step: u64, [beta1, beta2, eps]: [f64; 3]) -> Update {
    let correction = |beta: f64| 1.0 - beta.powf(step as f64);
    Update {
        into_first: (1.0 - beta1) as f32,
        into_second: (1.0 - beta2) as f32,
        rate: (lr / correction(beta1)) as f32,
        scale: (1.0 / correction(beta2).sqrt()) as f32,
        epsilon: eps as f32,
    }
}

/// Elements per call of the kernel: its steps stay in a first-level cache.
const ADAM_BLOCK: usize = 2048;

fn adam_fused(p: &mut FlatParameters, [first, second]: [&mut Tensor; 2], update: Update) -> Result<()> {
    let chunk = device::chunk_size(p.values.numel());
    // The parameters share memory with the network, so they are updated in place, not borrowed.
    let values = tensor_slice::in_place_chunks::<f32>(&mut p.values, chunk)?;
    let moments = tensor_slice::slice_mut::<f32>(first)?
        .chunks_mut(chunk)
        .zip(tensor_slice::slice_mut::<f32>(second)?.chunks_mut(chunk));
    let gradients = tensor_slice::slice::<f32>(&p.gradients)?.chunks(chunk);
    let work = values.into_iter().zip(moments).zip(gradients).collect();
    parallel::for_each(work, |((mut values, (first, second)), gradients)| {
        let mut steps = [0.0; ADAM_BLOCK];
        let moments = first.chunks_mut(ADAM_BLOCK).zip(second.chunks_mut(ADAM_BLOCK));
        for (block, ((first, second), gradients)) in moments.zip(gradients.chunks(ADAM_BLOCK)).enumerate() {
            if let Some(steps) = steps.get_mut(..gradients.len()) {
                adam::update(first, second, gradients, update, steps);
                values.subtract(block * ADAM_BLOCK, steps);
            }
        }
    })
}

fn adam_reference(p: &mut FlatParameters, [first, second]: [&mut Tensor; 2], update: Update) -> Result<()> {
    let _ = first.f_lerp_(&p.gradients, f64::from(update.into_first))?;
    let _ = second.f_lerp_(&p.gradients.f_square()?, f64::from(update.into_second))?;
    let divisor = second.f_sqrt()?.f_mul_scalar_(f64::from(update.scale))?.f_add_scalar_(f64::from(update.epsilon))?;
    let _ = p.values.f_addcdiv_(&first.f_mul_scalar(-f64::from(update.rate))?, &divisor)?;
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
            other => panic!("unknown optimizer {other}"),
        }
    }

    #[test]
    fn fused_adam_agrees_with_reference() {
        let start: Vec<f32> = (0..1000).map(|i| signed(i, 3) as f32).collect();
        let mut both = [(); 2].map(|()| {
            let parameters = FlatParameters::for_tests(&start, 1000);
            let moments = [parameters.values.zeros_like(), parameters.values.zeros_like()];
            (parameters, moments)
        });
        for step in 1..=20u32 {
            let gradient: Vec<f32> = (0..1000).map(|i| signed(1000 * step + i, 4) as f32).collect();
            for (number, (parameters, [first, second])) in both.iter_mut().enumerate() {
                parameters.gradients.copy_(&Tensor::from_slice(&gradient));
                let update = if number == 0 { adam_fused } else { adam_reference };
                let coefficients = adam_coefficients(1e-2, step.into(), [0.9, 0.999, 1e-7]);
                tch::no_grad(|| update(parameters, [first, second], coefficients)).unwrap();
            }
        }
        let difference = (&both[0].0.values - &both[1].0.values).abs().max().double_value(&[]);
        assert!(difference < 5e-7, "differs by {difference}");
        assert!(
            (&both[0].0.values - Tensor::from_slice(&start)).abs().min().double_value(&[]) > 0.0,
            "all parameters change"
        );
    }

    /// Expected values: scripts/golden/torch_optim.py, 20 steps of `torch.optim` on the same
    /// gradients.
    #[test]
    fn agrees_with_pytorch_for_twenty_steps() {
        let golden = golden("torch_optim.json");
        let records = golden["records"].as_array().unwrap();
        assert_eq!(records.len(), 16);
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
