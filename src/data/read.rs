//! Reading images, however they are stored.

use std::path::Path;

use anyhow::Result;

use super::images::Images;
use super::label_map::LabelNames;
use super::picture::has_picture_name;
use super::read_options::ReadOptions;
use super::{csv, folder, packed};
use crate::data::csv::TakePart;
use crate::util::error::input;
use crate::util::files::{check_regular_file, input_name, is_standard_input};
use crate::util::text::count;

/// What is read, for messages.
const EXPECTED: &str = "a CSV file, a packed file or a folder of images";

/// Reads a folder of pictures or one picture ([`folder::read_allow_empty`]), a packed file
/// ([`packed::read_allow_empty`]), or a CSV ([`csv::read_allow_empty`]).
///
/// # Errors
/// Input errors with file, place and the expected value; also if there is no image.
pub fn read(path: &Path, options: ReadOptions<'_>) -> Result<Images> {
    let images = read_allow_empty(path, options)?;
    if images.is_empty() { Err(no_images(path, &images, options)) } else { Ok(images) }
}

/// The error for data without images. `found` has what concerns the data as a whole.
fn no_images(path: &Path, found: &Images, options: ReadOptions<'_>) -> anyhow::Error {
    let why = match found.skipped.first() {
        Some(first) => format!(": all {} were skipped, the first at {first}", found.skipped.count()),
        None if found.left_out > 0 => {
            format!(": {} leaves out {}, which is all", options.advice.label_rule(), count(found.left_out, "row"))
        }
        None => String::new(),
    };
    input(format!("{}: no images{why}", input_name(path).display()))
}

/// Like [`read`], but data without images are no error.
pub fn read_allow_empty(path: &Path, options: ReadOptions<'_>) -> Result<Images> {
    if is_folder(path) || is_picture(path) {
        folder::read_allow_empty(path, options)
    } else if packed::is_packed(path) {
        packed::read_allow_empty(path, options)
    } else {
        csv::read_allow_empty(path, options)
    }
}

/// Like [`read`], but passes the images on to `take`: those of a CSV a few thousand at a time, so that
/// they need not fit into memory. The result has what concerns the data as a whole.
///
/// # Errors
/// Those of [`read`] and of `take`.
pub fn read_parts(path: &Path, options: ReadOptions<'_>, take: &mut TakePart<'_>) -> Result<Images> {
    let mut rows = 0;
    let mut counted = |part: Images| {
        rows += part.len();
        take(part)
    };
    let whole = if is_folder(path) || is_picture(path) || packed::is_packed(path) {
        let mut images = read_allow_empty(path, options)?;
        let (skipped, notes) = (std::mem::take(&mut images.skipped), std::mem::take(&mut images.notes));
        let unused_labels = std::mem::take(&mut images.unused_labels);
        let Images { file_rows, left_out, .. } = images;
        counted(images)?;
        Images { file_rows, left_out, skipped, notes, unused_labels, ..Images::default() }
    } else {
        csv::read_parts(path, options, &mut counted)?
    };
    if rows == 0 { Err(no_images(path, &whole, options)) } else { Ok(whole) }
}

/// The classes of the data at `path` if nothing lists them: those of a folder of pictures
/// ([`folder::default_classes`]) or of a packed file ([`packed::default_classes`]).
pub fn default_classes(path: &Path, names: &LabelNames) -> Option<Vec<String>> {
    if path.is_dir() {
        folder::default_classes(path, names)
    } else if packed::is_packed(path) {
        packed::default_classes(path, names)
    } else {
        None
    }
}

/// Checks that `path` is a file or a folder that can be read again.
///
/// # Errors
/// An input error that names what is there.
pub fn check_repeatable(path: &Path) -> Result<()> {
    if is_folder(path) { Ok(()) } else { check_regular_file(path, EXPECTED) }
}

/// Whether a file has the name of a picture; its content is another matter.
fn is_picture(path: &Path) -> bool {
    has_picture_name(path) && path.is_file()
}

fn is_folder(path: &Path) -> bool {
    !is_standard_input(path) && path.is_dir()
}
