//! Sheet of images, each beside the evidence for a class in it: a heat map over the image.

use anyhow::Result;

use super::Plot;
use super::canvas::{Align, Canvas, Point, SMALL, TEXT, VERMILION};
use crate::data::images::SIDE;
use crate::report::heat_map;
use crate::report::png_encoding::{encode_gray, encode_rgb};

/// Side of an image: 2 units of the SVG and 4 pixels of the PNG per pixel.
const IMAGE: f64 = SIDE as f64 * 2.0;

/// Max images; max pairs in a row, of a sheet of many images and of others; and the columns that the
/// heading needs.
pub const MAX_EXPLAINED: usize = 100;
const MAX_COLUMNS: usize = 5;
const COLUMNS: usize = 4;
const MIN_COLUMNS: usize = 3;

/// Space within a pair, between pairs, for the two lines below one, and for the heading.
const INNER: f64 = 3.0;
const GAP: f64 = 14.0;
const LINES: f64 = 34.0;
const HEADING: f64 = 44.0;

/// Width of a pair.
const PAIR: f64 = 2.0 * IMAGE + INNER;

/// Pixels of the color bar of the legend, which are its units too.
const BAR: (usize, usize) = (84, 10);

/// Gray value of the image under the color bar.
const MID_GRAY: u8 = 128;

/// An image and the evidence for a class in it.
#[derive(Debug, Clone, Copy)]
pub struct Explained<'a> {
    /// Its 48x48 gray values, row by row.
    pub image: &'a [u8],
    /// 48x48 values from 0 to 1, row by row.
    pub heat: &'a [f32],
    /// Class name of the prediction.
    pub predicted: &'a str,
    /// Probability of the prediction.
    pub confidence: f64,
    /// Class name of its label, if it has one.
    pub label: Option<&'a str>,
    /// What names it, if anything.
    pub id: Option<&'a str>,
}

/// Plots up to 100 images in rows of 4 or 5, each beside its heat map, under a title and a note.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn explanations(title: &str, note: &str, images: &[Explained]) -> Result<Plot> {
    let images = images.get(..MAX_EXPLAINED).unwrap_or(images);
    let columns = columns(images.len());
    let (width, height) = size(images.len());
    let mut canvas = Canvas::new(width, height);
    let right = f64::from(width) - GAP;
    let legend = draw_legend(&mut canvas, (right, GAP + 6.0))?;
    canvas.text((GAP, GAP + 6.0), &TEXT.bold().fit(title, legend - 2.0 * GAP), TEXT.bold());
    canvas.text((GAP, GAP + 24.0), &SMALL.fit(note, right - GAP), SMALL);
    for (number, explained) in images.iter().enumerate() {
        let (row, column) = ((number / columns) as f64, (number % columns) as f64);
        let corner = (GAP + column * (PAIR + GAP), GAP + HEADING + row * (IMAGE + LINES + GAP));
        draw_pair(&mut canvas, corner, explained)?;
    }
    canvas.finish()
}

/// Pairs in a row.
fn columns(count: usize) -> usize {
    let max = if count > 6 * COLUMNS { MAX_COLUMNS } else { COLUMNS };
    count.clamp(1, max)
}

fn size(count: usize) -> (u32, u32) {
    let rows = count.div_ceil(columns(count)).max(1) as f64;
    let columns = columns(count).max(MIN_COLUMNS) as f64;
    let (width, height) = (GAP + columns * (PAIR + GAP), GAP + HEADING + rows * (IMAGE + LINES + GAP));
    (width as u32, height as u32)
}

/// Draws a color bar that ends at a position; returns the left edge of the legend.
fn draw_legend(canvas: &mut Canvas, (right, y): Point) -> Result<f64> {
    let (low, high) = ("no evidence", "most");
    let (width, height) = (BAR.0 as f64, BAR.1 as f64);
    canvas.text((right, y), high, SMALL.aligned(Align::End));
    let left = right - SMALL.width(high) - 6.0 - width;
    let pixels = (0..BAR.0 * BAR.1).map(|place| (place % BAR.0) as f32 / (BAR.0 - 1) as f32);
    let pixels: Vec<u8> = pixels.flat_map(|heat| blend(MID_GRAY, heat)).collect();
    canvas.image((left, y - height / 2.0), (width, height), &encode_rgb(BAR.0, BAR.1, &pixels)?);
    canvas.text((left - 6.0, y), low, SMALL.aligned(Align::End));
    Ok(left - 6.0 - SMALL.width(low))
}

fn draw_pair(canvas: &mut Canvas, (left, top): Point, explained: &Explained) -> Result<()> {
    // Pixels that are missing are white, and without heat.
    let mut pixels = explained.image.to_vec();
    pixels.resize(SIDE * SIDE, u8::MAX);
    let heat = explained.heat.iter().copied().chain(std::iter::repeat(0.0));
    let colors: Vec<u8> = pixels.iter().zip(heat).flat_map(|(gray, heat)| blend(*gray, heat)).collect();
    canvas.image((left, top), (IMAGE, IMAGE), &encode_gray(SIDE, SIDE, &pixels)?);
    canvas.image((left + IMAGE + INNER, top), (IMAGE, IMAGE), &encode_rgb(SIDE, SIDE, &colors)?);
    let (right, first, second) = (left + PAIR, top + IMAGE + 11.0, top + IMAGE + 26.0);
    let percent = match explained.confidence {
        confidence if (0.0..=1.0).contains(&confidence) => format!(" {:.0}%", confidence * 100.0),
        _ => String::new(),
    };
    let bold = SMALL.bold();
    let name = bold.fit(explained.predicted, 0.75 * PAIR - bold.width(&percent));
    let predicted = format!("{name}{percent}");
    canvas.text((left, first), &predicted, bold);
    if let Some(id) = explained.id {
        let id = SMALL.fit(id, PAIR - bold.width(&predicted) - 8.0);
        canvas.text((right, first), &id, SMALL.aligned(Align::End));
    }
    let is_cold = explained.heat.iter().all(|heat| *heat <= 0.0);
    let cold = if is_cold { "no evidence" } else { "" };
    if let Some(label) = explained.label {
        let is_wrong = label != explained.predicted;
        let style = if is_wrong { super::canvas::TextStyle { color: VERMILION, ..SMALL } } else { SMALL };
        let mark = if is_wrong { "✗ label " } else { "✓ label " };
        let width = PAIR - SMALL.width(mark) - SMALL.width(cold) - 8.0;
        canvas.text((left, second), &format!("{mark}{}", SMALL.fit(label, width)), style);
    }
    if is_cold {
        canvas.text((right, second), cold, SMALL.aligned(Align::End));
    }
    Ok(())
}

/// The color of a heat from 0 to 1 over a gray value. Without heat the image is as it is.
fn blend(gray: u8, heat: f32) -> [u8; 3] {
    let heat = f64::from(heat).clamp(0.0, 1.0);
    let opacity = 0.8 * (1.5 * heat).min(1.0);
    // Black, the first color, would hide dark pixels.
    heat_map::color(0.2 + 0.8 * heat)
        .map(|color| (f64::from(gray) + opacity * (f64::from(color) - f64::from(gray))).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, decoded, texts};
    use super::*;

    #[test]
    fn heat_is_beside_the_image_and_its_texts_below() {
        let image: Vec<u8> = (0..SIDE * SIDE).map(|place| (place * 7 % 251) as u8).collect();
        let mut heat = vec![0.0; SIDE * SIDE];
        heat[10 * SIDE + 20] = 1.0;
        let wrong = Explained {
            image: &image,
            heat: &heat,
            predicted: "happy",
            confidence: 0.93,
            label: Some("sad"),
            id: Some("17"),
        };
        let right = Explained { label: Some("happy"), id: None, heat: &[0.0; 2304], ..wrong };
        let plot = explanations("HiResCAM", "run", &[wrong, right]).unwrap();
        check(&plot, size(2));
        let found = texts(&plot.svg);
        assert_eq!(
            found[2..],
            ["HiResCAM", "run", "happy 93%", "17", "✗ label sad", "happy 93%", "✓ label happy", "no evidence"]
        );
        let ((width, _), pixels) = decoded(&plot.png);
        let at = |x: f64, y: f64| {
            let place = (((2.0 * y) as usize + 1) * width as usize + (2.0 * x) as usize + 1) * 3;
            [pixels[place], pixels[place + 1], pixels[place + 2]]
        };
        let (top, over) = (GAP + HEADING, GAP + IMAGE + INNER);
        let gray = image[10 * SIDE + 20];
        assert_eq!(at(GAP + 40.0, top + 20.0), [gray; 3]);
        assert_eq!(at(over + 40.0, top + 20.0), blend(gray, 1.0));
        assert_eq!(at(over + 42.0, top + 20.0), [image[10 * SIDE + 21]; 3], "no heat, no color");
    }

    #[test]
    fn more_heat_is_more_colorful() {
        for gray in [0, 100, 255] {
            assert_eq!(blend(gray, 0.0), [gray; 3]);
            let blue = |heat: f32| f64::from(blend(gray, heat)[0]) - f64::from(blend(gray, heat)[2]);
            assert!(blue(0.5) > 30.0 && blue(0.5) > blue(0.2), "{gray}");
            assert_eq!(blend(gray, f32::NAN).len(), 3);
        }
    }

    #[test]
    fn any_number_of_images_is_plotted() {
        let name = "an expression of a very long name".repeat(10);
        for (count, columns, rows) in [(0, 3, 1), (1, 3, 1), (4, 4, 1), (24, 4, 6), (25, 5, 5), (150, 5, 20)] {
            for (image, confidence) in [(&[][..], f64::NAN), (&[9; 3000][..], 0.5)] {
                let label = Some(name.as_str());
                let explained =
                    Explained { image, heat: &[f32::NAN; 9], predicted: "\n", confidence, label, id: label };
                let plot = explanations(&name, &name, &vec![explained; count]).unwrap();
                check(&plot, (14 + columns * 209, 58 + rows * 144));
            }
        }
    }
}
