//! Contact sheets: images in rows and columns, as one PNG.

use anyhow::Result;

use super::png_encoding::encode_gray;
use crate::data::images::SIDE;

/// Pixels between images, and their gray value.
const GAP: usize = 2;
const BACKGROUND: u8 = 255;

/// 48x48 gray images in rows and columns, each enlarged `scale` times.
#[derive(Debug)]
pub struct ContactSheet {
    width: usize,
    height: usize,
    scale: usize,
    /// Left edge of each column.
    lefts: Vec<usize>,
    pixels: Vec<u8>,
}

impl ContactSheet {
    /// An empty sheet of `rows` rows; `groups` holds the number of columns in each group. Groups
    /// have a wider gap between them.
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
        Self { width, height, scale, lefts, pixels: vec![BACKGROUND; width * height] }
    }

    /// Copies `image` (48x48 bytes) to a row and a column, both from 0; ignores what is outside the
    /// sheet.
    pub fn place(&mut self, row: usize, column: usize, image: &[u8]) {
        let Some(&left) = self.lefts.get(column) else { return };
        let top = GAP + row * (SIDE * self.scale + GAP);
        for y in 0..SIDE * self.scale {
            for x in 0..SIDE * self.scale {
                let value = image.get(y / self.scale * SIDE + x / self.scale).copied().unwrap_or(BACKGROUND);
                if let Some(pixel) = self.pixels.get_mut((top + y) * self.width + left + x) {
                    *pixel = value;
                }
            }
        }
    }

    /// Encodes the sheet as an 8-bit gray PNG.
    ///
    /// # Errors
    /// More than 2^31 pixels in a row or column.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        encode_gray(self.width, self.height, &self.pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_sheet_has_its_pixels() {
        let mut sheet = ContactSheet::new(2, &[1, 2], 2);
        sheet.place(1, 2, &[7; SIDE * SIDE]);
        sheet.place(9, 9, &[0; SIDE * SIDE]);
        let mut reader = png::Decoder::new(std::io::Cursor::new(sheet.to_png().unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (2 + 3 * 98 + 8, 2 + 2 * 98));
        assert_eq!(pixels.iter().filter(|v| **v == 7).count(), 96 * 96);
        assert_eq!(pixels.iter().filter(|v| **v == 255).count(), pixels.len() - 96 * 96);
    }
}
