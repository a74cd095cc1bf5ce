//! Parallel coordinates: a vertical axis for each key of a search, and a line for each trial.

use anyhow::Result;

use super::Plot;
use super::axis::is_plottable;
use super::canvas::{Align, Canvas, Color, GRID, INK, Point, SMALL, TEXT, VERMILION, WHITE, WIDTH};
use super::legend::{Mark, draw_legend};

/// Bottom and top of the axes.
const ROWS: (f64, f64) = (392.0, 96.0);
const HEIGHT: u32 = 416;
/// Left edge, and space for labels right of the last axis.
const LEFT: f64 = 24.0;
const RIGHT: f64 = 112.0;
/// Distance of two axes, at least.
const SPACING: f64 = 112.0;
/// Axes of the widest plot; further ones are left out.
const MAX_AXES: usize = 40;

/// Trials that were stopped, and trained to the end. The lighter one has less contrast on purpose.
const STOPPED: Color = "#A9B8C6";
const FULL: Color = "#0072B2";

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Coordinate {
    /// What it shows.
    pub name: String,
    /// Labels at positions from 0 (bottom) to 1 (top).
    pub labels: Vec<(f64, String)>,
}

/// How far a trial has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Stopped before the end.
    Stopped,
    /// Trained to the end.
    Full,
    /// The best one.
    Best,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialLine {
    /// Its position on each axis, from 0 to 1.
    pub positions: Vec<f64>,
    /// Its color.
    pub standing: Standing,
}

/// Plots a line for each trial through its values; better standings are in front.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn parallel_coordinates(axes: &[Coordinate], lines: &[TrialLine]) -> Result<Plot> {
    let axes = axes.get(..MAX_AXES).unwrap_or(axes);
    let gaps = axes.len().saturating_sub(1).max(1) as f64;
    let width = (LEFT + gaps * SPACING + RIGHT).max(f64::from(WIDTH));
    let spacing = (width - LEFT - RIGHT) / gaps;
    let x = |index: usize| LEFT + index as f64 * spacing;
    let mut canvas = Canvas::new(width.ceil() as u32, HEIGHT);
    let entries =
        [(Standing::Best, "best"), (Standing::Full, "trained to the end"), (Standing::Stopped, "stopped early")];
    let occurs = |standing: Standing| lines.iter().any(|line| line.standing == standing);
    let legend: Vec<(Mark, &str)> = entries
        .iter()
        .filter(|(standing, _)| occurs(*standing))
        .map(|(s, text)| (Mark::Line(color(*s)), *text))
        .collect();
    draw_legend(&mut canvas, (LEFT, 18.0), &legend);
    let mut ordered: Vec<&TrialLine> = lines.iter().collect();
    ordered.sort_by_key(|line| line.standing);
    for line in ordered {
        let points: Vec<Point> = line
            .positions
            .iter()
            .take(axes.len())
            .enumerate()
            .filter(|(_, position)| is_plottable(**position))
            .map(|(index, position)| (x(index), y(*position)))
            .collect();
        let thickness = if line.standing == Standing::Best { 2.5 } else { 1.2 };
        canvas.polyline(&points, thickness, color(line.standing));
    }
    for (index, axis) in axes.iter().enumerate() {
        let place = (x(index), spacing, width, index % 2 == 1);
        draw_axis(&mut canvas, axis, place);
    }
    canvas.finish()
}

fn color(standing: Standing) -> Color {
    match standing {
        Standing::Best => VERMILION,
        Standing::Full => FULL,
        Standing::Stopped => STOPPED,
    }
}

fn y(position: f64) -> f64 {
    ROWS.0 + position.clamp(0.0, 1.0) * (ROWS.1 - ROWS.0)
}

/// Draws an axis; names of neighbors are in two rows, so that they fit.
fn draw_axis(canvas: &mut Canvas, axis: &Coordinate, (x, spacing, width, is_low): (f64, f64, f64, bool)) {
    canvas.vertical(x, (ROWS.0, ROWS.1), 1.0, INK);
    let row = if is_low { ROWS.1 - 16.0 } else { ROWS.1 - 36.0 };
    let name = TEXT.fit(&axis.name, (2.0 * spacing - 28.0).min(width - x - 4.0).max(60.0));
    canvas.text((x - 6.0, row), &name, TEXT.bold());
    for (position, label) in axis.labels.iter().filter(|(position, _)| is_plottable(*position)) {
        let y = y(*position);
        canvas.horizontal(y, (x - 3.0, x + 3.0), 1.0, GRID);
        let label = SMALL.fit(label, spacing.min(RIGHT) - 12.0);
        // Lines cross it.
        canvas.rect((x + 4.0, y - 8.0), (x + 8.0 + SMALL.width(&label), y + 8.0), WHITE, 0.75);
        canvas.text((x + 6.0, y), &label, SMALL.aligned(Align::Start));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, size, texts};
    use super::*;

    fn axis(name: &str) -> Coordinate {
        Coordinate { name: name.to_owned(), labels: vec![(0.0, "1e-4".to_owned()), (1.0, "a <&> b".to_owned())] }
    }

    #[test]
    fn axes_have_names_and_labels() {
        let line = |standing| TrialLine { positions: vec![0.1, 0.9, 0.5], standing };
        let lines = [line(Standing::Best), line(Standing::Stopped)];
        let plot = parallel_coordinates(&[axis("lr"), axis("batch"), axis("score")], &lines).unwrap();
        check(&plot, (760, 416));
        let texts = texts(&plot.svg);
        for text in ["lr", "batch", "score", "a <&> b", "best", "stopped early"] {
            assert!(texts.iter().any(|other| other == text), "{text}: {texts:?}");
        }
        assert!(!texts.iter().any(|text| text == "trained to the end"), "no such line");
        let best = plot.svg.rfind(VERMILION).unwrap();
        assert!(best > plot.svg.rfind(STOPPED).unwrap(), "the best line is in front");
    }

    #[test]
    fn any_number_of_axes_is_plotted() {
        for count in [0, 1, 2, 12, 60] {
            let axes = vec![axis(&"train.optimizer.lr".repeat(9)); count];
            let positions = [0.0, 1.0, f64::NAN, 7.0, -3.0, f64::INFINITY].into_iter().cycle().take(count).collect();
            let plot = parallel_coordinates(&axes, &[TrialLine { positions, standing: Standing::Full }]).unwrap();
            check(&plot, size(&plot.svg));
        }
    }
}
