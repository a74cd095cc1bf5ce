//! Gray images as the input of networks that were trained on color images.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::layers::cast_like;

/// Mean of ImageNet's pixels in 0..1: red, green, blue (torchvision's `Normalize` of its weights).
pub const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// Their standard deviation.
pub const IMAGENET_DEVIATION: [f64; 3] = [0.229, 0.224, 0.225];

/// `model.input`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// One channel of pixels in 0..1.
    #[default]
    Gray,
    /// Three equal channels, normalized with the mean and the standard deviation of ImageNet: what
    /// torchvision's networks see of a gray image.
    Imagenet,
}

impl InputKind {
    /// Channels of the stem's input.
    pub fn channels(self) -> i64 {
        match self {
            Self::Gray => 1,
            Self::Imagenet => 3,
        }
    }
}

/// Whether `tensor` is a constant of [`ColorInput`], which other programs' files do not have.
pub fn is_constant(tensor: &str) -> bool {
    tensor.starts_with("stem.input.")
}

/// Converts gray images to normalized color channels: `scale * x + shift`.
///
/// The constants are buffers of the network, so that a checkpoint and an exported model have them.
#[derive(Debug)]
pub struct ColorInput {
    scale: Tensor,
    shift: Tensor,
}

impl ColorInput {
    /// Creates the buffers `scale` and `shift` [3, 1, 1] under `path`: 1 / deviation and -mean /
    /// deviation of each color of ImageNet.
    pub fn imagenet(path: &nn::Path) -> Result<Self> {
        let colors = || IMAGENET_MEAN.into_iter().zip(IMAGENET_DEVIATION);
        let buffer = |name: &str, values: Vec<f32>| -> Result<Tensor> {
            Ok(path.add(name, Tensor::f_from_slice(&values)?.f_view([3, 1, 1])?, false))
        };
        Ok(Self {
            scale: buffer("scale", colors().map(|(_, deviation)| (1.0 / deviation) as f32).collect())?,
            shift: buffer("shift", colors().map(|(mean, deviation)| (-mean / deviation) as f32).collect())?,
        })
    }

    /// [N, 1, H, W] in 0..1 -> [N, 3, H, W] in the same dtype
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        Ok(images.f_mul(&cast_like(&self.scale, images)?)?.f_add(&cast_like(&self.shift, images)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_gray_image_becomes_three_normalized_channels() {
        let store = nn::VarStore::new(Device::Cpu);
        let input = ColorInput::imagenet(&store.root()).unwrap();
        let images = Tensor::from_slice(&[0.0f32, 0.5, 1.0, 0.25]).view([1, 1, 2, 2]);
        let colors = input.forward(&images).unwrap();
        assert_eq!((colors.size(), colors.kind()), (vec![1, 3, 2, 2], Kind::Float));
        for (channel, (mean, deviation)) in (0i64..).zip(IMAGENET_MEAN.into_iter().zip(IMAGENET_DEVIATION)) {
            let expected = (images.select(1, 0) - mean) / deviation;
            assert!((colors.select(1, channel) - expected).abs().max().double_value(&[]) < 1e-6);
        }
        assert!(store.trainable_variables().is_empty());
    }
}
