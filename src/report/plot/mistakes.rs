//! Images that were predicted wrongly, with what they are and what was said.

use anyhow::Result;
use plotters::prelude::DrawingBackend;

use super::page::{DENSITY, Drawing, Look, Page, TEXT, pixels};
use crate::data::images::SIDE;
use crate::report::picture::rgb_png;

/// Pixels of the PNG to one of a face; the page has half as many.
const SCALE: usize = 3;
const FACE: usize = SIDE * SCALE / DENSITY;

/// At most so many faces, so many in a row, and as many columns as the heading needs.
const MOST: usize = 48;
const COLUMNS: usize = 8;
const LEAST_COLUMNS: usize = 4;

/// Pixels of the page between faces, for the two lines below one, and for the heading.
const GAP: usize = 6;
const LINES: usize = 26;
const HEADING: usize = 18;

/// Text: twice as large in the PNG.
const TEXT_HERE: Look = Look { size: 8.5, ..TEXT };

/// A face that was predicted wrongly.
#[derive(Debug, Clone, Copy)]
pub struct Mistake<'a> {
    /// Its 48x48 bytes.
    pub face: &'a [u8],
    /// Its label.
    pub truth: &'a str,
    /// What was predicted.
    pub predicted: &'a str,
    /// With which probability.
    pub confidence: f64,
}

/// AugmentParams up to 48 faces in rows of 8, with label, prediction and confidence, as PNG.
///
/// # Errors
/// When it cannot be drawn.
pub fn mistakes(mistakes: &[Mistake]) -> Result<Vec<u8>> {
    let sheet = Sheet(mistakes.get(..MOST).unwrap_or(mistakes));
    let (width, height) = sheet.size();
    let (width, height) = (width as usize * DENSITY, height as usize * DENSITY);
    let mut pixels = pixels(&sheet)?;
    for (mistake, number) in sheet.0.iter().zip(0..) {
        let (left, top) = place(number);
        paste(&mut pixels, width, (left * DENSITY, top * DENSITY), mistake.face);
    }
    rgb_png(width, height, &pixels)
}

/// The upper left corner of a face on the page.
fn place(number: usize) -> (usize, usize) {
    let (row, column) = (number / COLUMNS, number % COLUMNS);
    (GAP + column * (FACE + GAP), GAP + HEADING + row * (FACE + LINES + GAP))
}

/// AugmentParams a face, pixel by pixel, into colours of a row's `width`.
fn paste(pixels: &mut [u8], width: usize, (left, top): (usize, usize), face: &[u8]) {
    let rows = pixels.chunks_exact_mut(width * 3).skip(top).take(SIDE * SCALE);
    for (row, y) in rows.zip(0..) {
        for (pixel, x) in row.as_chunks_mut::<3>().0.iter_mut().skip(left).take(SIDE * SCALE).zip(0..) {
            // A face of fewer bytes ends in white.
            *pixel = [face.get(y / SCALE * SIDE + x / SCALE).copied().unwrap_or(u8::MAX); 3];
        }
    }
}

struct Sheet<'a>(&'a [Mistake<'a>]);

impl Drawing for Sheet<'_> {
    fn size(&self) -> (u32, u32) {
        let columns = self.0.len().clamp(LEAST_COLUMNS, COLUMNS) as u32;
        let rows = self.0.len().div_ceil(COLUMNS).max(1) as u32;
        let (face, gap, lines, heading) = (FACE as u32, GAP as u32, LINES as u32, HEADING as u32);
        (gap + columns * (face + gap), gap + heading + rows * (face + lines + gap))
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<B>) -> Result<()> {
        let heading = if self.0.is_empty() {
            "No face was predicted wrongly."
        } else {
            "Bold: the label. Below it: the prediction and its confidence."
        };
        page.text((GAP as f64, GAP as f64 + 5.0), heading, TEXT_HERE)?;
        for (mistake, number) in self.0.iter().zip(0..) {
            let (left, top) = place(number);
            let (left, top, width) = (left as f64, (top + FACE) as f64, (FACE + GAP / 2) as f64);
            let bold = TEXT_HERE.bold();
            page.text((left, top + 8.0), &bold.fit(mistake.truth, width), bold)?;
            let percent = match mistake.confidence {
                share if (0.0..=1.0).contains(&share) => format!(" {:.0}%", share * 100.0),
                _ => String::new(),
            };
            let name = TEXT_HERE.fit(mistake.predicted, width - TEXT_HERE.width(&percent));
            page.text((left, top + 19.0), &format!("{name}{percent}"), TEXT_HERE)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::tests::decoded;

    #[test]
    fn a_face_is_drawn_three_times_its_size() {
        let face: Vec<u8> = (0..SIDE * SIDE).map(|place| (place * 7 % 251) as u8).collect();
        let mistake = Mistake { face: &face, truth: "sad", predicted: "happy", confidence: 0.93 };
        let (size, pixels) = decoded(&mistakes(&[mistake; 9]).unwrap());
        assert_eq!(size, (12 + 8 * 156, 12 + 36 + 2 * 208));
        for number in [0, 7, 8] {
            let (left, top) = place(number);
            for (x, y) in [(0, 0), (47, 47), (13, 31)] {
                let pixel = ((top * 2 + y * 3 + 1) * size.0 as usize + left * 2 + x * 3 + 1) * 3;
                assert_eq!(pixels[pixel..pixel + 3], [face[y * SIDE + x]; 3], "{number} {x} {y}");
            }
        }
    }

    #[test]
    fn any_number_of_faces_is_drawn() {
        let name = "an expression of a very long name".repeat(10);
        for (count, columns, rows) in [(0, 4, 1), (1, 4, 1), (6, 6, 1), (8, 8, 1), (48, 8, 6), (100, 8, 6)] {
            for (face, confidence) in [(&[][..], f64::NAN), (&[9; 3000][..], f64::INFINITY), (&[0; 2304][..], -1.0)] {
                let mistake = Mistake { face, truth: &name, predicted: "\n", confidence };
                let (size, _) = decoded(&mistakes(&vec![mistake; count]).unwrap());
                assert_eq!(size, (12 + columns * 156, 12 + 36 + rows * 208), "{count}");
            }
        }
    }
}
