//! The tta of an image that its probabilities are averaged over (test-time augmentation).
//!
//! Slicing, flipping and enlarging by fixed sizes: a tracer records them for any number of images, on any device.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::data::images::SIDE;

/// Edge of a crop in pixels.
const CROP: i64 = 44;

/// Dimension of the columns in [N, 1, 48, 48].
const COLUMNS: i64 = 3;

/// One way to look at an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtaTransform {
    /// Left and right are exchanged, before anything is cropped.
    mirrored: bool,
    /// First row and column of the crop, where only a part is looked at.
    crop: Option<(i64, i64)>,
}

impl TtaTransform {
    /// The image as it is.
    pub const IDENTITY: Self = Self { mirrored: false, crop: None };

    /// All tta that `tta` stands for. The ten crops have torchvision's order: `ten_crop` cuts top left, top right, bottom
    /// left, bottom right and the center, first of the image, then of its mirror image.
    pub fn all(tta: Tta) -> Vec<Self> {
        let (far, middle) = (SIDE as i64 - CROP, (SIDE as i64 - CROP) / 2);
        let crops: &[Option<(i64, i64)>] = match tta {
            Tta::None | Tta::Flip => &[None],
            Tta::TenCrop => &[Some((0, 0)), Some((0, far)), Some((far, 0)), Some((far, far)), Some((middle, middle))],
        };
        let mirrors: &[bool] = if tta == Tta::None { &[false] } else { &[false, true] };
        mirrors.iter().flat_map(|&mirrored| crops.iter().map(move |&crop| Self { mirrored, crop })).collect()
    }

    /// Images in any floating-point format, [N, 1, 48, 48], as this transform shows them; shape, format and range stay. A crop is
    /// enlarged as PyTorch's `interpolate(mode="bilinear", align_corners=False)` does it: networks have a fixed input.
    ///
    /// # Errors
    /// libtorch's.
    pub fn apply(self, images: &Tensor) -> Result<Tensor> {
        let images = if self.mirrored { images.f_flip([COLUMNS])? } else { images.shallow_clone() };
        let Some((top, left)) = self.crop else { return Ok(images) };
        let crop = images.f_narrow(COLUMNS - 1, top, CROP)?.f_narrow(COLUMNS, left, CROP)?;
        let side = SIDE as i64;
        Ok(crop.f_upsample_bilinear2d([side, side], false, None::<f64>, None::<f64>)?)
    }
}

/// `[predict]`: how `evaluate`, `predict`, `export` and a sweep's submission use the trained network. Training itself looks
/// at every image as it is, whatever stands here: its figures and the choice of the best epoch do not depend on it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PredictConfig {
    /// Tta of each image that probabilities are averaged over.
    pub tta: Tta,
}

/// `predict.tta`: the tta of an image that its probabilities are averaged over (test-time augmentation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tta {
    /// The image as it is.
    #[default]
    None,
    /// The image and its mirror image.
    Flip,
    /// Four corners and the center, 44 of 48 pixels enlarged to 48, each with its mirror image, after torchvision's `TenCrop`.
    TenCrop,
}

impl Tta {
    /// What the tta are, for reports.
    pub fn describe(self) -> &'static str {
        match self {
            Self::None => "each image as it is",
            Self::Flip => "probabilities averaged over each image and its mirror image",
            Self::TenCrop => "probabilities averaged over five crops of each image and their mirror images",
        }
    }
}

impl fmt::Display for Tta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Flip => "flip",
            Self::TenCrop => "ten_crop",
        })
    }
}

impl std::str::FromStr for Tta {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "flip" => Ok(Self::Flip),
            "ten_crop" => Ok(Self::TenCrop),
            _ => Err(format!("unknown tta {text:?}: expected none, flip or ten_crop")),
        }
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
    fn one_view_is_the_image_and_the_other_its_mirror_image() {
        let own = values(&image());
        assert_eq!(TtaTransform::all(Tta::None), [TtaTransform::IDENTITY]);
        assert_eq!(values(&TtaTransform::IDENTITY.apply(&image()).unwrap()), own);
        let [whole, mirrored] = TtaTransform::all(Tta::Flip).try_into().unwrap();
        assert_eq!(whole, TtaTransform::IDENTITY);
        let mirrored = values(&mirrored.apply(&image()).unwrap());
        let by_hand: Vec<f32> = own.chunks(48).flat_map(|row| row.iter().rev().copied()).collect();
        assert_eq!(mirrored, by_hand);
    }

    /// Corners: `torchvision.transforms.functional.ten_crop(image, 44)`, by its definition: `five_crop` of the image, then of
    /// `hflip(image)`; top left (0, 0), top right (0, 4), bottom left (4, 0), bottom right (4, 4), center
    /// round((48 - 44) / 2) = 2. Enlarging: `torch.nn.functional.interpolate`, by its definition: output pixel i reads at
    /// max(0, (i + 0.5) * 44 / 48 - 0.5), the last pixel standing for what lies beyond it.
    #[test]
    fn ten_crops_read_what_torchvision_reads() {
        let own = values(&image());
        let corners = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)];
        let tta = TtaTransform::all(Tta::TenCrop);
        assert_eq!(tta.len(), 10);
        let source = |at: usize| {
            let place = ((at as f64 + 0.5) * 44.0 / 48.0 - 0.5).max(0.0);
            let first = place.floor() as usize;
            (first, (first + 1).min(43), place - place.floor())
        };
        for (number, transform) in tta.iter().enumerate() {
            let (top, left) = corners[number % 5];
            let pixel = |row: usize, column: usize| {
                let column = left + column;
                f64::from(own[48 * (top + row) + if number < 5 { column } else { 47 - column }])
            };
            let got = transform.apply(&image()).unwrap();
            assert_eq!(got.size(), [1, 1, 48, 48]);
            for (place, got) in values(&got).into_iter().enumerate() {
                let ((y0, y1, y), (x0, x1, x)) = (source(place / 48), source(place % 48));
                let upper = (1.0 - x) * pixel(y0, x0) + x * pixel(y0, x1);
                let lower = (1.0 - x) * pixel(y1, x0) + x * pixel(y1, x1);
                let wanted = (1.0 - y) * upper + y * lower;
                assert!((f64::from(got) - wanted).abs() < 1e-3, "view {number}, pixel {place}: {got} for {wanted}");
            }
        }
    }

    #[test]
    fn the_command_line_and_toml_have_the_same_names() {
        for tta in [Tta::None, Tta::Flip, Tta::TenCrop] {
            assert_eq!(tta.to_string().parse(), Ok(tta));
            let read: PredictConfig = toml::from_str(&format!("tta = \"{tta}\"")).unwrap();
            assert_eq!(read.tta, tta);
        }
        assert_eq!("both".parse::<Tta>(), Err("unknown tta \"both\": expected none, flip or ten_crop".to_owned()));
        assert_eq!(PredictConfig::default().tta, Tta::None);
    }
}
