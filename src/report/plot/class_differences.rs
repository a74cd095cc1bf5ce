//! Differences of two models with their intervals, one row each, around a line at 0.

use anyhow::Result;

use super::Plot;
use super::axis::{Axis, Unit, is_plottable, range, with_margin};
use super::canvas::{Align, BLUE, Canvas, GRID, INK, SMALL, TEXT, TextStyle, VERMILION, WIDTH};
use super::legend::{Mark, draw_error_bar};

/// Height of a row, of what is above the rows and of what is below them.
const ROW: f64 = 30.0;
const ABOVE: f64 = 34.0;
const BELOW: f64 = 52.0;
/// Space around and between columns.
const EDGE: f64 = 8.0;
const GAP: f64 = 14.0;
/// Max width of a name.
const MAX_NAME: f64 = 200.0;

/// A row of the plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// What is compared.
    pub name: String,
    /// The second model minus the first.
    pub value: f64,
    /// Its 95% interval.
    pub interval: (f64, f64),
    /// Whether the row is a summary of the others.
    pub is_total: bool,
}

/// Plots `rows` in their order; positive differences are in favor of `second`.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn differences(rows: &[Difference], first: &str, second: &str) -> Result<Plot> {
    let names: Vec<String> = rows.iter().map(|row| style(row).fit(&row.name, MAX_NAME)).collect();
    let numbers: Vec<String> = rows.iter().map(number).collect();
    let longest =
        |texts: &[String]| rows.iter().zip(texts).map(|(row, text)| style(row).width(text)).fold(0.0, f64::max);
    let left = EDGE + longest(&names) + GAP;
    let right = (f64::from(WIDTH) - EDGE - longest(&numbers) - GAP).max(left + 100.0);
    let ends = rows.iter().flat_map(|row| [row.interval.0, row.interval.1, row.value]).chain([0.0]);
    let axis = Axis::linear(with_margin(range(ends).unwrap_or((-0.1, 0.1)), 0.08), (left, right));
    let (top, bottom) = (ABOVE - 6.0, ABOVE + rows.len().max(1) as f64 * ROW);
    let mut canvas = Canvas::new(WIDTH, (bottom + BELOW).ceil() as u32);
    canvas.text((f64::from(WIDTH) - EDGE, 14.0), "points (95% CI)", SMALL.aligned(Align::End));
    for (x, label) in axis.ticks(((right - left) / 70.0).max(2.0), Unit::Percent) {
        canvas.vertical(x, (top, bottom), 1.0, GRID);
        canvas.text((x, bottom + 14.0), &label, SMALL.aligned(Align::Middle));
    }
    canvas.horizontal(bottom, (left, right), 1.0, INK);
    if let Some(zero) = axis.position(0.0) {
        canvas.vertical(zero, (top, bottom), 1.5, INK);
        let (first, second) = (format!("← {first} better"), format!("{second} better →"));
        let y = bottom + 36.0;
        canvas.text((left, y), &SMALL.fit(&first, (right - left) / 2.0 - GAP), SMALL);
        let second = SMALL.fit(&second, (right - left) / 2.0 - GAP);
        canvas.text((right, y), &second, SMALL.aligned(Align::End));
    }
    for (((row, name), number), index) in rows.iter().zip(&names).zip(&numbers).zip(0..) {
        let y = ABOVE + (f64::from(index) + 0.5) * ROW - 2.0;
        canvas.text((left - GAP, y), name, style(row).aligned(Align::End));
        canvas.text((f64::from(WIDTH) - EDGE, y), number, style(row).aligned(Align::End));
        let (Some(from), Some(to)) = (axis.position(row.interval.0), axis.position(row.interval.1)) else { continue };
        draw_error_bar(&mut canvas, (from, to), y, INK);
        let mark = if row.is_total { Mark::Diamond(VERMILION) } else { Mark::Circle(BLUE) };
        if let Some(x) = axis.position(row.value) {
            mark.draw(&mut canvas, (x, y));
        }
    }
    canvas.finish()
}

fn style(row: &Difference) -> TextStyle {
    if row.is_total { TEXT.bold() } else { TEXT }
}

/// A difference and its interval in percentage points.
fn number(row: &Difference) -> String {
    let (low, high) = row.interval;
    if ![row.value, low, high].into_iter().all(is_plottable) {
        return "–".to_owned();
    }
    // Not -0.0.
    let points = |value: f64| format!("{:+.1}", (1000.0 * value).round() / 10.0 + 0.0);
    format!("{} ({} to {})", points(row.value), points(low), points(high))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, size, texts};
    use super::*;

    fn row(name: &str, value: f64, is_total: bool) -> Difference {
        Difference { name: name.to_owned(), value, interval: (value - 0.02, value + 0.03), is_total }
    }

    #[test]
    fn rows_have_names_and_points() {
        let plot =
            differences(&[row("all images", 0.012, true), row("<sad>", -0.04, false)], "runs/a", "b & c").unwrap();
        check(&plot, (760, 146));
        let texts = texts(&plot.svg);
        for text in
            ["all images", "<sad>", "+1.2 (-0.8 to +4.2)", "-4.0 (-6.0 to -1.0)", "← runs/a better", "b & c better →"]
        {
            assert!(texts.iter().any(|other| other == text), "{text}: {texts:?}");
        }
    }

    #[test]
    fn any_rows_are_plotted() {
        check(&differences(&[], "a", "b").unwrap(), (760, 116));
        let odd = [f64::NAN, f64::INFINITY, f64::MAX, -1e100, 0.0, 5e-324];
        let rows: Vec<Difference> = odd.iter().map(|value| row(&"name".repeat(30), *value, false)).collect();
        let long = "runs/".repeat(60);
        let plot = differences(&rows, &long, &long).unwrap();
        check(&plot, size(&plot.svg));
    }
}
