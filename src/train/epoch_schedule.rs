//! What an epoch will do, settled before it begins: the order of rows and what is drawn for every image.

use anyhow::Result;
use tch::{Device, Tensor};

use crate::data::sampler::Sampler;
use crate::transforms::{Augment, AugmentParams, Mix};

/// Order and params of one epoch, on the training device.
#[derive(Debug)]
pub struct EpochSchedule {
    /// int64 `[N]`: positions among the training images; a balanced sampler repeats some.
    order: Tensor,
    /// In the same order.
    params: AugmentParams,
    /// One for each step; none where nothing is mixed.
    mixes: Vec<Mix>,
    batch: i64,
    count: i64,
}

/// The images of a step and what was drawn for them, on the training device.
#[derive(Debug)]
pub struct Batch {
    /// int64 `[B]`: positions among the training images.
    pub rows: Tensor,
    /// Of as many rows.
    pub params: AugmentParams,
    /// How the images are mixed with one another, if they are.
    pub mix: Option<Mix>,
}

impl EpochSchedule {
    /// The plan of `epoch` (from 0) over the images of `sampler`: a function of the seed, the epoch, the config and labels alone.
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
        Ok(Self {
            order: Tensor::f_from_slice(&order)?.f_to_device(device)?,
            params: AugmentParams::new(augment, epoch, &order, device)?,
            mixes: (0..order.len().div_ceil(batch) as u64).filter_map(|step| augment.mix(epoch, step)).collect(),
            batch: batch as i64,
            count: sampler.count() as i64,
        })
    }

    /// Steps in the epoch; the last may hold fewer images.
    pub fn steps(&self) -> u64 {
        self.count.unsigned_abs().div_ceil(self.batch.unsigned_abs())
    }

    /// Images in `step` (from 0).
    pub fn images(&self, step: u64) -> i64 {
        (self.count - self.start(step)).clamp(0, self.batch)
    }

    /// Images in the steps before `step`.
    pub fn images_before(&self, step: u64) -> i64 {
        self.start(step).min(self.count)
    }

    /// The images of `step` (from 0), without a copy.
    ///
    /// # Errors
    /// libtorch's, for a step that the epoch does not have.
    pub fn batch(&self, step: u64) -> Result<Batch> {
        let (start, count) = (self.start(step), self.images(step));
        Ok(Batch {
            rows: self.order.f_narrow(0, start, count)?,
            params: self.params.narrow(start, count)?,
            mix: usize::try_from(step).ok().and_then(|step| self.mixes.get(step)).copied(),
        })
    }

    fn start(&self, step: u64) -> i64 {
        i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::sampler::Sampling;
    use crate::transforms::{AugmentConfig, THETA};

    #[test]
    fn every_image_once_an_epoch_and_the_last_batch_is_kept() {
        let augment = Augment::new(&AugmentConfig::default(), 1);
        let plan = EpochSchedule::new(1, 0, &Sampler::Shuffle(150), 64, &augment, Device::Cpu).unwrap();
        assert_eq!(plan.steps(), 3);
        let mut seen: Vec<i64> = Vec::new();
        for step in 0..3 {
            let batch = plan.batch(step).unwrap();
            assert_eq!(batch.params.thetas.unwrap().size(), [plan.images(step), 2, 3]);
            assert!(batch.params.jitter.is_none() && batch.params.rectangles.is_none() && batch.mix.is_none());
            seen.extend(Vec::<i64>::try_from(batch.rows).unwrap());
        }
        assert_eq!(plan.images(2), 22);
        assert_ne!(seen, (0..150).collect::<Vec<_>>(), "rows are shuffled");
        seen.sort_unstable();
        assert_eq!(seen, (0..150).collect::<Vec<_>>());
        let next = EpochSchedule::new(1, 1, &Sampler::Shuffle(150), 64, &augment, Device::Cpu).unwrap();
        assert!(!next.batch(0).unwrap().rows.equal(&plan.batch(0).unwrap().rows), "each epoch has an order of its own");
    }

    #[test]
    fn a_batch_has_the_draws_of_its_images_and_its_step() {
        let config = AugmentConfig { random_erasing: 1.0, brightness: 0.5, cutmix: 1.0, ..AugmentConfig::default() };
        let augment = Augment::new(&config, 1);
        let plan = EpochSchedule::new(1, 4, &Sampler::Shuffle(150), 64, &augment, Device::Cpu).unwrap();
        for step in 0..3 {
            let batch = plan.batch(step).unwrap();
            let rows: Vec<i64> = Vec::try_from(&batch.rows).unwrap();
            let numbers = |tensor: Option<Tensor>| Vec::<f32>::try_from(tensor.unwrap().flatten(0, -1)).unwrap();
            assert_eq!(numbers(batch.params.thetas), augment.thetas(4, &rows));
            assert_eq!(numbers(batch.params.jitter), augment.jitter(4, &rows));
            assert_eq!(numbers(batch.params.rectangles), augment.rectangles(4, &rows));
            assert!(batch.mix.is_some() && batch.mix == augment.mix(4, step));
        }
    }

    #[test]
    fn a_image_that_comes_again_has_another_map() {
        let augment = Augment::new(&AugmentConfig::default(), 1);
        let sampler = Sampler::new(Sampling::Balanced, &[0, 1, 1, 1, 1, 1, 1, 1]);
        let plan = EpochSchedule::new(1, 0, &sampler, 8, &augment, Device::Cpu).unwrap();
        let Batch { rows, params, .. } = plan.batch(0).unwrap();
        let rows: Vec<i64> = Vec::try_from(rows).unwrap();
        let thetas: Vec<f32> = Vec::try_from(params.thetas.unwrap().flatten(0, -1)).unwrap();
        let of_first: Vec<&[f32]> =
            rows.iter().zip(thetas.chunks(THETA)).filter(|(row, _)| **row == 0).map(|(_, theta)| theta).collect();
        assert!(of_first.len() > 1, "the only image of its class comes more than once: {rows:?}");
        assert_eq!(of_first[0], augment.thetas(0, &[0]), "the first time as ever");
        assert!(of_first.iter().skip(1).all(|theta| *theta != of_first[0]));
    }
}
