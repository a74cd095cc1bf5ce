//! Histograms of the images of a check for drift: reference and new images side by side.

use anyhow::Result;

use super::Plot;
use super::axis::{Axis, Unit, is_plottable};
use super::canvas::{Align, BLUE, Canvas, INK, SMALL, TEXT, VERMILION, WIDTH};
use super::legend::{Mark, draw_legend};

/// Height of a panel with its title and labels, and of the bars within it.
const PANEL: f64 = 190.0;
const BARS: f64 = 110.0;
/// Space for the legend.
const TOP: f64 = 44.0;
/// Left and right edge of the bars.
const COLUMN: (f64, f64) = (58.0, WIDTH as f64 - 12.0);

/// A histogram of two samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Title of the panel.
    pub title: String,
    /// Name of each bin or class, from left to right.
    pub labels: Vec<String>,
    /// Fraction of the reference images in each bin.
    pub reference: Vec<f64>,
    /// Fraction of the new images in each bin.
    pub new: Vec<f64>,
}

/// Plots the histograms below each other.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn drift(histograms: &[Histogram]) -> Result<Plot> {
    let height = TOP + PANEL * histograms.len().max(1) as f64;
    let mut canvas = Canvas::new(WIDTH, height.ceil() as u32);
    draw_legend(
        &mut canvas,
        (8.0, 16.0),
        &[(Mark::Area(BLUE), "reference images"), (Mark::Area(VERMILION), "new images")],
    );
    for (number, histogram) in histograms.iter().enumerate() {
        draw_panel(&mut canvas, histogram, TOP + PANEL * number as f64);
    }
    canvas.finish()
}

fn draw_panel(canvas: &mut Canvas, histogram: &Histogram, top: f64) {
    let values = histogram.reference.iter().chain(&histogram.new).copied().filter(|value| is_plottable(*value));
    let highest = values.fold(0.0, f64::max).clamp(0.01, 1.0);
    let (upper, lower) = (top + 30.0, top + 30.0 + BARS);
    let axis = Axis::linear((0.0, highest * 1.05), (lower, upper));
    canvas.text((COLUMN.0, top + 12.0), &histogram.title, TEXT.bold());
    axis.draw_horizontal_grid(canvas, COLUMN, 4.0, Unit::Percent);
    let bins = histogram.labels.len().max(1) as f64;
    let width = (COLUMN.1 - COLUMN.0) / bins;
    let bars = histogram.labels.iter().zip(&histogram.reference).zip(&histogram.new);
    for (number, ((label, reference), new)) in bins_from(COLUMN.0, width).zip(bars) {
        for (value, color, from) in [(reference, BLUE, 0.12), (new, VERMILION, 0.5)] {
            if let Some(y) = axis.position(value.clamp(0.0, 1.0)) {
                canvas.rect((number + width * from, y), (number + width * (from + 0.38), lower), color, 1.0);
            }
        }
        let style = SMALL.aligned(Align::Middle);
        canvas.text((number + width / 2.0, lower + 13.0), &style.fit(label, width - 4.0), style);
    }
    canvas.horizontal(lower, COLUMN, 1.0, INK);
}

/// Left edges of bins of `width`.
fn bins_from(left: f64, width: f64) -> impl Iterator<Item = f64> {
    (0..).map(move |bin| left + width * f64::from(bin))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, texts};
    use super::*;

    #[test]
    fn each_histogram_has_a_panel() {
        let histogram = |title: &str, values: [f64; 2]| Histogram {
            title: title.to_owned(),
            labels: vec!["to 3".into(), "above".into()],
            reference: values.to_vec(),
            new: vec![0.5, 0.5],
        };
        let odd = [f64::NAN, f64::INFINITY];
        let plot = drift(&[histogram("brightness", [0.2, 0.8]), histogram("contrast", odd)]).unwrap();
        check(&plot, (WIDTH, 424));
        let texts = texts(&plot.svg);
        for text in ["brightness", "contrast", "to 3", "above", "reference images", "new images", "50%"] {
            assert!(texts.iter().any(|found| found == text), "{text}: {texts:?}");
        }
        check(&drift(&[]).unwrap(), (WIDTH, 234));
    }
}
