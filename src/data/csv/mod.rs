//! Reading a CSV of images: first the header, then the whole file with polars, parsing pixels in
//! parallel.
//!
//! Polars errors do not name a line. A file that the fast reader rejects is read again row by row
//! in `diagnose`, which names line and column. Valid files never take that path.

pub mod columns;
mod diagnose;
mod file_kind;
pub mod lines;
mod pixels;
pub mod records;
pub mod scan;
pub mod source;
mod zip_file;

use std::path::Path;

use polars::prelude::*;
use rayon::prelude::*;

use super::images::{Images, PIXELS};
use super::label_map::{LabelMap, LabelTarget};
use crate::data::csv::columns::{Columns, ReadOptions, read_columns};
use crate::data::csv::scan::Quoting;
use crate::data::csv::source::CsvSource;
use crate::util::error::input;
use crate::util::files::input_name;
use crate::util::text::count;

/// Files with more columns are read row by row; Kaggle's layouts have at most three.
const MAX_COLUMNS: usize = 100;

/// Reads the images of a CSV in any of Kaggle's layouts, from a file, a gzip file, a zip archive
/// with one CSV, a pipe, or standard input for `-`.
///
/// # Errors
/// Input errors with file, line, column and the expected value; also if there is no image.
pub fn read(path: &Path, options: ReadOptions<'_>) -> anyhow::Result<Images> {
    let images = read_allow_empty(path, options)?;
    if images.is_empty() {
        let why = match images.skipped.first() {
            Some(first) => format!(": all {} were skipped, the first at {first}", images.skipped.count()),
            None if images.left_out > 0 => {
                format!(": {} leaves out {}, which is all", options.advice.label_rule(), count(images.left_out, "row"))
            }
            None => String::new(),
        };
        return Err(input(format!("{}: no images{why}", input_name(path).display())));
    }
    Ok(images)
}

/// Like [`read`], but a file without images is no error.
pub fn read_allow_empty(path: &Path, options: ReadOptions<'_>) -> anyhow::Result<Images> {
    let source =
        CsvSource::open(path, "a CSV file of images", &|source| read_columns(source, options.labels).map(drop))?;
    let columns = read_columns(&source, options.labels)?;
    let map = LabelMap::new(options.classes, options.label_names);
    let scan = scan::scan_source(&source, columns.separator)?;
    let fast = match scan.quoting {
        // Polars would hold all columns in memory; the slow reader holds one row.
        _ if columns.count > MAX_COLUMNS || scan.too_short_for_images() => None,
        // Quote handling takes half of polars' time on these files, and most have no quotes.
        Quoting::None => read_fast(&source, &columns, &map, None),
        Quoting::Standard => read_fast(&source, &columns, &map, Some(b'"')),
        Quoting::Ambiguous => None,
    };
    let mut images = match fast {
        Some(images) => images,
        None => diagnose::read(&source, &columns, &map, options)?,
    };
    if images.labels.is_some() {
        images.unused_labels = map.unused();
    }
    let name = source.name();
    images.notes = columns.notes.iter().map(|note| format!("{name}: {note}")).collect();
    if images.left_out > 0 {
        let (map, rows) = (options.advice.label_rule(), count(images.file_rows as usize, "row"));
        images.notes.push(format!("{name}: {map} leaves out {} of {rows}", images.left_out));
    }
    Ok(images.with_hashes())
}

/// Reads the file with polars; `None` if anything is wrong with it.
fn read_fast(source: &CsvSource, columns: &Columns, map: &LabelMap, quote: Option<u8>) -> Option<Images> {
    let options = CsvReadOptions::default()
        .with_infer_schema_length(Some(0))
        .with_has_header(true)
        .map_parse_options(|parse| parse.with_quote_char(quote).with_separator(columns.separator));
    let frame = options.into_reader_with_file_handle(source.file().ok()?).finish().ok()?;
    // A null is an empty cell or a missing field at the end of a row; `diagnose` distinguishes
    // them.
    if frame.width() != columns.count || frame.columns().iter().any(|column| column.null_count() > 0) {
        return None;
    }
    let texts = |column: usize| frame.columns().get(column)?.str().ok();
    let pixel_texts = texts(columns.pixels)?;
    let targets = match columns.emotion {
        None => None,
        Some(column) => {
            Some(texts(column)?.iter().map(|text| map.resolve(text?)).collect::<Option<Vec<LabelTarget>>>()?)
        }
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
    let rows = u32::try_from(count).ok()?;
    let images = Images {
        pixels: pixel_bytes,
        ids,
        usages: owned(columns.usage)?,
        rows: (0..rows).collect(),
        file_rows: rows,
        ..Images::default()
    };
    Some(with_targets(images, targets))
}

/// The images with the labels `targets`, without those that are left out.
fn with_targets(mut images: Images, targets: Option<Vec<LabelTarget>>) -> Images {
    let Some(targets) = targets else { return images };
    let class = |target: &LabelTarget| match target {
        LabelTarget::Class(class) => Some(*class),
        LabelTarget::Skip => None,
    };
    if targets.iter().any(|target| class(target).is_none()) {
        let kept: Vec<usize> =
            targets.iter().enumerate().filter(|(_, target)| class(target).is_some()).map(|(i, _)| i).collect();
        images = images.select(&kept);
        images.left_out = targets.len() - kept.len();
    }
    images.labels = Some(targets.iter().filter_map(class).collect());
    images
}

#[cfg(test)]
mod tests;
