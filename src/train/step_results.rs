//! What the steps of an epoch leave on the device until it is read back.

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::epoch_schedule::{EpochPlan, EpochSchedule};
use super::step_position::StepPosition;

/// Losses, gradients and predictions of the steps of an epoch, in memory that stays the same.
#[derive(Debug)]
pub struct StepResults {
    plan: EpochPlan,
    /// float32 `[steps]`: loss of each step.
    losses: Tensor,
    /// float32 `[steps]`: 0 for each step whose gradients are all finite.
    gradient_marks: Tensor,
    /// float32 `[1]`: the mark of a step whose position is on the device.
    mark: Tensor,
    /// float32 [N, classes]: outputs of the network in the order of the epoch.
    logits: Tensor,
    /// int64 `[N]`: the classes that count as correct, if images are mixed.
    labels: Tensor,
    /// float32 `[steps]`: correct predictions of each step, in a group of processes. Then there are no
    /// logits.
    correct: Option<Tensor>,
}

/// What is read back of some steps.
#[derive(Debug, PartialEq)]
pub struct Collected {
    /// Loss of each step.
    pub losses: Vec<f32>,
    /// 0 for each step whose gradients are all finite.
    pub gradient_marks: Vec<f32>,
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
            gradient_marks: losses.f_zeros_like()?,
            mark: Tensor::f_zeros([1], (Kind::Float, device))?,
            losses,
            logits: Tensor::f_zeros([plan.count(), classes as i64], (Kind::Float, device))?,
            labels: Tensor::f_zeros([plan.count()], (Kind::Int64, device))?,
            correct: None,
        })
    }

    /// Holds sums over a group of processes, see [`put_sums`](Self::put_sums).
    pub fn use_sums(&mut self) -> Result<()> {
        self.correct = Some(self.losses.f_zeros_like()?);
        self.logits = Tensor::f_zeros([0], (Kind::Float, self.losses.device()))?;
        Ok(())
    }

    /// Stores the loss and the number of correct predictions of all processes in `step`, float32
    /// scalars. The mark of the step has been written.
    pub fn put_sums(&self, step: i64, loss: &Tensor, correct: &Tensor) -> Result<()> {
        self.losses.f_select(0, step)?.f_copy_(loss)?;
        let all = self.correct.as_ref().context("the results are not sums")?;
        Ok(all.f_select(0, step)?.f_copy_(correct)?)
    }

    /// Clears the marks of all steps.
    pub fn begin_epoch(&mut self) -> Result<()> {
        let _ = self.gradient_marks.f_zero_()?;
        Ok(())
    }

    /// Where the step marks gradients that are not finite: float32 `[1]` with value 0. For
    /// [`put`](Self::put).
    pub fn mark(&self, position: StepPosition<'_>) -> Result<Tensor> {
        Ok(match position {
            StepPosition::Host(step) => self.gradient_marks.f_narrow(0, step, 1)?,
            StepPosition::Device(_) => self.mark.shallow_clone().f_zero_()?,
        })
    }

    /// Stores the results of `step`: loss, a float32 scalar; logits, float32 [B, classes]; labels,
    /// int64 `[B]`, of mixed images. The mark of the step has been written.
    pub fn put(
        &self,
        step: u64,
        position: StepPosition<'_>,
        loss: &Tensor,
        logits: &Tensor,
        labels: Option<&Tensor>,
    ) -> Result<()> {
        position.put(&self.losses, loss)?;
        if let StepPosition::Device(_) = position {
            position.put(&self.gradient_marks, &self.mark.f_squeeze()?)?;
        }
        self.plan.put_rows(&self.logits, step, position, logits)?;
        labels.map_or(Ok(()), |labels| self.plan.put_rows(&self.labels, step, position, labels))
    }

    /// Reads back the steps in `from..to`. Waits for the device, once.
    pub fn collect(&self, from: u64, to: u64, schedule: &EpochSchedule) -> Result<Collected> {
        let (start, end) = (self.plan.images_before(from), self.plan.images_before(to));
        let rows = |all: &Tensor| all.f_narrow(0, start, end - start);
        let (step, count) = (i64::try_from(from)?, i64::try_from(to.saturating_sub(from))?);
        let steps = |all: &Tensor| all.f_narrow(0, step, count);
        let correct = match &self.correct {
            Some(correct) => steps(correct)?.f_sum(Kind::Float)?,
            None => {
                let labels = rows(if schedule.is_mixed() { &self.labels } else { schedule.labels() })?;
                rows(&self.logits)?.f_argmax(-1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64)?
            }
        };
        // float32 holds the count exactly: an epoch has fewer than 2^24 images.
        let correct = correct.f_to_kind(Kind::Float)?.f_view([1])?;
        let all = Tensor::f_cat(&[steps(&self.losses)?, steps(&self.gradient_marks)?, correct], 0)?;
        let values: Vec<f32> = Vec::try_from(all.f_to_device(Device::Cpu)?)?;
        let count = usize::try_from(count)?;
        let part = |skip: usize| values.iter().skip(skip).take(count).copied().collect();
        let correct = values.last().map_or(0, |count| *count as i64);
        Ok(Collected { losses: part(0), gradient_marks: part(count), correct })
    }

    /// All tensors.
    pub fn tensors(&self) -> [&Tensor; 4] {
        [&self.losses, &self.gradient_marks, &self.logits, &self.labels]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::device_images::DeviceImages;
    use crate::data::images::{Images, PIXELS};
    use crate::data::sampler::Sampler;
    use crate::optim::step_scalars::StepScalars;
    use crate::transforms::{Augment, AugmentConfig};

    #[test]
    fn results_of_both_positions_are_read_back() {
        let images = Images {
            pixels: vec![0; 5 * PIXELS].into(),
            labels: Some(vec![1; 5]),
            rows: (0..5).collect(),
            ..Images::default()
        };
        let images = DeviceImages::new(&images, Device::Cpu).unwrap();
        let scalars = (0..3).map(|step| StepScalars::on_host(0.1, step + 1, 0.0)).collect();
        let augment = Augment::new(&AugmentConfig::default(), 1, 50);
        let schedule = EpochSchedule::new(1, 0, &Sampler::Shuffle(5), 2, &augment, scalars, &images).unwrap();
        let mut results = StepResults::new(schedule.plan(), 2, Device::Cpu).unwrap();
        results.begin_epoch().unwrap();
        let cursor = Tensor::from_slice(&[1i64]);
        for (step, position) in [
            (0, StepPosition::Host(0)),
            (1, StepPosition::Device(&cursor)),
            (2, StepPosition::Device(&Tensor::from_slice(&[2i64]))),
        ] {
            // Of two images, the second is predicted right.
            let logits = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0]).view([2, 2]);
            let logits = logits.narrow(0, 0, schedule.plan().images(step));
            let mut mark = results.mark(position).unwrap();
            if step == 1 {
                let _ = mark.fill_(f64::NAN);
            }
            results.put(step, position, &Tensor::from(step as f32 + 0.5), &logits, None).unwrap();
        }
        let all = results.collect(0, 3, &schedule).unwrap();
        assert_eq!((all.losses, all.correct), (vec![0.5, 1.5, 2.5], 2));
        assert!(all.gradient_marks[1].is_nan() && all.gradient_marks[0] == 0.0 && all.gradient_marks[2] == 0.0);
        let part = results.collect(2, 3, &schedule).unwrap();
        assert_eq!((part.losses, part.correct), (vec![2.5], 0));
        results.begin_epoch().unwrap();
        assert_eq!(results.collect(1, 2, &schedule).unwrap().gradient_marks, [0.0]);
    }
}
