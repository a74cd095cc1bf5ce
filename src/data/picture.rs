//! Decoding pictures: JPEG, PNG, BMP, WebP, TIFF, PGM and PPM, bounded in bytes and pixels.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow};
use fast_image_resize as fir;
use image::{DynamicImage, GrayImage, RgbImage};

use super::images::{PIXELS, SIDE};
use super::picture_header::open_picture;

/// Maximum size of a file in bytes.
pub const MAX_BYTES: u64 = 256 << 20;

/// Maximum number of pixels: more than the sensors of telephones have, and than Pillow decodes
/// without a warning.
const MAX_PIXELS: u64 = 100_000_000;

/// [`Picture::decode`] decodes pictures with more pixels one at a time, which bounds the memory of
/// many threads.
const LARGE_PIXELS: u64 = 16_000_000;

/// Formats that are read, for messages.
pub const FORMATS: &str = "JPEG, PNG, BMP, WebP, TIFF, PGM or PPM";

/// Endings of the names of pictures, in lower case.
const EXTENSIONS: [&str; 14] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "webp", "tif", "tiff", "pgm", "ppm", "pnm", "pbm"];

/// A picture has more pixels than are read.
#[derive(Debug, thiserror::Error)]
#[error("has {width} x {height} pixels; at most {} megapixels are read", *.limit as f64 / 1e6)]
pub struct TooManyPixels {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Maximum number of pixels that are read.
    pub limit: u64,
}

/// Whether a file has the name of a picture.
pub fn has_picture_name(path: &Path) -> bool {
    let extension = path.extension().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    EXTENSIONS.contains(&extension.to_lowercase().as_str())
}

/// A decoded picture, upright: 8-bit gray or RGB.
#[derive(Debug, Clone)]
pub enum Picture {
    /// One channel.
    Gray(GrayImage),
    /// Three channels.
    Rgb(RgbImage),
}

impl Picture {
    /// Reads and decodes a file.
    ///
    /// # Errors
    /// What is wrong with the file, without its path.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| anyhow!("cannot be opened: {error}"))?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| anyhow!("cannot be read: {error}"))?;
        Self::decode(&bytes)
    }

    /// Decodes a picture in any of [`FORMATS`], whatever its name. Alpha is dropped; EXIF orientation
    /// is applied; of several frames or pages, the first is taken. Of large pictures, one is decoded
    /// at a time.
    ///
    /// # Errors
    /// What is wrong: an unknown format, a damaged or truncated file, too many bytes or pixels.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let opened = open_picture(bytes, MAX_PIXELS)?;
        let is_large = opened.header.pixels() > LARGE_PIXELS;
        let _guard = is_large.then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
        opened.decode().map(Self::from_image)
    }

    /// Decodes a picture like [`decode`](Self::decode), if it has at most `max_pixels`. The caller
    /// bounds the memory of several at a time, by `decoding_bytes` of
    /// [`PictureHeader`](super::picture_header::PictureHeader).
    ///
    /// # Errors
    /// Like [`decode`](Self::decode); [`TooManyPixels`] for a larger picture, before memory is allocated
    /// for it.
    pub fn decode_within(bytes: &[u8], max_pixels: u64) -> Result<Self> {
        open_picture(bytes, max_pixels)?.decode().map(Self::from_image)
    }

    fn from_image(image: DynamicImage) -> Self {
        if image.color().has_color() { Self::Rgb(image.into_rgb8()) } else { Self::Gray(image.into_luma8()) }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        match self {
            Self::Gray(image) => image.dimensions(),
            Self::Rgb(image) => image.dimensions(),
        }
    }

    /// The picture in color; a gray one has three equal channels.
    pub fn into_rgb(self) -> RgbImage {
        match self {
            Self::Gray(image) => DynamicImage::ImageLuma8(image).into_rgb8(),
            Self::Rgb(image) => image,
        }
    }

    /// The picture in gray: ITU-R 601 luma, rounded as Pillow's mode `L`.
    pub fn into_gray(self) -> GrayImage {
        match self {
            Self::Gray(image) => image,
            Self::Rgb(image) => {
                let (width, height) = image.dimensions();
                let luma = |[r, g, b]: [u8; 3]| {
                    (19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16
                };
                let pixels = image.pixels().map(|pixel| luma(pixel.0) as u8).collect();
                GrayImage::from_raw(width, height, pixels).unwrap_or_default()
            }
        }
    }
}

/// Resizes an image of any shape to 48x48 pixels, row-major: bilinear with antialiasing, as Pillow's
/// `resize` with `BILINEAR`. An image of 48x48 pixels stays as it is.
///
/// # Errors
/// An image without pixels.
pub fn to_face(image: GrayImage) -> Result<Vec<u8>> {
    let side = SIDE as u32;
    let (width, height) = image.dimensions();
    if (width, height) == (side, side) {
        return Ok(image.into_raw());
    }
    let source = fir::images::Image::from_vec_u8(width, height, image.into_raw(), fir::PixelType::U8)?;
    let mut face = fir::images::Image::new(side, side, fir::PixelType::U8);
    let algorithm = fir::ResizeAlg::Convolution(fir::FilterType::Bilinear);
    fir::Resizer::new().resize(&source, &mut face, &fir::ResizeOptions::new().resize_alg(algorithm))?;
    let face = face.into_vec();
    if face.len() == PIXELS { Ok(face) } else { Err(anyhow!("cannot be resized to {side}x{side}")) }
}

#[cfg(test)]
mod tests {

    use image::{ImageBuffer, ImageFormat};

    use super::*;
    use crate::testing::encoded;
    use crate::testing::{golden, unit};

    fn gradient(width: u32, height: u32) -> GrayImage {
        ImageBuffer::from_fn(width, height, |x, y| image::Luma([(3 * x + 5 * y) as u8]))
    }

    #[test]
    fn lossless_formats_give_the_same_pixels() {
        let gray = gradient(48, 48);
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Pnm, ImageFormat::WebP] {
            let color = DynamicImage::ImageRgb8(DynamicImage::ImageLuma8(gray.clone()).to_rgb8());
            let found = Picture::decode(&encoded(&color, format)).unwrap().into_gray();
            assert_eq!(found, gray, "{format:?}");
        }
        let png = encoded(&DynamicImage::ImageLuma8(gray.clone()), ImageFormat::Png);
        assert_eq!(to_face(Picture::decode(&png).unwrap().into_gray()).unwrap(), gray.into_raw());
    }

    #[test]
    fn color_is_weighted_as_itu_r_601() {
        let pixel = |rgb: [u8; 3]| Picture::Rgb(RgbImage::from_pixel(1, 1, image::Rgb(rgb))).into_gray().into_raw();
        // Pillow's convert("L") of the same colors.
        for (rgb, gray) in [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([10, 200, 90], 131)] {
            assert_eq!(pixel(rgb), [gray], "{rgb:?}");
        }
    }

    #[test]
    fn other_sizes_are_resized() {
        let flat = GrayImage::from_pixel(200, 100, image::Luma([77]));
        assert_eq!(to_face(flat).unwrap(), [77; PIXELS]);
        // Antialiased: stripes of one pixel become their mean.
        let stripes = ImageBuffer::from_fn(480, 480, |x, _| image::Luma([if x % 2 == 0 { 0 } else { 200 }]));
        let face = to_face(stripes).unwrap();
        assert!(face.iter().all(|pixel| pixel.abs_diff(100) <= 3), "{:?}", &face[..48]);
        assert_eq!(to_face(gradient(1, 1)).unwrap(), [0; PIXELS]);
    }

    #[test]
    fn gray_and_resizing_are_pillows_within_a_level() {
        for case in golden("pillow_resize.json")["cases"].as_array().unwrap() {
            let number = |key: &str| case[key].as_u64().unwrap() as u32;
            let (width, height, channels, key) = (number("width"), number("height"), number("channels"), number("key"));
            // The mean of four values in the row, which repeats.
            let value = |x: u32, y: u32, c: u32| {
                let at = |x: u32| (256.0 * unit((y * width + x % width) * channels + c, key)) as u32;
                ((0..4).map(|shift| at(x + shift)).sum::<u32>() / 4) as u8
            };
            let picture = match channels {
                1 => Picture::Gray(ImageBuffer::from_fn(width, height, |x, y| image::Luma([value(x, y, 0)]))),
                _ => Picture::Rgb(ImageBuffer::from_fn(width, height, |x, y| {
                    image::Rgb([value(x, y, 0), value(x, y, 1), value(x, y, 2)])
                })),
            };
            let found = to_face(picture.into_gray()).unwrap();
            let expected: Vec<u8> =
                case["face"].as_str().unwrap().split(' ').map(|text| text.parse().unwrap()).collect();
            let largest = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(largest <= 1, "{width} x {height}: differs by {largest}");
        }
    }

    #[test]
    fn damaged_pictures_say_what_is_wrong() {
        let problem = |bytes: &[u8]| Picture::decode(bytes).unwrap_err().to_string();
        assert!(problem(b"").starts_with("is empty; expected a picture (JPEG, PNG"));
        assert!(problem(b"emotion,pixels\n3,70 80").starts_with("is not a picture that can be read; expected JPEG"));
        assert!(problem(b"\0\0\0\x18ftypheic").contains("HEIC or AVIF; convert it to JPEG"));
        assert!(problem(b"GIF89a\x01\x00\x01\x00").starts_with("is not a picture that can be read"));
        let image = DynamicImage::ImageLuma8(gradient(64, 64));
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Pnm, ImageFormat::WebP] {
            let image =
                if format == ImageFormat::WebP { DynamicImage::ImageRgb8(image.to_rgb8()) } else { image.clone() };
            let bytes = encoded(&image, format);
            assert!(Picture::decode(&bytes).is_ok(), "{format:?}");
            let message = problem(&bytes[..bytes.len() * 2 / 3]);
            assert!(message.contains("truncated") || message.contains("cannot be decoded"), "{format:?}: {message}");
        }
        // A video after the picture, with a scan marker in it, is not read; a thumbnail with an end
        // marker before the picture is not its end.
        let jpeg = encoded(&image, ImageFormat::Jpeg);
        assert!(Picture::decode(&[&jpeg[..], &[0, 0xff, 0xda, 0, 7, 0xff]].concat()).is_ok());
        let thumbnail = [&[0xff, 0xe1, 0, 8][..], &[0xff, 0xd8, 0xff, 0xda, 0xff, 0xd9]].concat();
        let with_thumbnail = [&jpeg[..2], &thumbnail, &jpeg[2..]].concat();
        assert!(Picture::decode(&with_thumbnail).is_ok());
        assert!(problem(&with_thumbnail[..with_thumbnail.len() - 2]).contains("truncated"));
        // A PNG header of 60,000 x 60,000 pixels.
        let mut png = encoded(&image, ImageFormat::Png);
        png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        assert!(problem(&png).contains("60000 x 60000 pixels; at most 100 megapixels"), "{}", problem(&png));
        let small = encoded(&image, ImageFormat::Png);
        let error = Picture::decode_within(&small, 4095).unwrap_err();
        assert!(error.is::<TooManyPixels>() && Picture::decode_within(&small, 4096).is_ok(), "{error}");
    }

    /// CRC-32 of PNG chunks.
    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }
}
