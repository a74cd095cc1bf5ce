//! Runs side by side: a mean, its deviation and the single runs in each row.

use anyhow::Result;
use plotters::prelude::DrawingBackend;

use super::Picture;
use super::axis::{Axis, Unit, drawable, range, widened};
use super::key::{self, Mark, whisker};
use super::page::{Align, BLUE, Drawing, GRID_COLOUR, INK_COLOUR, Look, ORANGE, Page, SMALL, TEXT, VERMILLION, WIDTH};

/// Height of a row, of what is above the rows and of what is below them.
const ROW: f64 = 30.0;
const ABOVE: f64 = 40.0;
const BELOW: f64 = 28.0;
/// Space around and between columns.
const EDGE: f64 = 8.0;
const GAP: f64 = 14.0;
/// Greatest width of a name.
const NAME: f64 = 290.0;
/// Single runs lie so far below the middle of their row.
const RUNS: f64 = 9.0;

/// One row of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What is compared.
    pub name: String,
    /// Mean over runs.
    pub mean: f64,
    /// Standard deviation over runs, where there are several.
    pub deviation: Option<f64>,
    /// The runs.
    pub values: Vec<f64>,
    /// Whether this is the best.
    pub is_best: bool,
    /// Whether the others are compared with this.
    pub is_baseline: bool,
}

/// AugmentParams a mark at the mean of each row, in the order given, with deviation, runs and numbers.
///
/// # Errors
/// When it cannot be drawn.
pub fn comparison(bars: &[Bar]) -> Result<Picture> {
    Picture::of(&Comparison::of(bars))
}

struct Comparison<'a> {
    bars: &'a [Bar],
    /// Names and numbers as shown.
    names: Vec<String>,
    numbers: Vec<String>,
    /// Left and right edge of the marks.
    across: (f64, f64),
    axis: Axis,
}

impl<'a> Comparison<'a> {
    fn of(bars: &'a [Bar]) -> Self {
        let ends = |bar: &Bar| {
            let deviation = bar.deviation.filter(|deviation| drawable(*deviation)).unwrap_or(0.0);
            [bar.mean - deviation, bar.mean + deviation].into_iter().chain(bar.values.clone())
        };
        let (low, high) = widened(range(bars.iter().flat_map(ends)).unwrap_or((0.0, 1.0)), 0.05);
        let names: Vec<String> = bars.iter().map(|bar| look_of(bar).fit(&bar.name, NAME)).collect();
        let numbers: Vec<String> = bars.iter().map(|bar| number(bar, high - low)).collect();
        let longest =
            |texts: &[String]| bars.iter().zip(texts).map(|(bar, text)| look_of(bar).width(text)).fold(0.0, f64::max);
        let left = EDGE + longest(&names) + GAP;
        let right = f64::from(WIDTH) - EDGE - longest(&numbers) - GAP;
        // Numbers as long as this are none that anybody compares.
        let right = right.max(left + 100.0);
        Self { bars, names, numbers, across: (left, right), axis: Axis::linear((low, high), (left, right)) }
    }

    fn bottom(&self) -> f64 {
        ABOVE + self.bars.len().max(1) as f64 * ROW
    }

    fn draw_row<B: DrawingBackend>(&self, page: &Page<B>, bar: &Bar, y: f64) -> Result<()> {
        let colour = INK_COLOUR;
        let mean = self.axis.at(bar.mean);
        for run in bar.values.iter().filter_map(|value| self.axis.at(*value)) {
            Mark::Run(colour).draw(page, (run, y + RUNS))?;
        }
        let Some(mean) = mean else { return Ok(()) };
        let ends =
            bar.deviation.map(|deviation| [bar.mean - deviation, bar.mean + deviation].map(|end| self.axis.at(end)));
        if let Some([Some(from), Some(to)]) = ends {
            whisker(page, (from, to), y, colour)?;
        }
        mark_of(bar).draw(page, (mean, y))
    }

    /// What the marks mean; only those that occur.
    fn key(&self) -> Vec<(Mark, &'static str)> {
        let any = |is: fn(&Bar) -> bool| self.bars.iter().any(is);
        let entries = [
            (any(|bar| !bar.is_best && !bar.is_baseline), Mark::Circle(BLUE), "mean"),
            (any(|bar| bar.is_best), Mark::Diamond(VERMILLION), "has the best run"),
            (any(|bar| bar.is_baseline && !bar.is_best), Mark::Square(ORANGE), "baseline"),
            (any(|bar| bar.deviation.is_some()), Mark::Whisker(INK_COLOUR), "± deviation"),
            (any(|bar| !bar.values.is_empty()), Mark::Run(INK_COLOUR), "one run"),
        ];
        entries.into_iter().filter(|(occurs, ..)| *occurs).map(|(_, mark, text)| (mark, text)).collect()
    }
}

impl Drawing for Comparison<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, (self.bottom() + BELOW).ceil() as u32)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<B>) -> Result<()> {
        let (top, bottom) = (ABOVE - 6.0, self.bottom());
        key::draw(page, (EDGE, 16.0), &self.key())?;
        for (x, text) in self.axis.ticks(((self.across.1 - self.across.0) / 70.0).max(2.0), Unit::Plain) {
            page.upright(x, (top, bottom), 1.0, GRID_COLOUR)?;
            page.text((x, bottom + 14.0), &text, SMALL.aligned(Align::Middle))?;
        }
        page.level(bottom, self.across, 1.0, INK_COLOUR)?;
        let baseline = self.bars.iter().find(|bar| bar.is_baseline).and_then(|bar| self.axis.at(bar.mean));
        if let Some(x) = baseline {
            page.dashes((x, bottom), (x, top), 1.5, ORANGE)?;
        }
        for (((bar, name), number), row) in self.bars.iter().zip(&self.names).zip(&self.numbers).zip(0..) {
            let y = ABOVE + (f64::from(row) + 0.5) * ROW - 2.0;
            page.text((self.across.0 - GAP, y), name, look_of(bar).aligned(Align::End))?;
            page.text((f64::from(WIDTH) - EDGE, y), number, look_of(bar).aligned(Align::End))?;
            self.draw_row(page, bar, y)?;
        }
        if self.bars.is_empty() {
            let middle = f64::midpoint(self.across.0, self.across.1);
            page.text((middle, ABOVE + ROW / 2.0), "no runs", TEXT.aligned(Align::Middle))?;
        }
        Ok(())
    }
}

fn mark_of(bar: &Bar) -> Mark {
    match bar {
        Bar { is_best: true, .. } => Mark::Diamond(VERMILLION),
        Bar { is_baseline: true, .. } => Mark::Square(ORANGE),
        _ => Mark::Circle(BLUE),
    }
}

fn look_of(bar: &Bar) -> Look {
    if bar.is_best { TEXT.bold() } else { TEXT }
}

/// A mean and its deviation with as many digits as tell values apart that lie within `span`.
fn number(bar: &Bar, span: f64) -> String {
    let digits = (2.0 - span.log10().floor()).clamp(0.0, 6.0) as usize;
    let text = |value: f64| if value.abs() < 1e6 { format!("{value:.digits$}") } else { format!("{value:.2e}") };
    if !drawable(bar.mean) {
        return "–".to_owned();
    }
    match bar.deviation.filter(|deviation| drawable(*deviation)) {
        Some(deviation) => format!("{} ± {}", text(bar.mean), text(deviation)),
        None => text(bar.mean),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::tests::{check, size, texts};

    fn bar(name: &str, mean: f64, deviation: Option<f64>) -> Bar {
        let values = deviation.map(|deviation| vec![mean - deviation, mean + deviation]).unwrap_or_default();
        Bar { name: name.to_owned(), mean, deviation, values, is_best: false, is_baseline: false }
    }

    #[test]
    fn rows_have_names_and_numbers() {
        let best = Bar { is_best: true, ..bar("adam, lr 0.001", 0.6213, Some(0.0041)) };
        let baseline = Bar { is_baseline: true, ..bar("the paper's", 0.59, None) };
        let picture = comparison(&[baseline, best, bar("sgd <&> momentum", 0.6, Some(0.002))]).unwrap();
        check(&picture, (760, 158));
        let texts = texts(&picture.svg);
        for text in [
            "adam, lr 0.001",
            "the paper's",
            "sgd <&> momentum",
            "0.6213 ± 0.0041",
            "0.5900",
            "has the best run",
            "baseline",
        ] {
            assert!(texts.iter().any(|other| other == text), "{text}: {texts:?}");
        }
    }

    #[test]
    fn any_rows_are_drawn() {
        let long = "learning_rate=0.001,".repeat(5);
        for rows in [0, 1, 2, 30] {
            let bars: Vec<Bar> =
                (0..rows).map(|row| bar(&long, f64::from(row), (row % 2 == 0).then_some(0.5))).collect();
            let picture = comparison(&bars).unwrap();
            check(&picture, size(&picture.svg));
        }
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 1e100, -1e100, 0.0, -0.0, 5e-324];
        for (mean, other) in odd.into_iter().zip(odd.into_iter().cycle().skip(1)) {
            for deviation in [Some(mean), Some(other), None] {
                let both = Bar { is_best: true, is_baseline: true, values: odd.to_vec(), ..bar("x", mean, deviation) };
                check(&comparison(&[bar("", mean, deviation), both]).unwrap(), (760, 128));
            }
            check(&comparison(&[bar("y", mean, Some(other))]).unwrap(), (760, 98));
        }
    }
}
