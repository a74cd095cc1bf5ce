//! An exponential moving ema of a network's weights and of its norms' running statistics.
//!
//! Averaged weights generalise better than the last ones, most of all while the learning rate is high (Polyak and Juditsky
//! 1992; as timm's `ModelEmaV2`, which emas the statistics, too).

use anyhow::Result;
use tch::Tensor;

use crate::model::FlatParameters;

/// The ema of a run so far.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    /// In the layout of [`FlatParameters::values`].
    pub values: Tensor,
    /// In the layout of [`FlatParameters::statistics`].
    pub statistics: Tensor,
}

impl Ema {
    /// An ema that begins as `parameters` are.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(decay: f64, parameters: &FlatParameters) -> Result<Self> {
        let copy = |flat: &Tensor| -> Result<Tensor> { Ok(flat.f_detach()?.f_detach_copy()?) };
        Ok(Self { decay, values: copy(&parameters.values)?, statistics: copy(&parameters.statistics)? })
    }

    /// The share of the ema that stays in `step`, which counts from 1 over the whole run: less at the beginning, so
    /// that the initial weights are soon forgotten (`tf.train.ExponentialMovingAverage` with `num_updates`).
    fn decay(&self, step: u64) -> f64 {
        let step = step as f64;
        self.decay.min((1.0 + step) / (10.0 + step))
    }

    /// Takes in the weights after `step`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn update(&mut self, parameters: &FlatParameters, step: u64) -> Result<()> {
        let share = 1.0 - self.decay(step);
        tch::no_grad(|| -> Result<()> {
            let _ = self.values.f_lerp_(&parameters.values, share)?;
            let _ = self.statistics.f_lerp_(&parameters.statistics, share)?;
            Ok(())
        })
    }

    /// Exchanges the emas with what `parameters` hold: the network then computes with them. A second call puts
    /// everything back.
    ///
    /// # Errors
    /// libtorch's.
    pub fn exchange(&mut self, parameters: &mut FlatParameters) -> Result<()> {
        tch::no_grad(|| -> Result<()> {
            for (own, other) in
                [(&mut self.values, &mut parameters.values), (&mut self.statistics, &mut parameters.statistics)]
            {
                let kept = own.f_mul_scalar(1.0)?;
                own.f_copy_(other)?;
                other.f_copy_(&kept)?;
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

    /// avg <- d avg + (1 - d) w with d = min(decay, (1 + n) / (10 + n)).
    #[test]
    fn follows_its_formula() {
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
        ema.exchange(&mut parameters).unwrap();
        assert_eq!((values(&parameters.values), values(&ema.values)), (found.clone(), vec![20.0, -20.0]));
        ema.exchange(&mut parameters).unwrap();
        assert_eq!((values(&parameters.values), values(&ema.values)), (vec![20.0, -20.0], found));
    }
}
