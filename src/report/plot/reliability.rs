//! Reliability diagram: accuracy by confidence.

use anyhow::Result;

use super::Plot;
use super::axis::{Axis, Unit, is_plottable};
use super::canvas::{Align, BLUE, Canvas, GRID, INK, SMALL, TEXT, VERMILION, WIDTH};
use super::legend::{Mark, draw_translucent_area};
use crate::metrics::CalibrationBin;

/// Left and right edge of the panels.
const COLUMN: (f64, f64) = (76.0, 528.0);
/// Bottom and top of each panel.
const ACCURACY: (f64, f64) = (392.0, 32.0);
const IMAGES: (f64, f64) = (528.0, 440.0);
const HEIGHT: u32 = 578;
/// Left edge of the legend.
const LEGEND: f64 = 560.0;
/// From the top of a panel up to its heading.
const HEADING: f64 = 16.0;

/// Plots accuracy against confidence in bins, and the images in each; `ece` is the expected
/// calibration error.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn reliability(bins: &[CalibrationBin], ece: f64) -> Result<Plot> {
    let max_images = bins.iter().map(|bin| bin.rows).max().unwrap_or(0).max(1);
    let axes = Axes {
        confidence: Axis::linear((0.0, 1.0), COLUMN),
        accuracy: Axis::linear((0.0, 1.0), ACCURACY),
        images: Axis::linear((0.0, max_images as f64 * 1.08), IMAGES),
    };
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    draw_grid(&mut canvas, &axes);
    for bin in bins {
        draw_bin(&mut canvas, bin, &axes);
    }
    canvas.dashed((COLUMN.0, ACCURACY.0), (COLUMN.1, ACCURACY.1), 1.5, INK);
    for bottom in [ACCURACY.0, IMAGES.0] {
        canvas.horizontal(bottom, COLUMN, 1.0, INK);
    }
    draw_legend(&mut canvas, bins, ece);
    canvas.finish()
}

struct Axes {
    confidence: Axis,
    accuracy: Axis,
    images: Axis,
}

fn draw_grid(canvas: &mut Canvas, axes: &Axes) {
    let panels = [
        (&axes.accuracy, ACCURACY, "Accuracy", 5.0, Unit::Percent),
        (&axes.images, IMAGES, "Images", 3.0, Unit::Whole),
    ];
    for (axis, (bottom, top), title, ticks, unit) in panels {
        canvas.text((COLUMN.0, top - HEADING), title, TEXT.bold());
        for (x, _) in axes.confidence.ticks(5.0, Unit::Percent) {
            canvas.vertical(x, (top, bottom), 1.0, GRID);
        }
        axis.draw_horizontal_grid(canvas, COLUMN, ticks, unit);
    }
    for (x, label) in axes.confidence.ticks(5.0, Unit::Percent) {
        canvas.text((x, IMAGES.0 + 14.0), &label, SMALL.aligned(Align::Middle));
    }
    let center = f64::midpoint(COLUMN.0, COLUMN.1);
    canvas.text((center, IMAGES.0 + 34.0), "Confidence", TEXT.aligned(Align::Middle));
}

/// Draws the bars of a bin; none for an empty bin or one with invalid numbers.
fn draw_bin(canvas: &mut Canvas, bin: &CalibrationBin, axes: &Axes) {
    let position = |axis: &Axis, value: f64| axis.position(value.clamp(0.0, 1.0));
    let edges = (position(&axes.confidence, bin.low), position(&axes.confidence, bin.high));
    let (Some(left), Some(right)) = edges else { return };
    if bin.rows == 0 || left >= right {
        return;
    }
    let (left, right) = (left + 1.0, right - 1.0);
    if let Some(top) = axes.images.position(bin.rows as f64) {
        canvas.rect((left, top), (right, IMAGES.0), BLUE, 1.0);
    }
    let Some(top) = position(&axes.accuracy, bin.accuracy) else { return };
    canvas.rect((left, top), (right, ACCURACY.0), BLUE, 1.0);
    if let Some(expected) = position(&axes.accuracy, bin.confidence).filter(|_| is_plottable(bin.confidence)) {
        draw_translucent_area(canvas, (left, top), (right, expected), VERMILION);
    }
}

fn draw_legend(canvas: &mut Canvas, bins: &[CalibrationBin], ece: f64) {
    let entries = [
        (Mark::Area(BLUE), "accuracy per bin"),
        (Mark::TranslucentArea(VERMILION), "gap to mean confidence"),
        (Mark::Dashes(INK), "perfect calibration"),
    ];
    for ((mark, text), line) in entries.into_iter().zip(0..) {
        let y = ACCURACY.1 + 12.0 + 24.0 * f64::from(line);
        mark.draw(canvas, (LEGEND + 15.0, y));
        canvas.text((LEGEND + 38.0, y), text, TEXT);
    }
    let (images, y) = (bins.iter().map(|bin| bin.rows).sum::<u64>(), ACCURACY.1 + 98.0);
    let ece = if images > 0 && is_plottable(ece) { format!("{ece:.4}") } else { "–".to_owned() };
    canvas.text((LEGEND, y), &format!("ECE {ece}"), TEXT.bold());
    canvas.text((LEGEND, y + 18.0), "expected calibration error:", SMALL);
    canvas.text((LEGEND, y + 34.0), "the mean gap, over images", SMALL);
    if images == 0 {
        let position = (f64::midpoint(COLUMN.0, COLUMN.1), ACCURACY.0 - 40.0);
        canvas.text(position, "no images", TEXT.aligned(Align::Middle));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, texts};
    use super::*;

    const SIZE: (u32, u32) = (760, 578);

    #[test]
    fn bins_and_error_are_plotted() {
        let bin =
            |low: f64, rows, confidence, accuracy| CalibrationBin { low, high: low + 0.5, rows, confidence, accuracy };
        let plot = reliability(&[bin(0.0, 7, 0.4, 0.5), bin(0.5, 70, 0.9, 0.8)], 0.1).unwrap();
        check(&plot, SIZE);
        let texts = texts(&plot.svg);
        for text in ["Accuracy", "Confidence", "Images", "ECE 0.1000", "100%", "50"] {
            assert!(texts.iter().any(|other| other == text), "{text}: {texts:?}");
        }
    }

    #[test]
    fn invalid_bins_are_left_out() {
        check(&reliability(&[], 0.0).unwrap(), SIZE);
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1.0, 0.0, 0.5, 2.0];
        for (value, other) in odd.into_iter().flat_map(|value| [(value, 0.3), (0.3, value), (value, value)]) {
            let bin = |rows, low, high, confidence, accuracy| CalibrationBin { low, high, rows, confidence, accuracy };
            let max = u64::MAX / 4;
            let bins =
                [bin(max, value, other, value, other), bin(1, 0.0, 0.5, value, other), bin(0, 0.0, value, 0.1, value)];
            check(&reliability(&bins, value).unwrap(), SIZE);
        }
    }
}
