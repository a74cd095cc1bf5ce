//! A canvas that writes shapes as SVG. Positions and lengths are in SVG user units (CSS pixels),
//! from the upper left corner.
//!
//! No input breaks it: coordinates that are not finite or far outside are clamped, text is escaped.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

use super::font::{self, FAMILY};
use super::{Plot, rasterize};

/// A color as SVG writes it.
pub type Color = &'static str;

/// Text and axes. A page with a dark theme replaces this string in the SVG.
pub const INK: Color = "#1F2328";
/// Grid lines, likewise.
pub const GRID: Color = "#D0D7DE";

// The palette of Okabe and Ito (2008), safe for color-blind readers; these differ in lightness too.
pub const BLUE: Color = "#0072B2";
pub const ORANGE: Color = "#E69F00";
pub const VERMILION: Color = "#D55E00";
pub const WHITE: Color = "#FFFFFF";

/// Width of most plots.
pub const WIDTH: u32 = 760;

/// From the vertical middle of text to its baseline, in em: half the height of a letter between x
/// and X.
const BASELINE: f64 = 0.34;

/// A position: x to the right, y down.
pub type Point = (f64, f64);

/// Shapes of a plot, in the order in which they are painted.
#[derive(Debug)]
pub struct Canvas {
    width: u32,
    height: u32,
    shapes: String,
}

/// Which end of a text is at its position. The vertical middle always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub struct TextStyle {
    /// Font size: the length of an em.
    pub size: f64,
    pub bold: bool,
    pub align: Align,
    pub color: Color,
    /// Rotated by 90 degrees, to be read from bottom to top.
    pub rotated: bool,
}

/// Titles and legends.
pub const TEXT: TextStyle = TextStyle { size: 13.0, bold: false, align: Align::Start, color: INK, rotated: false };
/// Numbers on axes and in cells.
pub const SMALL: TextStyle = TextStyle { size: 12.0, ..TEXT };

impl TextStyle {
    pub fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub fn aligned(self, align: Align) -> Self {
        Self { align, ..self }
    }

    /// Width of a text.
    pub fn width(&self, text: &str) -> f64 {
        font::text_width(&printable(text), self.size, self.bold)
    }

    /// `text`, shortened with an ellipsis to fit into `width`. The ellipsis replaces the end of a
    /// short text and the middle of a long one, whose end often tells it from others.
    pub fn fit(&self, text: &str, width: f64) -> String {
        // No text of a plot has more characters; measuring a longer one would only take time.
        const MAX_CHARS: usize = 150;
        let count = text.chars().count();
        if count <= MAX_CHARS && self.width(text) <= width {
            return text.to_owned();
        }
        let shortened = |kept: usize| {
            let back = if kept > 12 { kept / 3 } else { 0 };
            let front: String = text.chars().take(kept - back).collect();
            let end: String = text.chars().skip(count - back).collect();
            format!("{}…{}", front.trim_end(), end.trim_start())
        };
        let fitting = (1..count.min(MAX_CHARS)).rev().map(shortened).find(|text| self.width(text) <= width);
        fitting.unwrap_or_else(|| "…".to_owned())
    }
}

impl Canvas {
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height, shapes: String::new() }
    }

    /// A filled rectangle between two corners; nothing when it has no area.
    pub fn rect(&mut self, a: Point, b: Point, color: Color, opacity: f64) {
        let Some((left, top, width, height)) = self.bounds(a, b) else { return };
        // Without antialiasing, which would leave seams between neighbors.
        self.add(&html! {
            rect x=(number(left)) y=(number(top)) width=(number(width)) height=(number(height)) fill=(color)
                fill-opacity=[translucent(opacity)] shape-rendering="crispEdges" {}
        });
    }

    /// The outline of a rectangle, inside of it.
    pub fn outline(&mut self, a: Point, b: Point, thickness: f64, color: Color) {
        let Some((left, top, width, height)) = self.bounds(a, b) else { return };
        let line = thickness.min(width).min(height);
        self.add(&html! {
            rect x=(number(left + line / 2.0)) y=(number(top + line / 2.0)) width=(number(width - line))
                height=(number(height - line)) fill="none" stroke=(color) stroke-width=(number(line)) stroke-linejoin="miter" {}
        });
    }

    /// A horizontal line. One of thickness 1 is moved to a row of pixels, where it is sharp.
    pub fn horizontal(&mut self, y: f64, (from, to): (f64, f64), thickness: f64, color: Color) {
        let y = snapped(y, thickness);
        self.line((from, y), (to, y), thickness, color);
    }

    /// A vertical line. One of thickness 1 is moved to a column of pixels, where it is sharp.
    pub fn vertical(&mut self, x: f64, (from, to): (f64, f64), thickness: f64, color: Color) {
        let x = snapped(x, thickness);
        self.line((x, from), (x, to), thickness, color);
    }

    fn line(&mut self, from: Point, to: Point, thickness: f64, color: Color) {
        let ((x1, y1), (x2, y2)) = (self.clamped(from), self.clamped(to));
        self.add(&html! {
            line x1=(number(x1)) y1=(number(y1)) x2=(number(x2)) y2=(number(y2)) stroke=(color)
                stroke-width=(number(thickness)) {}
        });
    }

    /// A line through `points` with round joints; a dot when there is one point only.
    pub fn polyline(&mut self, points: &[Point], thickness: f64, color: Color) {
        match points {
            [] => {}
            [point] => self.circle(*point, thickness * 1.75, color, 1.0),
            _ => {
                let points = self.joined(points);
                self.add(&html! {
                    polyline points=(points) fill="none" stroke=(color) stroke-width=(number(thickness))
                        stroke-linejoin="round" stroke-linecap="round" {}
                });
            }
        }
    }

    /// A straight dashed line that begins and ends with a dash. A vertical one is sharp like
    /// [`vertical`](Self::vertical).
    pub fn dashed(&mut self, from: Point, to: Point, thickness: f64, color: Color) {
        const DASH: f64 = 6.0;
        let ((x1, y1), (x2, y2)) = (self.clamped(from), self.clamped(to));
        let (x1, x2) = if x1 == x2 { (snapped(x1, thickness), snapped(x2, thickness)) } else { (x1, x2) };
        let length = (x2 - x1).hypot(y2 - y1);
        // An odd number of dashes and gaps.
        let parts = (length / DASH / 2.0).floor() * 2.0 + 1.0;
        self.add(&html! {
            line x1=(number(x1)) y1=(number(y1)) x2=(number(x2)) y2=(number(y2)) stroke=(color)
                stroke-width=(number(thickness)) stroke-dasharray=(format!("{:.4}", length / parts)) {}
        });
    }

    /// A filled circle.
    pub fn circle(&mut self, center: Point, radius: f64, color: Color, opacity: f64) {
        let (x, y) = self.clamped(center);
        self.add(&html! {
            circle cx=(number(x)) cy=(number(y)) r=(number(radius)) fill=(color) fill-opacity=[translucent(opacity)] {}
        });
    }

    /// A filled polygon.
    pub fn polygon(&mut self, points: &[Point], color: Color) {
        if !points.is_empty() {
            let points = self.joined(points);
            self.add(&html! { polygon points=(points) fill=(color) {} });
        }
    }

    /// A line of text, whose vertical middle is at `position`.
    pub fn text(&mut self, position: Point, text: &str, style: TextStyle) {
        let drop = BASELINE * style.size;
        let (x, y) = position;
        let (x, y) = self.clamped(if style.rotated { (x + drop, y) } else { (x, y + drop) });
        let anchor = match style.align {
            Align::Start => None,
            Align::Middle => Some("middle"),
            Align::End => Some("end"),
        };
        let rotation = style.rotated.then(|| format!("rotate(-90 {} {})", number(x), number(y)));
        self.add(&html! {
            text x=(number(x)) y=(number(y)) font-size=(number(style.size)) font-weight=[style.bold.then_some("bold")]
                text-anchor=[anchor] transform=[rotation] fill=(style.color) { (printable(text)) }
        });
    }

    /// A PNG in a rectangle of its proportions whose upper left corner is `corner`, without smoothing.
    pub fn image(&mut self, corner: Point, (width, height): (f64, f64), png: &[u8]) {
        let (x, y) = self.clamped(corner);
        self.add(&html! {
            image x=(number(x)) y=(number(y)) width=(number(width)) height=(number(height)) image-rendering="pixelated"
                href=(png_data_url(png)) {}
        });
    }

    /// The plot as an SVG with a transparent background, and as the PNG that is made from it.
    ///
    /// # Errors
    /// The rasterizer's.
    pub fn finish(self) -> Result<Plot> {
        let svg = self.svg();
        let png = rasterize::rasterize(&svg)?;
        Ok(Plot { svg, png })
    }

    fn svg(&self) -> String {
        let Self { width, height, shapes } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"{FAMILY}\">\n{shapes}</svg>\n"
        )
    }

    fn add(&mut self, shape: &Markup) {
        self.shapes += &shape.0;
        self.shapes.push('\n');
    }

    /// Left and upper edge, width and height of a rectangle; none for one without area.
    fn bounds(&self, a: Point, b: Point) -> Option<(f64, f64, f64, f64)> {
        let ((x0, y0), (x1, y1)) = (self.clamped(a), self.clamped(b));
        let (width, height) = ((x1 - x0).abs(), (y1 - y0).abs());
        (width > 0.0 && height > 0.0).then_some((x0.min(x1), y0.min(y1), width, height))
    }

    /// A point that is at most the size of the canvas away from it; 0 for NaN.
    fn clamped(&self, (x, y): Point) -> Point {
        let clamp = |value: f64, size: u32| {
            let size = f64::from(size);
            if value.is_nan() { 0.0 } else { value.clamp(-size, 2.0 * size) }
        };
        (clamp(x, self.width), clamp(y, self.height))
    }

    fn joined(&self, points: &[Point]) -> String {
        let pairs = points.iter().map(|point| self.clamped(*point));
        pairs.map(|(x, y)| format!("{},{}", number(x), number(y))).collect::<Vec<_>>().join(" ")
    }
}

/// A PNG as a `data:` URL.
pub fn png_data_url(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

/// A coordinate, to a hundredth.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    (if text == "-0" { "0" } else { text }).to_owned()
}

/// The middle of the pixel around a line of thickness 1; other lines stay.
fn snapped(position: f64, thickness: f64) -> f64 {
    if thickness == 1.0 { position.floor() + 0.5 } else { position }
}

/// An opacity below 1, which is the default.
fn translucent(opacity: f64) -> Option<String> {
    (opacity < 1.0).then(|| number(opacity.max(0.0)))
}

/// `text` without the characters that XML does not allow.
fn printable(text: &str) -> String {
    let allowed = |c: char| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c };
    text.chars().map(allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, -0.001, 0.5, 10.0, 100.256, -3.1].map(number), ["0", "0", "0.5", "10", "100.26", "-3.1"]);
    }

    #[test]
    fn long_text_is_shortened() {
        assert_eq!(TEXT.fit("happy", 100.0), "happy");
        let name = "a_sweep_over_learning_rates_and_more_of_a_very_long_name_lr=0.01";
        let short = TEXT.fit(name, 200.0);
        assert!(short.starts_with("a_sweep") && short.contains('…') && short.ends_with("lr=0.01"), "{short}");
        assert!(TEXT.width(&short) <= 200.0);
        assert_eq!(TEXT.fit("happy", 1.0), "…");
        assert_eq!(TEXT.fit(&"x".repeat(1_000_000), 60.0).chars().last(), Some('…'));
        assert_eq!(TEXT.fit("", 10.0), "");
    }

    #[test]
    fn a_dashed_line_begins_and_ends_with_a_dash() {
        let mut canvas = Canvas::new(100, 100);
        canvas.dashed((0.0, 10.0), (100.0, 10.0), 1.0, INK);
        let (_, rest) = canvas.shapes.split_once("stroke-dasharray=\"").unwrap();
        let dash: f64 = rest.split_once('"').unwrap().0.parse().unwrap();
        let parts = 100.0 / dash;
        assert!((parts - 17.0).abs() < 1e-3, "{parts}");
    }

    #[test]
    fn invalid_coordinates_and_text_give_a_valid_image() {
        let mut canvas = Canvas::new(30, 20);
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1e300, 0.0, 7.0];
        for x in odd {
            for y in odd {
                canvas.rect((x, y), (y, x), BLUE, x);
                canvas.outline((x, y), (y, x), 1.0, BLUE);
                canvas.horizontal(x, (y, 1.0), 1.0, GRID);
                canvas.vertical(x, (y, 1.0), 1.5, GRID);
                canvas.circle((x, y), 3.0, BLUE, y);
                canvas.polyline(&[(x, y), (y, x), (1.0, 2.0)], 2.0, BLUE);
                canvas.polyline(&[(x, y)], 2.0, BLUE);
                canvas.dashed((x, y), (y, x), 2.0, BLUE);
                canvas.polygon(&[(x, y), (1.0, 1.0), (y, x)], BLUE);
                canvas.image((x, y), (5.0, 5.0), b"not a PNG");
            }
        }
        for rotated in [false, true] {
            canvas.text((3.0, 4.0), "<\u{0}&\n\"\u{ffff}", TextStyle { rotated, ..TEXT });
        }
        canvas.polyline(&[], 1.0, BLUE);
        canvas.polygon(&[], BLUE);
        let plot = canvas.finish().unwrap();
        assert!(plot.svg.contains("&lt;\u{fffd}&amp;\u{fffd}&quot;\u{fffd}"));
        check(&plot, (30, 20));
    }
}
