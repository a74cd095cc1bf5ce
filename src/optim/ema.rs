//! Exponential moving average (EMA) of a network's weights and batch-norm running statistics.
//!
//! Averaged weights generalize better than the last ones, most of all at a high learning rate
//! (Polyak and Juditsky 1992). Like timm's `ModelEmaV2`, it averages the running statistics too.

use anyhow::Result;
use tch::Tensor;

use crate::model::FlatParameters;

/// The EMA of a network's weights.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    /// Averaged weights, in the layout of [`FlatParameters::values`].
    pub values: Tensor,
    /// Averaged running statistics, in the layout of [`FlatParameters::statistics`].
    pub statistics: Tensor,
}

impl Ema {
    /// Starts the average as a copy of `parameters`.
    pub fn new(decay: f64, parameters: &FlatParameters) -> Result<Self> {
        let copy = |flat: &Tensor| -> Result<Tensor> { Ok(flat.f_detach()?.f_detach_copy()?) };
        Ok(Self { decay, values: copy(&parameters.values)?, statistics: copy(&parameters.statistics)? })
    }

    /// The decay at `step`, counted from 1 over the run. It warms up so that the initial weights
    /// fade fast, as `tf.train.ExponentialMovingAverage` with `num_updates`.
    fn decay_at(&self, step: u64) -> f64 {
        let step = step as f64;
        self.decay.min((1.0 + step) / (10.0 + step))
    }

    /// Updates the average with the weights after `step`.
    pub fn update(&mut self, parameters: &FlatParameters, step: u64) -> Result<()> {
        let weight = 1.0 - self.decay_at(step);
        tch::no_grad(|| -> Result<()> {
            let _ = self.values.f_lerp_(&parameters.values, weight)?;
            let _ = self.statistics.f_lerp_(&parameters.statistics, weight)?;
            Ok(())
        })
    }

    /// Swaps the averages with the network's parameters, to evaluate with EMA weights. A second
    /// call restores both.
    pub fn swap(&mut self, parameters: &mut FlatParameters) -> Result<()> {
        tch::no_grad(|| -> Result<()> {
            for (average, current) in
                [(&mut self.values, &mut parameters.values), (&mut self.statistics, &mut parameters.statistics)]
            {
                let copy = average.f_detach_copy()?;
                average.f_copy_(current)?;
                current.f_copy_(&copy)?;
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
        let mut ema = Ema::new(0.5, &parameters).unwrap();
        let mut expected = [1.0f64, 2.0];
        for step in 1..=20u64 {
            let weights = [step as f32, -(step as f32)];
            parameters.values.copy_(&Tensor::from_slice(&weights));
            ema.update(&parameters, step).unwrap();
            let decay = ((1 + step) as f64 / (10 + step) as f64).min(0.5);
            for (mean, weight) in expected.iter_mut().zip(weights) {
                *mean = decay * *mean + (1.0 - decay) * f64::from(weight);
            }
        }
        let found = values(&ema.values);
        assert!(found.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{found:?}, {expected:?}");
        ema.swap(&mut parameters).unwrap();
        assert_eq!((values(&parameters.values), values(&ema.values)), (found.clone(), vec![20.0, -20.0]));
        ema.swap(&mut parameters).unwrap();
        assert_eq!((values(&parameters.values), values(&ema.values)), (vec![20.0, -20.0], found));
    }
}
