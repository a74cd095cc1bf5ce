//! Images for the training device: the whole dataset as uint8 on it, gathered into batches by index,
//! or streamed from the host.

use anyhow::{Result, bail};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};
use torch_ext::tensor_slice;

use super::image_stream::read_rows;
use super::images::{Images, PIXELS, SIDE};
use super::pixel_store::Pixels;
use super::soft_labels::SoftLabels;
use crate::device;

/// Images that a thread copies at a time.
const BLOCK: usize = 1024;

/// `data.resident`: where the pixels are during training and inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resident {
    /// On the device, unless they take more than half of a GPU's memory, or are in a packed file and
    /// the device is the CPU.
    #[default]
    Auto,
    /// On the device, copied at the start.
    Device,
    /// On the host, in memory or in a packed file: a thread reads each batch before it is needed.
    Host,
}

impl Resident {
    /// Whether it is the default.
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }

    /// Whether `pixels` stay on the host.
    fn is_host(self, pixels: &Pixels, device: Device) -> bool {
        let bytes = (pixels.len() * PIXELS) as u64;
        match (self, device) {
            (Self::Device, _) => false,
            (Self::Host, _) => true,
            // Copied, they would no longer be memory that the system can reclaim.
            (Self::Auto, Device::Cpu) => pixels.is_in_file(),
            (Self::Auto, Device::Cuda(index)) => device::cuda_memory(index).is_some_and(|memory| bytes > memory / 2),
            (Self::Auto, _) => false,
        }
    }
}

/// Where the pixels are.
#[derive(Debug)]
enum Place {
    /// uint8 [N, 1, 48, 48] on the device.
    Device(Tensor),
    Host(Pixels),
}

/// Images and labels for a device. Labels are on it for the whole run, and usually pixels, too (of
/// FER2013, 83 MB).
#[derive(Debug)]
pub struct DeviceImages {
    pixels: Place,
    /// int64 `[N]`
    labels: Tensor,
    /// float32 [N, classes]: training targets that replace the labels.
    soft: Option<Tensor>,
    /// float32 [N, classes]: the labels as one-hot rows, if prepared.
    one_hot: Option<Tensor>,
}

impl DeviceImages {
    /// Copies images to `device`, or leaves their pixels on the host, as `resident` says.
    ///
    /// # Errors
    /// If the device is out of memory, or an image in a file cannot be read.
    pub fn place(images: &Images, device: Device, resident: Resident) -> Result<Self> {
        if !resident.is_host(&images.pixels, device) {
            return Self::new(images, device);
        }
        let labels = labels_of(images)?.f_to_device(device)?;
        Ok(Self { pixels: Place::Host(images.pixels.clone()), labels, soft: None, one_hot: None })
    }

    /// Images of a batch that were read on the host, uint8 [B, 1, 48, 48], copied to `device` without
    /// waiting for it, and their rows in these, int64 `[B]`. They have no labels.
    pub fn staged(pixels: &Tensor, device: Device) -> Result<(Self, Tensor)> {
        let count = pixels.size().first().copied().unwrap_or(0);
        let pixels = pixels.f_to_device_(device, Kind::Uint8, true, false)?;
        let labels = Tensor::f_zeros([0], (Kind::Int64, device))?;
        let rows = Tensor::f_arange(count, (Kind::Int64, device))?;
        Ok((Self { pixels: Place::Device(pixels), labels, soft: None, one_hot: None }, rows))
    }

    /// Copies images to `device`. Unlabeled images get label 0, which inference does not read.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(images: &Images, device: Device) -> Result<Self> {
        let count = images.len() as i64;
        let pixels = load(&images.pixels)?.f_view([count, 1, SIDE as i64, SIDE as i64])?.f_to_device(device)?;
        let labels = labels_of(images)?.f_to_device(device)?;
        Ok(Self { pixels: Place::Device(pixels), labels, soft: None, one_hot: None })
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
        match &self.pixels {
            Place::Device(pixels) => pixels.size().first().copied().unwrap_or(0),
            Place::Host(pixels) => pixels.len() as i64,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device of the tensors.
    pub fn device(&self) -> Device {
        self.labels.device()
    }

    /// All images on the device, uint8 [N, 1, 48, 48].
    ///
    /// # Errors
    /// If they are on the host.
    pub fn pixels(&self) -> Result<&Tensor> {
        match &self.pixels {
            Place::Device(pixels) => Ok(pixels),
            Place::Host(_) => bail!("the images are on the host"),
        }
    }

    /// The images on the host, if that is where they are.
    pub fn on_host(&self) -> Option<&Pixels> {
        match &self.pixels {
            Place::Device(_) => None,
            Place::Host(pixels) => Some(pixels),
        }
    }

    /// The images at `index` (int64 `[B]`, on the device): uint8 [B, 1, 48, 48].
    pub fn gather(&self, index: &Tensor) -> Result<Tensor> {
        Ok(self.pixels()?.f_index_select(0, index)?)
    }

    /// Of images on the host, those at `index` (int64 `[B]`), as [`staged`](Self::staged).
    pub fn stage(&self, index: &Tensor) -> Result<Option<(Self, Tensor)>> {
        let Some(pixels) = self.on_host() else { return Ok(None) };
        let rows: Vec<i64> = Vec::try_from(index.f_to_device(Device::Cpu)?)?;
        Self::staged(&read_rows(pixels, &rows, self.device())?, self.device()).map(Some)
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

    /// At most `count` images from `start`, a view if they are on the device: uint8 [B, 1, 48, 48].
    pub fn slice(&self, start: i64, count: i64) -> Result<Tensor> {
        let count = count.min(self.len() - start);
        match &self.pixels {
            Place::Device(pixels) => Ok(pixels.f_narrow(0, start, count)?),
            Place::Host(pixels) => {
                let rows: Vec<i64> = (start..start + count).collect();
                Ok(read_rows(pixels, &rows, self.device())?.f_to_device(self.device())?)
            }
        }
    }
}

/// int64 `[N]` on the CPU: the labels, or zeros.
fn labels_of(images: &Images) -> Result<Tensor> {
    match &images.labels {
        Some(labels) => Ok(Tensor::f_from_slice(labels)?.f_to_dtype(Kind::Int64, false, false)?),
        None => Ok(Tensor::f_zeros([images.len() as i64], (Kind::Int64, Device::Cpu))?),
    }
}

/// Copies pixels to a tensor on the CPU: uint8 [N * 2304].
fn load(pixels: &Pixels) -> Result<Tensor> {
    let mut tensor = Tensor::f_empty([(pixels.len() * PIXELS) as i64], (Kind::Uint8, Device::Cpu))?;
    let blocks = tensor_slice::slice_mut::<u8>(&mut tensor)?.par_chunks_mut(BLOCK * PIXELS);
    blocks.enumerate().try_for_each(|(block, out)| {
        let start = block * BLOCK;
        pixels.copy(start..start + out.len() / PIXELS, out)
    })?;
    Ok(tensor)
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

    #[test]
    fn soft_targets_interpolate_between_soft_labels_and_labels() {
        let images = Images {
            pixels: vec![0; 2 * PIXELS].into(),
            rows: vec![0, 1],
            labels: Some(vec![2, 0]),
            ..Images::default()
        };
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

    #[test]
    fn images_on_the_host_are_those_on_the_device() {
        let pixels: Vec<u8> = (0..7).flat_map(crate::testing::golden_image).collect();
        let images = Images {
            pixels: pixels.into(),
            rows: (0..7).collect(),
            labels: Some((0..7).collect()),
            ..Images::default()
        };
        let on_device = DeviceImages::place(&images, Device::Cpu, Resident::Auto).unwrap();
        let on_host = DeviceImages::place(&images, Device::Cpu, Resident::Host).unwrap();
        assert!(on_device.on_host().is_none() && on_host.on_host().is_some() && on_host.pixels().is_err());
        assert_eq!((on_host.len(), on_host.class_counts(7).unwrap()), (7, vec![1; 7]));
        for (start, count) in [(0, 7), (2, 3), (5, 9)] {
            assert!(on_device.slice(start, count).unwrap().equal(&on_host.slice(start, count).unwrap()));
        }
        let index = Tensor::from_slice(&[6i64, 0, 0, 5]);
        let (staged, rows) = on_host.stage(&index).unwrap().unwrap();
        assert!(staged.gather(&rows).unwrap().equal(&on_device.gather(&index).unwrap()));
        assert!(on_device.stage(&index).unwrap().is_none());
    }
}
