//! Comparison of an exported file with the checkpoint, before it takes its place.

use anyhow::{Result, anyhow};
use tch::{Device, Kind, Tensor};

use super::exported_model::ExportedModel;
use crate::data::device_images::DeviceImages;
use crate::data::images::{Images, PIXELS, SIDE};
use crate::inference::forward::predict_with_tta;
use crate::metrics::predictions::Predictions;
use crate::util::rng::{Rng, Stream};

/// Max difference of a probability between an exported file and the checkpoint.
pub const TOLERANCE: f64 = 1e-5;

/// Images that an export is verified on.
pub const CHECKED_IMAGES: usize = 256;

/// Largest batch of the verification; it begins with the [`CHECKED_IMAGES`].
pub const MAX_BATCH: usize = 300;

/// Images, and the probabilities that an exported file must return for them.
#[derive(Debug)]
pub struct Verification {
    images: DeviceImages,
    expected: Tensor,
}

impl Verification {
    /// Computes the probabilities as in `evaluate` and `predict`. Unlike an exported file, that path
    /// uses custom kernels and averages in float64.
    ///
    /// # Errors
    /// Those of inference.
    pub fn new(model: &ExportedModel) -> Result<Self> {
        let images = DeviceImages::new(&check_images(MAX_BATCH), Device::Cpu)?;
        let predict = |(net, temperature): (_, &f64)| predict_with_tta(net, &images, model.tta)?.mean(*temperature);
        let parts = model.nets.iter().zip(&model.temperatures).map(predict).collect::<Result<Vec<_>>>()?;
        let mean = Predictions::average(&parts)?;
        let expected = Tensor::f_from_slice(&mean.probabilities)?.f_view([images.len(), mean.classes as i64])?;
        Ok(Self { images, expected })
    }

    /// Three images, uint8 [3, 1, 48, 48].
    pub fn example(&self) -> Result<Tensor> {
        self.images.slice(0, 3)
    }

    /// Compares `run`, the exported file, with the probabilities for each batch: its first image,
    /// its size, and the dtype of the pixels. Returns the max difference.
    ///
    /// # Errors
    /// A difference above [`TOLERANCE`], another shape or dtype; those of `run`.
    pub fn compare(&self, batches: &[(usize, usize, Kind)], run: impl Fn(&Tensor) -> Result<Tensor>) -> Result<f64> {
        let mut max_difference: f64 = 0.0;
        for &(start, count, kind) in batches {
            let (start, count) = (start as i64, count as i64);
            let pixels = self.images.pixels()?.f_narrow(0, start, count)?.f_to_dtype(kind, false, false)?;
            let (expected, got) = (self.expected.f_narrow(0, start, count)?, run(&pixels)?);
            if got.size() != expected.size() || got.f_kind()? != Kind::Float {
                return Err(anyhow!(
                    "the exported model returns {:?} {:?} for {:?}, expected Float {:?}",
                    got.f_kind()?,
                    got.size(),
                    pixels.size(),
                    expected.size()
                ));
            }
            let difference = got.f_sub(&expected)?.f_abs()?.f_max()?.f_double_value(&[])?;
            if difference.is_nan() || difference > TOLERANCE {
                return Err(anyhow!(
                    "the exported model differs from the checkpoint by {difference:.1e} for {:?}; expected at most {TOLERANCE:.0e}",
                    pixels.size()
                ));
            }
            max_difference = max_difference.max(difference);
        }
        Ok(max_difference)
    }

    /// The probabilities, float32 [300, classes].
    #[cfg(test)]
    pub fn expected(&self) -> &Tensor {
        &self.expected
    }
}

/// Generates `count` images of smooth waves and noise to compare outputs on.
fn check_images(count: usize) -> Images {
    let image = |index: usize| {
        let mut rng = Rng::new(&[Stream::Synthetic as u64, u64::MAX, index as u64]);
        let (fx, fy, phase) = (rng.between(0.05, 0.5), rng.between(0.05, 0.5), rng.between(0.0, 6.0));
        let pixel = |position: usize, rng: &mut Rng| {
            let wave = ((position % SIDE) as f64 * fx + (position / SIDE) as f64 * fy + phase).sin();
            (127.5 + 90.0 * wave + 30.0 * rng.normal()).clamp(0.0, 255.0) as u8
        };
        (0..PIXELS).map(|position| pixel(position, &mut rng)).collect::<Vec<_>>()
    };
    Images {
        pixels: (0..count).flat_map(image).collect::<Vec<u8>>().into(),
        rows: (0..count as u32).collect(),
        ..Images::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Net;
    use crate::testing::networks;
    use crate::transforms::tta::Tta;

    #[test]
    fn the_tolerance_distinguishes_models() {
        let net = |index: usize, seed| Net::new(&networks().swap_remove(index), 5, seed, Device::Cpu).unwrap();
        let of = |nets, tta| Verification::new(&ExportedModel::from_nets(nets, tta)).unwrap();
        let difference =
            |a: &Verification, b: &Verification| (a.expected() - b.expected()).abs().max().double_value(&[]);
        let both = |tta| of(vec![net(0, 3), net(1, 3)], tta);
        assert!(difference(&both(Tta::None), &both(Tta::Flip)) > 10.0 * TOLERANCE);
        assert!(difference(&both(Tta::Flip), &both(Tta::TenCrop)) > 10.0 * TOLERANCE);
        let (first, second) = (of(vec![net(0, 3)], Tta::None), of(vec![net(1, 3)], Tta::None));
        // Its temperature is that of the second position, 1.5.
        let images = DeviceImages::new(&check_images(MAX_BATCH), Device::Cpu).unwrap();
        let alone = predict_with_tta(&net(1, 3), &images, Tta::None).unwrap().mean(1.5).unwrap();
        let alone = Tensor::from_slice(&alone.probabilities).view([-1, 5]);
        let by_hand = (first.expected() + alone) / 2.0;
        let mean = both(Tta::None);
        assert!((by_hand - mean.expected()).abs().max().double_value(&[]) < 1e-6, "an ensemble averages its models");

        let own = |pixels: &Tensor| {
            let model = ExportedModel::from_nets(vec![net(0, 3)], Tta::None);
            tch::no_grad(|| model.probabilities(pixels))
        };
        let batches = [(0, 7, Kind::Float), (0, MAX_BATCH, Kind::Uint8)];
        assert!(first.compare(&batches, own).unwrap() <= TOLERANCE);
        let message = second.compare(&batches, own).unwrap_err().to_string();
        assert!(message.contains("differs from the checkpoint by"), "{message}");
        let message = first.compare(&batches, |pixels| Ok(own(pixels)?.narrow(1, 0, 2))).unwrap_err().to_string();
        assert!(message.contains("returns Float [7, 2] for [7, 1, 48, 48], expected Float [7, 5]"), "{message}");
    }
}
