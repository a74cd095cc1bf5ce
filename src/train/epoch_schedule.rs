//! The schedule of an epoch, sampled before it starts: the order of images and their transform
//! parameters.

use anyhow::Result;
use tch::{Device, Tensor};

use crate::data::sampler::Sampler;
use crate::transforms::{Augment, AugmentParams, Mix};

/// Sample order and transform parameters of one epoch, on the training device.
#[derive(Debug)]
pub struct EpochSchedule {
    /// int64 `[N]`: indices of training images; a balanced sampler repeats some.
    order: Tensor,
    /// Transform parameters of those images, in the same order.
    params: AugmentParams,
    /// One per step; empty without mixup and CutMix.
    mixes: Vec<Mix>,
    batch: i64,
    count: i64,
}

/// The images of a step and their transform parameters, on the training device.
#[derive(Debug)]
pub struct ScheduledBatch {
    /// int64 `[B]`: indices of training images.
    pub rows: Tensor,
    /// Transform parameters of those images.
    pub params: AugmentParams,
    /// How the images are mixed with each other, if at all.
    pub mix: Option<Mix>,
}

impl EpochSchedule {
    /// Samples `epoch` (from 0). A pure function of seed, epoch, config and labels.
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
            mixes: (0..order.len().div_ceil(batch) as u64).filter_map(|step| augment.sample_mix(epoch, step)).collect(),
            batch: batch as i64,
            count: sampler.count() as i64,
        })
    }

    /// Number of steps; the last may have fewer images.
    pub fn steps(&self) -> u64 {
        self.count.unsigned_abs().div_ceil(self.batch.unsigned_abs())
    }

    /// Number of images in `step` (from 0).
    pub fn images(&self, step: u64) -> i64 {
        (self.count - self.start(step)).clamp(0, self.batch)
    }

    /// Number of images in the steps before `step`.
    pub fn images_before(&self, step: u64) -> i64 {
        self.start(step).min(self.count)
    }

    /// The batch of `step` (from 0), as views.
    ///
    /// # Errors
    /// If the epoch has no such step.
    pub fn batch(&self, step: u64) -> Result<ScheduledBatch> {
        let (start, count) = (self.start(step), self.images(step));
        Ok(ScheduledBatch {
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
    fn an_epoch_has_every_image_once_and_keeps_the_last_batch() {
        let augment = Augment::new(&AugmentConfig::default(), 1);
        let schedule = EpochSchedule::new(1, 0, &Sampler::Shuffle(150), 64, &augment, Device::Cpu).unwrap();
        assert_eq!(schedule.steps(), 3);
        let mut seen: Vec<i64> = Vec::new();
        for step in 0..3 {
            let batch = schedule.batch(step).unwrap();
            assert_eq!(batch.params.thetas.unwrap().size(), [schedule.images(step), 2, 3]);
            assert!(batch.params.jitter.is_none() && batch.params.rectangles.is_none() && batch.mix.is_none());
            seen.extend(Vec::<i64>::try_from(batch.rows).unwrap());
        }
        assert_eq!(schedule.images(2), 22);
        assert_ne!(seen, (0..150).collect::<Vec<_>>(), "rows are shuffled");
        seen.sort_unstable();
        assert_eq!(seen, (0..150).collect::<Vec<_>>());
        let next = EpochSchedule::new(1, 1, &Sampler::Shuffle(150), 64, &augment, Device::Cpu).unwrap();
        assert!(!next.batch(0).unwrap().rows.equal(&schedule.batch(0).unwrap().rows), "each epoch has its own order");
    }

    #[test]
    fn a_batch_has_the_parameters_of_its_images_and_its_step() {
        let config = AugmentConfig { random_erasing: 1.0, brightness: 0.5, cutmix: 1.0, ..AugmentConfig::default() };
        let augment = Augment::new(&config, 1);
        let schedule = EpochSchedule::new(1, 4, &Sampler::Shuffle(150), 64, &augment, Device::Cpu).unwrap();
        for step in 0..3 {
            let batch = schedule.batch(step).unwrap();
            let rows: Vec<i64> = Vec::try_from(&batch.rows).unwrap();
            let numbers = |tensor: Option<Tensor>| Vec::<f32>::try_from(tensor.unwrap().flatten(0, -1)).unwrap();
            assert_eq!(numbers(batch.params.thetas), augment.sample_thetas(4, &rows));
            assert_eq!(numbers(batch.params.jitter), augment.sample_jitter(4, &rows));
            assert_eq!(numbers(batch.params.rectangles), augment.sample_rectangles(4, &rows));
            assert!(batch.mix.is_some() && batch.mix == augment.sample_mix(4, step));
        }
    }

    #[test]
    fn a_repeated_image_gets_other_parameters() {
        let augment = Augment::new(&AugmentConfig::default(), 1);
        let sampler = Sampler::new(Sampling::Balanced, &[0, 1, 1, 1, 1, 1, 1, 1]);
        let schedule = EpochSchedule::new(1, 0, &sampler, 8, &augment, Device::Cpu).unwrap();
        let ScheduledBatch { rows, params, .. } = schedule.batch(0).unwrap();
        let rows: Vec<i64> = Vec::try_from(rows).unwrap();
        let thetas: Vec<f32> = Vec::try_from(params.thetas.unwrap().flatten(0, -1)).unwrap();
        let of_first: Vec<&[f32]> =
            rows.iter().zip(thetas.chunks(THETA)).filter(|(row, _)| **row == 0).map(|(_, theta)| theta).collect();
        assert!(of_first.len() > 1, "the only image of its class is repeated: {rows:?}");
        assert_eq!(
            of_first[0],
            augment.sample_thetas(0, &[0]),
            "the first occurrence has the parameters of an unrepeated image"
        );
        assert!(of_first.iter().skip(1).all(|theta| *theta != of_first[0]));
    }
}
