//! A page to draw on: a few shapes in pixels of the page, through plotters, as SVG and as PNG alike.

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::prelude::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, ShapeStyle};

use super::text::{self, Pixel};

/// Text and axes, as they stand in an SVG: whoever shows one in a dark theme replaces it.
pub const INK: &str = "#1F2328";
/// Grid lines, likewise.
pub const GRID: &str = "#D0D7DE";

/// The colours of [`INK`] and [`GRID`].
pub const INK_COLOUR: RGBColor = RGBColor(0x1F, 0x23, 0x28);
pub const GRID_COLOUR: RGBColor = RGBColor(0xD0, 0xD7, 0xDE);

// Okabe and Ito's colours, which colour-blind people tell apart; these differ in lightness too.
pub const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
pub const ORANGE: RGBColor = RGBColor(0xE6, 0x9F, 0x00);
pub const VERMILLION: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
pub const WHITE: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);

/// Width of most pages.
pub const WIDTH: u32 = 760;

/// Plotters params at whole places; a pixel of the page has so many of them.
const FINE: u32 = 4;
/// Pixels of a PNG to one of the page. A PNG is drawn at [`FINE`] and made smaller, which smooths it.
pub const DENSITY: usize = 2;

/// Sizes of text are em here; in plotters' SVG so many em, and its middle lies so far above where that puts it.
const SVG_SIZE: f64 = 1.24;
const SVG_DROP: f64 = 0.07;
/// From the middle of text to its baseline, in em.
const BASELINE: f64 = 0.34;

/// What can be drawn on a page.
pub trait Drawing {
    /// Width and height of the page in pixels.
    fn size(&self) -> (u32, u32);

    /// AugmentParams it.
    ///
    /// # Errors
    /// When plotters cannot.
    fn draw<B: DrawingBackend>(&self, page: &Page<B>) -> Result<()>;
}

/// A page of an SVG or a PNG. Places and lengths are in pixels of the page, from its upper left corner.
pub struct Page<B: DrawingBackend> {
    area: DrawingArea<B, Shift>,
    /// Whether this becomes an SVG.
    vector: bool,
}

/// Which point of a text stands at its place; its height is centred always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub size: f64,
    pub bold: bool,
    pub align: Align,
    pub colour: RGBColor,
    /// Turned to be read from below.
    pub turned: bool,
}

/// Most text, and numbers on axes and in cells.
pub const TEXT: Look = Look { size: 13.0, bold: false, align: Align::Start, colour: INK_COLOUR, turned: false };
pub const SMALL: Look = Look { size: 12.0, ..TEXT };

impl Look {
    pub fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub fn aligned(self, align: Align) -> Self {
        Self { align, ..self }
    }

    /// The width of a text.
    pub fn width(&self, text: &str) -> f64 {
        text::width(&printable(text), self.size, self.bold)
    }

    /// `text`, with dots for what does not fit into `width`: for the end of a short text, for the inside of a long one,
    /// whose end often tells it from others.
    pub fn fit(&self, text: &str, width: f64) -> String {
        let count = text.chars().count();
        let shortened = |kept: usize| {
            let back = if kept > 12 { kept / 3 } else { 0 };
            let front: String = text.chars().take(kept - back).collect();
            let end: String = text.chars().skip(count - back).collect();
            format!("{}…{}", front.trim_end(), end.trim_start())
        };
        // No text of a picture has more characters; measuring a longer one would only take time.
        const MOST: usize = 150;
        if count <= MOST && self.width(text) <= width {
            return text.to_owned();
        }
        let fitting = (1..count.min(MOST)).rev().map(shortened).find(|text| self.width(text) <= width);
        fitting.unwrap_or_else(|| "…".to_owned())
    }
}

impl<B: DrawingBackend> Page<B> {
    /// A filled rectangle between two corners; nothing when it has no area.
    pub fn rect(&self, (x0, y0): (f64, f64), (x1, y1): (f64, f64), colour: RGBColor, opacity: f64) -> Result<()> {
        let (left, top) = self.place((x0.min(x1), y0.min(y1)));
        let (right, bottom) = self.place((x0.max(x1), y0.max(y1)));
        if left >= right || top >= bottom {
            return Ok(());
        }
        // A bitmap's rectangle includes its last column and row.
        let last = i32::from(!self.vector);
        let style = colour.mix(opacity).filled();
        done(self.area.draw(&Rectangle::new([(left, top), (right - last, bottom - last)], style)))
    }

    /// The outline of a rectangle, inside of it.
    pub fn frame(&self, (x0, y0): (f64, f64), (x1, y1): (f64, f64), thickness: f64, colour: RGBColor) -> Result<()> {
        let ((left, right), (top, bottom)) = ((x0.min(x1), x0.max(x1)), (y0.min(y1), y0.max(y1)));
        let t = thickness.min((right - left) / 2.0).min((bottom - top) / 2.0);
        self.rect((left, top), (right, top + t), colour, 1.0)?;
        self.rect((left, bottom - t), (right, bottom), colour, 1.0)?;
        self.rect((left, top + t), (left + t, bottom - t), colour, 1.0)?;
        self.rect((right - t, top + t), (right, bottom - t), colour, 1.0)
    }

    /// A level line.
    pub fn level(&self, y: f64, (from, to): (f64, f64), thickness: f64, colour: RGBColor) -> Result<()> {
        self.rect((from, y - thickness / 2.0), (to, y + thickness / 2.0), colour, 1.0)
    }

    /// An upright line.
    pub fn upright(&self, x: f64, (from, to): (f64, f64), thickness: f64, colour: RGBColor) -> Result<()> {
        self.rect((x - thickness / 2.0, from), (x + thickness / 2.0, to), colour, 1.0)
    }

    /// A line through `points`, with round joints; a dot when there is one point only.
    pub fn path(&self, points: &[(f64, f64)], thickness: f64, colour: RGBColor) -> Result<()> {
        if let [point] = points {
            return self.dot(*point, thickness * 1.75, colour, 1.0);
        }
        if self.vector && !points.is_empty() {
            let style = ShapeStyle { color: colour.to_rgba(), filled: false, stroke_width: fine(thickness) };
            let points: Vec<(i32, i32)> = points.iter().map(|point| self.place(*point)).collect();
            return done(self.area.draw(&PathElement::new(points, style)));
        }
        // By hand: plotters' outline of a thick line has spikes where the line turns sharply.
        for ((x0, y0), (x1, y1)) in points.iter().zip(points.iter().skip(1)) {
            let length = (x1 - x0).hypot(y1 - y0);
            if length > 0.0 {
                let (dx, dy) = ((y0 - y1) / length * thickness / 2.0, (x1 - x0) / length * thickness / 2.0);
                self.polygon(
                    &[(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)],
                    colour,
                )?;
            }
        }
        points.iter().try_for_each(|point| self.dot(*point, thickness / 2.0, colour, 1.0))
    }

    /// A straight line in dashes.
    pub fn dashes(&self, from: (f64, f64), to: (f64, f64), thickness: f64, colour: RGBColor) -> Result<()> {
        const DASH: f64 = 6.0;
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        // An odd number, so that it begins and ends with one.
        let dashes = ((dx.hypot(dy) / DASH).min(1000.0) / 2.0).floor() * 2.0 + 1.0;
        let at = |dash: f64| (from.0 + dx * dash / dashes, from.1 + dy * dash / dashes);
        let starts = (0..=1000).step_by(2).map(f64::from).take_while(|dash| *dash < dashes);
        for dash in starts {
            self.path(&[at(dash), at(dash + 1.0)], thickness, colour)?;
        }
        Ok(())
    }

    /// A filled circle.
    pub fn dot(&self, centre: (f64, f64), radius: f64, colour: RGBColor, opacity: f64) -> Result<()> {
        done(self.area.draw(&Circle::new(self.place(centre), fine(radius), colour.mix(opacity).filled())))
    }

    /// A filled polygon.
    pub fn polygon(&self, points: &[(f64, f64)], colour: RGBColor) -> Result<()> {
        let points: Vec<(i32, i32)> = points.iter().map(|point| self.place(*point)).collect();
        done(self.area.draw(&Polygon::new(points, colour.filled())))
    }

    /// A line of text, centred upon the height of its place.
    pub fn text(&self, place: (f64, f64), text: &str, look: Look) -> Result<()> {
        let text = printable(text);
        if self.vector { self.text_as_text(place, &text, look) } else { self.text_as_pixels(place, &text, look) }
    }

    fn text_as_text(&self, (x, y): (f64, f64), text: &str, look: Look) -> Result<()> {
        let drop = SVG_DROP * look.size;
        let place = if look.turned { (x + drop, y) } else { (x, y + drop) };
        let turn = if look.turned { FontTransform::Rotate270 } else { FontTransform::None };
        let weight = if look.bold { FontStyle::Bold } else { FontStyle::Normal };
        let font = FontDesc::new(FontFamily::SansSerif, look.size * SVG_SIZE * f64::from(FINE), weight);
        let h_pos = match look.align {
            Align::Start => HPos::Left,
            Align::Middle => HPos::Center,
            Align::End => HPos::Right,
        };
        let style = font.transform(turn).color(&look.colour).pos(Pos::new(h_pos, VPos::Center));
        done(self.area.draw_text(text, &style, self.place(place)))
    }

    fn text_as_pixels(&self, place: (f64, f64), text: &str, look: Look) -> Result<()> {
        let start = match look.align {
            Align::Start => 0.0,
            Align::Middle => -look.width(text) / 2.0,
            Align::End => -look.width(text),
        };
        let (x, y) = self.place(place);
        let (from, baseline) = ((start * f64::from(FINE)) as i32, (BASELINE * look.size * f64::from(FINE)) as i32);
        for Pixel { right, down, coverage } in text::pixels(text, look.size * f64::from(FINE), look.bold) {
            let (right, down) = (right.saturating_add(from), down.saturating_add(baseline));
            let place = if look.turned {
                (x.saturating_add(down), y.saturating_sub(right))
            } else {
                (x.saturating_add(right), y.saturating_add(down))
            };
            done(self.area.draw_pixel(place, &look.colour.mix(f64::from(coverage))))?;
        }
        Ok(())
    }

    /// Where plotters params a point; one far outside of the page, which would end in overflows, is brought near.
    fn place(&self, (x, y): (f64, f64)) -> (i32, i32) {
        let (width, height) = self.area.dim_in_pixel();
        let near = |value: f64, edge: u32| {
            let edge = f64::from(edge);
            (value * f64::from(FINE)).clamp(-edge, 2.0 * edge).round() as i32
        };
        (near(x, width), near(y, height))
    }
}

/// A length as plotters counts; at least 1.
fn fine(length: f64) -> u32 {
    (length * f64::from(FINE)).round().max(1.0) as u32
}

/// What plotters says, as ours: its errors may borrow.
fn done<E: std::error::Error + Send + Sync>(result: Result<(), DrawingAreaErrorKind<E>>) -> Result<()> {
    result.map_err(|error| anyhow!("cannot draw: {error}"))
}

/// `text` without what XML does not allow.
fn printable(text: &str) -> String {
    let allowed = |c: char| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c };
    text.chars().map(allowed).collect()
}

/// A drawing as SVG, with a transparent background.
///
/// # Errors
/// When plotters cannot draw it.
pub fn svg(drawing: &impl Drawing) -> Result<String> {
    let (width, height) = drawing.size();
    let (wide, high) = (width * FINE, height * FINE);
    let mut text = String::new();
    let page = Page { area: SVGBackend::with_string(&mut text, (wide, high)).into_drawing_area(), vector: true };
    drawing.draw(&page)?;
    done(page.area.present())?;
    drop(page);
    // Drawn finely, shown at its size. Lines inherit their joints.
    let drawn = format!("<svg width=\"{wide}\" height=\"{high}\"");
    let rest = text.strip_prefix(&drawn).context("plotters begins an SVG in another way than it did")?;
    Ok(format!(
        "<svg role=\"img\" width=\"{width}\" height=\"{height}\" stroke-linejoin=\"round\" stroke-linecap=\"round\"{rest}"
    ))
}

/// A drawing as colours `[height, width, 3]`, [`DENSITY`] pixels to one of the page, on white.
///
/// # Errors
/// When plotters cannot draw it.
pub fn pixels(drawing: &impl Drawing) -> Result<Vec<u8>> {
    let (width, height) = drawing.size();
    let (wide, high) = (width * FINE, height * FINE);
    let mut pixels = vec![u8::MAX; wide as usize * high as usize * 3];
    let page = Page { area: BitMapBackend::with_buffer(&mut pixels, (wide, high)).into_drawing_area(), vector: false };
    drawing.draw(&page)?;
    done(page.area.present())?;
    drop(page);
    Ok(halved(&pixels, wide as usize))
}

/// Half the width and height: the mean of each four pixels.
fn halved(pixels: &[u8], width: usize) -> Vec<u8> {
    let row = width * 3;
    let mean = |a: u8, b: u8, c: u8, d: u8| ((u16::from(a) + u16::from(b) + u16::from(c) + u16::from(d) + 2) / 4) as u8;
    let rows = pixels.chunks_exact(2 * row).map(|rows| rows.split_at(row));
    rows.flat_map(|(upper, lower)| {
        let pairs = upper.as_chunks::<6>().0.iter().zip(lower.as_chunks::<6>().0);
        pairs.flat_map(|([a, b, c, d, e, f], [g, h, i, j, k, l])| {
            [mean(*a, *d, *g, *j), mean(*b, *e, *h, *k), mean(*c, *f, *i, *l)]
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_by_means() {
        let pixels = [[0; 3], [4; 3], [9; 3], [9; 3], [8; 3], [12; 3], [9; 3], [9; 3]].concat();
        assert_eq!(halved(&pixels, 4), [6, 6, 6, 9, 9, 9]);
    }

    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(TEXT.fit("happy", 100.0), "happy");
        let name = "a_sweep_over_learning_rates_and_more_of_a_very_long_name_lr=0.01";
        let short = TEXT.fit(name, 200.0);
        assert!(short.starts_with("a_sweep") && short.contains('…') && short.ends_with("lr=0.01"), "{short}");
        assert!(TEXT.width(&short) <= 200.0);
        assert_eq!(TEXT.fit("happy", 1.0), "…");
        assert_eq!(TEXT.fit(&"x".repeat(1_000_000), 60.0).chars().last(), Some('…'));
        assert_eq!(TEXT.fit("", 10.0), "");
    }

    /// All shapes at places that are none.
    struct Odd;

    impl Drawing for Odd {
        fn size(&self) -> (u32, u32) {
            (30, 20)
        }

        fn draw<B: DrawingBackend>(&self, page: &Page<B>) -> Result<()> {
            let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1e300, 0.0, 7.0];
            for x in odd {
                for y in odd {
                    page.rect((x, y), (y, x), BLUE, 0.5)?;
                    page.frame((x, y), (y, x), 1.0, BLUE)?;
                    page.dot((x, y), 3.0, BLUE, 0.5)?;
                    page.path(&[(x, y), (y, x), (1.0, 2.0)], 2.0, BLUE)?;
                    page.dashes((x, y), (y, x), 2.0, BLUE)?;
                    page.polygon(&[(x, y), (1.0, 1.0), (y, x)], BLUE)?;
                    page.text((x, y), "<\u{0}&\n", Look { turned: x > 1.0, ..TEXT })?;
                }
            }
            page.path(&[], 1.0, BLUE)?;
            page.polygon(&[], BLUE)
        }
    }

    #[test]
    fn odd_places_do_no_harm() {
        let text = svg(&Odd).unwrap();
        assert!(text.contains("&lt;\u{fffd}&amp;\u{fffd}") && !text.contains("NaN"));
        assert_eq!(pixels(&Odd).unwrap().len(), 60 * 40 * 3);
    }
}
