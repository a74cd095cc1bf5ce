//! Pictures as the caller holds them, and resampling of a part of one.

use rayon::prelude::*;

use crate::Error;
use crate::network::Plane;

/// A borrowed 8-bit picture, gray or RGB, rows from top to bottom without gaps.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    pixels: &'a [u8],
    width: usize,
    height: usize,
    channels: usize,
}

impl<'a> Picture<'a> {
    /// A gray picture: one byte for each pixel.
    ///
    /// # Errors
    /// [`Error::Picture`] if `pixels` does not hold `width` times `height` bytes.
    pub fn gray(pixels: &'a [u8], width: usize, height: usize) -> Result<Self, Error> {
        Self::new(pixels, width, height, 1)
    }

    /// A color picture: red, green and blue for each pixel.
    ///
    /// # Errors
    /// [`Error::Picture`] if `pixels` does not hold 3 times `width` times `height` bytes.
    pub fn rgb(pixels: &'a [u8], width: usize, height: usize) -> Result<Self, Error> {
        Self::new(pixels, width, height, 3)
    }

    fn new(pixels: &'a [u8], width: usize, height: usize, channels: usize) -> Result<Self, Error> {
        let expected = width.checked_mul(height).and_then(|area| area.checked_mul(channels));
        if expected != Some(pixels.len()) {
            return Err(Error::Picture { width, height, channels, length: pixels.len() });
        }
        Ok(Self { pixels, width, height, channels })
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Cuts out `square` and resizes it to `side` x `side` gray pixels, by averages where it shrinks and
    /// linear interpolation where it grows.
    ///
    /// Where the square reaches over the border, the pixels of the border are repeated: a frame of one
    /// color would add an edge that no face has. FER2013 gives no rule to follow here: less than 1 % of
    /// its images have a flat or repeated border. Gray is 0.299 red + 0.587 green + 0.114 blue. An empty
    /// picture gives zeros; `side` 0 gives nothing.
    pub fn crop_gray(&self, square: Square, side: usize) -> Vec<u8> {
        let step = square.side.max(0.0) / side.max(1) as f32;
        let plane = self.resample((square.x, square.y), step, side, side);
        let gray = plane.data.chunks_exact(plane.channels).map(|pixel| match *pixel {
            [red, green, blue] => 0.299 * red + 0.587 * green + 0.114 * blue,
            _ => pixel.iter().sum(),
        });
        gray.map(|value| value.round() as u8).collect()
    }

    /// Copies the part that begins at `start`; pixels outside are those of the border.
    fn copy(&self, start: (isize, isize), plane: &mut Plane) {
        let (last_x, last_y) = (self.width as isize - 1, self.height as isize - 1);
        let before = start.0.saturating_neg().clamp(0, plane.width as isize) as usize;
        let first = start.0.clamp(0, last_x) as usize;
        let row_length = self.width * self.channels;
        let rows = plane.data.chunks_exact_mut(plane.width * self.channels).enumerate();
        rows.for_each(|(y, to)| {
            let y = start.1.saturating_add(y as isize).clamp(0, last_y) as usize;
            let row = self.pixels.chunks_exact(row_length).nth(y).unwrap_or_default();
            let (outside, inside) = to.split_at_mut(before * self.channels);
            let from = row.get(first * self.channels..).unwrap_or_default();
            copy_row(row.get(..self.channels).unwrap_or_default(), outside, self.channels);
            copy_row(from, inside, self.channels);
        });
    }

    /// Resamples the part that begins at `start` (x, y, in pixels), `step` pixels for each pixel of the
    /// result. Pixels outside the picture are those of its border. Values stay 0 to 255.
    pub(crate) fn resample(&self, start: (f32, f32), step: f32, width: usize, height: usize) -> Plane {
        if self.width == 0 || self.height == 0 || width == 0 || height == 0 {
            return Plane::zeros(height, width, self.channels);
        }
        if step == 1.0 && start.0.fract() == 0.0 && start.1.fract() == 0.0 {
            let mut plane = Plane::any(height, width, self.channels);
            self.copy((start.0 as isize, start.1 as isize), &mut plane);
            return plane;
        }
        let mut plane = Plane::zeros(height, width, self.channels);
        let columns: Vec<_> = (0..width).map(|x| Taps::new(start.0, step, x, self.width)).collect();
        let first = columns.iter().map(|taps| taps.first).min().unwrap_or(0);
        let end = columns.iter().map(|taps| taps.first + taps.weights.len()).max().unwrap_or(0);
        let row_length = self.width * self.channels;
        let rows = plane.data.par_chunks_exact_mut(width * self.channels).enumerate();
        rows.for_each_init(Vec::new, |sums: &mut Vec<f32>, (y, to)| {
            sums.clear();
            sums.resize((end - first) * self.channels, 0.0);
            let taps = Taps::new(start.1, step, y, self.height);
            for (weight, row) in taps.weights.iter().zip(self.pixels.chunks_exact(row_length).skip(taps.first)) {
                let row = row.iter().skip(first * self.channels);
                for (sum, &value) in sums.iter_mut().zip(row) {
                    *sum += weight * f32::from(value);
                }
            }
            for (to, taps) in to.chunks_exact_mut(self.channels).zip(&columns) {
                let pixels = sums.chunks_exact(self.channels).skip(taps.first - first);
                for (weight, pixel) in taps.weights.iter().zip(pixels) {
                    for (to, value) in to.iter_mut().zip(pixel) {
                        *to += weight * value;
                    }
                }
            }
        });
        plane
    }
}

/// Copies `from` on, and repeats the last pixel.
fn copy_row(from: &[u8], to: &mut [f32], channels: usize) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = f32::from(from);
    }
    let (inside, outside) = to.split_at_mut(from.len().min(to.len()));
    if let Some(last) = inside.len().checked_sub(channels).and_then(|at| inside.get(at..)) {
        outside.chunks_exact_mut(channels).for_each(|to| to.copy_from_slice(last));
    }
}

/// The pixels of one axis that a pixel of the result is made of.
#[derive(Debug)]
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Taps {
    /// A triangle as wide as two pixels of the coarser grid, its tip in the middle of pixel `at`.
    fn new(start: f32, step: f32, at: usize, size: usize) -> Self {
        // f64: the position in a picture of 100,000 pixels needs more than f32's 24 bits.
        // Wider triangles than the picture make no difference, only work.
        let (step, last) = (f64::from(step).min(4.0 * size as f64), size.saturating_sub(1) as f64);
        let center = (f64::from(start) + (at as f64 + 0.5) * step - 0.5).clamp(-1e9, 1e9);
        let reach = step.max(1.0);
        let clamp = |position: f64| position.clamp(0.0, last);
        let (low, high) = (clamp((center - reach).ceil()), clamp((center + reach).floor()));
        let first = low as usize;
        let mut weights = vec![0.0; high as usize - first + 1];
        // Taps outside count for the border pixel.
        let mut position = (center - reach).ceil();
        while position <= center + reach {
            let index = clamp(position) as usize - first;
            if let Some(weight) = weights.get_mut(index) {
                *weight += (1.0 - (position - center).abs() / reach).max(0.0);
            }
            position += 1.0;
        }
        let sum: f64 = weights.iter().sum();
        let weights = weights.iter().map(|weight| if sum > 0.0 { weight / sum } else { 0.0 } as f32);
        let mut weights: Vec<_> = weights.collect();
        if sum <= 0.0
            && let Some(weight) = weights.first_mut()
        {
            *weight = 1.0; // far outside: the border pixel
        }
        Self { first, weights }
    }
}

/// A square part of a picture, in pixels; it may reach over the border.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Square {
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Length of the sides.
    pub side: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_lengths_are_errors() {
        assert!(Picture::gray(&[0; 6], 2, 3).is_ok());
        assert!(Picture::rgb(&[0; 6], 2, 3).is_err());
        assert!(Picture::gray(&[], usize::MAX, usize::MAX).is_err());
        assert!(Picture::gray(&[], 0, 7).is_ok());
    }

    #[test]
    fn resampling_by_one_copies() {
        let pixels: Vec<u8> = (0..36).map(|i| i * 7).collect();
        let plane = Picture::rgb(&pixels, 4, 3).unwrap().resample((0.0, 0.0), 1.0, 4, 3);
        assert_eq!(plane.data, pixels.iter().map(|&v| f32::from(v)).collect::<Vec<_>>());
    }

    #[test]
    fn copying_equals_resampling_inside_and_outside() {
        let pixels: Vec<u8> = (0..5 * 4 * 3).map(|i| (i * 37 % 251) as u8).collect();
        for (picture, channels) in
            [(Picture::rgb(&pixels, 5, 4).unwrap(), 3), (Picture::gray(&pixels[..20], 5, 4).unwrap(), 1)]
        {
            for start in [(0.0, 0.0), (-3.0, 2.0), (2.0, -9.0), (4.0, 3.0), (7.0, 0.0), (-20.0, 1e12), (1e12, 1.0)] {
                let copied = picture.resample(start, 1.0, 8, 7);
                // A step that is not quite 1 takes the other way.
                let resampled = picture.resample(start, 1.0 + f32::EPSILON, 8, 7);
                assert_eq!((copied.data.len(), copied.channels), (56 * channels, channels));
                for (a, b) in copied.data.iter().zip(&resampled.data) {
                    assert!((a - b).abs() < 1e-2, "{start:?}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn a_ramp_stays_a_ramp_and_the_border_is_repeated() {
        let pixels: Vec<u8> = (0..100).map(|i| i % 10 * 20).collect();
        let picture = Picture::gray(&pixels, 10, 10).unwrap();
        let half = picture.resample((0.0, 0.0), 2.0, 5, 5);
        assert!(
            half.data[5..10].iter().zip([10.0, 50.0, 90.0, 130.0, 170.0]).all(|(a, b)| (a - b).abs() < 6.0),
            "{half:?}"
        );
        let crop = picture.crop_gray(Square { x: -1e4, y: -5.0, side: 4.0 }, 4);
        assert_eq!(crop, [0; 16]);
        let crop = picture.crop_gray(Square { x: 20.0, y: 1e12, side: 8.0 }, 2);
        assert_eq!(crop, [180; 4]);
    }

    #[test]
    fn crops_of_anything_have_the_size_asked_for() {
        for (width, height) in [(0, 0), (1, 1), (3, 1), (5, 9)] {
            let pixels = vec![9; width * height * 3];
            let picture = Picture::rgb(&pixels, width, height).unwrap();
            for side in [-1.0, 0.0, 1e-9, 3.7, 1e9, f32::INFINITY, f32::NAN] {
                for x in [0.0, -7.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    for to in [0, 1, 48] {
                        let crop = picture.crop_gray(Square { x, y: 2.0, side }, to);
                        assert_eq!(crop.len(), to * to);
                    }
                }
            }
        }
    }
}
