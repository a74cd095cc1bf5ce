//! Exponential moving average (EMA) of a network's weights and batch-norm running statistics.
//!
//! Averaged weights generalize better than the last ones, most of all at a high learning rate
//! (Polyak and Juditsky 1992). Like timm's `ModelEmaV2`, it averages the running statistics too.

use anyhow::Result;
use tch::Tensor;

use super::step_scalars::StepScalars;
use crate::model::FlatParameters;

/// Weight of the weights after `step`, counted from 1 over the run, in their EMA with this `decay`.
/// The decay warms up so that the initial weights fade fast, as
/// `tf.train.ExponentialMovingAverage` with `num_updates`.
pub fn weight_at(decay: f64, step: u64) -> f64 {
    let step = step as f64;
    1.0 - decay.min((1.0 + step) / (10.0 + step))
}

/// The EMA of a network's weights.
#[derive(Debug)]
pub struct Ema {
    /// Averaged weights, in the layout of [`FlatParameters::values`].
    pub values: Tensor,
    /// Averaged running statistics, in the layout of [`FlatParameters::statistics`].
    pub statistics: Tensor,
}

impl Ema {
    /// Starts the average as a copy of `parameters`.
    pub fn new(parameters: &FlatParameters) -> Result<Self> {
        let copy = |flat: &Tensor| -> Result<Tensor> { Ok(flat.f_detach()?.f_detach_copy()?) };
        Ok(Self { values: copy(&parameters.values)?, statistics: copy(&parameters.statistics)? })
    }

    /// Updates the average with the weights after a step.
    pub fn update(&mut self, parameters: &FlatParameters, scalars: &StepScalars) -> Result<()> {
        // Frozen parameters do not change.
        let trained = |flat| parameters.trained_part(flat);
        let pairs = [
            (trained(&self.values)?, trained(&parameters.values)?),
            (self.statistics.shallow_clone(), parameters.statistics.shallow_clone()),
        ];
        tch::no_grad(|| -> Result<()> {
            for (mut average, current) in pairs {
                let _ = match &scalars.on_device {
                    Some(on_device) => average.f_lerp_tensor_(&current, &on_device.ema_weight)?,
                    None => average.f_lerp_(&current, scalars.ema_weight)?,
                };
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor).unwrap()
    }

    /// ema <- d ema + (1 - d) w with d = min(decay, (1 + n) / (10 + n)).
    #[test]
    fn matches_the_formula() {
        let mut parameters = FlatParameters::for_tests(&[1.0, 2.0], 2);
        let mut ema = Ema::new(&parameters).unwrap();
        let mut expected = [1.0f64, 2.0];
        for step in 1..=20u64 {
            let weights = [step as f32, -(step as f32)];
            parameters.values.copy_(&Tensor::from_slice(&weights));
            let weight = weight_at(0.5, step);
            ema.update(&parameters, &StepScalars::on_host(0.1, step, weight)).unwrap();
            let decay = ((1 + step) as f64 / (10 + step) as f64).min(0.5);
            for (mean, weight) in expected.iter_mut().zip(weights) {
                *mean = decay * *mean + (1.0 - decay) * f64::from(weight);
            }
        }
        let found = values(&ema.values);
        assert!(found.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{found:?}, {expected:?}");
    }
}
