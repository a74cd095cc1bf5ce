//! Progressive resizing: how large images are in which epoch.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::data::images::SIDE;
use crate::util::validate::require;

/// `train.progressive`: images are made `from` x `from` pixels at first, and larger from epoch to epoch, until from the share
/// `until` of all epochs on they have their 48x48: the first epochs, which learn what is coarse, cost less (Howard et al. 2018
/// in DAWNBench; Tan and Le 2021, EfficientNetV2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProgressiveConfig {
    /// Edge of an image in the first epoch, in pixels: a multiple of 4, 16 to 48; 48 is off.
    pub from: usize,
    /// Share of the epochs after which images have their full size: 0 to 1.
    pub until: f64,
}

impl Default for ProgressiveConfig {
    fn default() -> Self {
        Self { from: SIDE, until: 0.5 }
    }
}

impl ProgressiveConfig {
    /// Whether any epoch has smaller pictures.
    pub fn is_on(&self) -> bool {
        self.from < SIDE && self.until > 0.0
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let fits = (16..=SIDE).contains(&self.from) && self.from.is_multiple_of(4);
        require(fits, "train.progressive.from", self.from, "a multiple of 4, 16 to 48 (off)")?;
        require((0.0..=1.0).contains(&self.until), "train.progressive.until", self.until, "0 to 1")
    }
}

/// Sizes are multiples of this, so that pooling loses few pixels.
const STEP: usize = 4;

/// The edge of images in `epoch` (from 0) of `epochs`, in pixels: grows linearly, in steps of 4.
pub fn side(config: &ProgressiveConfig, epoch: u32, epochs: u32) -> usize {
    let growing = config.until * f64::from(epochs);
    if !config.is_on() || f64::from(epoch) >= growing {
        return SIDE;
    }
    let share = f64::from(epoch) / growing;
    let steps = ((SIDE - config.from) / STEP) as f64;
    config.from + STEP * (share * steps) as usize
}

/// [B, 1, 48, 48] -> [B, 1, side, side]: bilinear over all pixels that fall together (`torch.nn.functional.interpolate` with
/// `antialias=True`).
///
/// # Errors
/// libtorch's.
pub fn resize(images: Tensor, side: usize) -> Result<Tensor> {
    if side == SIDE {
        return Ok(images);
    }
    let (kind, side) = (images.f_kind()?, side as i64);
    let exact = images.f_to_dtype(Kind::Float, false, false)?;
    Ok(exact.f_internal_upsample_bilinear2d_aa([side, side], false, None, None)?.f_to_dtype(kind, false, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn images_grow_to_their_size_and_keep_it() {
        let config = ProgressiveConfig { from: 32, until: 0.5 };
        let sides: Vec<usize> = (0..20).map(|epoch| side(&config, epoch, 20)).collect();
        assert_eq!(sides[..10], [32, 32, 32, 36, 36, 40, 40, 40, 44, 44]);
        assert!(sides[10..].iter().all(|side| *side == 48));
        assert_eq!(side(&ProgressiveConfig::default(), 0, 20), 48, "off by default");
        assert_eq!(side(&ProgressiveConfig { from: 32, until: 0.0 }, 0, 20), 48);
    }

    #[test]
    fn smaller_images_are_means_of_the_pixels() {
        let rows = Tensor::arange(48, (Kind::Float, Device::Cpu)).view([1, 1, 48, 1]).expand([2, 1, 48, 48], false);
        let small = resize(rows.contiguous(), 24).unwrap();
        assert_eq!(small.size(), [2, 1, 24, 24]);
        // The center of output row r lies at 2 r + 0.5 of the input's; a ramp keeps its values but at the edges.
        let wanted = Tensor::arange(24, (Kind::Float, Device::Cpu)) * 2.0 + 0.5;
        let found = small.select(0, 1).select(0, 0).select(1, 5);
        assert!((found - wanted).narrow(0, 1, 22).abs().max().double_value(&[]) < 1e-4);
        let same = Tensor::ones([1, 1, 48, 48], (Kind::BFloat16, Device::Cpu));
        assert_eq!(
            resize(same.shallow_clone(), 48).unwrap().data_ptr(),
            same.data_ptr(),
            "the full size is left alone"
        );
        assert_eq!(resize(same, 32).unwrap().kind(), Kind::BFloat16);
    }
}
