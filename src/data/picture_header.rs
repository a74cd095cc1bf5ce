//! Headers of pictures: format, size, and the memory that decoding takes.

use std::io::Cursor;

use anyhow::{Result, anyhow, bail};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::picture::{FORMATS, MAX_BYTES, TooManyPixels};
use super::png_decoder::PngDecoder;

/// Memory that decoded pixels may take, in bytes.
const MAX_DECODED_BYTES: u64 = 1 << 30;

/// Memory of a decoder for anything but pixels, in bytes.
const SPARE_DECODER_BYTES: u64 = 16 << 20;

/// The size of a picture that is not decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureHeader {
    /// Width in pixels, before the orientation is applied.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bound of the memory that decoding takes, in bytes.
    pub decoding_bytes: u64,
}

impl PictureHeader {
    /// Reads the header of a picture with at most `max_pixels`.
    ///
    /// # Errors
    /// Like [`Picture::decode_within`](super::picture::Picture::decode_within), as far as the header says.
    pub fn read(bytes: &[u8], max_pixels: u64) -> Result<Self> {
        open_picture(bytes, max_pixels).map(|opened| opened.header)
    }

    /// Number of pixels.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// A picture whose header is read.
pub(super) struct OpenedPicture<'a> {
    pub header: PictureHeader,
    bytes: &'a [u8],
    format: ImageFormat,
    decoder: Box<dyn ImageDecoder + 'a>,
}

impl OpenedPicture<'_> {
    /// Decodes the picture, upright.
    ///
    /// # Errors
    /// A damaged or truncated file.
    pub fn decode(mut self) -> Result<DynamicImage> {
        if self.format == ImageFormat::Jpeg && is_truncated_jpeg(self.bytes) {
            bail!("is truncated: the JPEG has no end");
        }
        // Without metadata that can be read, a picture is upright.
        let is_readable = self.format != ImageFormat::WebP || has_whole_chunks(self.bytes);
        let orientation = is_readable.then(|| self.decoder.orientation().ok()).flatten();
        let mut image = DynamicImage::from_decoder(self.decoder).map_err(damaged)?;
        image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
        Ok(image)
    }
}

/// Reads the header of a picture with at most `max_pixels`.
///
/// # Errors
/// What is wrong with the file, as far as the header says; [`TooManyPixels`].
pub(super) fn open_picture(bytes: &[u8], max_pixels: u64) -> Result<OpenedPicture<'_>> {
    if bytes.is_empty() {
        bail!("is empty; expected a picture ({FORMATS})");
    }
    if bytes.len() as u64 > MAX_BYTES {
        bail!("has more than {} MiB; use a smaller picture", MAX_BYTES >> 20);
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let format = reader.format().filter(ImageFormat::reading_enabled);
    let Some(format) = format else {
        // Telephones write HEIC, whose decoders are patented.
        let is_heif = bytes.get(4..8) == Some(b"ftyp");
        let what = if is_heif { " (HEIC or AVIF; convert it to JPEG)" } else { "" };
        bail!("is not a picture that can be read{what}; expected {FORMATS}")
    };
    reader.limits(max_alloc(MAX_DECODED_BYTES));
    let mut decoder: Box<dyn ImageDecoder + '_> = match format {
        ImageFormat::Png => Box::new(PngDecoder::new(bytes).map_err(damaged)?),
        _ => Box::new(reader.into_decoder().map_err(damaged)?),
    };
    let (width, height) = decoder.dimensions();
    let total = decoder.total_bytes();
    // Twice for turning; JPEG has coefficients and other formats an 8-bit copy besides.
    let decoding_bytes = total.saturating_mul(2).saturating_add(u64::from(width) * u64::from(height) * 4);
    let header = PictureHeader { width, height, decoding_bytes };
    if header.pixels() > max_pixels {
        return Err(TooManyPixels { width, height, limit: max_pixels }.into());
    }
    if header.pixels() == 0 {
        bail!("has {width} x {height} pixels; expected at least one");
    }
    if total > MAX_DECODED_BYTES {
        bail!("takes {} MiB of memory; use a smaller picture", total >> 20);
    }
    // Tiles of TIFF, for example, may be larger than the picture.
    decoder.set_limits(max_alloc(total.saturating_mul(2).saturating_add(SPARE_DECODER_BYTES))).map_err(damaged)?;
    Ok(OpenedPicture { header, bytes, format, decoder })
}

fn max_alloc(bytes: u64) -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(bytes);
    limits
}

fn damaged(error: image::ImageError) -> anyhow::Error {
    anyhow!("cannot be decoded: {error}")
}

/// Whether no chunk of a WebP claims to be longer than the file: the decoder allocates that memory for
/// metadata before it reads.
fn has_whole_chunks(bytes: &[u8]) -> bool {
    const RIFF_HEADER: usize = 12;
    let mut at = RIFF_HEADER;
    while let Some(header) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let [.., a, b, c, d] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > bytes.len() {
            return false;
        }
        at += header.len() + length + length % 2;
    }
    true
}

/// Whether a JPEG ends before its end marker. Decoders fill the missing part with gray instead of
/// failing. What follows the marker does not matter: telephones append videos.
fn is_truncated_jpeg(bytes: &[u8]) -> bool {
    const START: usize = 2;
    const END_OF_IMAGE: u8 = 0xd9;
    let mut at = START;
    loop {
        // A marker is 0xff and a byte that is neither 0, which is data, nor 0xff, which is padding.
        let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(0xff, rest)) else { return true };
        at += found + 1;
        let Some(marker) = bytes.get(at) else { return true };
        match marker {
            &END_OF_IMAGE => return false,
            // Restart markers within a scan, and others without content.
            0 | 0xff | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let length = bytes.get(at + 1..at + 3).and_then(|two| two.try_into().ok()).map(u16::from_be_bytes);
                let Some(length) = length else { return true };
                // After the header of a scan, its data is searched for the next marker.
                at += 1 + usize::from(length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::testing::encoded;

    #[test]
    fn headers_bound_the_memory_of_decoding() {
        let wide = encoded(&DynamicImage::new_rgba16(60, 40), ImageFormat::Png);
        let header = PictureHeader::read(&wide, 2400).unwrap();
        // Pixels of 8 bytes twice, and 4 bytes for the 8-bit copy.
        assert_eq!(header, PictureHeader { width: 60, height: 40, decoding_bytes: 2400 * 20 });
        assert!(PictureHeader::read(&wide, 2399).unwrap_err().is::<TooManyPixels>());
    }

    #[test]
    fn chunks_of_webp_that_claim_gigabytes_are_not_read() {
        let webp =
            encoded(&DynamicImage::ImageRgb8(RgbImage::from_pixel(64, 64, image::Rgb([1, 2, 3]))), ImageFormat::WebP);
        assert!(has_whole_chunks(&webp));
        // An extended file: flags with EXIF, canvas of 64x64, then EXIF of almost 4 GiB after the pixels.
        let extended = [b"VP8X\x0a\0\0\0".as_slice(), &[8, 0, 0, 0, 63, 0, 0, 63, 0, 0]].concat();
        let mut hostile = [&webp[..12], &extended, &webp[12..], b"EXIF\xf0\xff\xff\xff", b"MM\0\x2a"].concat();
        let length = hostile.len() as u32 - 8;
        hostile[4..8].copy_from_slice(&length.to_le_bytes());
        assert!(!has_whole_chunks(&hostile));
        // Metadata that is not there does not matter.
        let decoded = open_picture(&hostile, 4096).and_then(OpenedPicture::decode).unwrap();
        assert_eq!(decoded.to_rgb8().get_pixel(63, 63).0, [1, 2, 3]);
    }
}
