//! What an epoch will do, settled before it begins: the order of rows and the map of every face.

use anyhow::Result;
use tch::{Device, Tensor};

use crate::augment::{Augment, THETA};
use crate::rng::{Rng, Stream};

/// Order and maps of one epoch, on the training device.
#[derive(Debug)]
pub struct EpochPlan {
    /// int64 `[N]`: positions among the training faces.
    order: Tensor,
    /// float32 [N, 2, 3] in the same order; `None` when nothing is augmented.
    thetas: Option<Tensor>,
    batch: i64,
    count: i64,
}

impl EpochPlan {
    /// The plan of `epoch` (from 0) over `count` faces: a function of the seed, the epoch and the config alone.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(seed: u64, epoch: u32, count: usize, batch: usize, augment: &Augment, device: Device) -> Result<Self> {
        let epoch = u64::from(epoch);
        let order = Rng::new(&[Stream::Shuffle as u64, seed, epoch]).permutation(count);
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
            count: count as i64,
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
    use crate::config::AugmentConfig;

    #[test]
    fn every_face_once_an_epoch_and_the_last_batch_is_kept() {
        let augment = Augment::new(&AugmentConfig::default(), 1);
        let plan = EpochPlan::new(1, 0, 150, 64, &augment, Device::Cpu).unwrap();
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
        let next = EpochPlan::new(1, 1, 150, 64, &augment, Device::Cpu).unwrap();
        assert!(!next.batch(0).unwrap().0.equal(&plan.batch(0).unwrap().0), "each epoch has an order of its own");
    }
}
