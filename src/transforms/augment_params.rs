//! Sampled transform parameters of the images of an epoch, as tensors on the training device.

use std::collections::HashMap;

use anyhow::Result;
use tch::{Device, Tensor};

use super::{Augment, COLOR_JITTER, RECTANGLE, THETA};

/// Parameters of N images, one row each; `None` for a transform that is off.
#[derive(Debug)]
pub struct AugmentParams {
    /// float32 [N, 2, 3]: affine transforms, see [`Affine::theta`](super::Affine::theta).
    pub thetas: Option<Tensor>,
    /// float32 [N, 3]: brightness factor, contrast factor, gamma.
    pub jitter: Option<Tensor>,
    /// float32 [N, 5]: rectangles to erase, as top, bottom, left, right, gray level; bottom and
    /// right are exclusive.
    pub rectangles: Option<Tensor>,
}

impl AugmentParams {
    /// Samples the parameters of the images `rows` in `epoch` and copies them to `device`.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(augment: &Augment, epoch: u64, rows: &[i64], device: Device) -> Result<Self> {
        let tensor = |enabled: bool, sample: &dyn Fn() -> Vec<f32>, size: &[i64]| -> Result<Option<Tensor>> {
            let to_device = || Ok(Tensor::f_from_slice(&sample())?.f_view(size)?.f_to_device(device)?);
            enabled.then(to_device).transpose()
        };
        let (thetas, jitter, rectangles) = (
            || augment.sample_thetas(epoch, rows),
            || augment.sample_jitter(epoch, rows),
            || augment.sample_rectangles(epoch, rows),
        );
        Ok(Self {
            thetas: tensor(augment.has_affine(), &thetas, &[-1, 2, THETA as i64 / 2])?,
            jitter: tensor(augment.has_color_jitter(), &jitter, &[-1, COLOR_JITTER as i64])?,
            rectangles: tensor(augment.has_random_erasing(), &rectangles, &[-1, RECTANGLE as i64])?,
        })
    }

    /// A view of `count` rows from `start`.
    pub fn narrow(&self, start: i64, count: i64) -> Result<Self> {
        let narrow = |tensor: &Option<Tensor>| tensor.as_ref().map(|all| all.f_narrow(0, start, count)).transpose();
        let (thetas, jitter) = (narrow(&self.thetas)?, narrow(&self.jitter)?);
        Ok(Self { thetas, jitter, rectangles: narrow(&self.rectangles)? })
    }
}

/// For each of `rows`: the number of equal rows before it.
pub fn occurrences(rows: &[i64]) -> Vec<u64> {
    let mut seen: HashMap<i64, u64> = HashMap::with_capacity(rows.len());
    rows.iter()
        .map(|row| {
            let count = seen.entry(*row).or_default();
            *count += 1;
            *count - 1
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occurrences_count_earlier_equal_rows() {
        assert_eq!(occurrences(&[4, 2, 4, 4, 0, 2]), [0, 0, 1, 2, 0, 1]);
        assert!(occurrences(&[]).is_empty());
    }
}
