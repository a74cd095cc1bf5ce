//! PNG encoding of 8-bit pixels.

use anyhow::{Context, Result};

/// Encodes RGB values `[height, width, 3]`.
///
/// # Errors
/// A number of bytes that is not `height * width * 3`; more than 2^31 pixels in a row or column.
pub fn encode_rgb(width: usize, height: usize, pixels: &[u8]) -> Result<Vec<u8>> {
    encode(width, height, png::ColorType::Rgb, pixels)
}

/// Encodes gray values `[height, width]`.
///
/// # Errors
/// A number of bytes that is not `height * width`; more than 2^31 pixels in a row or column.
pub fn encode_gray(width: usize, height: usize, pixels: &[u8]) -> Result<Vec<u8>> {
    encode(width, height, png::ColorType::Grayscale, pixels)
}

fn encode(width: usize, height: usize, color: png::ColorType, pixels: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().context("PNG header")?;
    writer.write_image_data(pixels).context("PNG data")?;
    writer.finish().context("PNG end")?;
    Ok(bytes)
}
