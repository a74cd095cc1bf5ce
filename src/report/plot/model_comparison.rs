//! Comparison of models: the mean, the standard deviation and the single runs of each, one row per
//! model.

use anyhow::Result;

use super::Plot;
use super::axis::{Axis, Unit, is_plottable, range, with_margin};
use super::canvas::{Align, BLUE, Canvas, GRID, INK, ORANGE, SMALL, TEXT, TextStyle, VERMILION, WIDTH};
use super::legend::{Mark, draw_error_bar, draw_legend};

/// Height of a row, of what is above the rows and of what is below them.
const ROW: f64 = 30.0;
const ABOVE: f64 = 40.0;
const BELOW: f64 = 28.0;
/// Space around and between columns.
const EDGE: f64 = 8.0;
const GAP: f64 = 14.0;
/// Max width of a name.
const MAX_NAME: f64 = 290.0;
/// From the middle of a row down to its single runs.
const RUNS: f64 = 9.0;

/// One row of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What is compared.
    pub name: String,
    /// Mean over runs.
    pub mean: f64,
    /// Standard deviation over runs, if there are several.
    pub deviation: Option<f64>,
    /// The value of each run.
    pub values: Vec<f64>,
    /// Whether it has the best run.
    pub is_best: bool,
    /// Whether it is the baseline.
    pub is_baseline: bool,
}

/// Plots the mean of each row, in the given order, with standard deviation, single runs and
/// numbers.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn comparison(bars: &[Bar]) -> Result<Plot> {
    Comparison::new(bars).plot()
}

struct Comparison<'a> {
    bars: &'a [Bar],
    /// Names and numbers as shown.
    names: Vec<String>,
    numbers: Vec<String>,
    /// Left and right edge of the marks.
    column: (f64, f64),
    axis: Axis,
}

impl<'a> Comparison<'a> {
    fn new(bars: &'a [Bar]) -> Self {
        let ends = |bar: &Bar| {
            let deviation = bar.deviation.filter(|deviation| is_plottable(*deviation)).unwrap_or(0.0);
            [bar.mean - deviation, bar.mean + deviation].into_iter().chain(bar.values.clone())
        };
        let (low, high) = with_margin(range(bars.iter().flat_map(ends)).unwrap_or((0.0, 1.0)), 0.05);
        let names: Vec<String> = bars.iter().map(|bar| style(bar).fit(&bar.name, MAX_NAME)).collect();
        let numbers: Vec<String> = bars.iter().map(|bar| number(bar, high - low)).collect();
        let longest =
            |texts: &[String]| bars.iter().zip(texts).map(|(bar, text)| style(bar).width(text)).fold(0.0, f64::max);
        let left = EDGE + longest(&names) + GAP;
        let right = f64::from(WIDTH) - EDGE - longest(&numbers) - GAP;
        // Only absurdly long numbers leave less.
        let right = right.max(left + 100.0);
        Self { bars, names, numbers, column: (left, right), axis: Axis::linear((low, high), (left, right)) }
    }

    fn plot(&self) -> Result<Plot> {
        let (top, bottom) = (ABOVE - 6.0, ABOVE + self.bars.len().max(1) as f64 * ROW);
        let mut canvas = Canvas::new(WIDTH, (bottom + BELOW).ceil() as u32);
        draw_legend(&mut canvas, (EDGE, 16.0), &self.legend());
        for (x, label) in self.axis.ticks(((self.column.1 - self.column.0) / 70.0).max(2.0), Unit::Plain) {
            canvas.vertical(x, (top, bottom), 1.0, GRID);
            canvas.text((x, bottom + 14.0), &label, SMALL.aligned(Align::Middle));
        }
        canvas.horizontal(bottom, self.column, 1.0, INK);
        let baseline = self.bars.iter().find(|bar| bar.is_baseline).and_then(|bar| self.axis.position(bar.mean));
        if let Some(x) = baseline {
            canvas.dashed((x, bottom), (x, top), 1.5, ORANGE);
        }
        for (((bar, name), number), row) in self.bars.iter().zip(&self.names).zip(&self.numbers).zip(0..) {
            let y = ABOVE + (f64::from(row) + 0.5) * ROW - 2.0;
            canvas.text((self.column.0 - GAP, y), name, style(bar).aligned(Align::End));
            canvas.text((f64::from(WIDTH) - EDGE, y), number, style(bar).aligned(Align::End));
            self.draw_marks(&mut canvas, bar, y);
        }
        if self.bars.is_empty() {
            let center = f64::midpoint(self.column.0, self.column.1);
            canvas.text((center, ABOVE + ROW / 2.0), "no runs", TEXT.aligned(Align::Middle));
        }
        canvas.finish()
    }

    fn draw_marks(&self, canvas: &mut Canvas, bar: &Bar, y: f64) {
        for x in bar.values.iter().filter_map(|value| self.axis.position(*value)) {
            Mark::Run(INK).draw(canvas, (x, y + RUNS));
        }
        let Some(mean) = self.axis.position(bar.mean) else { return };
        let ends = bar.deviation.map(|deviation| [bar.mean - deviation, bar.mean + deviation]);
        if let Some([Some(from), Some(to)]) = ends.map(|ends| ends.map(|end| self.axis.position(end))) {
            draw_error_bar(canvas, (from, to), y, INK);
        }
        mark(bar).draw(canvas, (mean, y));
    }

    /// The marks that occur and their meanings.
    fn legend(&self) -> Vec<(Mark, &'static str)> {
        let any = |is: fn(&Bar) -> bool| self.bars.iter().any(is);
        let entries = [
            (any(|bar| !bar.is_best && !bar.is_baseline), Mark::Circle(BLUE), "mean"),
            (any(|bar| bar.is_best), Mark::Diamond(VERMILION), "model with the best run"),
            (any(|bar| bar.is_baseline && !bar.is_best), Mark::Square(ORANGE), "baseline"),
            (any(|bar| bar.deviation.is_some()), Mark::ErrorBar(INK), "standard deviation"),
            (any(|bar| !bar.values.is_empty()), Mark::Run(INK), "single run"),
        ];
        entries.into_iter().filter(|(occurs, ..)| *occurs).map(|(_, mark, text)| (mark, text)).collect()
    }
}

fn mark(bar: &Bar) -> Mark {
    match bar {
        Bar { is_best: true, .. } => Mark::Diamond(VERMILION),
        Bar { is_baseline: true, .. } => Mark::Square(ORANGE),
        _ => Mark::Circle(BLUE),
    }
}

fn style(bar: &Bar) -> TextStyle {
    if bar.is_best { TEXT.bold() } else { TEXT }
}

/// A mean and its standard deviation, with three significant digits of `span`, the range of all
/// values.
fn number(bar: &Bar, span: f64) -> String {
    let digits = (2.0 - span.log10().floor()).clamp(0.0, 6.0) as usize;
    let text = |value: f64| if value.abs() < 1e6 { format!("{value:.digits$}") } else { format!("{value:.2e}") };
    if !is_plottable(bar.mean) {
        return "–".to_owned();
    }
    match bar.deviation.filter(|deviation| is_plottable(*deviation)) {
        Some(deviation) => format!("{} ± {}", text(bar.mean), text(deviation)),
        None => text(bar.mean),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, size, texts};
    use super::*;

    fn bar(name: &str, mean: f64, deviation: Option<f64>) -> Bar {
        let values = deviation.map(|deviation| vec![mean - deviation, mean + deviation]).unwrap_or_default();
        Bar { name: name.to_owned(), mean, deviation, values, is_best: false, is_baseline: false }
    }

    #[test]
    fn rows_have_names_and_numbers() {
        let best = Bar { is_best: true, ..bar("adam, lr 0.001", 0.6213, Some(0.0041)) };
        let baseline = Bar { is_baseline: true, ..bar("the paper's", 0.59, None) };
        let plot = comparison(&[baseline, best, bar("sgd <&> momentum", 0.6, Some(0.002))]).unwrap();
        check(&plot, (760, 158));
        let texts = texts(&plot.svg);
        for text in [
            "adam, lr 0.001",
            "the paper's",
            "sgd <&> momentum",
            "0.6213 ± 0.0041",
            "0.5900",
            "model with the best run",
            "baseline",
        ] {
            assert!(texts.iter().any(|other| other == text), "{text}: {texts:?}");
        }
    }

    #[test]
    fn any_rows_are_plotted() {
        let long = "learning_rate=0.001,".repeat(5);
        for rows in [0, 1, 2, 30] {
            let bars: Vec<Bar> =
                (0..rows).map(|row| bar(&long, f64::from(row), (row % 2 == 0).then_some(0.5))).collect();
            let plot = comparison(&bars).unwrap();
            check(&plot, size(&plot.svg));
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
