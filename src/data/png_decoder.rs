//! Decoding PNG without its texts and color profile: they are not used, and the profile of a small
//! file may inflate to gigabytes before the size of the image is known.

use std::io::Cursor;

use image::error::{DecodingError, ImageFormatHint};
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageResult};
use png::{BitDepth, Transformations};

/// Memory for the chunks before the pixels, besides the size of the file and a row, in bytes.
const SPARE_BYTES: usize = 64 << 10;

/// A PNG whose chunks before the pixels are read. Equals the decoder of the crate `image` otherwise.
pub(super) struct PngDecoder<'a> {
    reader: png::Reader<Cursor<&'a [u8]>>,
    color: ColorType,
}

impl<'a> PngDecoder<'a> {
    /// Reads the chunks before the pixels.
    ///
    /// # Errors
    /// A corrupt or truncated file.
    pub fn new(bytes: &'a [u8]) -> ImageResult<Self> {
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: SPARE_BYTES });
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        // Palettes become colors, and fewer than 8 bits become 8.
        decoder.set_transformations(Transformations::EXPAND);
        let width = decoder.read_header_info().map_err(damaged)?.width as usize;
        // A row has up to four samples of two bytes in a pixel. A chunk is kept in a buffer that
        // doubles.
        let limit = SPARE_BYTES.saturating_add(bytes.len().saturating_mul(2)).saturating_add(width.saturating_mul(8));
        decoder.set_limits(png::Limits { bytes: limit });
        let reader = decoder.read_info().map_err(damaged)?;
        let color = match reader.output_color_type() {
            (png::ColorType::Grayscale, BitDepth::Eight) => ColorType::L8,
            (png::ColorType::Grayscale, BitDepth::Sixteen) => ColorType::L16,
            (png::ColorType::GrayscaleAlpha, BitDepth::Eight) => ColorType::La8,
            (png::ColorType::GrayscaleAlpha, BitDepth::Sixteen) => ColorType::La16,
            (png::ColorType::Rgb, BitDepth::Eight) => ColorType::Rgb8,
            (png::ColorType::Rgb, BitDepth::Sixteen) => ColorType::Rgb16,
            (png::ColorType::Rgba, BitDepth::Eight) => ColorType::Rgba8,
            (png::ColorType::Rgba, BitDepth::Sixteen) => ColorType::Rgba16,
            (color, depth) => return Err(damaged(format!("{color:?} with {depth:?} bits is not expanded"))),
        };
        Ok(Self { reader, color })
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImageError {
    ImageError::Decoding(DecodingError::new(ImageFormatHint::Exact(ImageFormat::Png), error))
}

impl ImageDecoder for PngDecoder<'_> {
    fn dimensions(&self) -> (u32, u32) {
        self.reader.info().size()
    }

    fn color_type(&self) -> ColorType {
        self.color
    }

    fn exif_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        Ok(self.reader.info().exif_metadata.as_ref().map(|exif| exif.to_vec()))
    }

    fn read_image(mut self, pixels: &mut [u8]) -> ImageResult<()> {
        self.reader.next_frame(pixels).map_err(damaged)?;
        if cfg!(target_endian = "little") && self.color.bytes_per_pixel() == 2 * self.color.channel_count() {
            pixels.chunks_exact_mut(2).for_each(<[u8]>::reverse);
        }
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, pixels: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(pixels)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use image::codecs::png::PngDecoder as Reference;
    use image::{DynamicImage, ImageBuffer};

    use super::*;
    use crate::testing::unit;

    /// Values without a pattern, so that each byte of a sample matters.
    fn image(color: ColorType) -> DynamicImage {
        let sample = |x: u32, y: u32, c: u32| (65535.0 * unit((y * 31 + x) * 4 + c, 7)) as u16;
        let wide = ImageBuffer::from_fn(31, 17, |x, y| image::Rgba([0, 1, 2, 3].map(|c| sample(x, y, c))));
        let wide = DynamicImage::ImageRgba16(wide);
        match color {
            ColorType::L8 => wide.to_luma8().into(),
            ColorType::L16 => wide.to_luma16().into(),
            ColorType::La8 => wide.to_luma_alpha8().into(),
            ColorType::La16 => wide.to_luma_alpha16().into(),
            ColorType::Rgb8 => wide.to_rgb8().into(),
            ColorType::Rgb16 => wide.to_rgb16().into(),
            ColorType::Rgba8 => wide.to_rgba8().into(),
            _ => wide,
        }
    }

    fn decoded(decoder: impl ImageDecoder) -> DynamicImage {
        DynamicImage::from_decoder(decoder).unwrap()
    }

    #[test]
    fn every_color_type_is_decoded_as_by_the_crate_image() {
        use ColorType::{L8, L16, La8, La16, Rgb8, Rgb16, Rgba8, Rgba16};
        for color in [L8, L16, La8, La16, Rgb8, Rgb16, Rgba8, Rgba16] {
            let image = image(color);
            let mut png = Cursor::new(Vec::new());
            image.write_to(&mut png, ImageFormat::Png).unwrap();
            let png = png.into_inner();
            let found = decoded(PngDecoder::new(&png).unwrap());
            assert_eq!(found, image, "{color:?}");
            assert_eq!(found, decoded(Reference::new(Cursor::new(&png)).unwrap()), "{color:?}");
        }
        // Palettes with and without alpha, and fewer bits.
        for (color, depth, transparency) in [
            (png::ColorType::Indexed, BitDepth::Eight, None),
            (png::ColorType::Indexed, BitDepth::Two, Some(vec![0, 90, 255])),
            (png::ColorType::Grayscale, BitDepth::One, None),
            (png::ColorType::Grayscale, BitDepth::Four, None),
        ] {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, 8, 2);
            encoder.set_color(color);
            encoder.set_depth(depth);
            if color == png::ColorType::Indexed {
                encoder.set_palette([1, 2, 3, 40, 50, 60, 200, 150, 100, 9, 8, 7].as_slice());
            }
            if let Some(values) = transparency {
                encoder.set_trns(values);
            }
            let samples = 2 * 8 * depth as usize / 8;
            let data: Vec<u8> = (0..samples)
                .map(|index| [0x1b, 0x2d][index % 2] % if depth == BitDepth::Eight { 4 } else { 255 })
                .collect();
            encoder.write_header().unwrap().write_image_data(&data).unwrap();
            let found = decoded(PngDecoder::new(&bytes).unwrap());
            assert_eq!(found, decoded(Reference::new(Cursor::new(&bytes)).unwrap()), "{color:?} {depth:?}");
        }
    }

    /// A gray PNG of 48x48 pixels with further chunks before its pixels.
    fn with_chunks(chunks: &[([u8; 4], &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 48, 48);
        encoder.set_color(png::ColorType::Grayscale);
        let mut writer = encoder.write_header().unwrap();
        for (kind, data) in chunks {
            writer.write_chunk(png::chunk::ChunkType(*kind), data).unwrap();
        }
        writer.write_image_data(&[70; 48 * 48]).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn profiles_and_texts_are_not_inflated_and_orientation_is_read() {
        let mut zeros = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        // Far above any limit; inflating it would take a tenth of a second.
        zeros.write_all(&vec![0; 64 << 20]).unwrap();
        let profile = [b"x\0\0".to_vec(), zeros.finish().unwrap()].concat();
        // TIFF, big-endian, one entry: orientation 6.
        let exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let text = vec![b'a'; 3 << 20];
        let png = with_chunks(&[(*b"iCCP", &profile), (*b"tEXt", &text), (*b"eXIf", exif)]);
        let mut decoder = PngDecoder::new(&png).unwrap();
        assert!(decoder.reader.info().icc_profile.is_none());
        assert!(decoder.reader.info().uncompressed_latin1_text.is_empty());
        assert_eq!(decoder.orientation().unwrap(), image::metadata::Orientation::Rotate90);
        assert_eq!(decoded(decoder).to_luma8().into_raw(), [70; 48 * 48]);
        // EXIF with a large thumbnail is read, too.
        let large = [exif.as_slice(), &vec![0; 3 << 20]].concat();
        assert!(PngDecoder::new(&with_chunks(&[(*b"eXIf", &large)])).unwrap().exif_metadata().unwrap().is_some());
    }
}
