//! Test-time augmentation (TTA): probabilities are averaged over several transforms of an image.
//!
//! Only slicing, flipping and resizing by fixed sizes, so that tracing records transforms that work
//! for any batch size and device.

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::data::images::SIDE;

/// Height and width of a crop in pixels.
const CROP: i64 = 44;

/// Dimensions of [N, 1, 48, 48].
const ROWS: i64 = 2;
const COLUMNS: i64 = 3;

/// One transform of TTA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtaTransform {
    /// Flip horizontally, before cropping.
    flip: bool,
    /// Top and left of the crop, if any.
    crop: Option<(i64, i64)>,
}

impl TtaTransform {
    /// The original image.
    pub const IDENTITY: Self = Self { flip: false, crop: None };

    /// Transforms images [N, 1, 48, 48] of any floating-point dtype. Crops are resized to 48x48, as
    /// networks have a fixed input size, like PyTorch's
    /// `interpolate(mode="bilinear", align_corners=False)`.
    pub fn apply(self, images: &Tensor) -> Result<Tensor> {
        let images = if self.flip { images.f_flip([COLUMNS])? } else { images.shallow_clone() };
        let Some((top, left)) = self.crop else { return Ok(images) };
        let crop = images.f_narrow(ROWS, top, CROP)?.f_narrow(COLUMNS, left, CROP)?;
        let side = SIDE as i64;
        Ok(crop.f_upsample_bilinear2d([side, side], false, None::<f64>, None::<f64>)?)
    }
}

/// `[predict]`: settings of `evaluate`, `predict`, `export` and a sweep's submission. Training does
/// not use them: its metrics and the choice of the best epoch are without TTA.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PredictConfig {
    /// Test-time augmentation.
    pub tta: Tta,
}

/// `predict.tta`, `--tta`: test-time augmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Tta {
    /// The original image
    #[default]
    None,
    /// The image and its horizontal flip
    Flip,
    /// Four corner crops and the center crop, 44x44 resized to 48x48, and their horizontal flips
    TenCrop,
}

impl Tta {
    /// The transforms to average over. Crops are in the order of torchvision's `ten_crop`: top
    /// left, top right, bottom left, bottom right, center; then those of the flipped image.
    pub fn transforms(self) -> Vec<TtaTransform> {
        let (far, middle) = (SIDE as i64 - CROP, (SIDE as i64 - CROP) / 2);
        let crops: &[Option<(i64, i64)>] = match self {
            Self::None | Self::Flip => &[None],
            Self::TenCrop => &[Some((0, 0)), Some((0, far)), Some((far, 0)), Some((far, far)), Some((middle, middle))],
        };
        let flips: &[bool] = if self == Self::None { &[false] } else { &[false, true] };
        flips.iter().flat_map(|&flip| crops.iter().map(move |&crop| TtaTransform { flip, crop })).collect()
    }

    /// The mode and what it averages over, for reports.
    pub fn describe(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Flip => "flip (mean over each image and its mirror image)",
            Self::TenCrop => "ten_crop (mean over five crops of each image and their mirror images)",
        }
    }
}

/// The name in configs, on the command line and in JSON.
impl fmt::Display for Tta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_image;

    fn image() -> Tensor {
        let values: Vec<f32> = golden_image(1).iter().map(|value| f32::from(*value)).collect();
        Tensor::from_slice(&values).view([1, 1, 48, 48])
    }

    fn values(images: &Tensor) -> Vec<f32> {
        Vec::try_from(images.flatten(0, -1)).unwrap()
    }

    #[test]
    fn none_is_the_image_and_flip_adds_its_horizontal_flip() {
        let original = values(&image());
        assert_eq!(Tta::None.transforms(), [TtaTransform::IDENTITY]);
        assert_eq!(values(&TtaTransform::IDENTITY.apply(&image()).unwrap()), original);
        let [identity, flip] = Tta::Flip.transforms().try_into().unwrap();
        assert_eq!(identity, TtaTransform::IDENTITY);
        let flipped = values(&flip.apply(&image()).unwrap());
        let expected: Vec<f32> = original.chunks(48).flat_map(|row| row.iter().rev().copied()).collect();
        assert_eq!(flipped, expected);
    }

    /// Crops by the definition of `torchvision.transforms.functional.ten_crop(image, 44)`:
    /// `five_crop` of the image, then of `hflip(image)`; top left (0, 0), top right (0, 4), bottom
    /// left (4, 0), bottom right (4, 4), center round((48 - 44) / 2) = 2. Resizing by the
    /// definition of `torch.nn.functional.interpolate`: output pixel i samples at max(0, (i + 0.5)
    /// * 44 / 48 - 0.5), clamped to the last pixel.
    #[test]
    fn ten_crop_agrees_with_torchvision() {
        let original = values(&image());
        let corners = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)];
        let transforms = Tta::TenCrop.transforms();
        assert_eq!(transforms.len(), 10);
        let source = |index: usize| {
            let position = ((index as f64 + 0.5) * 44.0 / 48.0 - 0.5).max(0.0);
            let first = position.floor() as usize;
            (first, (first + 1).min(43), position - position.floor())
        };
        for (number, transform) in transforms.iter().enumerate() {
            let (top, left) = corners[number % 5];
            let pixel = |row: usize, column: usize| {
                let column = left + column;
                f64::from(original[48 * (top + row) + if number < 5 { column } else { 47 - column }])
            };
            let cropped = transform.apply(&image()).unwrap();
            assert_eq!(cropped.size(), [1, 1, 48, 48]);
            for (index, actual) in values(&cropped).into_iter().enumerate() {
                let ((y0, y1, y), (x0, x1, x)) = (source(index / 48), source(index % 48));
                let upper = (1.0 - x) * pixel(y0, x0) + x * pixel(y0, x1);
                let lower = (1.0 - x) * pixel(y1, x0) + x * pixel(y1, x1);
                let expected = (1.0 - y) * upper + y * lower;
                assert!((f64::from(actual) - expected).abs() < 1e-3, "crop {number}, pixel {index}: {actual}");
            }
        }
    }
}
