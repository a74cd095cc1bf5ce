//! Images in the text of a fuzzed CSV, and what must hold for every file that is read.

use anyhow::Result;
use grimace::data::config::{CLASSES, OnBadRow};
use grimace::data::csv::read_allow_empty;
use grimace::data::images::{ImageHash, Images, PIXELS};
use grimace::data::label_map::LabelNames;
use grimace::data::pixel_store::Pixels;
use grimace::data::read_options::{LabelPolicy, ReadOptions};

use super::{Scratch, assert_input_error};

/// Placeholder for the pixels of an image: they have at least 4607 bytes, and a fuzzer would change
/// little else.
const IMAGE: u8 = b'@';

/// Maximum number of images: enough for a header that is too long, and few enough to be fast.
const MAX_IMAGES: usize = 20;

/// Replaces each `@` and the digit after it by a cell with 2304 times this digit.
pub fn with_images(text: &[u8]) -> Vec<u8> {
    let (mut expanded, mut images, mut rest) = (Vec::new(), 0, text.iter());
    while let Some(&byte) = rest.next() {
        match rest.as_slice().first() {
            Some(digit) if byte == IMAGE && digit.is_ascii_digit() && images < MAX_IMAGES => {
                expanded.extend([*digit, b' '].repeat(PIXELS));
                expanded.pop();
                images += 1;
                rest.next();
            }
            _ => expanded.push(byte),
        }
    }
    expanded
}

/// The same file with a bad first row; `None` when the end of the header is ambiguous.
pub fn with_bad_row(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let (header, rows) = text.split_at_checked(end + 1)?;
    let plain = header.strip_suffix(b"\r\n").or_else(|| header.strip_suffix(b"\n"))?;
    (!plain.contains(&b'"') && !plain.contains(&b'\r')).then(|| [header, b"x\n", rows].concat())
}

/// Reads images with FER2013's classes, and checks what it gets.
pub fn read_images(text: &[u8], labels: LabelPolicy, on_bad_row: OnBadRow, names: &LabelNames) -> Result<Images> {
    let file = Scratch::new(text);
    let classes = CLASSES.map(String::from);
    let read =
        read_allow_empty(&file.0, ReadOptions { on_bad_row, label_names: names, ..ReadOptions::new(&classes, labels) });
    match &read {
        Ok(images) => assert_columns(images, labels),
        Err(error) => assert_input_error(error, &[&file.name()]),
    }
    read
}

/// Asserts that every column has a value for every image.
fn assert_columns(images: &Images, labels: LabelPolicy) {
    let count = images.rows.len();
    let pixels = images.pixels.all().expect("images in memory");
    assert_eq!(pixels.len(), count * PIXELS);
    assert!(images.rows.is_sorted_by(|a, b| a < b), "{:?}", images.rows);
    assert!(images.hashes.iter().copied().eq(pixels.chunks(PIXELS).map(ImageHash::new)));
    assert!(labels == LabelPolicy::Optional || images.labels.is_some() == (labels == LabelPolicy::Required));
    assert!(images.labels.iter().all(|all| all.len() == count && all.iter().all(|label| *label < 7)));
    assert!(images.ids.iter().chain(&images.usages).all(|texts| texts.len() == count));
}

/// Ids and usages, if the file has them.
pub type Texts<'a> = (&'a Option<Vec<String>>, &'a Option<Vec<String>>);

/// Row numbers, ids and usages.
pub fn texts(images: &Images) -> (&[u32], Texts<'_>) {
    (&images.rows, (&images.ids, &images.usages))
}

/// Pixels, labels, ids, usages and row numbers of the valid rows.
pub fn content(images: &Images) -> (&Pixels, &Option<Vec<u8>>, Texts<'_>, &[u32]) {
    (&images.pixels, &images.labels, (&images.ids, &images.usages), &images.rows)
}
