//! Sampled transform parameters of the images of an epoch, as tensors on the training device.

use std::collections::HashMap;

use anyhow::Result;
use tch::{Device, Tensor};

use super::warp::base_grid;
use super::{Augment, COLOR_JITTER, RECTANGLE, THETA};

/// Parameters of N images, one row each; `None` for a transform that is off.
#[derive(Debug)]
pub struct AugmentParams {
    /// float32 [N, 2, 3]: affine transforms, see [`Affine::theta`](super::Affine::theta).
    pub thetas: Option<Tensor>,
    /// float32 [48 * 48, 3]: the identity grid that `thetas` transform, on a GPU.
    pub grid: Option<Tensor>,
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
        let samples = [
            if augment.has_affine() { augment.sample_thetas(epoch, rows) } else { Vec::new() },
            if augment.has_color_jitter() { augment.sample_jitter(epoch, rows) } else { Vec::new() },
            if augment.has_random_erasing() { augment.sample_rectangles(epoch, rows) } else { Vec::new() },
        ];
        // One copy for all, because each waits for the device.
        let all = Tensor::f_from_slice(&samples.concat())?.f_to_device(device)?;
        let mut start = 0;
        let mut next = |size: &[i64], values: &[f32]| -> Result<Option<Tensor>> {
            let (from, length) = (start, values.len() as i64);
            start += length;
            let part = || Ok(all.f_narrow(0, from, length)?.f_view(size)?);
            (length > 0).then(part).transpose()
        };
        let [thetas, jitter, rectangles] = &samples;
        let thetas = next(&[-1, 2, THETA as i64 / 2], thetas)?;
        let grid = if thetas.is_some() && device != Device::Cpu { Some(base_grid(device)?) } else { None };
        Ok(Self {
            thetas,
            grid,
            jitter: next(&[-1, COLOR_JITTER as i64], jitter)?,
            rectangles: next(&[-1, RECTANGLE as i64], rectangles)?,
        })
    }

    /// Each tensor with one row per image.
    pub fn rows(&self) -> impl Iterator<Item = &Tensor> {
        [&self.thetas, &self.jitter, &self.rectangles].into_iter().flatten()
    }

    /// The parameters with `f` applied to each tensor with one row per image.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn map_rows(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let map = |tensor: &Option<Tensor>| tensor.as_ref().map(&f).transpose();
        let grid = self.grid.as_ref().map(Tensor::shallow_clone);
        Ok(Self { thetas: map(&self.thetas)?, grid, jitter: map(&self.jitter)?, rectangles: map(&self.rectangles)? })
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
