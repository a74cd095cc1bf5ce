//! A reliability diagram: what a confidence is worth.

use anyhow::Result;
use plotters::prelude::DrawingBackend;

use super::Picture;
use super::axis::{Axis, Unit, drawable};
use super::key::{Mark, pale};
use super::page::{Align, BLUE, Drawing, GRID_COLOUR, INK_COLOUR, Page, SMALL, TEXT, VERMILLION, WIDTH};
use crate::metrics::CalibrationBin;

/// Left and right edge of the panels, from where to where the numbers of their axes go up, and the height of the page.
const ACROSS: (f64, f64) = (76.0, 528.0);
const ACCURACY: (f64, f64) = (392.0, 32.0);
const FACES: (f64, f64) = (528.0, 440.0);
const HEIGHT: u32 = 578;
/// Where the key begins.
const KEY: f64 = 560.0;
/// From the top of a panel up to its heading.
const HEADING: f64 = 16.0;

/// AugmentParams accuracy against confidence in bins, and the faces in each; `ece` is the expected calibration error.
///
/// # Errors
/// When it cannot be drawn.
pub fn reliability(bins: &[CalibrationBin], ece: f64) -> Result<Picture> {
    Picture::of(&Reliability { bins, ece })
}

struct Reliability<'a> {
    bins: &'a [CalibrationBin],
    ece: f64,
}

impl Drawing for Reliability<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, HEIGHT)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<B>) -> Result<()> {
        let confidence = Axis::linear((0.0, 1.0), ACROSS);
        let accuracy = Axis::linear((0.0, 1.0), ACCURACY);
        let most = self.bins.iter().map(|bin| bin.rows).max().unwrap_or(0).max(1);
        let faces = Axis::linear((0.0, most as f64 * 1.08), FACES);
        for (axis, (bottom, top), title) in [(&accuracy, ACCURACY, "Accuracy"), (&faces, FACES, "Images")] {
            page.text((ACROSS.0, top - HEADING), title, TEXT.bold())?;
            for (x, _) in confidence.ticks(5.0, Unit::Percent) {
                page.upright(x, (top, bottom), 1.0, GRID_COLOUR)?;
            }
            let (count, unit) = if title == "Images" { (3.0, Unit::Whole) } else { (5.0, Unit::Percent) };
            axis.draw_rising(page, ACROSS, count, unit)?;
        }
        for bin in self.bins {
            draw_bin(page, bin, &confidence, &accuracy, &faces)?;
        }
        page.dashes((ACROSS.0, ACCURACY.0), (ACROSS.1, ACCURACY.1), 1.5, INK_COLOUR)?;
        for bottom in [ACCURACY.0, FACES.0] {
            page.level(bottom, ACROSS, 1.0, INK_COLOUR)?;
        }
        for (x, text) in confidence.ticks(5.0, Unit::Percent) {
            page.text((x, FACES.0 + 14.0), &text, SMALL.aligned(Align::Middle))?;
        }
        let middle = f64::midpoint(ACROSS.0, ACROSS.1);
        page.text((middle, FACES.0 + 34.0), "Confidence", TEXT.aligned(Align::Middle))?;
        self.draw_key(page)
    }
}

impl Reliability<'_> {
    fn draw_key<B: DrawingBackend>(&self, page: &Page<B>) -> Result<()> {
        let entries = [
            (Mark::Fill(BLUE), "accuracy of the bin"),
            (Mark::Pale(VERMILLION), "gap to its confidence"),
            (Mark::Dashes(INK_COLOUR), "perfect calibration"),
        ];
        for ((mark, text), line) in entries.into_iter().zip(0..) {
            let y = ACCURACY.1 + 12.0 + 24.0 * f64::from(line);
            mark.draw(page, (KEY + 15.0, y))?;
            page.text((KEY + 38.0, y), text, TEXT)?;
        }
        let (faces, y) = (self.bins.iter().map(|bin| bin.rows).sum::<u64>(), ACCURACY.1 + 98.0);
        let ece = if faces > 0 && drawable(self.ece) { format!("{:.4}", self.ece) } else { "–".to_owned() };
        page.text((KEY, y), &format!("ECE {ece}"), TEXT.bold())?;
        page.text((KEY, y + 18.0), "expected calibration error:", SMALL)?;
        page.text((KEY, y + 34.0), "the mean gap, over faces", SMALL)?;
        if faces == 0 {
            let place = (f64::midpoint(ACROSS.0, ACROSS.1), ACCURACY.0 - 40.0);
            page.text(place, "no faces", TEXT.aligned(Align::Middle))?;
        }
        Ok(())
    }
}

/// The bars of a bin; none for an empty bin, or one whose numbers are none.
fn draw_bin<B: DrawingBackend>(
    page: &Page<B>,
    bin: &CalibrationBin,
    confidence: &Axis,
    accuracy: &Axis,
    faces: &Axis,
) -> Result<()> {
    let at = |axis: &Axis, value: f64| axis.at(value.clamp(0.0, 1.0));
    let (Some(left), Some(right)) = (at(confidence, bin.low), at(confidence, bin.high)) else { return Ok(()) };
    if bin.rows == 0 || left >= right {
        return Ok(());
    }
    let (left, right) = (left + 1.0, right - 1.0);
    if let Some(top) = faces.at(bin.rows as f64) {
        page.rect((left, top), (right, FACES.0), BLUE, 1.0)?;
    }
    let Some(top) = at(accuracy, bin.accuracy) else { return Ok(()) };
    page.rect((left, top), (right, ACCURACY.0), BLUE, 1.0)?;
    match at(accuracy, bin.confidence) {
        Some(expected) if drawable(bin.confidence) => pale(page, (left, top), (right, expected), VERMILLION),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::tests::{check, texts};

    const SIZE: (u32, u32) = (760, 578);

    #[test]
    fn bins_and_error_are_drawn() {
        let bin =
            |low: f64, rows, confidence, accuracy| CalibrationBin { low, high: low + 0.5, rows, confidence, accuracy };
        let picture = reliability(&[bin(0.0, 7, 0.4, 0.5), bin(0.5, 70, 0.9, 0.8)], 0.1).unwrap();
        check(&picture, SIZE);
        let texts = texts(&picture.svg);
        for text in ["Accuracy", "Confidence", "Images", "ECE 0.1000", "100%", "50"] {
            assert!(texts.iter().any(|other| other == text), "{text}: {texts:?}");
        }
    }

    #[test]
    fn odd_bins_are_left_out() {
        check(&reliability(&[], 0.0).unwrap(), SIZE);
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1.0, 0.0, 0.5, 2.0];
        for (value, other) in odd.into_iter().flat_map(|value| [(value, 0.3), (0.3, value), (value, value)]) {
            let bin = |rows, low, high, confidence, accuracy| CalibrationBin { low, high, rows, confidence, accuracy };
            let most = u64::MAX / 4;
            let bins =
                [bin(most, value, other, value, other), bin(1, 0.0, 0.5, value, other), bin(0, 0.0, value, 0.1, value)];
            check(&reliability(&bins, value).unwrap(), SIZE);
        }
    }
}
