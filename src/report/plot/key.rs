//! The marks of a picture, and what they mean.

use anyhow::Result;
use plotters::prelude::DrawingBackend;
use plotters::style::RGBColor;

use super::page::{INK_COLOUR, Page, TEXT};

/// A mark in a picture. Those of comparisons differ in shape too, for readers who see no colours.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    /// A line.
    Line(RGBColor),
    /// A line in dashes.
    Dashes(RGBColor),
    /// A circle, a diamond, a square: means.
    Circle(RGBColor),
    Diamond(RGBColor),
    Square(RGBColor),
    /// A small, pale circle: a single run.
    Run(RGBColor),
    /// A mean's deviation.
    Whisker(RGBColor),
    /// An area.
    Fill(RGBColor),
    /// An area that others show through, with an outline.
    Pale(RGBColor),
}

/// Spaces after a mark and after its text.
const SPACE: f64 = 7.0;
const APART: f64 = 20.0;

/// Radius of a mean's circle.
const RADIUS: f64 = 5.0;

impl Mark {
    fn width(self) -> f64 {
        match self {
            Self::Line(_) | Self::Whisker(_) => 22.0,
            Self::Dashes(_) => 30.0,
            Self::Fill(_) | Self::Pale(_) => 18.0,
            Self::Circle(_) | Self::Square(_) => 2.0 * RADIUS,
            Self::Diamond(_) => 2.7 * RADIUS,
            Self::Run(_) => 4.0,
        }
    }

    /// AugmentParams it around a place.
    pub fn draw<B: DrawingBackend>(self, page: &Page<B>, (x, y): (f64, f64)) -> Result<()> {
        match self {
            Self::Line(colour) => page.path(&[(x - 11.0, y), (x + 11.0, y)], 2.0, colour),
            Self::Dashes(colour) => page.dashes((x - 15.0, y), (x + 15.0, y), 1.5, colour),
            Self::Circle(colour) => page.dot((x, y), RADIUS, colour, 1.0),
            Self::Diamond(colour) => {
                let r = RADIUS * 1.35;
                page.polygon(&[(x, y - r), (x + r, y), (x, y + r), (x - r, y)], colour)
            }
            Self::Square(colour) => {
                let r = RADIUS * 0.9;
                page.rect((x - r, y - r), (x + r, y + r), colour, 1.0)
            }
            Self::Run(colour) => page.dot((x, y), 2.0, colour, 0.7),
            Self::Whisker(colour) => whisker(page, (x - 11.0, x + 11.0), y, colour),
            Self::Fill(colour) => page.rect((x - 9.0, y - 6.0), (x + 9.0, y + 6.0), colour, 1.0),
            Self::Pale(colour) => pale(page, (x - 9.0, y - 6.0), (x + 9.0, y + 6.0), colour),
        }
    }
}

/// A level line with caps.
pub fn whisker<B: DrawingBackend>(page: &Page<B>, (from, to): (f64, f64), y: f64, colour: RGBColor) -> Result<()> {
    page.level(y, (from, to), 1.5, colour)?;
    [from, to].into_iter().try_for_each(|x| page.upright(x, (y - 4.0, y + 4.0), 1.5, colour))
}

/// An area that others show through, with an outline.
pub fn pale<B: DrawingBackend>(page: &Page<B>, from: (f64, f64), to: (f64, f64), colour: RGBColor) -> Result<()> {
    page.rect(from, to, colour, 0.4)?;
    page.frame(from, to, 1.0, INK_COLOUR)
}

/// The width of a key in one line.
fn width(entries: &[(Mark, &str)]) -> f64 {
    let widths = entries.iter().map(|(mark, text)| mark.width() + SPACE + TEXT.width(text) + APART);
    (widths.sum::<f64>() - APART).max(0.0)
}

/// A key in one line, from `x` on.
pub fn draw<B: DrawingBackend>(page: &Page<B>, (x, y): (f64, f64), entries: &[(Mark, &str)]) -> Result<()> {
    let mut left = x;
    for (mark, text) in entries {
        mark.draw(page, (left + mark.width() / 2.0, y))?;
        left += mark.width() + SPACE;
        page.text((left, y), text, TEXT)?;
        left += TEXT.width(text) + APART;
    }
    Ok(())
}

/// A title at the left of a line, and a key at its right.
pub fn heading<B: DrawingBackend>(
    page: &Page<B>,
    (left, right): (f64, f64),
    y: f64,
    title: &str,
    entries: &[(Mark, &str)],
) -> Result<()> {
    page.text((left, y), title, TEXT.bold())?;
    draw(page, (right - width(entries), y), entries)
}
