//! Random rotation, shift, zoom and flip: each a per-face affine map, composed into one, sampled once per batch.
//!
//! Convention, as Keras' `ImageDataGenerator` with `fill_mode="nearest"`: maps go from a point of the output to the point
//! of the input that is read there. Coordinates are pixels from the image's centre (x = column - 23.5, y = row - 23.5).
//! In the order in which an output point passes through them: flip, zoom, shift, rotate:
//! `p_in = R(a) (Z F p_out + t)`.
//!
//! Parameters are drawn on the host, for a whole epoch at once, from (seed, epoch, row): they do not depend on the batch,
//! the device or the order of steps. A face that comes more than once in an epoch has its number of occurrence for a further key. To add an operation: one file with a `draw` that returns an [`Affine`], one line in
//! [`Augment::draw`].

mod affine;
mod flip;
mod occurrence;
mod rotate;
mod sample;
mod shift;
mod zoom;

use rayon::prelude::*;

pub use affine::Affine;
pub use occurrence::occurrences;
pub use sample::{pick, sample};

use crate::config::AugmentConfig;
use crate::rng::{Rng, Stream};

/// Floats of one face's map in `theta`: 2 rows of 3.
pub const THETA: usize = 6;

/// Draws the maps of a run.
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

    /// Whether every operation is off.
    pub fn is_identity(&self) -> bool {
        let AugmentConfig { rotate, shift, zoom, flip } = self.config;
        rotate == 0.0 && shift == 0.0 && zoom == 0.0 && !flip
    }

    /// The map of training face `row` (its position, from 0) in `epoch` (from 0), the first time it comes there.
    pub fn draw(&self, epoch: u64, row: u64) -> Affine {
        self.draw_again(epoch, row, 0)
    }

    /// The map of `row` when it has come `before` times in `epoch` already.
    pub fn draw_again(&self, epoch: u64, row: u64, before: u64) -> Affine {
        // Each operation has a stream of its own: turning one off leaves the draws of the others as they are.
        let rng = |operation: u64| {
            let keys = [Stream::Augment as u64, self.seed, epoch, row, operation, before];
            // The first time has no key for that, as it was when no face came twice.
            Rng::new(if before == 0 { keys.split_last().map_or(&[], |(_, first)| first) } else { &keys })
        };
        flip::draw(self.config.flip, &mut rng(0))
            .then(zoom::draw(self.config.zoom, &mut rng(1)))
            .then(shift::draw(self.config.shift, &mut rng(2)))
            .then(rotate::draw(self.config.rotate, &mut rng(3)))
    }

    /// The maps of the faces `rows`, which are all of `epoch` or its first, as `affine_grid` wants them: float32 [N, 2, 3], row-major.
    pub fn thetas(&self, epoch: u64, rows: &[i64]) -> Vec<f32> {
        let draw = |(row, before): (&i64, u64)| self.draw_again(epoch, row.unsigned_abs(), before).theta();
        rows.par_iter().zip(occurrences(rows)).flat_map_iter(draw).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_off() -> AugmentConfig {
        AugmentConfig { rotate: 0.0, shift: 0.0, zoom: 0.0, flip: false }
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
        let augment = Augment::new(&AugmentConfig { rotate: 10.0, shift: 0.1, zoom: 0.1, flip: true }, 5);
        let n = 20_000;
        let drawn: Vec<_> = (0..n).map(|row| parameters(&augment.draw(3, row))).collect();
        let check = |name: &str, values: Vec<f64>, low: f64, high: f64| {
            let mean = values.iter().sum::<f64>() / n as f64;
            let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(l, m), v| (l.min(*v), m.max(*v)));
            let width = high - low;
            // The mean of n uniform draws has standard deviation width / sqrt(12 n); five of them are allowed.
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
        assert!(Augment::new(&all_off(), 1).is_identity());
        assert_eq!(Augment::new(&all_off(), 1).draw(0, 0), Affine::IDENTITY);
        let full = AugmentConfig { rotate: 10.0, shift: 0.1, zoom: 0.1, flip: true };
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        for row in 0..200 {
            let of = |config: &AugmentConfig| parameters(&Augment::new(config, 1).draw(0, row));
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
        }
    }

    #[test]
    fn draws_follow_from_seed_epoch_and_row() {
        let config = AugmentConfig::default();
        let augment = Augment::new(&config, 1);
        assert_eq!(augment.thetas(2, &[5, 9])[THETA..], augment.thetas(2, &[9])[..]);
        assert_ne!(augment.draw(0, 1), augment.draw(1, 1));
        // As runs had it before a face could come twice.
        let rotate = Augment::new(&AugmentConfig { rotate: 10.0, ..all_off() }, 1).draw(2, 9);
        assert_eq!(rotate, rotate::draw(10.0, &mut Rng::new(&[Stream::Augment as u64, 1, 2, 9, 3])));
        let twice = augment.thetas(2, &[9, 5, 9]);
        assert_eq!(twice[..2 * THETA], augment.thetas(2, &[9, 5])[..]);
        assert_eq!(twice[2 * THETA..], augment.draw_again(2, 9, 1).theta());
        assert_ne!(augment.draw_again(2, 9, 1), augment.draw(2, 9));
        assert_ne!(augment.draw_again(2, 9, 1), augment.draw_again(2, 9, 2));
        assert_ne!(augment.draw(0, 1), Augment::new(&config, 2).draw(0, 1));
    }
}
