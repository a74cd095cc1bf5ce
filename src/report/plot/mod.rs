//! Plots of results, one kind per file. A plot is written as SVG, for pages, and rasterized to PNG,
//! for papers.
//!
//! An SVG has a transparent background and two colors that a page adapts to its theme, [`INK`] and
//! [`GRID`]. The background of a PNG is white.

mod axis;
mod canvas;
mod class_differences;
mod confusion;
mod curves;
mod drift;
mod explanations;
mod font;
mod importance;
mod legend;
mod mistakes;
mod model_comparison;
mod parallel_coordinates;
mod rasterize;
mod reliability;
mod roc;
mod search_progress;

use std::path::Path;

use anyhow::Result;

pub use canvas::{GRID, INK, png_data_url};
pub use class_differences::{Difference, differences};
pub use confusion::confusion;
pub use curves::curves;
pub use drift::{Histogram, drift};
pub use explanations::{Explained, MAX_EXPLAINED, explanations};
pub use font::{FAMILY, database as font_database, text_width};
pub use importance::importance;
pub use mistakes::{Cell, Mistake, mistakes, sheet};
pub use model_comparison::{Bar, comparison};
pub use parallel_coordinates::{Coordinate, Standing, TrialLine, parallel_coordinates};
pub use reliability::reliability;
pub use roc::roc;
pub use search_progress::{Measured, search_progress};

use crate::util::files::write_atomically;

/// A plot in both formats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plot {
    /// Text of the SVG.
    pub svg: String,
    /// Bytes of the PNG, with two pixels per unit of the SVG.
    pub png: Vec<u8>,
}

impl Plot {
    /// Writes `name.svg` and `name.png` into a folder.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        write_atomically(&folder.join(format!("{name}.svg")), self.svg.as_bytes())?;
        write_atomically(&folder.join(format!("{name}.png")), &self.png)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Width and height of a PNG, and its colors `[height, width, 3]`.
    pub fn decoded(png: &[u8]) -> ((u32, u32), Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        ((info.width, info.height), pixels)
    }

    fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
        let (_, rest) = tag.split_once(&format!(" {name}=\"")).unwrap();
        rest.split_once('"').unwrap().0
    }

    /// Width and height that an SVG declares.
    pub fn size(svg: &str) -> (u32, u32) {
        (attribute(svg, "width").parse().unwrap(), attribute(svg, "height").parse().unwrap())
    }

    /// The texts of an SVG.
    pub fn texts(svg: &str) -> Vec<String> {
        let inner = |part: &str| part.split_once('>').unwrap().1.trim().to_owned();
        let plain = |text: String| {
            [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")]
                .iter()
                .fold(text, |text, (escape, plain)| text.replace(escape, plain))
        };
        svg.split("</text>").filter_map(|part| part.rsplit_once("<text")).map(|(_, part)| plain(inner(part))).collect()
    }

    /// Checks that a plot is valid: tags are balanced, numbers are finite, texts are within it,
    /// sizes are as expected.
    pub fn check(plot: &Plot, (width, height): (u32, u32)) {
        let svg = &plot.svg;
        assert_eq!(size(svg), (width, height));
        assert!(svg.contains(&format!("viewBox=\"0 0 {width} {height}\"")));
        assert!(svg.contains("font-family=\"DejaVu Sans, sans-serif\""));
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, after) = part.split_once('>').unwrap();
            assert!(!after.contains('>') && tag.matches('"').count() % 2 == 0, "{part}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
                continue;
            }
            open.push(name);
            // The bytes of an image may spell anything.
            let numbers = tag.split(" href=").next().unwrap();
            assert!(!numbers.contains("NaN") && !numbers.contains("inf"), "{part}");
            if name == "text" {
                let position = |name| attribute(tag, name).parse::<f64>().unwrap();
                let (x, y) = (position("x"), position("y"));
                assert!((0.0..=f64::from(width)).contains(&x) && (0.0..=f64::from(height)).contains(&y), "{part}");
            }
        }
        assert!(open.is_empty(), "{open:?}");
        let (pixels, _) = decoded(&plot.png);
        assert_eq!(pixels, (width * 2, height * 2));
    }

    #[test]
    fn colors_of_the_theme_are_in_the_svg() {
        let bar =
            Bar { name: "x".into(), mean: 1.0, deviation: None, values: vec![1.0], is_best: false, is_baseline: false };
        let plot = comparison(&[bar]).unwrap();
        for color in [INK, GRID] {
            assert!(plot.svg.contains(&format!("\"{color}\"")), "{color}");
        }
        let (_, pixels) = decoded(&plot.png);
        assert_eq!(pixels[..3], [255; 3]);
        let dark = pixels.as_chunks::<3>().0.iter().filter(|pixel| pixel.iter().all(|value| *value < 0x40)).count();
        assert!(dark > 100, "no text: {dark}");
    }

    #[test]
    fn both_files_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let plot = Plot { svg: "<svg/>".into(), png: vec![1, 2] };
        plot.write(folder.path(), "curves").unwrap();
        assert_eq!(fs_err::read(folder.path().join("curves.svg")).unwrap(), b"<svg/>");
        assert_eq!(fs_err::read(folder.path().join("curves.png")).unwrap(), [1, 2]);
        assert!(plot.write(&folder.path().join("none"), "curves").is_err());
    }
}
