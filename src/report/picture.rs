//! Pictures as PNG, among them sheets of faces.

use std::path::Path;

use anyhow::{Context, Result};

use crate::data::images::SIDE;
use crate::util::files::write_atomically;

/// Pixels between faces, and their grey.
const GAP: usize = 2;
const PAPER: u8 = 255;

/// Images in rows and columns, each drawn `scale` times its size.
#[derive(Debug)]
pub struct Sheet {
    width: usize,
    height: usize,
    scale: usize,
    /// Left edge of each column of faces.
    lefts: Vec<usize>,
    pixels: Vec<u8>,
}

impl Sheet {
    /// An empty sheet of `rows` rows; `groups` says how many faces stand together in each group of columns, with a wider
    /// gap between groups.
    pub fn new(rows: usize, groups: &[usize], scale: usize) -> Self {
        let cell = SIDE * scale + GAP;
        let (mut lefts, mut left) = (Vec::new(), GAP);
        for count in groups {
            for _ in 0..*count {
                lefts.push(left);
                left += cell;
            }
            left += 4 * GAP;
        }
        let width = left.saturating_sub(4 * GAP);
        let height = GAP + rows * cell;
        Self { width, height, scale, lefts, pixels: vec![PAPER; width * height] }
    }

    /// AugmentParams `face` (48x48 bytes) at a row and a column, both from 0; what lies outside the sheet is left out.
    pub fn place(&mut self, row: usize, column: usize, face: &[u8]) {
        let Some(&left) = self.lefts.get(column) else { return };
        let top = GAP + row * (SIDE * self.scale + GAP);
        for y in 0..SIDE * self.scale {
            for x in 0..SIDE * self.scale {
                let value = face.get(y / self.scale * SIDE + x / self.scale).copied().unwrap_or(PAPER);
                if let Some(pixel) = self.pixels.get_mut((top + y) * self.width + left + x) {
                    *pixel = value;
                }
            }
        }
    }

    /// Writes it as an 8-bit grey PNG.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, &encode((self.width, self.height), png::ColorType::Grayscale, &self.pixels)?)
    }
}

/// 8-bit colours `[height, width, 3]` as PNG.
///
/// # Errors
/// The encoder's, which memory does not cause.
pub fn rgb_png(width: usize, height: usize, pixels: &[u8]) -> Result<Vec<u8>> {
    encode((width, height), png::ColorType::Rgb, pixels)
}

fn encode((width, height): (usize, usize), colours: png::ColorType, pixels: &[u8]) -> Result<Vec<u8>> {
    let (width, height) = (u32::try_from(width)?, u32::try_from(height)?);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colours);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().context("PNG header")?;
    writer.write_image_data(pixels).context("PNG data")?;
    writer.finish().context("PNG end")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    #[test]
    fn a_sheet_reads_back_as_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        let mut sheet = Sheet::new(2, &[1, 2], 2);
        sheet.place(1, 2, &[7; SIDE * SIDE]);
        sheet.place(9, 9, &[0; SIDE * SIDE]);
        sheet.write(&path).unwrap();
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(fs::File::open(&path).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (2 + 3 * 98 + 8, 2 + 2 * 98));
        assert_eq!(pixels.iter().filter(|v| **v == 7).count(), 96 * 96);
        assert_eq!(pixels.iter().filter(|v| **v == 255).count(), pixels.len() - 96 * 96);
    }
}
