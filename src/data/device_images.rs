//! Images on the training device: the whole dataset as uint8, gathered into batches by index.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::images::{Images, SIDE};
use super::soft_labels::SoftLabels;

/// Images and labels on the device, for the whole run (FER2013 takes 83 MB).
#[derive(Debug)]
pub struct DeviceImages {
    /// uint8 [N, 1, 48, 48]
    pixels: Tensor,
    /// int64 `[N]`
    labels: Tensor,
    /// float32 [N, classes]: training targets that replace the labels.
    soft: Option<Tensor>,
    /// float32 [N, classes]: the labels as one-hot rows, if prepared.
    one_hot: Option<Tensor>,
}

impl DeviceImages {
    /// Copies images to `device`. Unlabeled images get label 0, which inference does not read.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(images: &Images, device: Device) -> Result<Self> {
        let side = SIDE as i64;
        let count = images.len() as i64;
        let pixels = Tensor::f_from_slice(&images.pixels)?.f_view([count, 1, side, side])?.f_to_device(device)?;
        let labels = match &images.labels {
            Some(labels) => Tensor::f_from_slice(&labels.iter().map(|label| i64::from(*label)).collect::<Vec<_>>())?,
            None => Tensor::f_zeros([count], (Kind::Int64, Device::Cpu))?,
        };
        Ok(Self { pixels, labels: labels.f_to_device(device)?, soft: None, one_hot: None })
    }

    /// Adds soft targets: `weight * soft + (1 - weight) * one_hot(label)`, `weight` in 0..1.
    ///
    /// # Errors
    /// If the number of soft labels differs from the number of images.
    pub fn with_soft_labels(self, soft: Option<&SoftLabels>, weight: f64) -> Result<Self> {
        let Some(soft) = soft else { return Ok(self) };
        let classes = soft.classes as i64;
        let hard = self.labels.f_one_hot(classes)?.f_to_dtype(Kind::Float, false, false)?;
        let soft = Tensor::f_from_slice(&soft.weights)?.f_view([self.len(), classes])?.f_to_device(self.device())?;
        let soft = soft.f_mul_scalar(weight)?.f_add(&hard.f_mul_scalar(1.0 - weight)?)?;
        Ok(Self { soft: Some(soft), ..self })
    }

    /// Number of images.
    pub fn len(&self) -> i64 {
        self.pixels.size().first().copied().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device of the tensors.
    pub fn device(&self) -> Device {
        self.pixels.device()
    }

    /// All images, uint8 [N, 1, 48, 48].
    pub fn pixels(&self) -> &Tensor {
        &self.pixels
    }

    /// The images at `index` (int64 `[B]`, on the device): uint8 [B, 1, 48, 48].
    pub fn gather(&self, index: &Tensor) -> Result<Tensor> {
        Ok(self.pixels.f_index_select(0, index)?)
    }

    /// The labels at `index` (int64 `[B]`, on the device): int64 `[B]`.
    pub fn labels(&self, index: &Tensor) -> Result<Tensor> {
        Ok(self.labels.f_index_select(0, index)?)
    }

    /// The labels at `index` as one-hot rows, float32 [B, classes]; `labels` are those labels.
    pub fn one_hot(&self, index: &Tensor, labels: &Tensor, classes: usize) -> Result<Tensor> {
        match &self.one_hot {
            Some(one_hot) => Ok(one_hot.f_index_select(0, index)?),
            None => one_hot(labels, classes),
        }
    }

    /// Prepares [`one_hot`](Self::one_hot) on a GPU, where each operation of a step is a launch.
    pub fn with_one_hot(self, classes: usize) -> Result<Self> {
        if !self.device().is_cuda() {
            return Ok(self);
        }
        let rows = one_hot(&self.labels, classes)?;
        Ok(Self { one_hot: Some(rows), ..self })
    }

    /// The soft targets at `index` (int64 `[B]`, on the device), if any: float32 [B, classes].
    pub fn soft_targets(&self, index: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.soft.as_ref().map(|soft| soft.f_index_select(0, index)).transpose()?)
    }

    /// Number of images per class. Synchronizes with the device.
    pub fn class_counts(&self, classes: usize) -> Result<Vec<u64>> {
        let counts = self.labels.f_bincount(None::<&Tensor>, classes as i64)?.f_to_device(Device::Cpu)?;
        Ok(Vec::<i64>::try_from(counts)?.into_iter().map(i64::unsigned_abs).collect())
    }

    /// A view of at most `count` images from `start`: uint8 [B, 1, 48, 48].
    pub fn slice(&self, start: i64, count: i64) -> Result<Tensor> {
        Ok(self.pixels.f_narrow(0, start, count.min(self.len() - start))?)
    }
}

/// Class indices, int64 `[B]`, as one-hot rows, float32 [B, classes].
pub fn one_hot(labels: &Tensor, classes: usize) -> Result<Tensor> {
    Ok(labels.f_one_hot(classes as i64)?.f_to_dtype(Kind::Float, false, false)?)
}

/// Converts uint8 images to float32 in 0..1.
pub fn scale_to_unit(pixels: &Tensor) -> Result<Tensor> {
    if pixels.device().is_cuda() {
        // Conversion and product in one launch.
        return Ok(pixels.f_mul_scalar(1.0 / 255.0)?);
    }
    // In place on the new float tensor, which saves an allocation.
    Ok(pixels.f_to_dtype(Kind::Float, false, false)?.f_mul_scalar_(1.0 / 255.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::PIXELS;

    #[test]
    fn soft_targets_interpolate_between_soft_labels_and_labels() {
        let images =
            Images { pixels: vec![0; 2 * PIXELS], rows: vec![0, 1], labels: Some(vec![2, 0]), ..Images::default() };
        let soft = SoftLabels { weights: vec![0.25, 0.75, 0.0, 0.5, 0.25, 0.25], classes: 3 };
        let index = Tensor::from_slice(&[1i64, 0]);
        let plain = DeviceImages::new(&images, Device::Cpu).unwrap().with_soft_labels(None, 1.0).unwrap();
        assert!(plain.soft_targets(&index).unwrap().is_none());
        assert_eq!(plain.class_counts(3).unwrap(), [1, 0, 1]);
        let soft = |weight: f64| -> Vec<f32> {
            let images =
                DeviceImages::new(&images, Device::Cpu).unwrap().with_soft_labels(Some(&soft), weight).unwrap();
            Vec::try_from(images.soft_targets(&index).unwrap().unwrap().flatten(0, -1)).unwrap()
        };
        assert_eq!(soft(1.0), [0.5, 0.25, 0.25, 0.25, 0.75, 0.0]);
        assert_eq!(soft(0.0), [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(soft(0.5), [0.75, 0.125, 0.125, 0.125, 0.375, 0.5]);
        let one_row = SoftLabels { weights: vec![1.0, 0.0, 0.0], classes: 3 };
        assert!(DeviceImages::new(&images, Device::Cpu).unwrap().with_soft_labels(Some(&one_row), 1.0).is_err());
    }
}
