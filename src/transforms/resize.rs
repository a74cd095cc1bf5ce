//! Progressive resizing: training starts on smaller images, or has smaller images to the end, which
//! are resized or cropped.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::data::images::SIDE;
use crate::util::validate::{InvalidValue, require};

/// `train.progressive`: images grow from `from` x `from` to `to` x `to` pixels over the fraction `until`
/// of the epochs, which makes early epochs cheaper (Howard et al. 2018 in DAWNBench; Tan and Le
/// 2021, EfficientNetV2). Validation and inference always have 48x48 pixels; Touvron et al. 2019
/// (FixRes) train on smaller images than they test on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProgressiveConfig {
    /// Image size in the first epoch, in pixels; 48 is off. For a constant size, `to` is the same.
    #[schemars(range(min = 16, max = 48), extend("multipleOf" = 4))]
    pub from: usize,
    /// Image size in the last epoch, in pixels: `from` or more. Validation and inference have 48.
    #[schemars(range(min = 16, max = 48), extend("multipleOf" = 4))]
    pub to: usize,
    /// Fraction of the epochs after which images have their last size.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub until: f64,
    /// How images become smaller, after augmentation.
    pub method: SizeMethod,
}

/// `train.progressive.method`: how images become smaller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SizeMethod {
    /// the whole image at a smaller scale
    #[default]
    Resize,
    /// the middle of the image at its own scale; with `augment.shift`, it is a random crop
    Crop,
}

impl Default for ProgressiveConfig {
    fn default() -> Self {
        Self { from: SIDE, to: SIDE, until: 0.5, method: SizeMethod::default() }
    }
}

impl ProgressiveConfig {
    /// Whether any epoch has smaller images.
    pub fn is_on(&self) -> bool {
        self.to < SIDE || self.grows()
    }

    /// Whether the image size of an epoch depends on the number of epochs.
    pub fn grows(&self) -> bool {
        self.from < self.to && self.until > 0.0
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        let fits = (16..=SIDE).contains(&self.from) && self.from.is_multiple_of(4);
        require(fits, "train.progressive.from", self.from, "a multiple of 4, 16 to 48 (off)")?;
        let fits = (self.from..=SIDE).contains(&self.to) && self.to.is_multiple_of(4);
        let allowed = format!("a multiple of 4 from train.progressive.from, which is {}, to 48", self.from);
        require(fits, "train.progressive.to", self.to, &allowed)?;
        require((0.0..=1.0).contains(&self.until), "train.progressive.until", self.until, "0 to 1")
    }
}

/// Sizes are multiples of this, so that pooling drops few pixels.
const STEP: usize = 4;

/// Image size in pixels in `epoch` (from 0) of `epochs`: grows linearly in steps of 4.
pub fn side_at_epoch(config: &ProgressiveConfig, epoch: u32, epochs: u32) -> usize {
    let growing_epochs = config.until * f64::from(epochs);
    if f64::from(epoch) >= growing_epochs {
        return config.to;
    }
    let progress = f64::from(epoch) / growing_epochs;
    let steps = (config.to.saturating_sub(config.from) / STEP) as f64;
    config.from + STEP * (progress * steps) as usize
}

/// The size of the images of an epoch.
#[derive(Debug, Clone, Copy)]
pub struct ImageSize {
    /// Height and width in pixels, at most 48.
    pub side: usize,
    /// How they become smaller.
    pub method: SizeMethod,
}

impl ImageSize {
    /// Makes [B, 1, 48, 48] as small as [B, 1, side, side]; the dtype stays.
    pub fn apply(self, images: Tensor) -> Result<Tensor> {
        match self.method {
            SizeMethod::Resize => resize(images, self.side),
            SizeMethod::Crop => crop(images, self.side),
        }
    }
}

/// The middle of [B, 1, 48, 48]: [B, 1, side, side].
fn crop(images: Tensor, side: usize) -> Result<Tensor> {
    if side == SIDE {
        return Ok(images);
    }
    let (margin, side) = ((SIDE.saturating_sub(side) / 2) as i64, side as i64);
    Ok(images.f_narrow(2, margin, side)?.f_narrow(3, margin, side)?.f_contiguous()?)
}

/// Resizes [B, 1, 48, 48] to [B, 1, side, side] like `torch.nn.functional.interpolate` with
/// `mode="bilinear", antialias=True`, computed in float32.
fn resize(images: Tensor, side: usize) -> Result<Tensor> {
    if side == SIDE {
        return Ok(images);
    }
    let (kind, side) = (images.f_kind()?, side as i64);
    let images = images.f_to_dtype(Kind::Float, false, false)?;
    Ok(images.f_internal_upsample_bilinear2d_aa([side, side], false, None, None)?.f_to_dtype(kind, false, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn size_grows_to_full_size() {
        let config = ProgressiveConfig { from: 32, until: 0.5, ..ProgressiveConfig::default() };
        let sides: Vec<usize> = (0..20).map(|epoch| side_at_epoch(&config, epoch, 20)).collect();
        assert_eq!(sides[..10], [32, 32, 32, 36, 36, 40, 40, 40, 44, 44]);
        assert!(sides[10..].iter().all(|side| *side == 48));
        assert_eq!(side_at_epoch(&ProgressiveConfig::default(), 0, 20), 48, "off by default");
        assert_eq!(side_at_epoch(&ProgressiveConfig { until: 0.0, ..config }, 0, 20), 48);
    }

    #[test]
    fn the_last_size_may_be_smaller() {
        let config = ProgressiveConfig { from: 32, to: 40, ..ProgressiveConfig::default() };
        let sides: Vec<usize> = (0..8).map(|epoch| side_at_epoch(&config, epoch, 8)).collect();
        assert_eq!(sides, [32, 32, 36, 36, 40, 40, 40, 40]);
        let constant = ProgressiveConfig { from: 40, to: 40, ..config.clone() };
        assert!(constant.is_on() && !constant.grows() && constant.check().is_ok());
        assert!(config.grows() && !ProgressiveConfig { until: 0.0, ..config.clone() }.grows());
        assert!((0..8).all(|epoch| side_at_epoch(&constant, epoch, 8) == 40));
        for to in [28, 38, 52] {
            let problem = ProgressiveConfig { to, ..config.clone() }.check().unwrap_err();
            assert_eq!(problem.key, "train.progressive.to");
        }
    }

    #[test]
    fn a_crop_is_the_middle_at_its_own_scale() {
        let pixels = Tensor::arange(2 * 48 * 48, (Kind::Float, Device::Cpu)).view([2, 1, 48, 48]);
        let cropped = |side| ImageSize { side, method: SizeMethod::Crop }.apply(pixels.shallow_clone()).unwrap();
        let small = cropped(40);
        assert_eq!((small.size(), small.is_contiguous()), (vec![2, 1, 40, 40], true));
        let at = |image: i64, row: i64, column: i64| small.double_value(&[image, 0, row, column]);
        assert_eq!((at(0, 0, 0), at(1, 39, 5)), (4.0 * 48.0 + 4.0, f64::from(48 * 48 + 43 * 48 + 9)));
        assert_eq!(cropped(48).data_ptr(), pixels.data_ptr(), "not copied");
    }

    #[test]
    fn resize_is_antialiased() {
        let rows = Tensor::arange(48, (Kind::Float, Device::Cpu)).view([1, 1, 48, 1]).expand([2, 1, 48, 48], false);
        let small = resize(rows.contiguous(), 24).unwrap();
        assert_eq!(small.size(), [2, 1, 24, 24]);
        // The center of output row r is input row 2 r + 0.5; a ramp keeps its values except at the
        // edges.
        let expected = Tensor::arange(24, (Kind::Float, Device::Cpu)) * 2.0 + 0.5;
        let actual = small.select(0, 1).select(0, 0).select(1, 5);
        assert!((actual - expected).narrow(0, 1, 22).abs().max().double_value(&[]) < 1e-4);
        let full = Tensor::ones([1, 1, 48, 48], (Kind::BFloat16, Device::Cpu));
        assert_eq!(resize(full.shallow_clone(), 48).unwrap().data_ptr(), full.data_ptr(), "not copied");
        assert_eq!(resize(full, 32).unwrap().kind(), Kind::BFloat16);
    }
}
