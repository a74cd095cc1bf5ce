//! The marks of a plot, and legends that explain them.

use super::canvas::{Canvas, Color, INK, Point, TEXT};

/// A mark of a plot. Those of a comparison differ in shape too, for readers who do not tell the
/// colors apart.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    /// A line.
    Line(Color),
    /// A dashed line.
    Dashes(Color),
    /// A circle, a diamond or a square: a mean.
    Circle(Color),
    Diamond(Color),
    Square(Color),
    /// A small translucent circle: a single run.
    Run(Color),
    /// A line with caps: a standard deviation.
    ErrorBar(Color),
    /// A filled area.
    Area(Color),
    /// A translucent area with an outline.
    TranslucentArea(Color),
}

/// Space between a mark and its text, and between entries.
const MARK_GAP: f64 = 7.0;
const ENTRY_GAP: f64 = 20.0;

/// Radius of a mean's circle.
const RADIUS: f64 = 5.0;

impl Mark {
    fn width(self) -> f64 {
        match self {
            Self::Line(_) | Self::ErrorBar(_) => 22.0,
            Self::Dashes(_) => 30.0,
            Self::Area(_) | Self::TranslucentArea(_) => 18.0,
            Self::Circle(_) | Self::Square(_) => 2.0 * RADIUS,
            Self::Diamond(_) => 2.7 * RADIUS,
            Self::Run(_) => 4.0,
        }
    }

    /// Draws the mark, centered at a position.
    pub fn draw(self, canvas: &mut Canvas, (x, y): Point) {
        match self {
            Self::Line(color) => canvas.polyline(&[(x - 11.0, y), (x + 11.0, y)], 2.0, color),
            Self::Dashes(color) => canvas.dashed((x - 15.0, y), (x + 15.0, y), 1.5, color),
            Self::Circle(color) => canvas.circle((x, y), RADIUS, color, 1.0),
            Self::Diamond(color) => {
                let r = RADIUS * 1.35;
                canvas.polygon(&[(x, y - r), (x + r, y), (x, y + r), (x - r, y)], color);
            }
            Self::Square(color) => {
                let r = RADIUS * 0.9;
                canvas.polygon(&[(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)], color);
            }
            Self::Run(color) => canvas.circle((x, y), 2.0, color, 0.7),
            Self::ErrorBar(color) => draw_error_bar(canvas, (x - 11.0, x + 11.0), y, color),
            Self::Area(color) => canvas.rect((x - 9.0, y - 6.0), (x + 9.0, y + 6.0), color, 1.0),
            Self::TranslucentArea(color) => {
                draw_translucent_area(canvas, (x - 9.0, y - 6.0), (x + 9.0, y + 6.0), color);
            }
        }
    }
}

/// Draws a horizontal line with caps.
pub fn draw_error_bar(canvas: &mut Canvas, (from, to): (f64, f64), y: f64, color: Color) {
    canvas.horizontal(y, (from, to), 1.5, color);
    for x in [from, to] {
        canvas.vertical(x, (y - 4.75, y + 4.75), 1.5, color);
    }
}

/// Draws a translucent rectangle with an outline.
pub fn draw_translucent_area(canvas: &mut Canvas, from: Point, to: Point, color: Color) {
    canvas.rect(from, to, color, 0.4);
    canvas.outline(from, to, 1.0, INK);
}

/// Width of a legend in one line.
fn width(entries: &[(Mark, &str)]) -> f64 {
    let widths = entries.iter().map(|(mark, text)| mark.width() + MARK_GAP + TEXT.width(text) + ENTRY_GAP);
    (widths.sum::<f64>() - ENTRY_GAP).max(0.0)
}

/// Draws a legend in one line, from `x` to the right.
pub fn draw_legend(canvas: &mut Canvas, (x, y): Point, entries: &[(Mark, &str)]) {
    let mut left = x;
    for (mark, text) in entries {
        mark.draw(canvas, (left + mark.width() / 2.0, y));
        left += mark.width() + MARK_GAP;
        canvas.text((left, y), text, TEXT);
        left += TEXT.width(text) + ENTRY_GAP;
    }
}

/// Draws a title at the left of a line and a legend at its right.
pub fn draw_heading(canvas: &mut Canvas, (left, right): (f64, f64), y: f64, title: &str, entries: &[(Mark, &str)]) {
    canvas.text((left, y), title, TEXT.bold());
    draw_legend(canvas, (right - width(entries), y), entries);
}
