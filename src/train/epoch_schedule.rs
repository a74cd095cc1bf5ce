//! The schedule of an epoch, sampled before it starts: the order of images and their transform
//! parameters.

use anyhow::Result;
use tch::Tensor;

use super::partition::Part;
use super::step_position::StepPosition;
use crate::data::device_images::DeviceImages;
use crate::data::sampler::Sampler;
use crate::optim::step_scalars::{DeviceScalars, StepScalars};
use crate::transforms::{Augment, AugmentParams, BatchMix, Mix, MixRow, MixTensors};

/// The division of an epoch into steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochPlan {
    batch: i64,
    count: i64,
}

impl EpochPlan {
    /// Plans an epoch of `count` images in batches of `batch`.
    pub fn new(count: usize, batch: usize) -> Self {
        Self { batch: batch as i64, count: count as i64 }
    }

    /// Images of a step, except of the last one.
    pub fn batch(self) -> usize {
        usize::try_from(self.batch).unwrap_or(1)
    }

    /// Number of images.
    pub fn count(self) -> i64 {
        self.count
    }

    /// Number of steps; the last may have fewer images.
    pub fn steps(self) -> u64 {
        self.count.unsigned_abs().div_ceil(self.batch.unsigned_abs())
    }

    /// Number of images in `step` (from 0).
    pub fn images(self, step: u64) -> i64 {
        (self.count - self.start(step)).clamp(0, self.batch)
    }

    /// Number of images in the steps before `step`.
    pub fn images_before(self, step: u64) -> i64 {
        self.start(step).min(self.count)
    }

    /// The rows of `step` in `all` [count, ...], as a view if the position is on the host: [B, ...].
    ///
    /// # Errors
    /// If the epoch has no such step.
    pub fn rows(self, all: &Tensor, step: u64, position: StepPosition<'_>) -> Result<Tensor> {
        match self.full_steps(all, step, position)? {
            Some(steps) => position.take(&steps),
            None => Ok(all.f_narrow(0, self.start(step), self.images(step))?),
        }
    }

    /// Writes `value` [B, ...] as the rows of `step` in `all` [count, ...].
    ///
    /// # Errors
    /// If the epoch has no such step.
    pub fn put_rows(self, all: &Tensor, step: u64, position: StepPosition<'_>, value: &Tensor) -> Result<()> {
        match self.full_steps(all, step, position)? {
            Some(steps) => position.put(&steps, value),
            None => Ok(all.f_narrow(0, self.start(step), self.images(step))?.f_copy_(value)?),
        }
    }

    /// `all` as [full steps, batch, ...], if `step` is one of them and its position is on the
    /// device. The last, smaller step is always at the same place.
    fn full_steps(self, all: &Tensor, step: u64, position: StepPosition<'_>) -> Result<Option<Tensor>> {
        if matches!(position, StepPosition::Host(_)) || self.images(step) < self.batch {
            return Ok(None);
        }
        let full = self.count / self.batch;
        let shape: Vec<i64> = [full, self.batch].into_iter().chain(all.size().into_iter().skip(1)).collect();
        Ok(Some(all.f_narrow(0, 0, full * self.batch)?.f_view(&shape[..])?))
    }

    fn start(self, step: u64) -> i64 {
        i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(self.batch)
    }
}

/// Sample order, transform parameters and scalars of one epoch, on the training device.
#[derive(Debug)]
pub struct EpochSchedule {
    plan: EpochPlan,
    /// int64 `[N]`: indices of training images; a balanced sampler repeats some.
    order: Tensor,
    /// The same on the host, if the images are there.
    host_order: Option<Vec<i64>>,
    /// int64 `[N]`: labels of those images.
    labels: Tensor,
    /// Transform parameters of those images, in the same order.
    params: AugmentParams,
    /// One per step; empty without mixup and CutMix.
    mixes: Vec<Mix>,
    /// The same on a GPU.
    mix_tensors: Option<MixTensors>,
    /// One per step.
    scalars: Vec<StepScalars>,
    /// The same on a GPU, see [`DeviceScalars::upload`].
    scalar_tensor: Option<Tensor>,
}

/// The images of a step and their transform parameters, on the training device.
#[derive(Debug)]
pub struct ScheduledBatch {
    /// int64 `[B]`: indices of training images.
    pub rows: Tensor,
    /// int64 `[B]`: labels of those images.
    pub labels: Tensor,
    /// Transform parameters of those images.
    pub params: AugmentParams,
    /// How the images are mixed with each other, if at all.
    pub mix: Option<BatchMix>,
}

impl ScheduledBatch {
    /// The images of `part`, and after them one more if images are mixed and the part is shared.
    fn part(self, part: Part) -> Result<Self> {
        let take = |all: &Tensor| -> Result<Tensor> {
            if self.mix.is_none() || !part.is_shared {
                return Ok(all.f_narrow(0, part.start, part.len)?);
            }
            let indices: Vec<i64> = part.with_next().collect();
            Ok(all.f_index_select(0, &Tensor::f_from_slice(&indices)?.f_to_device(all.device())?)?)
        };
        let (rows, labels, params) = (take(&self.rows)?, take(&self.labels)?, self.params.map_rows(take)?);
        Ok(Self { rows, labels, params, mix: self.mix })
    }
}

impl EpochSchedule {
    /// Samples `epoch` (from 0) of `images`, with `scalars` for each of its steps. A pure function of
    /// seed, epoch, config and labels.
    pub fn new(
        seed: u64,
        epoch: u32,
        sampler: &Sampler,
        batch: usize,
        augment: &Augment,
        scalars: Vec<StepScalars>,
        images: &DeviceImages,
    ) -> Result<Self> {
        let device = images.device();
        let (epoch, plan) = (u64::from(epoch), EpochPlan::new(sampler.count(), batch));
        let order = sampler.order(seed, epoch);
        let mixes: Vec<Mix> = (0..plan.steps()).filter_map(|step| augment.sample_mix(epoch, step)).collect();
        let on_device = device.is_cuda();
        let mix_tensors = (on_device && !mixes.is_empty()).then(|| MixTensors::new(&mixes, device)).transpose()?;
        let scalar_tensor = on_device.then(|| DeviceScalars::upload(&scalars, device)).transpose()?;
        let params = AugmentParams::new(augment, epoch, &order, device)?;
        let order_tensor = Tensor::f_from_slice(&order)?.f_to_device(device)?;
        let host_order = images.on_host().map(|_| order);
        let (labels, order) = (images.labels(&order_tensor)?, order_tensor);
        Ok(Self { plan, labels, order, host_order, params, mixes, mix_tensors, scalars, scalar_tensor })
    }

    /// The division into steps.
    pub fn plan(&self) -> EpochPlan {
        self.plan
    }

    /// Takes the order of the images, if they are on the host.
    pub fn take_host_order(&mut self) -> Option<Vec<i64>> {
        self.host_order.take()
    }

    /// The labels of the images in order, int64 `[N]`.
    pub fn labels(&self) -> &Tensor {
        &self.labels
    }

    /// Whether images are mixed.
    pub fn is_mixed(&self) -> bool {
        !self.mixes.is_empty()
    }

    /// The batch of `step` (from 0).
    ///
    /// # Errors
    /// If the epoch has no such step.
    pub fn batch(&self, step: u64, position: StepPosition<'_>) -> Result<ScheduledBatch> {
        let host_mix = usize::try_from(step).ok().and_then(|step| self.mixes.get(step)).copied();
        let mix = match (&self.mix_tensors, host_mix) {
            (Some(tensors), _) => Some(BatchMix::Device(MixRow::new(position.take(tensors.steps())?))),
            (None, host) => host.map(BatchMix::Host),
        };
        Ok(ScheduledBatch {
            rows: self.plan.rows(&self.order, step, position)?,
            labels: self.plan.rows(&self.labels, step, position)?,
            params: self.params.map_rows(|all| self.plan.rows(all, step, position))?,
            mix,
        })
    }

    /// The images of `part` of the batch of `step` (from 0), and one more after them if images are
    /// mixed and the part is shared; and the labels of the whole batch, int64 `[B]`.
    ///
    /// # Errors
    /// If the epoch has no such step.
    pub fn part(&self, step: u64, part: Part) -> Result<(ScheduledBatch, Tensor)> {
        let batch = self.batch(step, StepPosition::Host(i64::try_from(step)?))?;
        let labels = batch.labels.shallow_clone();
        Ok((batch.part(part)?, labels))
    }

    /// The scalars of `step` (from 0).
    ///
    /// # Errors
    /// If the epoch has no such step.
    pub fn scalars(&self, step: u64, position: StepPosition<'_>) -> Result<StepScalars> {
        let known = usize::try_from(step).ok().and_then(|step| self.scalars.get(step));
        let known = known.ok_or_else(|| anyhow::anyhow!("the epoch has no step {step}"))?;
        let row = self.scalar_tensor.as_ref().map(|all| position.take(all)).transpose()?;
        let on_device = row.as_ref().map(DeviceScalars::from_row).transpose()?;
        Ok(StepScalars { on_device, ..StepScalars::on_host(known.lr, known.number, known.ema_weight) })
    }

    /// Takes over another epoch of the same run in the same memory, which CUDA graphs have recorded.
    pub fn overwrite(&mut self, other: Self) -> Result<()> {
        let own = [
            Some(&self.order),
            Some(&self.labels),
            self.mix_tensors.as_ref().map(MixTensors::steps),
            self.scalar_tensor.as_ref(),
        ];
        let new = [
            Some(&other.order),
            Some(&other.labels),
            other.mix_tensors.as_ref().map(MixTensors::steps),
            other.scalar_tensor.as_ref(),
        ];
        let pairs = own.into_iter().flatten().zip(new.into_iter().flatten());
        for (own, new) in pairs.chain(self.params.rows().zip(other.params.rows())) {
            own.shallow_clone().f_copy_(new)?;
        }
        (self.mixes, self.scalars) = (other.mixes, other.scalars);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::{Images, PIXELS};
    use crate::data::sampler::Sampling;
    use crate::transforms::{AugmentConfig, THETA};
    use tch::Device;

    /// Black images, image n of class n modulo 7.
    fn images(count: usize) -> DeviceImages {
        let labels = (0..count).map(|row| (row % 7) as u8).collect();
        let pixels = vec![0; count * PIXELS];
        let images = Images {
            pixels: pixels.into(),
            labels: Some(labels),
            rows: (0..count as u32).collect(),
            ..Images::default()
        };
        DeviceImages::new(&images, Device::Cpu).unwrap()
    }

    /// The schedule of `epoch`, with the step number as learning rate.
    fn schedule(sampler: &Sampler, epoch: u32, batch: usize, augment: &Augment) -> EpochSchedule {
        let steps = EpochPlan::new(sampler.count(), batch).steps();
        let scalars = (0..steps).map(|step| StepScalars::on_host(step as f64, step + 1, 0.5)).collect();
        EpochSchedule::new(1, epoch, sampler, batch, augment, scalars, &images(sampler.count())).unwrap()
    }

    fn host(step: i64) -> StepPosition<'static> {
        StepPosition::Host(step)
    }

    #[test]
    fn an_epoch_has_every_image_once_and_keeps_the_last_batch() {
        let augment = Augment::new(&AugmentConfig::default(), 1, 50);
        let all = schedule(&Sampler::Shuffle(150), 0, 64, &augment);
        let plan = all.plan();
        assert_eq!(plan.steps(), 3);
        let mut seen: Vec<i64> = Vec::new();
        for step in 0..3 {
            let batch = all.batch(step, host(0)).unwrap();
            assert_eq!(batch.params.thetas.unwrap().size(), [plan.images(step), 2, 3]);
            assert!(batch.params.jitter.is_none() && batch.params.rectangles.is_none() && batch.mix.is_none());
            seen.extend(Vec::<i64>::try_from(batch.rows).unwrap());
        }
        assert_eq!((plan.images(2), plan.images_before(2), plan.images_before(9)), (22, 128, 150));
        assert!(all.scalars(3, host(3)).is_err(), "the epoch has three steps");
        assert_ne!(seen, (0..150).collect::<Vec<_>>(), "rows are shuffled");
        seen.sort_unstable();
        assert_eq!(seen, (0..150).collect::<Vec<_>>());
        let next = schedule(&Sampler::Shuffle(150), 1, 64, &augment);
        let rows = |schedule: &EpochSchedule| schedule.batch(0, host(0)).unwrap().rows;
        assert!(!rows(&next).equal(&rows(&all)), "each epoch has its own order");
        let mut all = all;
        let memory = all.order.data_ptr();
        let expected = rows(&next).copy();
        all.overwrite(next).unwrap();
        assert!(rows(&all).equal(&expected) && all.order.data_ptr() == memory, "the same memory");
    }

    #[test]
    fn a_batch_has_the_parameters_of_its_images_and_its_step() {
        let config = AugmentConfig { random_erasing: 1.0, brightness: 0.5, cutmix: 1.0, ..AugmentConfig::default() };
        let augment = Augment::new(&config, 1, 50);
        let all = schedule(&Sampler::Shuffle(150), 4, 64, &augment);
        for step in 0..3 {
            let batch = all.batch(step, host(0)).unwrap();
            let rows: Vec<i64> = Vec::try_from(&batch.rows).unwrap();
            let numbers = |tensor: Option<Tensor>| Vec::<f32>::try_from(tensor.unwrap().flatten(0, -1)).unwrap();
            assert_eq!(numbers(batch.params.thetas), augment.sample_thetas(4, &rows));
            assert_eq!(numbers(batch.params.jitter), augment.sample_jitter(4, &rows));
            assert_eq!(numbers(batch.params.rectangles), augment.sample_rectangles(4, &rows));
            let Some(BatchMix::Host(mix)) = batch.mix else { panic!("{:?}", batch.mix) };
            assert_eq!(Some(mix), augment.sample_mix(4, step));
            let cursor = Tensor::from_slice(&[step as i64]);
            let position = StepPosition::Device(&cursor);
            assert!(all.batch(step, position).unwrap().rows.equal(&batch.rows), "step {step} on the device");
            assert_eq!(all.scalars(step, position).unwrap().number, step + 1);
            let labels: Vec<i64> = Vec::try_from(&batch.labels).unwrap();
            assert!(labels.iter().zip(&rows).all(|(label, row)| *label == row % 7));
        }
    }

    #[test]
    fn a_repeated_image_gets_other_parameters() {
        let augment = Augment::new(&AugmentConfig::default(), 1, 50);
        let sampler = Sampler::new(Sampling::Balanced, &[0, 1, 1, 1, 1, 1, 1, 1]);
        let ScheduledBatch { rows, params, .. } = schedule(&sampler, 0, 8, &augment).batch(0, host(0)).unwrap();
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
