//! ROC curves: true positive rate by false positive rate, one curve per class.

use anyhow::Result;

use super::Plot;
use super::axis::{Axis, Unit};
use super::canvas::{Align, BLUE, Canvas, Color, GRID, INK, ORANGE, Point, SMALL, TEXT, VERMILION, WIDTH};
use super::legend::Mark;
use crate::metrics::RocCurve;

/// Left and right edge of the panel; bottom and top.
const COLUMN: (f64, f64) = (76.0, 508.0);
const ROWS: (f64, f64) = (464.0, 32.0);
const HEIGHT: u32 = 514;
/// Left edge of the legend, and the width of a name in it.
const LEGEND: f64 = 536.0;
const NAME: f64 = 118.0;
/// From the top of the panel up to its heading.
const HEADING: f64 = 16.0;

/// Colors of the curves: the palette of Okabe and Ito (2008).
const COLORS: [Color; 8] = [BLUE, VERMILION, "#009E73", ORANGE, "#CC79A7", "#56B4E9", "#999999", "#B8A900"];

/// A curve moves by at least this much between two points of the plot, of 1.
const RESOLUTION: f64 = 0.002;

/// Plots the curve of each class that has one, by increasing area; with many classes, those of the
/// smallest area. `macro_auc` is the mean area.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn roc(classes: &[String], curves: &[Option<RocCurve>], macro_auc: Option<f64>) -> Result<Plot> {
    let mut shown: Vec<(&str, &RocCurve)> =
        classes.iter().zip(curves).filter_map(|(class, curve)| Some((class.as_str(), curve.as_ref()?))).collect();
    let count = shown.len();
    shown.sort_by(|(_, a), (_, b)| a.auc.total_cmp(&b.auc));
    shown.truncate(COLORS.len());
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    let axes = (Axis::linear((0.0, 1.0), COLUMN), Axis::linear((0.0, 1.0), ROWS));
    draw_grid(&mut canvas, &axes);
    canvas.dashed((COLUMN.0, ROWS.0), (COLUMN.1, ROWS.1), 1.5, INK);
    // The smallest area last, so that it is on top.
    for ((_, curve), color) in shown.iter().zip(COLORS).rev() {
        canvas.polyline(&positions(curve, &axes), 2.0, color);
    }
    draw_legend(&mut canvas, &shown, count, macro_auc);
    canvas.finish()
}

fn draw_grid(canvas: &mut Canvas, (x_axis, y_axis): &(Axis, Axis)) {
    canvas.text((COLUMN.0, ROWS.1 - HEADING), "True positive rate (recall)", TEXT.bold());
    for (x, label) in x_axis.ticks(5.0, Unit::Percent) {
        canvas.vertical(x, (ROWS.1, ROWS.0), 1.0, GRID);
        canvas.text((x, ROWS.0 + 14.0), &label, SMALL.aligned(Align::Middle));
    }
    y_axis.draw_horizontal_grid(canvas, COLUMN, 5.0, Unit::Percent);
    canvas.horizontal(ROWS.0, COLUMN, 1.0, INK);
    let center = f64::midpoint(COLUMN.0, COLUMN.1);
    canvas.text((center, ROWS.0 + 34.0), "False positive rate (1 - specificity)", TEXT.aligned(Align::Middle));
}

/// The points of a curve on the canvas, without those that nobody could see.
fn positions(curve: &RocCurve, (x_axis, y_axis): &(Axis, Axis)) -> Vec<Point> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (index, point) in curve.points.iter().enumerate() {
        let is_far = kept
            .last()
            .is_none_or(|last| (point.0 - last.0).abs() >= RESOLUTION || (point.1 - last.1).abs() >= RESOLUTION);
        if is_far || index + 1 == curve.points.len() {
            kept.push(*point);
        }
    }
    kept.iter().filter_map(|(x, y)| Some((x_axis.position(*x)?, y_axis.position(*y)?))).collect()
}

fn draw_legend(canvas: &mut Canvas, shown: &[(&str, &RocCurve)], count: usize, macro_auc: Option<f64>) {
    let right = f64::from(WIDTH) - 8.0;
    let mut y = ROWS.1 + 10.0;
    canvas.text((right, y), "AUC", TEXT.bold().aligned(Align::End));
    for ((name, curve), color) in shown.iter().zip(COLORS) {
        y += 23.0;
        Mark::Line(color).draw(canvas, (LEGEND + 11.0, y));
        canvas.text((LEGEND + 30.0, y), &TEXT.fit(name, NAME), TEXT);
        canvas.text((right, y), &format!("{:.3}", curve.auc), TEXT.aligned(Align::End));
    }
    if let Some(auc) = macro_auc {
        y += 30.0;
        canvas.text((LEGEND + 30.0, y), "mean", TEXT.bold());
        canvas.text((right, y), &format!("{auc:.3}"), TEXT.bold().aligned(Align::End));
    }
    y += 27.0;
    Mark::Dashes(INK).draw(canvas, (LEGEND + 11.0, y));
    canvas.text((LEGEND + 34.0, y), "guessing, 0.5", TEXT);
    if count > shown.len() {
        canvas.text((LEGEND, y + 24.0), &format!("the {} smallest of {count} classes", shown.len()), SMALL);
    }
    if shown.is_empty() {
        let position = (f64::midpoint(COLUMN.0, COLUMN.1), ROWS.0 - 40.0);
        canvas.text(position, "one class only", TEXT.aligned(Align::Middle));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, texts};
    use super::*;

    const SIZE: (u32, u32) = (760, 514);

    fn curve(auc: f64) -> Option<RocCurve> {
        let points = (0..=5000).map(|step| f64::from(step) / 5000.0).map(|x| (x, x.powf(1.0 / auc - 1.0)));
        Some(RocCurve { points: points.collect(), auc })
    }

    #[test]
    fn curves_have_their_area_in_the_legend() {
        let classes = ["sad & <b>", "happy", "fear"].map(String::from);
        let plot = roc(&classes, &[curve(0.9), None, curve(0.75)], Some(0.825)).unwrap();
        check(&plot, SIZE);
        let texts = texts(&plot.svg);
        for text in ["sad & <b>", "fear", "0.900", "0.750", "0.825", "mean", "AUC"] {
            assert!(texts.iter().any(|other| other == text), "{text}: {texts:?}");
        }
        assert!(!texts.iter().any(|text| text == "happy"));
        assert!(plot.svg.len() < 60_000, "{} bytes", plot.svg.len());
    }

    #[test]
    fn any_number_of_classes_is_plotted() {
        check(&roc(&[], &[], None).unwrap(), SIZE);
        let classes: Vec<String> = (0..30).map(|class| format!("a class with a long name {class}")).collect();
        let curves: Vec<_> = (0..30).map(|class| curve(0.5 + f64::from(class) / 61.0)).collect();
        let plot = roc(&classes, &curves, Some(f64::NAN)).unwrap();
        check(&plot, SIZE);
        assert!(texts(&plot.svg).iter().any(|text| text == "the 8 smallest of 30 classes"));
    }
}
