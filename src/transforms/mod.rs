//! Random changes to every training image, in this order:
//!
//! 1. rotation, shift, zoom, flip and crop: each an affine map, composed into one, sampled once per batch;
//! 2. light: brightness, contrast, gamma;
//! 3. erasing, after the light, so that the rectangle has no part in the image's mean and may have any gray;
//! 4. mixing with other images of the batch: mixup or CutMix. It comes last, as in torchvision's reference training: what is
//!    mixed is images as they would be trained on without it, and [`Mix`] alone decides about the targets.
//!
//! Convention of the maps, as Keras' `ImageDataGenerator` with `fill_mode="nearest"`: they go from a point of the output to
//! the point of the input that is read there. Coordinates are pixels from the image's center (x = column - 23.5,
//! y = row - 23.5). In the order in which an output point passes through them: flip, zoom, shift, rotate, crop:
//! `p_in = C R(a) (Z F p_out + t) + c`. The crop is the last of them, so what it does to the picture is done first: its
//! window lies within the image, as in torchvision's recipes.
//!
//! Parameters are drawn on the host, for a whole epoch at once, from (seed, epoch, row), those of mixing from (seed, epoch,
//! step): they do not depend on the device or on what was drawn before. An image that comes more than once in an epoch has its
//! number of occurrence for a further key. To add an operation: one file with a `draw`; for an affine map a line in
//! [`Augment::draw`], for anything else a tensor in [`AugmentParams`] and a line in [`images`].

pub mod affine;
mod color_jitter;
mod config;
mod mixup;
mod params;
mod random_erasing;
mod random_resized_crop;
pub mod resize;
pub mod tta;
mod warp;

use anyhow::Result;
use rayon::prelude::*;
use tch::{Kind, Tensor};

pub use affine::Affine;
pub use color_jitter::COLOR_JITTER;
pub use config::AugmentConfig;
pub use mixup::{Cut, Mix};
pub use params::{AugmentParams, occurrences};
pub use random_erasing::RECTANGLE;
pub use warp::{gather_warp, warp};

use crate::data::device_images::{DeviceImages, to_unit};
use crate::util::rng::{Rng, Stream};

/// Floats of one image's map in `theta`: 2 rows of 3.
pub const THETA: usize = 6;

/// The images `rows` (int64 `[B]`) with the changes in `params`, which has as many rows: [B, 1, 48, 48] in 0..1, in `kind`.
///
/// # Errors
/// libtorch's.
pub fn images(images: &DeviceImages, rows: &Tensor, params: &AugmentParams, kind: Kind) -> Result<Tensor> {
    let picked = match &params.thetas {
        Some(thetas) => gather_warp(images, rows, thetas, kind)?,
        None => to_unit(&images.gather(rows)?)?.f_to_dtype(kind, false, false)?,
    };
    let lit = match &params.jitter {
        Some(jitter) => color_jitter::apply(picked, jitter)?,
        None => picked,
    };
    match &params.rectangles {
        Some(rectangles) => random_erasing::apply(lit, rectangles),
        None => Ok(lit),
    }
}

/// AugmentParams the maps of a run.
#[derive(Debug, Clone)]
pub struct Augment {
    config: AugmentConfig,
    seed: u64,
}

impl Augment {
    /// The maps that `config` allows, fixed by `seed`.
    pub fn new(config: &AugmentConfig, seed: u64) -> Self {
        Self { config: config.clone(), seed }
    }

    /// Whether any operation moves pixels.
    pub fn moves_pixels(&self) -> bool {
        let AugmentConfig { rotate, shift, zoom, flip, crop, .. } = self.config;
        rotate > 0.0 || shift > 0.0 || zoom > 0.0 || flip || crop > 0.0
    }

    /// Whether brightness, contrast or gamma are on.
    pub fn changes_color(&self) -> bool {
        let AugmentConfig { brightness, contrast, gamma, .. } = self.config;
        brightness > 0.0 || contrast > 0.0 || gamma > 0.0
    }

    /// Whether rectangles are erased.
    pub fn erases(&self) -> bool {
        self.config.random_erasing > 0.0
    }

    /// The map of training image `row` (its position, from 0) in `epoch` (from 0), the first time it comes there.
    pub fn sample(&self, epoch: u64, row: u64) -> Affine {
        self.sample_repeat(epoch, row, 0)
    }

    /// The map of `row` when it has come `before` times in `epoch` already.
    pub fn sample_repeat(&self, epoch: u64, row: u64, before: u64) -> Affine {
        let rng = |operation| self.rng(epoch, (row, before), operation);
        affine::random_flip(self.config.flip, &mut rng(0))
            .then(affine::random_zoom(self.config.zoom, &mut rng(1)))
            .then(affine::random_shift(self.config.shift, &mut rng(2)))
            .then(affine::random_rotation(self.config.rotate, &mut rng(3)))
            .then(random_resized_crop::sample(self.config.crop, &mut rng(4)))
    }

    /// The maps of the images `rows`, which are all of `epoch` or its first, as `affine_grid` wants them: float32 [N, 2, 3], row-major.
    pub fn thetas(&self, epoch: u64, rows: &[i64]) -> Vec<f32> {
        let draw = |(row, before): (&i64, u64)| self.sample_repeat(epoch, row.unsigned_abs(), before).theta();
        rows.par_iter().zip(occurrences(rows)).flat_map_iter(draw).collect()
    }

    /// Brightness factor, contrast factor and gamma exponent of the images `rows`, which are as in [`thetas`](Self::thetas):
    /// float32 [N, 3], row-major.
    pub fn jitter(&self, epoch: u64, rows: &[i64]) -> Vec<f32> {
        let light = |(row, before): (&i64, u64)| {
            let rng = |operation| self.rng(epoch, (row.unsigned_abs(), before), operation);
            color_jitter::sample(&self.config, [5, 6, 7].map(rng))
        };
        rows.par_iter().zip(occurrences(rows)).flat_map_iter(light).collect()
    }

    /// What is erased of the images `rows`, which are as in [`thetas`](Self::thetas): float32 [N, 5], row-major, see
    /// [`AugmentParams::rectangles`].
    pub fn rectangles(&self, epoch: u64, rows: &[i64]) -> Vec<f32> {
        let rectangle = |(row, before): (&i64, u64)| {
            random_erasing::sample(self.config.random_erasing, &mut self.rng(epoch, (row.unsigned_abs(), before), 8))
        };
        rows.par_iter().zip(occurrences(rows)).flat_map_iter(rectangle).collect()
    }

    /// How the images of `step` (from 0) of `epoch` are mixed, where mixing is on.
    pub fn mix(&self, epoch: u64, step: u64) -> Option<Mix> {
        let stream = |operation| Rng::new(&[Stream::Mix as u64, self.seed, epoch, step, operation]);
        mixup::sample(&self.config, [0, 1, 2].map(stream))
    }

    /// Each operation has a stream of its lambda: turning one off leaves the params of the others as they are.
    fn rng(&self, epoch: u64, (row, before): (u64, u64), operation: u64) -> Rng {
        let keys = [Stream::Augment as u64, self.seed, epoch, row, operation, before];
        // The first time has no key for that, as it was when no image came twice.
        Rng::new(if before == 0 { keys.split_last().map_or(&[], |(_, first)| first) } else { &keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_off() -> AugmentConfig {
        AugmentConfig { rotate: 0.0, shift: 0.0, zoom: 0.0, flip: false, ..AugmentConfig::default() }
    }

    /// The parameters of a drawn map, read back from its matrix when the operations are known: angle in degrees, zoom x and
    /// y, shift x and y in pixels, flipped.
    fn parameters(map: &Affine) -> (f64, f64, f64, f64, f64, bool) {
        let [[a, b], [c, d]] = map.matrix;
        let angle = (-b).atan2(d);
        let (sin, cos) = angle.sin_cos();
        let zoom_x = a * cos + c * sin;
        let shift = |x: f64, y: f64| (x * cos + y * sin, -x * sin + y * cos);
        let (x, y) = shift(map.offset[0], map.offset[1]);
        (angle.to_degrees(), zoom_x.abs(), (b * b + d * d).sqrt(), x, y, zoom_x < 0.0)
    }

    #[test]
    fn draws_fill_their_ranges_evenly() {
        let augment = Augment::new(&AugmentConfig::default(), 5);
        let n = 20_000;
        let drawn: Vec<_> = (0..n).map(|row| parameters(&augment.sample(3, row))).collect();
        let check = |name: &str, values: Vec<f64>, low: f64, high: f64| {
            let mean = values.iter().sum::<f64>() / n as f64;
            let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(l, m), v| (l.min(*v), m.max(*v)));
            let width = high - low;
            // The mean of n uniform params has standard deviation width / sqrt(12 n); five of them are allowed.
            let allowed = 5.0 * width / (12.0 * n as f64).sqrt();
            assert!((mean - f64::midpoint(low, high)).abs() < allowed, "{name}: mean {mean}");
            assert!(least >= low - 1e-9 && most <= high + 1e-9, "{name}: {least} to {most} leaves {low} to {high}");
            assert!(least < low + 0.01 * width && most > high - 0.01 * width, "{name}: {least} to {most} is narrow");
        };
        check("angle", drawn.iter().map(|p| p.0).collect(), -10.0, 10.0);
        check("zoom x", drawn.iter().map(|p| p.1).collect(), 0.9, 1.1);
        check("zoom y", drawn.iter().map(|p| p.2).collect(), 0.9, 1.1);
        check("shift x", drawn.iter().map(|p| p.3).collect(), -4.8, 4.8);
        check("shift y", drawn.iter().map(|p| p.4).collect(), -4.8, 4.8);
        let flipped = drawn.iter().filter(|p| p.5).count();
        assert!((n as usize / 2).abs_diff(flipped) < 360, "{flipped} of {n} flipped");
        let product = drawn.iter().map(|p| (p.1 - 1.0) * (p.2 - 1.0)).sum::<f64>() / n as f64;
        assert!(product.abs() < 2e-4, "zoom x and y are drawn apart, covariance {product}");
    }

    #[test]
    fn each_operation_can_be_off() {
        let off = Augment::new(&all_off(), 1);
        assert!(!off.moves_pixels() && !off.changes_color() && !off.erases() && off.mix(0, 0).is_none());
        assert_eq!(Augment::new(&all_off(), 1).sample(0, 0), Affine::IDENTITY);
        let full = AugmentConfig::default();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        for row in 0..200 {
            let of = |config: &AugmentConfig| parameters(&Augment::new(config, 1).sample(0, row));
            let all = of(&full);
            let only = of(&AugmentConfig { rotate: 10.0, ..all_off() });
            assert!(near(only.0, all.0), "turning others off leaves the angle");
            assert!(near(only.1, 1.0) && near(only.3, 0.0) && !only.5);
            let only = of(&AugmentConfig { shift: 0.1, ..all_off() });
            assert!(near(only.3, all.3) && near(only.4, all.4) && near(only.0, 0.0));
            let only = of(&AugmentConfig { zoom: 0.1, ..all_off() });
            assert!(near(only.1, all.1) && near(only.2, all.2) && near(only.0, 0.0));
            let only = of(&AugmentConfig { flip: true, ..all_off() });
            assert!(only.5 == all.5 && near(only.1, 1.0));
            let cropped = |config| Augment::new(&config, 1).sample(0, row);
            let only = cropped(AugmentConfig { crop: 0.5, ..all_off() });
            let both = cropped(AugmentConfig { crop: 0.5, ..AugmentConfig::default() });
            assert_eq!(cropped(AugmentConfig::default()).then(only), both, "the window is the last map");
        }
    }

    #[test]
    fn draws_follow_from_seed_epoch_and_row() {
        let config = AugmentConfig::default();
        let augment = Augment::new(&config, 1);
        assert_eq!(augment.thetas(2, &[5, 9])[THETA..], augment.thetas(2, &[9])[..]);
        let lit = Augment::new(&AugmentConfig { brightness: 0.3, gamma: 0.2, ..all_off() }, 1);
        assert!(lit.changes_color() && !lit.moves_pixels());
        assert_eq!(lit.jitter(2, &[5, 9])[COLOR_JITTER..], lit.jitter(2, &[9])[..]);
        let (here, elsewhere) = (lit.jitter(2, &[5]), lit.jitter(3, &[5]));
        assert!(here[0] != elsewhere[0] && here[2] != elsewhere[2] && here[1] == 1.0, "{here:?}, {elsewhere:?}");
        let mixing = |seed| Augment::new(&AugmentConfig { mixup: 0.4, cutmix: 1.0, ..all_off() }, seed);
        assert_eq!(mixing(1).mix(2, 3), mixing(1).mix(2, 3));
        for other in [mixing(1).mix(2, 4), mixing(1).mix(1, 3), mixing(2).mix(2, 3)] {
            assert!(other.is_some() && other != mixing(1).mix(2, 3));
        }
        let erasing = Augment::new(&AugmentConfig { random_erasing: 1.0, ..all_off() }, 1);
        assert_eq!(erasing.rectangles(2, &[5, 9])[RECTANGLE..], erasing.rectangles(2, &[9])[..]);
        assert_ne!(erasing.rectangles(2, &[5]), erasing.rectangles(3, &[5]));
        assert_ne!(augment.sample(0, 1), augment.sample(1, 1));
        // As runs had it before an image could come twice.
        let rotate = Augment::new(&AugmentConfig { rotate: 10.0, ..all_off() }, 1).sample(2, 9);
        assert_eq!(rotate, affine::random_rotation(10.0, &mut Rng::new(&[Stream::Augment as u64, 1, 2, 9, 3])));
        let twice = augment.thetas(2, &[9, 5, 9]);
        assert_eq!(twice[..2 * THETA], augment.thetas(2, &[9, 5])[..]);
        assert_eq!(twice[2 * THETA..], augment.sample_repeat(2, 9, 1).theta());
        assert_ne!(augment.sample_repeat(2, 9, 1), augment.sample(2, 9));
        assert_ne!(lit.jitter(2, &[9, 9])[COLOR_JITTER..], lit.jitter(2, &[9])[..]);
        assert_ne!(erasing.rectangles(2, &[9, 9])[RECTANGLE..], erasing.rectangles(2, &[9])[..]);
        assert_ne!(augment.sample_repeat(2, 9, 1), augment.sample_repeat(2, 9, 2));
        assert_ne!(augment.sample(0, 1), Augment::new(&config, 2).sample(0, 1));
    }
}
