//! How a training went: loss, accuracy and learning rate by epoch.

use anyhow::Result;
use plotters::prelude::DrawingBackend;
use plotters::style::RGBColor;

use super::Picture;
use super::axis::{Axis, Unit, drawable, range, widened};
use super::key::{Mark, heading};
use super::page::{Align, BLUE, Drawing, GRID_COLOUR, INK_COLOUR, ORANGE, Page, SMALL, TEXT, VERMILLION, WIDTH};
use crate::metrics::epoch::EpochMetrics;

/// Left and right edge of the panels, from where to where the numbers of their axes go up, and the height of the page.
const ACROSS: (f64, f64) = (76.0, 748.0);
const LOSS: (f64, f64) = (212.0, 32.0);
const ACCURACY: (f64, f64) = (430.0, 250.0);
const RATE: (f64, f64) = (568.0, 468.0);
const HEIGHT: u32 = 618;
/// How many numbers the axis of accuracy has, and how they are written.
const ACCURACY_TICKS: (f64, Unit) = (6.0, Unit::Percent);
/// From the top of a panel up to its heading.
const HEADING: f64 = 16.0;

/// A learning rate that varies by more than this is drawn logarithmically.
const LOGARITHMIC: f64 = 10.0;

/// AugmentParams loss and accuracy in training and validation and the learning rate by epoch; marks the best epoch.
///
/// # Errors
/// When it cannot be drawn.
pub fn curves(records: &[EpochMetrics], best_epoch: Option<u32>) -> Result<Picture> {
    Picture::of(&Curves { records, best: best_epoch })
}

struct Curves<'a> {
    records: &'a [EpochMetrics],
    best: Option<u32>,
}

/// A line: its colour and what it shows of a record.
type Line = (RGBColor, fn(&EpochMetrics) -> f64);

/// Lines over one axis.
struct Panel<'a> {
    title: &'a str,
    key: &'a [(Mark, &'a str)],
    lines: &'a [Line],
    axis: Axis,
    /// Where its axis begins and ends.
    rising: (f64, f64),
    /// How many numbers its axis has, and how they are written.
    ticks: (f64, Unit),
    /// Whether a line keeps its height until the middle between two epochs.
    stepped: bool,
}

impl Drawing for Curves<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, HEIGHT)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<B>) -> Result<()> {
        let key: &[_] = &[(Mark::Line(ORANGE), "training"), (Mark::Line(BLUE), "validation")];
        let loss: [Line; 2] = [(ORANGE, |record| record.loss), (BLUE, |record| record.val_loss)];
        let accuracy: [Line; 2] = [(ORANGE, |record| record.accuracy), (BLUE, |record| record.val_accuracy)];
        let rate: [Line; 1] = [(INK_COLOUR, |record| record.lr)];

        let epochs = self.epochs();
        let linear = |lines, bounds, rising| Axis::linear(self.within(lines, bounds), rising);
        let axis = linear(&loss, (0.0, f64::INFINITY), LOSS);
        let ticks = (6.0, Unit::Plain);
        self.panel(
            page,
            &epochs,
            &Panel { title: "Loss", key, lines: &loss, axis, rising: LOSS, ticks, stepped: false },
        )?;

        let axis = linear(&accuracy, (0.0, 1.0), ACCURACY);
        let (title, rising, ticks) = ("Accuracy", ACCURACY, ACCURACY_TICKS);
        self.panel(page, &epochs, &Panel { title, key, lines: &accuracy, axis, rising, ticks, stepped: false })?;
        self.mark_best(page, &epochs, &axis)?;

        let axis = match range(self.records.iter().map(|record| record.lr)) {
            Some((low, high)) if low > 0.0 && high / low > LOGARITHMIC => {
                Axis::logarithmic((low / 1.3, high * 1.3), RATE)
            }
            _ => linear(&rate, (0.0, f64::INFINITY), RATE),
        };
        let (title, rising, ticks) = ("Learning rate", RATE, (3.0, Unit::Plain));
        self.panel(page, &epochs, &Panel { title, key: &[], lines: &rate, axis, rising, ticks, stepped: true })?;

        if !self.records.is_empty() {
            for (x, text) in epochs.ticks(10.0, Unit::Whole) {
                page.text((x, RATE.0 + 14.0), &text, SMALL.aligned(Align::Middle))?;
            }
        }
        page.text((f64::midpoint(ACROSS.0, ACROSS.1), RATE.0 + 34.0), "Epoch", TEXT.aligned(Align::Middle))
    }
}

impl Curves<'_> {
    fn epochs(&self) -> Axis {
        let (low, high) = range(self.records.iter().map(|record| f64::from(record.epoch))).unwrap_or((1.0, 1.0));
        let room = ((high - low) * 0.015).max(if low == high { 0.5 } else { 0.0 });
        Axis::linear((low - room, high + room), ACROSS)
    }

    /// The range of lines with some room, which does not go beyond `bounds` unless the lines do.
    fn within(&self, lines: &[Line], bounds: (f64, f64)) -> (f64, f64) {
        let values = lines.iter().flat_map(|(_, value)| self.records.iter().map(value));
        let Some((low, high)) = range(values) else { return (0.0, 1.0) };
        let (from, to) = widened((low, high), 0.06);
        let lower = if low >= bounds.0 { from.max(bounds.0) } else { from };
        let upper = if high <= bounds.1 { to.min(bounds.1) } else { to };
        if lower < upper { (lower, upper) } else { (from, to) }
    }

    fn panel<B: DrawingBackend>(&self, page: &Page<B>, epochs: &Axis, panel: &Panel) -> Result<()> {
        let (bottom, top) = panel.rising;
        heading(page, ACROSS, top - HEADING, panel.title, panel.key)?;
        page.level(bottom, ACROSS, 1.0, INK_COLOUR)?;
        if self.records.is_empty() {
            let place = (f64::midpoint(ACROSS.0, ACROSS.1), f64::midpoint(bottom, top));
            return page.text(place, "no finished epoch", TEXT.aligned(Align::Middle));
        }
        for (x, _) in epochs.ticks(10.0, Unit::Whole) {
            page.upright(x, (top, bottom), 1.0, GRID_COLOUR)?;
        }
        panel.axis.draw_rising(page, ACROSS, panel.ticks.0, panel.ticks.1)?;
        page.level(bottom, ACROSS, 1.0, INK_COLOUR)?;
        if let Some(x) = self.best().and_then(|best| epochs.at(f64::from(best.epoch))) {
            page.dashes((x, bottom), (x, top), 1.0, VERMILLION)?;
        }
        let thickness = if self.records.len() > 200 { 1.25 } else { 2.0 };
        for (colour, value) in panel.lines {
            // Where a value is missing, the line is.
            for part in self.records.split(|record| !drawable(value(record))) {
                let place =
                    |record: &EpochMetrics| Some((epochs.at(f64::from(record.epoch))?, panel.axis.at(value(record))?));
                let points: Vec<(f64, f64)> = part.iter().filter_map(place).collect();
                let points = if panel.stepped { steps(&points) } else { points };
                page.path(&points, thickness, *colour)?;
            }
        }
        Ok(())
    }

    fn best(&self) -> Option<&EpochMetrics> {
        let epoch = self.best?;
        self.records.iter().find(|record| record.epoch == epoch)
    }

    /// A dot and a text at the best epoch, the text where it hides the least of the lines.
    fn mark_best<B: DrawingBackend>(&self, page: &Page<B>, epochs: &Axis, axis: &Axis) -> Result<()> {
        let place = |record: &EpochMetrics, value: f64| Some((epochs.at(f64::from(record.epoch))?, axis.at(value)?));
        let Some(best) = self.best() else { return Ok(()) };
        let Some((x, y)) = place(best, best.val_accuracy) else { return Ok(()) };
        page.dot((x, y), 4.5, VERMILLION, 1.0)?;
        let text = format!("best: {:.1}% in epoch {}", best.val_accuracy * 100.0, best.epoch);
        let width = TEXT.width(&text);
        let (bottom, top) = ACCURACY;
        // From below, where curves of accuracy are least likely to be.
        let heights = (3..).map(|step| bottom - 4.0 * f64::from(step)).take_while(|middle| *middle > top + 8.0);
        let boxes = heights.flat_map(|middle| [x - 10.0 - width, x + 10.0].map(|left| (left, middle)));
        let inside = |(left, _): &(f64, f64)| (ACROSS.0..=ACROSS.1 - width).contains(left);
        let ticks = axis.ticks(ACCURACY_TICKS.0, ACCURACY_TICKS.1);
        let hidden = |(left, middle): &(f64, f64)| {
            let both = |record: &EpochMetrics| [place(record, record.accuracy), place(record, record.val_accuracy)];
            let covers =
                |(x, y): &(f64, f64)| (x - left - width / 2.0).abs() < width / 2.0 + 12.0 && (y - middle).abs() < 16.0;
            let points = self.records.iter().flat_map(both).flatten().filter(covers).count();
            (points, ticks.iter().filter(|(y, _)| (y - middle).abs() < 9.0).count())
        };
        let Some((left, middle)) = boxes.filter(inside).min_by_key(hidden) else { return Ok(()) };
        page.text((left, middle), &text, TEXT)
    }
}

/// The corners of a line that keeps its height until the middle between two points.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
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
    use super::*;
    use crate::report::plot::tests::{check, texts};

    fn record(epoch: u32, value: f64) -> EpochMetrics {
        EpochMetrics {
            epoch,
            lr: value,
            loss: value,
            accuracy: value,
            val_loss: value,
            val_accuracy: value,
            val_accuracy_dedup: None,
            seconds: 1.0,
            images_per_second: 1.0,
        }
    }

    #[test]
    fn any_number_of_epochs_is_drawn() {
        for epochs in [0, 1, 2, 35, 1000] {
            let records: Vec<_> = (1..=epochs).map(|epoch| record(epoch, 1.0 - 1.0 / f64::from(epoch + 1))).collect();
            let picture = curves(&records, (epochs > 0).then_some(epochs)).unwrap();
            check(&picture, (760, 618));
            let texts = texts(&picture.svg);
            assert!(
                ["Loss", "Accuracy", "Learning rate", "training", "validation", "Epoch"]
                    .iter()
                    .all(|t| texts.iter().any(|u| u == t))
            );
            assert_eq!(texts.iter().any(|text| text.starts_with("best: ")), epochs > 0, "{texts:?}");
        }
    }

    #[test]
    fn the_best_epoch_is_told() {
        let records: Vec<_> = (1..=9).map(|epoch| record(epoch, f64::from(epoch) / 20.0)).collect();
        assert!(texts(&curves(&records, Some(8)).unwrap().svg).contains(&"best: 40.0% in epoch 8".to_owned()));
        check(&curves(&records, Some(77)).unwrap(), (760, 618));
        check(&curves(&records, None).unwrap(), (760, 618));
    }

    #[test]
    fn odd_values_are_left_out() {
        let odd = [0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, -1.0, 5e-324, 1e99];
        for (value, other) in odd.into_iter().zip(odd.into_iter().cycle().skip(1)) {
            let same: Vec<_> = (1..=7).map(|epoch| record(epoch, value)).collect();
            check(&curves(&same, Some(3)).unwrap(), (760, 618));
            let mixed = (1..=7).map(|epoch| record(epoch, if epoch % 3 == 0 { value } else { other }));
            check(&curves(&mixed.collect::<Vec<_>>(), Some(3)).unwrap(), (760, 618));
        }
        check(&curves(&[record(u32::MAX, 1.0), record(0, 2.0)], Some(u32::MAX)).unwrap(), (760, 618));
    }

    #[test]
    fn a_step_is_between_epochs() {
        assert_eq!(steps(&[(0.0, 1.0), (2.0, 5.0)]), [(0.0, 1.0), (1.0, 1.0), (1.0, 5.0), (2.0, 5.0)]);
        assert_eq!(steps(&[(0.0, 1.0)]), [(0.0, 1.0)]);
        assert_eq!(steps(&[]), []);
    }

    #[test]
    fn a_rate_that_varies_much_is_logarithmic() {
        let rates = |low: f64| {
            let records: Vec<_> = (1..=5).map(|epoch| record(epoch, if epoch < 4 { 1e-2 } else { low })).collect();
            texts(&curves(&records, None).unwrap().svg)
        };
        assert!(rates(1e-4).contains(&"1e-4".to_owned()));
        assert!(!rates(5e-3).contains(&"0.001".to_owned()));
    }
}
