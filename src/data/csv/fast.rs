//! The fast CSV reader: polars, and pixels parsed in parallel.

use std::io::Cursor;

use polars::prelude::*;
use rayon::prelude::*;

use super::columns::Columns;
use super::pixels;
use crate::data::images::{Images, PIXELS};
use crate::data::label_map::{LabelMap, LabelTarget};

/// Rows of a CSV.
pub(super) struct Part {
    /// Their images.
    pub images: Images,
    /// Number of rows, whether or not they are among the images.
    pub rows: usize,
    /// Rows that `data.labels` leaves out.
    pub left_out: usize,
}

/// Reads `text`, a header and whole records, the first of which is row `first_row` of the file;
/// `None` if anything is wrong with it.
pub(super) fn read(text: &[u8], columns: &Columns, map: &LabelMap, quote: Option<u8>, first_row: u32) -> Option<Part> {
    let options = CsvReadOptions::default()
        .with_infer_schema_length(Some(0))
        .with_has_header(true)
        .map_parse_options(|parse| parse.with_quote_char(quote).with_separator(columns.separator));
    let frame = options.into_reader_with_file_handle(Cursor::new(text)).finish().ok()?;
    // A null is an empty cell or a missing field at the end of a row; `diagnose` distinguishes
    // them.
    if frame.width() != columns.count || frame.columns().iter().any(|column| column.null_count() > 0) {
        return None;
    }
    let targets = match columns.emotion {
        None => None,
        Some(column) => {
            let texts = texts(&frame, column)?;
            Some(texts.iter().map(|text| map.resolve(text?)).collect::<Option<Vec<LabelTarget>>>()?)
        }
    };
    let class = |row: &usize| match targets.as_ref().and_then(|targets| targets.get(*row)) {
        Some(LabelTarget::Class(class)) => Some(*class),
        _ => None,
    };
    let kept: Vec<usize> = (0..frame.height()).filter(|row| targets.is_none() || class(row).is_some()).collect();
    let ids = trimmed(&frame, columns.id, &kept)?;
    if ids.iter().flatten().any(String::is_empty) {
        return None;
    }
    let rows = kept.iter().map(|row| first_row.checked_add(u32::try_from(*row).ok()?));
    let images = Images {
        pixels: parse_pixels(texts(&frame, columns.pixels)?, &kept)?.into(),
        labels: targets.as_ref().map(|_| kept.iter().filter_map(class).collect()),
        ids,
        usages: trimmed(&frame, columns.usage, &kept)?,
        groups: trimmed(&frame, columns.group, &kept)?,
        rows: rows.collect::<Option<_>>()?,
        ..Images::default()
    };
    let left_out = frame.height() - kept.len();
    Some(Part { images: images.with_hashes().ok()?, rows: frame.height(), left_out })
}

fn texts(frame: &DataFrame, column: usize) -> Option<&StringChunked> {
    frame.columns().get(column)?.str().ok()
}

/// The texts of a column without outer spaces in the rows `kept`; `Some(None)` without the column.
fn trimmed(frame: &DataFrame, column: Option<usize>, kept: &[usize]) -> Option<Option<Vec<String>>> {
    let Some(column) = column else { return Some(None) };
    let texts = texts(frame, column)?;
    kept.iter().map(|row| texts.get(*row).map(|text| text.trim().to_owned())).collect::<Option<_>>().map(Some)
}

/// The pixels in the rows `kept`; `None` if a cell is not an image.
fn parse_pixels(texts: &StringChunked, kept: &[usize]) -> Option<Vec<u8>> {
    let cells: Vec<&str> = kept.iter().map(|row| texts.get(*row)).collect::<Option<_>>()?;
    let mut bytes = vec![0; cells.len() * PIXELS];
    let images = bytes.par_chunks_exact_mut(PIXELS);
    let all_valid = cells.par_iter().zip(images).all(|(cell, image)| pixels::parse(cell.as_bytes(), image).is_ok());
    all_valid.then_some(bytes)
}
