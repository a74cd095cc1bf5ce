//! Contact sheets: images with a few words each, such as those that were predicted wrong.

use std::borrow::Cow;

use anyhow::Result;

use super::Plot;
use super::canvas::{Canvas, Point, SMALL};
use crate::data::images::SIDE;
use crate::report::png_encoding::encode_gray;

/// Side of an image: 2 units of the SVG and 4 pixels of the PNG per pixel.
const IMAGE: f64 = SIDE as f64 * 2.0;

/// Max images, max images in a row, and the columns that the heading needs.
const MAX_IMAGES: usize = 48;
const MAX_COLUMNS: usize = 8;
const MIN_COLUMNS: usize = 4;

/// Space between images, for a line below one, and for the heading.
const GAP: f64 = 8.0;
const LINE: f64 = 15.0;
const HEADING: f64 = 22.0;

/// An image that was predicted wrong.
#[derive(Debug, Clone, Copy)]
pub struct Mistake<'a> {
    /// Its 48x48 gray values, row by row.
    pub image: &'a [u8],
    /// Class name of its label.
    pub label: &'a str,
    /// Class name of the prediction.
    pub predicted: &'a str,
    /// Probability of the prediction.
    pub confidence: f64,
}

/// Plots up to 48 images in rows of 8, with label, prediction and confidence.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn mistakes<'a>(mistakes: &[Mistake<'a>]) -> Result<Plot> {
    let mistakes = mistakes.get(..MAX_IMAGES).unwrap_or(mistakes);
    let heading = if mistakes.is_empty() {
        "No image was predicted wrong."
    } else {
        "Bold: the label. Below it: the prediction and its confidence."
    };
    let cell = |mistake: &Mistake<'a>| -> Cell<'a> {
        let percent = match mistake.confidence {
            confidence if (0.0..=1.0).contains(&confidence) => format!(" {:.0}%", confidence * 100.0),
            _ => String::new(),
        };
        // The number stays when the name is shortened.
        let name = SMALL.fit(mistake.predicted, IMAGE + GAP / 2.0 - SMALL.width(&percent));
        Cell {
            image: Cow::Borrowed(mistake.image),
            title: mistake.label.to_owned(),
            lines: vec![format!("{name}{percent}")],
        }
    };
    sheet(heading, &mistakes.iter().map(cell).collect::<Vec<_>>())
}

/// An image of a sheet.
#[derive(Debug, Clone)]
pub struct Cell<'a> {
    /// Its 48x48 gray values, row by row.
    pub image: Cow<'a, [u8]>,
    /// The first line below it, in bold.
    pub title: String,
    /// The other lines.
    pub lines: Vec<String>,
}

/// Plots any number of images in rows of 8, each with its lines; too long ones are shortened.
///
/// # Errors
/// When the plot cannot be rasterized.
pub fn sheet(heading: &str, cells: &[Cell]) -> Result<Plot> {
    let grid = Grid::new(heading, cells);
    let (width, height) = grid.size(cells.len());
    let mut canvas = Canvas::new(width, height);
    canvas.text((GAP, GAP + 6.0), heading, SMALL);
    for (number, cell) in cells.iter().enumerate() {
        draw(&mut canvas, grid.corner(number), cell)?;
    }
    canvas.finish()
}

/// Where images are.
struct Grid {
    /// Upper end of the first row.
    top: f64,
    /// Height of an image with its lines.
    height: f64,
}

impl Grid {
    fn new(heading: &str, cells: &[Cell]) -> Self {
        let lines = 1 + cells.iter().map(|cell| cell.lines.len()).max().unwrap_or(1);
        let top = if heading.is_empty() { GAP } else { GAP + HEADING };
        Self { top, height: IMAGE + LINE * lines as f64 + 2.0 }
    }

    fn size(&self, count: usize) -> (u32, u32) {
        let columns = count.clamp(MIN_COLUMNS, MAX_COLUMNS) as f64;
        let rows = count.div_ceil(MAX_COLUMNS).max(1) as f64;
        let (width, height) = (GAP + columns * (IMAGE + GAP), self.top + rows * (self.height + GAP));
        (width as u32, height as u32)
    }

    /// The upper left corner of an image.
    fn corner(&self, number: usize) -> Point {
        let (row, column) = ((number / MAX_COLUMNS) as f64, (number % MAX_COLUMNS) as f64);
        (GAP + column * (IMAGE + GAP), self.top + row * (self.height + GAP))
    }
}

fn draw(canvas: &mut Canvas, (left, top): Point, cell: &Cell) -> Result<()> {
    // Pixels that are missing are white.
    let mut pixels = cell.image.to_vec();
    pixels.resize(SIDE * SIDE, u8::MAX);
    canvas.image((left, top), (IMAGE, IMAGE), &encode_gray(SIDE, SIDE, &pixels)?);
    let (mut baseline, width) = (top + IMAGE + 10.0, IMAGE + GAP / 2.0);
    canvas.text((left, baseline), &SMALL.bold().fit(&cell.title, width), SMALL.bold());
    for line in &cell.lines {
        baseline += LINE;
        canvas.text((left, baseline), &SMALL.fit(line, width), SMALL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, decoded, texts};
    use super::*;

    #[test]
    fn images_are_four_times_their_size() {
        let image: Vec<u8> = (0..SIDE * SIDE).map(|place| (place * 7 % 251) as u8).collect();
        let mistake = Mistake { image: &image, label: "sad", predicted: "happy", confidence: 0.93 };
        let plot = mistakes(&[mistake; 9]).unwrap();
        assert_eq!(texts(&plot.svg)[1..3], ["sad", "happy 93%"]);
        let (size, pixels) = decoded(&plot.png);
        assert_eq!(size, (2 * (8 + 8 * 104), 2 * (30 + 2 * 136)));
        for number in [0, 7, 8] {
            let (left, top) = Grid { top: 30.0, height: 128.0 }.corner(number);
            for place in 0..SIDE * SIDE * 16 {
                let (x, y) = (place % (4 * SIDE), place / (4 * SIDE));
                let pixel = ((top as usize * 2 + y) * size.0 as usize + left as usize * 2 + x) * 3;
                assert_eq!(pixels[pixel..pixel + 3], [image[y / 4 * SIDE + x / 4]; 3], "{number} {x} {y}");
            }
        }
    }

    #[test]
    fn any_number_of_images_is_plotted() {
        let name = "an expression of a very long name".repeat(10);
        for (count, columns, rows) in [(0, 4, 1), (1, 4, 1), (6, 6, 1), (8, 8, 1), (48, 8, 6), (100, 8, 6)] {
            for (image, confidence) in [(&[][..], f64::NAN), (&[9; 3000][..], f64::INFINITY), (&[0; 2304][..], -1.0)] {
                let mistake = Mistake { image, label: &name, predicted: "\n", confidence };
                let plot = mistakes(&vec![mistake; count]).unwrap();
                check(&plot, (8 + columns * 104, 30 + rows * 136));
            }
        }
    }
}
