//! Reading a CSV of images: first the header, then the whole file with polars, parsing pixels in
//! parallel.
//!
//! Polars errors do not name a line. A file that the fast reader rejects is read again row by row
//! in `diagnose`, which names line and column. Valid files never take that path.

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

/// Files with more columns are read row by row; Kaggle's layouts have at most three.
const MAX_COLUMNS: usize = 100;

/// Reads the images of a CSV in any of Kaggle's layouts.
///
/// # Errors
/// Input errors with file, line, column and the expected value; also if there is no image.
pub fn read(path: &Path, options: ReadOptions<'_>) -> anyhow::Result<Images> {
    let images = read_allow_empty(path, options)?;
    if images.is_empty() {
        let skipped = match images.skipped.first() {
            None => String::new(),
            Some(first) => format!(": all {} were skipped, the first at {first}", images.skipped.count()),
        };
        return Err(input(format!("{}: no images{skipped}", path.display())));
    }
    Ok(images)
}

/// Like [`read`], but a file without images is no error.
pub fn read_allow_empty(path: &Path, options: ReadOptions<'_>) -> anyhow::Result<Images> {
    check_regular_file(path, "a CSV file of images")?;
    let columns = read_header(path, options.labels)?;
    let scan = scan::scan_file(path)?;
    let fast = match scan.quoting {
        // Polars would hold all columns in memory; the slow reader holds one row.
        _ if columns.count > MAX_COLUMNS || scan.too_short_for_images() => None,
        // Quote handling takes half of polars' time on these files, and most have no quotes.
        Quoting::None => read_fast(path, &columns, options, None),
        Quoting::Standard => read_fast(path, &columns, options, Some(b'"')),
        Quoting::Ambiguous => None,
    };
    let images = match fast {
        Some(images) => images,
        None => diagnose::read(path, &columns, options)?,
    };
    Ok(images.with_hashes())
}

/// Reads the file with polars; `None` if anything is wrong with it.
fn read_fast(path: &Path, columns: &Columns, options: ReadOptions<'_>, quote: Option<u8>) -> Option<Images> {
    let frame = CsvReadOptions::default()
        .with_infer_schema_length(Some(0))
        .with_has_header(true)
        .map_parse_options(|parse| parse.with_quote_char(quote))
        .try_into_reader_with_file_path(Some(path.to_path_buf()))
        .and_then(CsvReader::finish)
        .ok()?;
    // A null is an empty cell or a missing field at the end of a row; `diagnose` distinguishes
    // them.
    if frame.width() != columns.count || frame.columns().iter().any(|column| column.null_count() > 0) {
        return None;
    }
    let texts = |column: usize| frame.columns().get(column)?.str().ok();
    let pixel_texts = texts(columns.pixels)?;
    let labels = match columns.emotion {
        None => None,
        Some(column) => Some(
            texts(column)?.iter().map(|text| parse_label(text?, options.classes.len())).collect::<Option<Vec<u8>>>()?,
        ),
    };
    let owned = |column: Option<usize>| -> Option<Option<Vec<String>>> {
        match column {
            None => Some(None),
            Some(column) => texts(column)?
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
    let all_valid = cells
        .par_iter()
        .zip(pixel_bytes.par_chunks_exact_mut(PIXELS))
        .all(|(cell, image)| pixels::parse(cell.as_bytes(), image).is_ok());
    all_valid.then_some(())?;
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
