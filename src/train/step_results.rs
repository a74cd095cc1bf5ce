//! What the steps of an epoch leave on the device until it is read back.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::epoch_schedule::{EpochPlan, EpochSchedule};
use super::step_position::StepPosition;
use crate::data::device_images::DeviceImages;

/// Losses, gradients and predictions of the steps of an epoch, in memory that stays the same.
#[derive(Debug)]
pub struct StepResults {
    plan: EpochPlan,
    /// float32 `[steps]`: loss of each step.
    losses: Tensor,
    /// float32 `[steps]`: sum of all gradients of each step; not finite if any gradient is not.
    gradient_sums: Tensor,
    /// float32 [N, classes]: outputs of the network in the order of the epoch.
    logits: Tensor,
    /// int64 `[N]`: the classes that count as correct, if images are mixed.
    labels: Tensor,
}

/// What is read back of some steps.
#[derive(Debug, PartialEq)]
pub struct Collected {
    /// Loss of each step.
    pub losses: Vec<f32>,
    /// Sum of all gradients of each step.
    pub gradient_sums: Vec<f32>,
    /// Correct predictions of all of them.
    pub correct: i64,
}

impl StepResults {
    /// Allocates the results of an epoch on `device`.
    ///
    /// # Errors
    /// If the device has too little memory.
    pub fn new(plan: EpochPlan, classes: usize, device: Device) -> Result<Self> {
        let steps = i64::try_from(plan.steps())?;
        let losses = Tensor::f_zeros([steps], (Kind::Float, device))?;
        Ok(Self {
            plan,
            gradient_sums: losses.f_zeros_like()?,
            losses,
            logits: Tensor::f_zeros([plan.count(), classes as i64], (Kind::Float, device))?,
            labels: Tensor::f_zeros([plan.count()], (Kind::Int64, device))?,
        })
    }

    /// Stores the results of `step`: loss and sum of gradients, float32 scalars; logits, float32
    /// [B, classes]; labels, int64 `[B]`, of mixed images.
    pub fn put(
        &self,
        step: u64,
        position: StepPosition<'_>,
        (loss, gradient_sum): (&Tensor, &Tensor),
        logits: &Tensor,
        labels: Option<&Tensor>,
    ) -> Result<()> {
        position.put(&self.losses, loss)?;
        position.put(&self.gradient_sums, gradient_sum)?;
        self.plan.put_rows(&self.logits, step, position, logits)?;
        labels.map_or(Ok(()), |labels| self.plan.put_rows(&self.labels, step, position, labels))
    }

    /// Reads back the steps in `from..to`. Waits for the device, once.
    pub fn collect(&self, from: u64, to: u64, schedule: &EpochSchedule, images: &DeviceImages) -> Result<Collected> {
        let (start, end) = (self.plan.images_before(from), self.plan.images_before(to));
        let rows = |all: &Tensor| all.f_narrow(0, start, end - start);
        let labels =
            if schedule.is_mixed() { rows(&self.labels)? } else { images.labels(&rows(schedule.order())?)? };
        let correct = rows(&self.logits)?.f_argmax(-1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64)?;
        let (step, count) = (i64::try_from(from)?, i64::try_from(to.saturating_sub(from))?);
        let steps = |all: &Tensor| all.f_narrow(0, step, count);
        // float32 holds the count exactly: an epoch has fewer than 2^24 images.
        let correct = correct.f_to_kind(Kind::Float)?.f_view([1])?;
        let all = Tensor::f_cat(&[steps(&self.losses)?, steps(&self.gradient_sums)?, correct], 0)?;
        let values: Vec<f32> = Vec::try_from(all.f_to_device(Device::Cpu)?)?;
        let count = usize::try_from(count)?;
        let part = |skip: usize| values.iter().skip(skip).take(count).copied().collect();
        let correct = values.last().map_or(0, |count| *count as i64);
        Ok(Collected { losses: part(0), gradient_sums: part(count), correct })
    }

    /// All tensors.
    pub fn tensors(&self) -> [&Tensor; 4] {
        [&self.losses, &self.gradient_sums, &self.logits, &self.labels]
    }
}
