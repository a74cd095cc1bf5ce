//! The progress of a search: every score and the best so far, by the epochs trained.

use anyhow::Result;

use super::Plot;
use super::axis::{Axis, Unit, is_plottable, range, with_margin};
use super::canvas::{Align, BLUE, Canvas, Color, INK, Point, SMALL, TEXT, VERMILION, WIDTH};
use super::legend::{Mark, draw_heading};

/// Left and right edge, bottom and top.
const COLUMN: (f64, f64) = (76.0, 740.0);
const ROWS: (f64, f64) = (280.0, 40.0);
const HEIGHT: u32 = 330;
const HEADING: f64 = 20.0;

/// Scores before the end of a training.
const EARLY: Color = "#8A99A8";

/// A score of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Epochs trained by all trials until then.
    pub epochs: f64,
    /// Higher is better.
    pub score: f64,
    /// Whether the trial is trained to the end.
    pub is_full: bool,
}

/// Plots scores in the order in which they were measured.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn search_progress(scores: &[Measured], metric: &str) -> Result<Plot> {
    let shown: Vec<&Measured> = scores.iter().filter(|s| is_plottable(s.score) && is_plottable(s.epochs)).collect();
    let end = shown.iter().map(|measured| measured.epochs).fold(1.0, f64::max);
    let horizontal = Axis::linear((0.0, end * 1.02), COLUMN);
    let vertical = Axis::linear(with_margin(range(shown.iter().map(|s| s.score)).unwrap_or((0.0, 1.0)), 0.06), ROWS);
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    let legend = [
        (Mark::Line(VERMILION), "best so far"),
        (Mark::Circle(BLUE), "trained to the end"),
        (Mark::Run(EARLY), "before"),
    ];
    draw_heading(&mut canvas, COLUMN, ROWS.1 - HEADING, metric, &legend);
    vertical.draw_horizontal_grid(&mut canvas, COLUMN, 6.0, Unit::Plain);
    canvas.horizontal(ROWS.0, COLUMN, 1.0, INK);
    for (x, label) in horizontal.ticks(8.0, Unit::Whole) {
        canvas.text((x, ROWS.0 + 14.0), &label, SMALL.aligned(Align::Middle));
    }
    canvas.text(
        (f64::midpoint(COLUMN.0, COLUMN.1), ROWS.0 + 36.0),
        "Epochs in all trials",
        TEXT.aligned(Align::Middle),
    );
    let at = |measured: &Measured| Some((horizontal.position(measured.epochs)?, vertical.position(measured.score)?));
    canvas.polyline(&steps(shown.iter().filter_map(|measured| at(measured)), COLUMN.1), 2.0, VERMILION);
    for measured in shown {
        if let Some(point) = at(measured) {
            if measured.is_full {
                canvas.circle(point, 4.5, BLUE, 1.0);
            } else {
                canvas.circle(point, 2.5, EARLY, 1.0);
            }
        }
    }
    canvas.finish()
}

/// The line through the highest points so far, in steps, to the right end. Up is a smaller y.
fn steps(points: impl Iterator<Item = Point>, end: f64) -> Vec<Point> {
    let mut line: Vec<Point> = Vec::new();
    for (x, y) in points {
        match line.last().copied() {
            Some((_, best)) if y >= best => {}
            Some((_, best)) => line.extend([(x, best), (x, y)]),
            None => line.push((x, y)),
        }
    }
    if let Some((_, best)) = line.last().copied() {
        line.push((end, best));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, texts};
    use super::*;

    #[test]
    fn the_best_so_far_never_falls() {
        let points = [(1.0, 9.0), (2.0, 9.5), (3.0, 4.0), (4.0, 5.0)];
        let expected = [(1.0, 9.0), (3.0, 9.0), (3.0, 4.0), (10.0, 4.0)];
        assert_eq!(steps(points.into_iter(), 10.0), expected);
        assert!(steps([].into_iter(), 10.0).is_empty());
    }

    #[test]
    fn any_scores_are_plotted() {
        let score = |epochs, score| Measured { epochs, score, is_full: epochs > 2.0 };
        for scores in [
            vec![],
            vec![score(1.0, 0.5)],
            vec![score(1.0, 0.5), score(9.0, 0.6), score(12.0, f64::NAN), score(13.0, -1e90)],
        ] {
            let plot = search_progress(&scores, "val_accuracy").unwrap();
            check(&plot, (760, 330));
            assert!(texts(&plot.svg).iter().any(|text| text == "Epochs in all trials"));
        }
    }
}
