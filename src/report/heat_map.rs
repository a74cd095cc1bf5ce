//! Heat map of a value per pixel, beside the mean image, and the colors of heat.

use anyhow::Result;

use super::png_encoding::encode_rgb;
use crate::data::images::SIDE;

/// Pixels of the PNG per pixel of the image, in each direction.
const SCALE: usize = 8;
/// White pixels around and between the two images.
const GAP: usize = 16;

/// Colors from 0 to the max, evenly spaced: black, violet, red, orange, pale yellow (a coarse
/// version of matplotlib's `inferno`). Lightness increases all the way, so the map reads in gray
/// too.
const COLORS: [[f64; 3]; 5] =
    [[0.0, 0.0, 4.0], [87.0, 16.0, 110.0], [188.0, 55.0, 84.0], [249.0, 142.0, 9.0], [252.0, 255.0, 164.0]];

/// Renders `values` `[48, 48]`, from 0 (black) to their max, at the right of the `mean` image `[48,
/// 48]`, as a PNG.
///
/// # Errors
/// The PNG encoder's, which valid sizes do not cause.
pub fn render(values: &[f64], mean: &[u8]) -> Result<Vec<u8>> {
    let max = values.iter().copied().fold(0.0, f64::max);
    let fraction = |value: f64| if max > 0.0 { value / max } else { 0.0 };
    let gray = |place: usize| mean.get(place).map_or([255; 3], |value| [*value; 3]);
    let heat = |place: usize| values.get(place).map_or([255; 3], |value| color(fraction(*value)));
    let side = SIDE * SCALE;
    let (width, height) = (2 * side + 3 * GAP, side + 2 * GAP);
    let pixel = |place: usize| {
        let (x, y) = (place % width, place / width);
        let (left, right) = (x.wrapping_sub(GAP), x.wrapping_sub(side + 2 * GAP));
        let row = y.wrapping_sub(GAP);
        match (left, right, row) {
            (x, _, y) if x < side && y < side => gray(y / SCALE * SIDE + x / SCALE),
            (_, x, y) if x < side && y < side => heat(y / SCALE * SIDE + x / SCALE),
            _ => [255; 3],
        }
    };
    let pixels: Vec<u8> = (0..width * height).flat_map(pixel).collect();
    encode_rgb(width, height, &pixels)
}

/// The color of a fraction of the max, interpolated linearly.
pub fn color(fraction: f64) -> [u8; 3] {
    let place = fraction.clamp(0.0, 1.0) * (COLORS.len() - 1) as f64;
    let below = (place.floor() as usize).min(COLORS.len() - 2);
    let at = |index: usize| COLORS.get(index).copied().unwrap_or_default();
    let ([r0, g0, b0], [r1, g1, b1], rest) = (at(below), at(below + 1), place - below as f64);
    [(r0, r1), (g0, g1), (b0, b1)].map(|(low, high)| (low + (high - low) * rest).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_run_from_dark_to_light() {
        assert_eq!((color(0.0), color(1.0), color(9.0)), ([0, 0, 4], [252, 255, 164], [252, 255, 164]));
        assert_eq!(color(0.25), [87, 16, 110]);
        let luma =
            |value: f64| color(value).map(f64::from).iter().zip([0.299, 0.587, 0.114]).map(|(c, w)| c * w).sum::<f64>();
        assert!((0..100).all(|step| luma(f64::from(step) / 100.0) < luma(f64::from(step + 1) / 100.0)));
    }

    #[test]
    fn the_pixel_of_the_max_is_the_brightest() {
        let mut values = vec![0.0; SIDE * SIDE];
        values[3 * SIDE + 5] = 0.5;
        let png = render(&values, &[77; SIDE * SIDE]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (816, 416));
        let at = |x: usize, y: usize| &pixels[(y * 816 + x) * 3..][..3];
        assert_eq!(at(GAP + 100, GAP + 100), [77; 3]);
        assert_eq!(at(384 + 2 * GAP + 5 * SCALE + 1, GAP + 3 * SCALE + 1), [252, 255, 164]);
        assert_eq!(at(384 + 2 * GAP + 7 * SCALE, GAP + 3 * SCALE), [0, 0, 4]);
        assert_eq!(at(1, 1), [255; 3]);
    }
}
