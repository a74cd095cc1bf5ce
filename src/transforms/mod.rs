//! Data augmentation: random transforms of the training images, applied to whole batches on the
//! training device, in this order:
//!
//! 1. affine: flip, zoom, shift, rotation and crop, composed into one transform per image and
//!    applied by one `affine_grid` and `grid_sample` per batch;
//! 2. color jitter: brightness, contrast, gamma;
//! 3. random erasing, after color jitter, so that rectangles do not change the image mean;
//! 4. mixup or CutMix, last, as in torchvision's reference training.
//!
//! # Affine convention
//!
//! As in PyTorch's `affine_grid` and Keras' `ImageDataGenerator` with `fill_mode="nearest"`, an
//! affine transform maps output coordinates to input coordinates. Coordinates are pixels from the
//! image center (x = column - 23.5, y = row - 23.5). An output point is flipped (F), zoomed (Z),
//! shifted (t), rotated (R) and moved into the crop window (C, c), in this order:
//! `p_in = C R (Z F p_out + t) + c`. The crop comes last in coordinates, so it is the first
//! operation on the pixels, as in torchvision's recipes.
//!
//! # Randomness
//!
//! Parameters are sampled on the host for a whole epoch. Each is a function of (seed, epoch, row,
//! occurrence of the row in the epoch), and of (seed, epoch, step) for mixing, so they do not
//! depend on the device or on earlier samples.
//!
//! # Adding a transform
//!
//! Add a file with a `sample` function. Call it in [`Augment::sample_affine`] for an affine
//! transform; for any other, add a tensor to [`AugmentParams`] and a step to [`apply`].

pub mod affine;
mod augment_params;
mod color_jitter;
mod config;
pub mod flip;
mod mix_tensors;
mod mixup;
mod random_erasing;
mod random_resized_crop;
pub mod resize;
pub mod tta;
mod warp;

use anyhow::Result;
use rayon::prelude::*;
use tch::{Kind, Tensor};

pub use affine::Affine;
pub use augment_params::{AugmentParams, occurrences};
pub use color_jitter::COLOR_JITTER;
pub use config::AugmentConfig;
pub use mix_tensors::{BatchMix, MixRow, MixTensors};
pub use mixup::{CutBox, Mix};
pub use random_erasing::RECTANGLE;
pub use warp::{gather_warp, warp};

use self::flip::Flip;
use crate::data::device_images::{DeviceImages, scale_to_unit};
use crate::util::rng::{Rng, Stream};

/// Length of a `theta`: a 2x3 matrix.
pub const THETA: usize = 6;

/// Gathers the images `rows` (int64 `[B]`) and applies `params` (B rows): [B, 1, 48, 48] in 0..1,
/// of dtype `kind`. Mixing is separate, see [`Mix`].
pub fn apply(images: &DeviceImages, rows: &Tensor, params: &AugmentParams, kind: Kind) -> Result<Tensor> {
    if let Some((images, rows)) = images.stage(rows)? {
        return apply(&images, &rows, params, kind);
    }
    let mut batch = match &params.thetas {
        Some(thetas) => gather_warp(images, rows, thetas, params.grid.as_ref(), kind)?,
        None => scale_to_unit(&images.gather(rows)?)?.f_to_dtype(kind, false, false)?,
    };
    if let Some(jitter) = &params.jitter {
        batch = color_jitter::apply(batch, jitter)?;
    }
    if let Some(rectangles) = &params.rectangles {
        batch = random_erasing::apply(batch, rectangles)?;
    }
    Ok(batch)
}

/// Samples the transform parameters of a run.
#[derive(Debug, Clone)]
pub struct Augment {
    config: AugmentConfig,
    seed: u64,
    epochs: u32,
}

impl Augment {
    /// Creates a sampler for the transforms in `config`, of a run of `epochs` epochs.
    pub fn new(config: &AugmentConfig, seed: u64, epochs: u32) -> Self {
        Self { config: config.clone(), seed, epochs }
    }

    /// Whether any affine transform is on.
    pub fn has_affine(&self) -> bool {
        let AugmentConfig { rotate, shift, zoom, flip, crop, .. } = self.config;
        rotate > 0.0 || shift > 0.0 || zoom > 0.0 || flip != Flip::Off || crop > 0.0
    }

    /// Whether brightness, contrast or gamma is on.
    pub fn has_color_jitter(&self) -> bool {
        let AugmentConfig { brightness, contrast, gamma, .. } = self.config;
        brightness > 0.0 || contrast > 0.0 || gamma > 0.0
    }

    /// Whether random erasing is on.
    pub fn has_random_erasing(&self) -> bool {
        self.config.random_erasing > 0.0
    }

    /// The affine transform of the `occurrence`-th use of training image `row` in `epoch`; all
    /// count from 0.
    pub fn sample_affine(&self, epoch: u64, row: u64, occurrence: u64) -> Affine {
        let rng = |transform| self.rng(epoch, (row, occurrence), transform);
        let flip = self.config.flip.is_flipped(epoch, |epoch| self.rng(epoch, (row, occurrence), 0));
        affine::flip(flip)
            .then(affine::random_zoom(self.config.zoom, &mut rng(1)))
            .then(affine::random_shift(self.config.shift, &mut rng(2)))
            .then(affine::random_rotation(self.config.rotate, &mut rng(3)))
            .then(random_resized_crop::sample(self.config.crop, &mut rng(4)))
    }

    /// Affine transforms of the images `rows` for `affine_grid`: float32 [N, 2, 3], row-major.
    /// `rows` is the order of `epoch`, or a prefix of it, so that occurrences are counted right.
    pub fn sample_thetas(&self, epoch: u64, rows: &[i64]) -> Vec<f32> {
        let theta = |(row, occurrence): (&i64, u64)| self.sample_affine(epoch, row.unsigned_abs(), occurrence).theta();
        rows.par_iter().zip(occurrences(rows)).flat_map_iter(theta).collect()
    }

    /// Brightness factor, contrast factor and gamma of the images `rows`, see
    /// [`sample_thetas`](Self::sample_thetas): float32 [N, 3], row-major.
    pub fn sample_jitter(&self, epoch: u64, rows: &[i64]) -> Vec<f32> {
        let jitter = |(row, occurrence): (&i64, u64)| {
            let rng = |transform| self.rng(epoch, (row.unsigned_abs(), occurrence), transform);
            color_jitter::sample(&self.config, [5, 6, 7].map(rng))
        };
        rows.par_iter().zip(occurrences(rows)).flat_map_iter(jitter).collect()
    }

    /// Rectangles to erase from the images `rows`, see [`sample_thetas`](Self::sample_thetas):
    /// float32 [N, 5], row-major, see [`AugmentParams::rectangles`].
    pub fn sample_rectangles(&self, epoch: u64, rows: &[i64]) -> Vec<f32> {
        let rectangle = |(row, occurrence): (&i64, u64)| {
            let mut rng = self.rng(epoch, (row.unsigned_abs(), occurrence), 8);
            random_erasing::sample(self.config.random_erasing, &mut rng)
        };
        rows.par_iter().zip(occurrences(rows)).flat_map_iter(rectangle).collect()
    }

    /// The mixing of `step` (from 0) of `epoch`; `None` if mixing is off. After `augment.mix_until` it
    /// is [`Mix::NONE`]: the step stays the same, as a CUDA graph of it must.
    pub fn sample_mix(&self, epoch: u64, step: u64) -> Option<Mix> {
        let stream = |transform| Rng::new(&[Stream::Mix as u64, self.seed, epoch, step, transform]);
        let mix = mixup::sample(&self.config, [0, 1, 2].map(stream))?;
        let is_over = epoch as f64 >= self.config.mix_until * f64::from(self.epochs);
        Some(if is_over { Mix::NONE } else { mix })
    }

    /// One stream per transform: turning one off does not change the samples of the others.
    fn rng(&self, epoch: u64, (row, occurrence): (u64, u64), transform: u64) -> Rng {
        let keys = [Stream::Augment as u64, self.seed, epoch, row, transform, occurrence];
        // The first occurrence has no key, which keeps the samples of runs from before balanced
        // sampling.
        Rng::new(if occurrence == 0 { keys.split_last().map_or(&[], |(_, first)| first) } else { &keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_off() -> AugmentConfig {
        AugmentConfig { rotate: 0.0, shift: 0.0, zoom: 0.0, flip: Flip::Off, ..AugmentConfig::default() }
    }

    /// Recovers the parameters of a transform without crop: angle in degrees, zoom x and y, shift x
    /// and y in pixels, flipped.
    fn parameters(affine: &Affine) -> (f64, f64, f64, f64, f64, bool) {
        let [[a, b], [c, d]] = affine.matrix;
        let angle = (-b).atan2(d);
        let (sin, cos) = angle.sin_cos();
        let zoom_x = a * cos + c * sin;
        let shift = |x: f64, y: f64| (x * cos + y * sin, -x * sin + y * cos);
        let (x, y) = shift(affine.offset[0], affine.offset[1]);
        (angle.to_degrees(), zoom_x.abs(), (b * b + d * d).sqrt(), x, y, zoom_x < 0.0)
    }

    #[test]
    fn samples_are_uniform_over_their_ranges() {
        let augment = Augment::new(&AugmentConfig::default(), 5, 50);
        let n = 20_000;
        let samples: Vec<_> = (0..n).map(|row| parameters(&augment.sample_affine(3, row, 0))).collect();
        let check = |name: &str, values: Vec<f64>, low: f64, high: f64| {
            let mean = values.iter().sum::<f64>() / n as f64;
            let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
            let width = high - low;
            // The mean of n uniform samples has standard deviation width / sqrt(12 n).
            let tolerance = 5.0 * width / (12.0 * n as f64).sqrt();
            assert!((mean - f64::midpoint(low, high)).abs() < tolerance, "{name}: mean {mean}");
            assert!(min >= low - 1e-9 && max <= high + 1e-9, "{name}: {min} to {max} exceeds {low} to {high}");
            assert!(min < low + 0.01 * width && max > high - 0.01 * width, "{name}: {min} to {max} is too narrow");
        };
        check("angle", samples.iter().map(|p| p.0).collect(), -10.0, 10.0);
        check("zoom x", samples.iter().map(|p| p.1).collect(), 0.9, 1.1);
        check("zoom y", samples.iter().map(|p| p.2).collect(), 0.9, 1.1);
        check("shift x", samples.iter().map(|p| p.3).collect(), -4.8, 4.8);
        check("shift y", samples.iter().map(|p| p.4).collect(), -4.8, 4.8);
        let flipped = samples.iter().filter(|p| p.5).count();
        assert!((n as usize / 2).abs_diff(flipped) < 360, "{flipped} of {n} flipped");
        let covariance = samples.iter().map(|p| (p.1 - 1.0) * (p.2 - 1.0)).sum::<f64>() / n as f64;
        assert!(covariance.abs() < 2e-4, "zoom x and y are independent, covariance {covariance}");
    }

    #[test]
    fn each_transform_can_be_off() {
        let off = Augment::new(&all_off(), 1, 50);
        assert!(
            !off.has_affine() && !off.has_color_jitter() && !off.has_random_erasing() && off.sample_mix(0, 0).is_none()
        );
        assert_eq!(off.sample_affine(0, 0, 0), Affine::IDENTITY);
        let full = AugmentConfig::default();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        for row in 0..200 {
            let sample = |config: &AugmentConfig| parameters(&Augment::new(config, 1, 50).sample_affine(0, row, 0));
            let all = sample(&full);
            let only = sample(&AugmentConfig { rotate: 10.0, ..all_off() });
            assert!(near(only.0, all.0), "turning the others off does not change the angle");
            assert!(near(only.1, 1.0) && near(only.3, 0.0) && !only.5);
            let only = sample(&AugmentConfig { shift: 0.1, ..all_off() });
            assert!(near(only.3, all.3) && near(only.4, all.4) && near(only.0, 0.0));
            let only = sample(&AugmentConfig { zoom: 0.1, ..all_off() });
            assert!(near(only.1, all.1) && near(only.2, all.2) && near(only.0, 0.0));
            let only = sample(&AugmentConfig { flip: Flip::Random, ..all_off() });
            assert!(only.5 == all.5 && near(only.1, 1.0));
            let alternating = Augment::new(&AugmentConfig { flip: Flip::Alternating, ..all_off() }, 1, 50);
            let flipped = [0, 1, 2].map(|epoch| parameters(&alternating.sample_affine(epoch, row, 0)).5);
            assert!(flipped == [all.5, !all.5, all.5], "{flipped:?}");
            let cropped = |config| Augment::new(&config, 1, 50).sample_affine(0, row, 0);
            let only = cropped(AugmentConfig { crop: 0.5, ..all_off() });
            let both = cropped(AugmentConfig { crop: 0.5, ..AugmentConfig::default() });
            assert_eq!(cropped(AugmentConfig::default()).then(only), both, "the crop is the last transform");
        }
    }

    #[test]
    fn samples_are_a_function_of_seed_epoch_and_row() {
        let config = AugmentConfig::default();
        let augment = Augment::new(&config, 1, 50);
        assert_eq!(augment.sample_thetas(2, &[5, 9])[THETA..], augment.sample_thetas(2, &[9])[..]);
        let jitter = Augment::new(&AugmentConfig { brightness: 0.3, gamma: 0.2, ..all_off() }, 1, 50);
        assert!(jitter.has_color_jitter() && !jitter.has_affine());
        assert_eq!(jitter.sample_jitter(2, &[5, 9])[COLOR_JITTER..], jitter.sample_jitter(2, &[9])[..]);
        let (one, other) = (jitter.sample_jitter(2, &[5]), jitter.sample_jitter(3, &[5]));
        assert!(one[0] != other[0] && one[2] != other[2] && one[1] == 1.0, "{one:?}, {other:?}");
        let mixing = |seed| Augment::new(&AugmentConfig { mixup: 0.4, cutmix: 1.0, ..all_off() }, seed, 50);
        assert_eq!(mixing(1).sample_mix(2, 3), mixing(1).sample_mix(2, 3));
        let until = Augment::new(&AugmentConfig { mixup: 0.4, mix_until: 0.75, ..all_off() }, 1, 8);
        let is_mixed = |epoch| until.sample_mix(epoch, 3).unwrap() != Mix::NONE;
        assert_eq!([0, 5, 6, 7].map(is_mixed), [true, true, false, false]);
        for other in [mixing(1).sample_mix(2, 4), mixing(1).sample_mix(1, 3), mixing(2).sample_mix(2, 3)] {
            assert!(other.is_some() && other != mixing(1).sample_mix(2, 3));
        }
        let erasing = Augment::new(&AugmentConfig { random_erasing: 1.0, ..all_off() }, 1, 50);
        assert_eq!(erasing.sample_rectangles(2, &[5, 9])[RECTANGLE..], erasing.sample_rectangles(2, &[9])[..]);
        assert_ne!(erasing.sample_rectangles(2, &[5]), erasing.sample_rectangles(3, &[5]));
        assert_ne!(augment.sample_affine(0, 1, 0), augment.sample_affine(1, 1, 0));
        assert_ne!(augment.sample_affine(0, 1, 0), Augment::new(&config, 2, 50).sample_affine(0, 1, 0));
        // The first occurrence has no key of its own.
        let rotate = Augment::new(&AugmentConfig { rotate: 10.0, ..all_off() }, 1, 50).sample_affine(2, 9, 0);
        assert_eq!(rotate, affine::random_rotation(10.0, &mut Rng::new(&[Stream::Augment as u64, 1, 2, 9, 3])));
        let twice = augment.sample_thetas(2, &[9, 5, 9]);
        assert_eq!(twice[..2 * THETA], augment.sample_thetas(2, &[9, 5])[..]);
        assert_eq!(twice[2 * THETA..], augment.sample_affine(2, 9, 1).theta());
        assert_ne!(augment.sample_affine(2, 9, 1), augment.sample_affine(2, 9, 0));
        assert_ne!(augment.sample_affine(2, 9, 1), augment.sample_affine(2, 9, 2));
        assert_ne!(jitter.sample_jitter(2, &[9, 9])[COLOR_JITTER..], jitter.sample_jitter(2, &[9])[..]);
        assert_ne!(erasing.sample_rectangles(2, &[9, 9])[RECTANGLE..], erasing.sample_rectangles(2, &[9])[..]);
    }
}
