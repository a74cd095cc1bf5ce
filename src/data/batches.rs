//! Faces on the training device: all of them as bytes, a batch picked there by index.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::faces::Faces;
use crate::config::SIDE;

/// Faces and labels of one part, on the device for the whole run (FER2013 is 83 MB as bytes).
#[derive(Debug)]
pub struct DeviceFaces {
    /// uint8 [N, 1, 48, 48]
    pixels: Tensor,
    /// int64 `[N]`
    labels: Tensor,
}

impl DeviceFaces {
    /// Copies faces to `device`. Unlabelled faces get label 0, which only training and loss look at.
    ///
    /// # Errors
    /// libtorch's, such as a device that has too little memory.
    pub fn new(faces: &Faces, device: Device) -> Result<Self> {
        let side = SIDE as i64;
        let count = faces.len() as i64;
        let pixels = Tensor::f_from_slice(&faces.pixels)?.f_view([count, 1, side, side])?.f_to_device(device)?;
        let labels = match &faces.labels {
            Some(labels) => Tensor::f_from_slice(&labels.iter().map(|label| i64::from(*label)).collect::<Vec<_>>())?,
            None => Tensor::f_zeros([count], (Kind::Int64, Device::Cpu))?,
        };
        Ok(Self { pixels, labels: labels.f_to_device(device)? })
    }

    /// Number of faces.
    pub fn len(&self) -> i64 {
        self.pixels.size().first().copied().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where they are.
    pub fn device(&self) -> Device {
        self.pixels.device()
    }

    /// All of them, uint8 [N, 1, 48, 48].
    pub fn pixels(&self) -> &Tensor {
        &self.pixels
    }

    /// The faces at `index` (int64 `[B]`, on the device): uint8 [B, 1, 48, 48].
    ///
    /// # Errors
    /// libtorch's.
    pub fn pick(&self, index: &Tensor) -> Result<Tensor> {
        Ok(self.pixels.f_index_select(0, index)?)
    }

    /// The labels at `index` (int64 `[B]`, on the device): int64 `[B]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn labels(&self, index: &Tensor) -> Result<Tensor> {
        Ok(self.labels.f_index_select(0, index)?)
    }

    /// The faces from `start`, at most `count` of them, without a copy: uint8 [B, 1, 48, 48].
    ///
    /// # Errors
    /// libtorch's.
    pub fn slice(&self, start: i64, count: i64) -> Result<Tensor> {
        Ok(self.pixels.f_narrow(0, start, count.min(self.len() - start))?)
    }
}

/// uint8 faces as float32 in 0..1.
///
/// # Errors
/// libtorch's.
pub fn to_unit(pixels: &Tensor) -> Result<Tensor> {
    // In place on the fresh float tensor: one pass less over memory.
    Ok(pixels.f_to_dtype(Kind::Float, false, false)?.f_mul_scalar_(1.0 / 255.0)?)
}
