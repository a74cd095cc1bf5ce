//! Reading a CSV of images: the header first, then everything at once through polars, pixels parsed in parallel.
//!
//! Polars names no line in its errors, so whatever it or the parser stumbles over is read again by
//! `slow_csv`, row by row, which says where. A file without mistakes never takes that way.

pub mod columns;
mod diagnose;
pub mod lines;
mod pixels;
pub mod records;
pub mod scan;

use std::path::Path;

use polars::prelude::*;
use rayon::prelude::*;

use super::images::{Images, PIXELS};
use super::labels::parse_label;
use crate::data::csv::columns::{Columns, ReadOptions, read_header};
use crate::data::csv::scan::Quoting;
use crate::util::error::input;
use crate::util::files::check_regular_file;

/// Columns beyond which a file is read row by row; the known layouts have three at most.
const MAX_COLUMNS: usize = 100;

/// Reads the images of a CSV in any of the known layouts; at least one.
///
/// # Errors
/// Input errors that name file, line and column, and what was expected.
pub fn read(path: &Path, options: ReadOptions<'_>) -> anyhow::Result<Images> {
    let images = read_any(path, options)?;
    if images.is_empty() {
        let skipped = match images.skipped.first() {
            None => String::new(),
            Some(first) => format!(": all {} were skipped, the first at {first}", images.skipped.count()),
        };
        return Err(input(format!("{}: no rows of images{skipped}", path.display())));
    }
    Ok(images)
}

/// As [`read`], for who is content with none.
///
/// # Errors
/// As [`read`].
pub fn read_any(path: &Path, options: ReadOptions<'_>) -> anyhow::Result<Images> {
    check_regular_file(path, "a CSV file of images")?;
    let columns = read_header(path, options.labels)?;
    let bounds = scan::check(path)?;
    let fast = match bounds.quoting {
        // polars would hold every column in memory, the slow way holds a row.
        _ if columns.count > MAX_COLUMNS || bounds.too_short_for_images() => None,
        // Looking for quotes is half of polars' work on these files, and most of them have none.
        Quoting::None => read_fast(path, &columns, options, None),
        Quoting::Regular => read_fast(path, &columns, options, Some(b'"')),
        Quoting::Odd => None,
    };
    let images = match fast {
        Some(images) => images,
        None => diagnose::read(path, &columns, options)?,
    };
    Ok(images.hash())
}

/// The fast way, through polars, with quotes looked for or not; `None` when anything at all is not as it should be.
fn read_fast(path: &Path, columns: &Columns, options: ReadOptions<'_>, quote: Option<u8>) -> Option<Images> {
    let frame = CsvReadOptions::default()
        .with_infer_schema_length(Some(0))
        .with_has_header(true)
        .map_parse_options(|parse| parse.with_quote_char(quote))
        .try_into_reader_with_file_path(Some(path.to_path_buf()))
        .and_then(CsvReader::finish)
        .ok()?;
    // A null is an empty cell or, in the last columns, a row with too few fields: the slow way tells which.
    if frame.width() != columns.count || frame.columns().iter().any(|column| column.null_count() > 0) {
        return None;
    }
    let texts = |place: usize| frame.columns().get(place)?.str().ok();
    let pixel_texts = texts(columns.pixels)?;
    let labels = match columns.emotion {
        None => None,
        Some(place) => Some(
            texts(place)?.iter().map(|text| parse_label(text?, options.classes.len())).collect::<Option<Vec<u8>>>()?,
        ),
    };
    let owned = |place: Option<usize>| -> Option<Option<Vec<String>>> {
        match place {
            None => Some(None),
            Some(place) => texts(place)?
                .iter()
                .map(|text| text.map(|text| text.trim().to_owned()))
                .collect::<Option<Vec<_>>>()
                .map(Some),
        }
    };
    let ids = owned(columns.id)?;
    if ids.iter().flatten().any(String::is_empty) {
        return None;
    }
    let count = frame.height();
    let mut pixel_bytes = vec![0; count * PIXELS];
    let cells: Vec<&str> = pixel_texts.iter().collect::<Option<_>>()?;
    let all_good = cells
        .par_iter()
        .zip(pixel_bytes.par_chunks_exact_mut(PIXELS))
        .all(|(cell, image)| pixels::parse(cell.as_bytes(), image).is_ok());
    all_good.then_some(())?;
    Some(Images {
        pixels: pixel_bytes,
        labels,
        ids,
        usages: owned(columns.usage)?,
        rows: (0..u32::try_from(count).ok()?).collect(),
        ..Images::default()
    })
}

#[cfg(test)]
mod tests;
