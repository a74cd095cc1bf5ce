//! Where a model looks: a value for each pixel as a heat map, beside the mean face.

use anyhow::Result;

use super::picture::rgb_png;
use crate::data::images::SIDE;

/// Edge of a pixel of the face in the picture.
const SCALE: usize = 8;
/// White around and between.
const GAP: usize = 16;

/// Colours from the least to the greatest value, evenly spaced: black, violet, red, orange, pale yellow, growing lighter all the
/// way, so that the picture reads in grey too.
const COLOURS: [[f64; 3]; 5] =
    [[0.0, 0.0, 4.0], [87.0, 16.0, 110.0], [188.0, 55.0, 84.0], [249.0, 142.0, 9.0], [252.0, 255.0, 164.0]];

/// AugmentParams `values` `[48, 48]`, from 0 (black) to their greatest, as a heat map on the right of the `mean` face: a PNG.
///
/// # Errors
/// The PNG encoder's, which memory does not cause.
pub fn draw(values: &[f64], mean: &[u8]) -> Result<Vec<u8>> {
    let greatest = values.iter().copied().fold(0.0, f64::max);
    let share = |value: f64| if greatest > 0.0 { value / greatest } else { 0.0 };
    let grey = |place: usize| mean.get(place).map_or([255; 3], |value| [*value; 3]);
    let heat = |place: usize| values.get(place).map_or([255; 3], |value| colour(share(*value)));
    let edge = SIDE * SCALE;
    let (width, height) = (2 * edge + 3 * GAP, edge + 2 * GAP);
    let pixel = |place: usize| {
        let (x, y) = (place % width, place / width);
        let (left, right) = (x.wrapping_sub(GAP), x.wrapping_sub(edge + 2 * GAP));
        let row = y.wrapping_sub(GAP);
        match (left, right, row) {
            (x, _, y) if x < edge && y < edge => grey(y / SCALE * SIDE + x / SCALE),
            (_, x, y) if x < edge && y < edge => heat(y / SCALE * SIDE + x / SCALE),
            _ => [255; 3],
        }
    };
    let pixels: Vec<u8> = (0..width * height).flat_map(pixel).collect();
    rgb_png(width, height, &pixels)
}

/// The colour of a share of the greatest value.
fn colour(share: f64) -> [u8; 3] {
    let place = share.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f64;
    let below = (place.floor() as usize).min(COLOURS.len() - 2);
    let at = |index: usize| COLOURS.get(index).copied().unwrap_or_default();
    let (low, high, rest) = (at(below), at(below + 1), place - below as f64);
    let mix = |(low, high): (f64, f64)| (low + (high - low) * rest).round() as u8;
    let [r, g, b] = [0, 1, 2].map(|channel: usize| {
        let of = |colour: [f64; 3]| colour.get(channel).copied().unwrap_or_default();
        mix((of(low), of(high)))
    });
    [r, g, b]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_run_from_dark_to_light() {
        assert_eq!((colour(0.0), colour(1.0), colour(9.0)), ([0, 0, 4], [252, 255, 164], [252, 255, 164]));
        assert_eq!(colour(0.25), [87, 16, 110]);
        let light = |share: f64| {
            colour(share).map(f64::from).iter().zip([0.299, 0.587, 0.114]).map(|(c, w)| c * w).sum::<f64>()
        };
        assert!((0..100).all(|step| light(f64::from(step) / 100.0) < light(f64::from(step + 1) / 100.0)));
    }

    #[test]
    fn the_greatest_value_is_where_it_belongs() {
        let mut values = vec![0.0; SIDE * SIDE];
        values[3 * SIDE + 5] = 0.5;
        let drawn = draw(&values, &[77; SIDE * SIDE]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(drawn)).read_info().unwrap();
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
