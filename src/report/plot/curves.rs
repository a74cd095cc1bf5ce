//! Training curves: loss, accuracy and learning rate by epoch.

use anyhow::Result;

use super::Plot;
use super::axis::{Axis, Unit, is_plottable, range, with_margin};
use super::canvas::{Align, BLUE, Canvas, Color, GRID, INK, ORANGE, Point, SMALL, TEXT, VERMILION, WIDTH};
use super::legend::{Mark, draw_heading};
use crate::metrics::Monitor;
use crate::metrics::epoch::EpochMetrics;

/// Left and right edge of the panels.
const COLUMN: (f64, f64) = (76.0, 748.0);
/// Bottom and top of each panel.
const LOSS: (f64, f64) = (212.0, 32.0);
const ACCURACY: (f64, f64) = (430.0, 250.0);
const LEARNING_RATE: (f64, f64) = (568.0, 468.0);
const HEIGHT: u32 = 618;
/// From the top of a panel up to its heading.
const HEADING: f64 = 16.0;

/// Approximate number of ticks of the epoch axis and of the accuracy axis.
const EPOCH_TICKS: f64 = 10.0;
const ACCURACY_TICKS: f64 = 6.0;

/// A learning rate whose max is more than this many times its min has a logarithmic axis.
const LOGARITHMIC: f64 = 10.0;

/// Plots loss and accuracy in training and validation and the learning rate by epoch, and marks the
/// best epoch, by the metric given with it.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn curves(records: &[EpochMetrics], best_epoch: Option<(u32, Monitor)>) -> Result<Plot> {
    Curves { records, best_epoch }.plot()
}

struct Curves<'a> {
    records: &'a [EpochMetrics],
    best_epoch: Option<(u32, Monitor)>,
}

/// A line: its color and the value that it shows.
type Line = (Color, fn(&EpochMetrics) -> f64);

/// Lines that share a vertical axis.
struct Panel<'a> {
    title: &'a str,
    legend: &'a [(Mark, &'a str)],
    lines: &'a [Line],
    axis: Axis,
    /// Bottom and top.
    rows: (f64, f64),
    /// Approximate number of ticks, and how they are labeled.
    ticks: (f64, Unit),
    /// Whether a line keeps its height until the middle between two epochs.
    stepped: bool,
}

impl Curves<'_> {
    fn plot(&self) -> Result<Plot> {
        let legend: &[_] = &[(Mark::Line(ORANGE), "training"), (Mark::Line(BLUE), "validation")];
        let loss: [Line; 2] = [(ORANGE, |record| record.loss), (BLUE, |record| record.val_loss)];
        let accuracy: [Line; 2] = [(ORANGE, |record| record.accuracy), (BLUE, |record| record.val_accuracy)];
        let learning_rate: [Line; 1] = [(INK, |record| record.lr)];

        let mut canvas = Canvas::new(WIDTH, HEIGHT);
        let epochs = self.epoch_axis();
        let linear = |lines, bounds, rows| Axis::linear(self.range_within(lines, bounds), rows);
        let loss = Panel {
            title: "Loss",
            legend,
            lines: &loss,
            axis: linear(&loss, (0.0, f64::INFINITY), LOSS),
            rows: LOSS,
            ticks: (6.0, Unit::Plain),
            stepped: false,
        };
        self.draw_panel(&mut canvas, &epochs, &loss);

        let accuracy = Panel {
            title: "Accuracy",
            legend,
            lines: &accuracy,
            axis: linear(&accuracy, (0.0, 1.0), ACCURACY),
            rows: ACCURACY,
            ticks: (ACCURACY_TICKS, Unit::Percent),
            stepped: false,
        };
        self.draw_panel(&mut canvas, &epochs, &accuracy);
        self.mark_best_epoch(&mut canvas, &epochs, &accuracy.axis);

        let axis = match range(self.records.iter().map(|record| record.lr)) {
            Some((low, high)) if low > 0.0 && high / low > LOGARITHMIC => {
                Axis::logarithmic((low / 1.3, high * 1.3), LEARNING_RATE)
            }
            _ => linear(&learning_rate, (0.0, f64::INFINITY), LEARNING_RATE),
        };
        let learning_rate = Panel {
            title: "Learning rate",
            legend: &[],
            lines: &learning_rate,
            axis,
            rows: LEARNING_RATE,
            ticks: (3.0, Unit::Plain),
            stepped: true,
        };
        self.draw_panel(&mut canvas, &epochs, &learning_rate);

        let bottom = LEARNING_RATE.0;
        if !self.records.is_empty() {
            for (x, label) in epochs.ticks(EPOCH_TICKS, Unit::Whole) {
                canvas.text((x, bottom + 14.0), &label, SMALL.aligned(Align::Middle));
            }
        }
        let center = f64::midpoint(COLUMN.0, COLUMN.1);
        canvas.text((center, bottom + 34.0), "Epoch", TEXT.aligned(Align::Middle));
        canvas.finish()
    }

    fn epoch_axis(&self) -> Axis {
        let (low, high) = range(self.records.iter().map(|record| f64::from(record.epoch))).unwrap_or((1.0, 1.0));
        let margin = ((high - low) * 0.015).max(if low == high { 0.5 } else { 0.0 });
        Axis::linear((low - margin, high + margin), COLUMN)
    }

    /// The range of lines with a margin, which ends at `bounds` unless the lines go beyond them.
    fn range_within(&self, lines: &[Line], bounds: (f64, f64)) -> (f64, f64) {
        let values = lines.iter().flat_map(|(_, value)| self.records.iter().map(value));
        let Some((low, high)) = range(values) else { return (0.0, 1.0) };
        let (from, to) = with_margin((low, high), 0.06);
        let lower = if low >= bounds.0 { from.max(bounds.0) } else { from };
        let upper = if high <= bounds.1 { to.min(bounds.1) } else { to };
        if lower < upper { (lower, upper) } else { (from, to) }
    }

    fn draw_panel(&self, canvas: &mut Canvas, epochs: &Axis, panel: &Panel) {
        let (bottom, top) = panel.rows;
        draw_heading(canvas, COLUMN, top - HEADING, panel.title, panel.legend);
        if self.records.is_empty() {
            canvas.horizontal(bottom, COLUMN, 1.0, INK);
            let center = (f64::midpoint(COLUMN.0, COLUMN.1), f64::midpoint(bottom, top));
            return canvas.text(center, "no finished epoch", TEXT.aligned(Align::Middle));
        }
        for (x, _) in epochs.ticks(EPOCH_TICKS, Unit::Whole) {
            canvas.vertical(x, (top, bottom), 1.0, GRID);
        }
        panel.axis.draw_horizontal_grid(canvas, COLUMN, panel.ticks.0, panel.ticks.1);
        canvas.horizontal(bottom, COLUMN, 1.0, INK);
        if let Some(x) = self.best().and_then(|(best, _)| epochs.position(f64::from(best.epoch))) {
            canvas.dashed((x, bottom), (x, top), 1.0, VERMILION);
        }
        let thickness = if self.records.len() > 200 { 1.25 } else { 2.0 };
        for (color, value) in panel.lines {
            // A line has a gap where a value is missing.
            for part in self.records.split(|record| !is_plottable(value(record))) {
                let point = |record: &EpochMetrics| {
                    Some((epochs.position(f64::from(record.epoch))?, panel.axis.position(value(record))?))
                };
                let points: Vec<Point> = part.iter().filter_map(point).collect();
                let points = if panel.stepped { steps(&points) } else { points };
                canvas.polyline(&points, thickness, color);
            }
        }
    }

    fn best(&self) -> Option<(&EpochMetrics, Monitor)> {
        let (epoch, monitor) = self.best_epoch?;
        Some((self.records.iter().find(|record| record.epoch == epoch)?, monitor))
    }

    /// Draws a dot at the best epoch, and a label where it covers as few points of the lines as
    /// possible.
    fn mark_best_epoch(&self, canvas: &mut Canvas, epochs: &Axis, axis: &Axis) {
        let point = |record: &EpochMetrics, accuracy: f64| {
            Some((epochs.position(f64::from(record.epoch))?, axis.position(accuracy)?))
        };
        let Some((best, monitor)) = self.best() else { return };
        let Some((x, y)) = point(best, best.val_accuracy) else { return };
        canvas.circle((x, y), 4.5, VERMILION, 1.0);
        let name = match monitor {
            Monitor::ValAccuracy => "best:".to_owned(),
            Monitor::LastEpoch => "last:".to_owned(),
            _ => format!("best by {monitor}: accuracy"),
        };
        let label = format!("{name} {:.1}% in epoch {}", best.val_accuracy * 100.0, best.epoch);
        let width = TEXT.width(&label);
        let (bottom, top) = ACCURACY;
        // From the bottom up: curves of accuracy are rarely there.
        let heights = (3..).map(|step| bottom - 4.0 * f64::from(step)).take_while(|middle| *middle > top + 8.0);
        let candidates = heights.flat_map(|middle| [x - 10.0 - width, x + 10.0].map(|left| (left, middle)));
        let inside = |(left, _): &Point| (COLUMN.0..=COLUMN.1 - width).contains(left);
        let ticks = axis.ticks(ACCURACY_TICKS, Unit::Percent);
        let covered = |(left, middle): &Point| {
            let both = |record: &EpochMetrics| [point(record, record.accuracy), point(record, record.val_accuracy)];
            let covers =
                |(x, y): &Point| (x - left - width / 2.0).abs() < width / 2.0 + 12.0 && (y - middle).abs() < 16.0;
            let points = self.records.iter().flat_map(both).flatten().filter(covers).count();
            (points, ticks.iter().filter(|(y, _)| (y - middle).abs() < 9.0).count())
        };
        if let Some(position) = candidates.filter(inside).min_by_key(covered) {
            canvas.text(position, &label, TEXT);
        }
    }
}

/// Corners of a line that keeps its height until the middle between two points.
fn steps(points: &[Point]) -> Vec<Point> {
    let corners = points.iter().zip(points.iter().skip(1)).flat_map(|((x0, y0), (x1, y1))| {
        let middle = f64::midpoint(*x0, *x1);
        [(middle, *y0), (middle, *y1)]
    });
    points
        .first()
        .copied()
        .into_iter()
        .chain(corners)
        .chain(points.last().copied().filter(|_| points.len() > 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, texts};
    use super::*;

    fn record(epoch: u32, value: f64) -> EpochMetrics {
        EpochMetrics {
            epoch,
            lr: value,
            loss: value,
            accuracy: value,
            val_loss: value,
            val_accuracy: value,
            val_accuracy_dedup: None,
            val_macro_f1: None,
            seconds: 1.0,
            images_per_second: 1.0,
        }
    }

    #[test]
    fn any_number_of_epochs_is_plotted() {
        for epochs in [0, 1, 2, 35, 1000] {
            let records: Vec<_> = (1..=epochs).map(|epoch| record(epoch, 1.0 - 1.0 / f64::from(epoch + 1))).collect();
            let plot = curves(&records, (epochs > 0).then_some((epochs, Monitor::ValAccuracy))).unwrap();
            check(&plot, (760, 618));
            let texts = texts(&plot.svg);
            assert!(
                ["Loss", "Accuracy", "Learning rate", "training", "validation", "Epoch"]
                    .iter()
                    .all(|text| texts.iter().any(|other| other == text))
            );
            assert_eq!(texts.iter().any(|text| text.starts_with("best: ")), epochs > 0, "{texts:?}");
        }
    }

    #[test]
    fn the_best_epoch_is_labeled() {
        let records: Vec<_> = (1..=9).map(|epoch| record(epoch, f64::from(epoch) / 20.0)).collect();
        for (monitor, label) in [
            (Monitor::ValAccuracy, "best: 40.0% in epoch 8"),
            (Monitor::ValLoss, "best by val_loss: accuracy 40.0% in epoch 8"),
            (Monitor::ValMacroF1, "best by val_macro_f1: accuracy 40.0% in epoch 8"),
            (Monitor::LastEpoch, "last: 40.0% in epoch 8"),
        ] {
            assert!(texts(&curves(&records, Some((8, monitor))).unwrap().svg).contains(&label.to_owned()));
        }
        check(&curves(&records, Some((77, Monitor::ValAccuracy))).unwrap(), (760, 618));
        check(&curves(&records, None).unwrap(), (760, 618));
    }

    #[test]
    fn values_that_cannot_be_plotted_are_left_out() {
        let odd = [0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, -1.0, 5e-324, 1e99];
        for (value, other) in odd.into_iter().zip(odd.into_iter().cycle().skip(1)) {
            let same: Vec<_> = (1..=7).map(|epoch| record(epoch, value)).collect();
            check(&curves(&same, Some((3, Monitor::ValLoss))).unwrap(), (760, 618));
            let mixed = (1..=7).map(|epoch| record(epoch, if epoch % 3 == 0 { value } else { other }));
            check(&curves(&mixed.collect::<Vec<_>>(), Some((3, Monitor::ValLoss))).unwrap(), (760, 618));
        }
        check(
            &curves(&[record(u32::MAX, 1.0), record(0, 2.0)], Some((u32::MAX, Monitor::ValAccuracy))).unwrap(),
            (760, 618),
        );
    }

    #[test]
    fn a_stepped_line_changes_between_epochs() {
        assert_eq!(steps(&[(0.0, 1.0), (2.0, 5.0)]), [(0.0, 1.0), (1.0, 1.0), (1.0, 5.0), (2.0, 5.0)]);
        assert_eq!(steps(&[(0.0, 1.0)]), [(0.0, 1.0)]);
        assert_eq!(steps(&[]), []);
    }

    #[test]
    fn a_learning_rate_with_a_wide_range_is_logarithmic() {
        let rates = |low: f64| {
            let records: Vec<_> = (1..=5).map(|epoch| record(epoch, if epoch < 4 { 1e-2 } else { low })).collect();
            texts(&curves(&records, None).unwrap().svg)
        };
        assert!(rates(1e-4).contains(&"1e-4".to_owned()));
        assert!(!rates(5e-3).contains(&"0.001".to_owned()));
    }
}
