//! Shares of what explains a result, one bar each.

use anyhow::Result;

use super::Plot;
use super::canvas::{Align, BLUE, Canvas, GRID, INK, TEXT, WIDTH};

const ROW: f64 = 28.0;
const ABOVE: f64 = 10.0;
const BELOW: f64 = 12.0;
const EDGE: f64 = 8.0;
const GAP: f64 = 12.0;
/// Max width of a name, and the width of a number.
const MAX_NAME: f64 = 260.0;
const NUMBER: f64 = 52.0;

/// Plots shares from 0 to 1 in the given order; `None` is unknown.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn importance(shares: &[(String, Option<f64>)]) -> Result<Plot> {
    let names: Vec<String> = shares.iter().map(|(name, _)| TEXT.fit(name, MAX_NAME)).collect();
    let left = EDGE + names.iter().map(|name| TEXT.width(name)).fold(0.0, f64::max) + GAP;
    let right = f64::from(WIDTH) - EDGE - NUMBER;
    let bottom = ABOVE + shares.len().max(1) as f64 * ROW;
    let mut canvas = Canvas::new(WIDTH, (bottom + BELOW).ceil() as u32);
    for quarter in 1..=4 {
        canvas.vertical(left + (right - left) * f64::from(quarter) / 4.0, (ABOVE, bottom), 1.0, GRID);
    }
    canvas.vertical(left, (ABOVE, bottom), 1.0, INK);
    for (((_, share), name), row) in shares.iter().zip(&names).zip(0..) {
        let y = ABOVE + (f64::from(row) + 0.5) * ROW;
        canvas.text((left - GAP, y), name, TEXT.aligned(Align::End));
        let share = share.filter(|share| share.is_finite()).map(|share| share.clamp(0.0, 1.0));
        let number = share.map_or("–".to_owned(), |share| format!("{:.0}%", 100.0 * share));
        canvas.text((f64::from(WIDTH) - EDGE, y), &number, TEXT.aligned(Align::End));
        canvas.rect((left, y - 8.0), (left + (right - left) * share.unwrap_or(0.0), y + 8.0), BLUE, 1.0);
    }
    if shares.is_empty() {
        canvas.text((f64::midpoint(left, right), ABOVE + ROW / 2.0), "no keys", TEXT.aligned(Align::Middle));
    }
    canvas.finish()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, size, texts};
    use super::*;

    #[test]
    fn shares_are_named_and_numbered() {
        let share = |name: &str, share| (name.to_owned(), share);
        let odd = [
            share("lr", Some(0.456)),
            share("x <&>", None),
            share(&"long".repeat(99), Some(f64::NAN)),
            share("", Some(7.0)),
        ];
        let plot = importance(&odd).unwrap();
        check(&plot, (760, 134));
        let texts = texts(&plot.svg);
        assert!(
            ["lr", "46%", "x <&>", "–", "100%"].iter().all(|text| texts.iter().any(|other| other == text)),
            "{texts:?}"
        );
        let plot = importance(&[]).unwrap();
        check(&plot, size(&plot.svg));
    }
}
