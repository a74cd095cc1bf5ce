//! What was drawn for the images of an epoch, as tensors on the training device.

use std::collections::HashMap;

use anyhow::Result;
use tch::{Device, Tensor};

use super::{Augment, COLOR_JITTER, RECTANGLE, THETA};

/// What was drawn for N images, a row for each. `None`: nothing of the kind is on.
#[derive(Debug)]
pub struct AugmentParams {
    /// float32 [N, 2, 3]: maps, see [`Affine::theta`](super::Affine::theta).
    pub thetas: Option<Tensor>,
    /// float32 [N, 3]: brightness factor, contrast factor, gamma exponent.
    pub jitter: Option<Tensor>,
    /// float32 [N, 5]: what is erased, as first row, row after the last, first column, column after the last, gray level.
    pub rectangles: Option<Tensor>,
}

impl AugmentParams {
    /// What `augment` makes of the images `rows` in `epoch`, copied to `device`.
    ///
    /// # Errors
    /// libtorch's, such as a device that has too little memory.
    pub fn new(augment: &Augment, epoch: u64, rows: &[i64], device: Device) -> Result<Self> {
        let tensor = |on: bool, draw: &dyn Fn() -> Vec<f32>, size: &[i64]| -> Result<Option<Tensor>> {
            let made = || Ok(Tensor::f_from_slice(&draw())?.f_view(size)?.f_to_device(device)?);
            on.then(made).transpose()
        };
        Ok(Self {
            thetas: tensor(augment.moves_pixels(), &|| augment.thetas(epoch, rows), &[-1, 2, THETA as i64 / 2])?,
            jitter: tensor(augment.changes_color(), &|| augment.jitter(epoch, rows), &[-1, COLOR_JITTER as i64])?,
            rectangles: tensor(augment.erases(), &|| augment.rectangles(epoch, rows), &[-1, RECTANGLE as i64])?,
        })
    }

    /// The rows from `start`, `count` of them, without a copy.
    ///
    /// # Errors
    /// libtorch's, for rows that are not there.
    pub fn narrow(&self, start: i64, count: i64) -> Result<Self> {
        let cut = |tensor: &Option<Tensor>| tensor.as_ref().map(|all| all.f_narrow(0, start, count)).transpose();
        Ok(Self { thetas: cut(&self.thetas)?, jitter: cut(&self.jitter)?, rectangles: cut(&self.rectangles)? })
    }
}

/// For each of `rows` how often it stands before, from 0.
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
    fn each_is_counted_by_itself() {
        assert_eq!(occurrences(&[4, 2, 4, 4, 0, 2]), [0, 0, 1, 2, 0, 1]);
        assert!(occurrences(&[]).is_empty());
    }
}
