//! What an epoch will do, settled before it begins: the order of rows and the map of every face.

use anyhow::Result;
use tch::{Device, Tensor};

use super::sampling::Sampler;
use crate::augment::{Augment, THETA};

/// Order and maps of one epoch, on the training device.
#[derive(Debug)]
pub struct EpochPlan {
    /// int64 `[N]`: positions among the training faces; a balanced sampler repeats some.
    order: Tensor,
    /// float32 [N, 2, 3] in the same order; `None` when nothing is augmented.
    thetas: Option<Tensor>,
    batch: i64,
    count: i64,
}

impl EpochPlan {
    /// The plan of `epoch` (from 0) over the faces of `sampler`: a function of the seed, the epoch, the config and labels alone.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(
        seed: u64,
        epoch: u32,
        sampler: &Sampler,
        batch: usize,
        augment: &Augment,
        device: Device,
    ) -> Result<Self> {
        let epoch = u64::from(epoch);
        let order = sampler.order(seed, epoch);
        let thetas = if augment.is_identity() {
            None
        } else {
            let thetas = Tensor::f_from_slice(&augment.thetas(epoch, &order))?;
            Some(thetas.f_view([-1, 2, THETA as i64 / 2])?.f_to_device(device)?)
        };
        Ok(Self {
            order: Tensor::f_from_slice(&order)?.f_to_device(device)?,
            thetas,
            batch: batch as i64,
            count: sampler.count() as i64,
        })
    }

    /// Steps in the epoch; the last may hold fewer faces.
    pub fn steps(&self) -> u64 {
        self.count.unsigned_abs().div_ceil(self.batch.unsigned_abs())
    }

    /// Faces in `step` (from 0).
    pub fn faces(&self, step: u64) -> i64 {
        (self.count - self.start(step)).clamp(0, self.batch)
    }

    /// Faces in the steps before `step`.
    pub fn faces_before(&self, step: u64) -> i64 {
        self.start(step).min(self.count)
    }

    /// Positions (int64 `[B]`) and maps (float32 [B, 2, 3]) of `step`, without a copy.
    ///
    /// # Errors
    /// libtorch's, for a step that the epoch does not have.
    pub fn batch(&self, step: u64) -> Result<(Tensor, Option<Tensor>)> {
        let cut = |tensor: &Tensor| tensor.f_narrow(0, self.start(step), self.faces(step));
        Ok((cut(&self.order)?, self.thetas.as_ref().map(cut).transpose()?))
    }

    fn start(&self, step: u64) -> i64 {
        i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AugmentConfig, Sampling};

    #[test]
    fn every_face_once_an_epoch_and_the_last_batch_is_kept() {
        let augment = Augment::new(&AugmentConfig::default(), 1);
        let plan = EpochPlan::new(1, 0, &Sampler::Shuffle(150), 64, &augment, Device::Cpu).unwrap();
        assert_eq!(plan.steps(), 3);
        let mut seen: Vec<i64> = Vec::new();
        for step in 0..3 {
            let (rows, thetas) = plan.batch(step).unwrap();
            assert_eq!(thetas.unwrap().size(), [plan.faces(step), 2, 3]);
            seen.extend(Vec::<i64>::try_from(rows).unwrap());
        }
        assert_eq!(plan.faces(2), 22);
        assert_ne!(seen, (0..150).collect::<Vec<_>>(), "rows are shuffled");
        seen.sort_unstable();
        assert_eq!(seen, (0..150).collect::<Vec<_>>());
        let next = EpochPlan::new(1, 1, &Sampler::Shuffle(150), 64, &augment, Device::Cpu).unwrap();
        assert!(!next.batch(0).unwrap().0.equal(&plan.batch(0).unwrap().0), "each epoch has an order of its own");
    }

    #[test]
    fn a_face_that_comes_again_has_another_map() {
        let augment = Augment::new(&AugmentConfig::default(), 1);
        let sampler = Sampler::new(Sampling::Balanced, &[0, 1, 1, 1, 1, 1, 1, 1]);
        let plan = EpochPlan::new(1, 0, &sampler, 8, &augment, Device::Cpu).unwrap();
        let (rows, thetas) = plan.batch(0).unwrap();
        let rows: Vec<i64> = Vec::try_from(rows).unwrap();
        let thetas: Vec<f32> = Vec::try_from(thetas.unwrap().flatten(0, -1)).unwrap();
        let of_first: Vec<&[f32]> =
            rows.iter().zip(thetas.chunks(THETA)).filter(|(row, _)| **row == 0).map(|(_, theta)| theta).collect();
        assert!(of_first.len() > 1, "the only face of its class comes more than once: {rows:?}");
        assert_eq!(of_first[0], augment.thetas(0, &[0]), "the first time as ever");
        assert!(of_first.iter().skip(1).all(|theta| *theta != of_first[0]));
    }
}
