//! Pictures of results, as SVG for pages and as PNG for papers, one kind per file.
//!
//! An SVG has a transparent background and two colours that follow the page's theme, [`INK`] and [`GRID`]; a PNG is white.

mod axis;
mod comparison;
mod confusion;
mod curves;
mod key;
mod mistakes;
mod page;
mod reliability;
mod text;

use std::path::Path;

use anyhow::Result;

pub use comparison::{Bar, comparison};
pub use confusion::confusion;
pub use curves::curves;
pub use mistakes::{Mistake, mistakes};
pub use page::{GRID, INK};
pub use reliability::reliability;

use super::picture::rgb_png;
use crate::util::files::write_atomically;
use page::{DENSITY, Drawing};

/// A picture in both formats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The text of an SVG.
    pub svg: String,
    /// The bytes of a PNG, with two pixels to one of the SVG.
    pub png: Vec<u8>,
}

impl Picture {
    fn of(drawing: &impl Drawing) -> Result<Self> {
        let (width, height) = drawing.size();
        let pixels = page::pixels(drawing)?;
        let png = rgb_png(width as usize * DENSITY, height as usize * DENSITY, &pixels)?;
        Ok(Self { svg: page::svg(drawing)?, png })
    }

    /// Writes `name.svg` and `name.png` into a folder.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        write_atomically(&folder.join(format!("{name}.svg")), self.svg.as_bytes())?;
        write_atomically(&folder.join(format!("{name}.png")), &self.png)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Width and height of a PNG, and its colours.
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

    /// Width and height that an SVG tells.
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

    /// Whether a picture is whole: tags are closed, numbers are numbers, texts are within the page, sizes are as told.
    pub fn check(picture: &Picture, (width, height): (u32, u32)) {
        let svg = &picture.svg;
        assert_eq!(size(svg), (width, height));
        assert!(svg.contains(&format!("viewBox=\"0 0 {} {}\"", width * 4, height * 4)));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, after) = part.split_once('>').unwrap();
            assert!(!after.contains('>') && tag.matches('"').count() % 2 == 0, "{part}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            if name == "text" && !tag.starts_with('/') {
                let place = |name| attribute(tag, name).parse::<u32>().unwrap();
                assert!(place("x") <= width * 4 && place("y") <= height * 4, "{part}");
                assert_eq!(attribute(tag, "font-family"), "sans-serif");
            }
        }
        assert!(open.is_empty(), "{open:?}");
        let (pixels, _) = decoded(&picture.png);
        assert_eq!(pixels, (width * 2, height * 2));
    }

    #[test]
    fn the_theme_is_told_as_it_stands_in_an_svg() {
        let bar =
            Bar { name: "x".into(), mean: 1.0, deviation: None, values: vec![1.0], is_best: false, is_baseline: false };
        let picture = comparison(&[bar]).unwrap();
        for colour in [INK, GRID] {
            assert!(picture.svg.contains(&format!("\"{colour}\"")), "{colour}");
        }
        let (_, pixels) = decoded(&picture.png);
        assert_eq!(pixels[..3], [255; 3]);
        let dark = pixels.as_chunks::<3>().0.iter().filter(|pixel| pixel.iter().all(|value| *value < 0x40)).count();
        assert!(dark > 100, "no text: {dark}");
    }

    #[test]
    fn both_files_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let picture = Picture { svg: "<svg/>".into(), png: vec![1, 2] };
        picture.write(folder.path(), "curves").unwrap();
        assert_eq!(fs_err::read(folder.path().join("curves.svg")).unwrap(), b"<svg/>");
        assert_eq!(fs_err::read(folder.path().join("curves.png")).unwrap(), [1, 2]);
        assert!(picture.write(&folder.path().join("none"), "curves").is_err());
    }
}
