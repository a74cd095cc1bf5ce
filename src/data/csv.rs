//! Reading a CSV of faces: the header first, then everything at once through polars, pixels parsed in parallel.
//!
//! Polars names no line in its errors, so whatever it or the parser stumbles over is read again by
//! `slow_csv`, row by row, which says where. A file without mistakes never takes that way.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use polars::prelude::*;
use rayon::prelude::*;

use super::faces::Faces;
use super::pixels;
use super::slow_csv;
use crate::config::{OnBadRow, PIXELS};
use crate::error::input;
use crate::files::check_regular_file;

/// A header longer than this is not one of a CSV of faces; it is refused before anything is read.
const LONGEST_HEADER: u64 = 1 << 16;

/// What a file must have and how strict to be.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions<'a> {
    /// Class names; a label is a number below their count.
    pub classes: &'a [String],
    /// Whether the column `emotion` must be there.
    pub needs_labels: bool,
    /// What to do with a row that cannot be read.
    pub on_bad_row: OnBadRow,
}

/// Where the known columns stand, from 0; names are trimmed, other columns are not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub pixels: usize,
    pub emotion: Option<usize>,
    pub id: Option<usize>,
    pub usage: Option<usize>,
    pub count: usize,
}

/// Reads the faces of a CSV in any of the known layouts.
///
/// # Errors
/// Input errors that name file, line and column, and what was expected.
pub fn read(path: &Path, options: ReadOptions<'_>) -> anyhow::Result<Faces> {
    check_regular_file(path, "a CSV file of faces")?;
    let columns = read_header(path, options.needs_labels)?;
    let faces = match read_fast(path, &columns, options) {
        Some(faces) => faces,
        None => slow_csv::read(path, &columns, options)?,
    };
    if faces.is_empty() {
        let skipped = match faces.skipped.first() {
            None => String::new(),
            Some(first) => format!(": all {} were skipped, the first at {first}", faces.skipped.len()),
        };
        return Err(input(format!("{}: no rows of faces{skipped}", path.display())));
    }
    Ok(faces.hash())
}

/// Reads and checks the header line.
fn read_header(path: &Path, needs_labels: bool) -> anyhow::Result<Columns> {
    let shown = path.display();
    let mut line = Vec::new();
    let file = File::open(path).map_err(|error| input(format!("{shown}: cannot be opened: {error}")))?;
    BufReader::new(file)
        .take(LONGEST_HEADER + 1)
        .read_until(b'\n', &mut line)
        .map_err(|error| anyhow::anyhow!("{shown}: cannot be read: {error}"))?;
    if line.is_empty() {
        return Err(input(format!("{shown}: is empty; expected a CSV with the columns emotion and pixels")));
    }
    if line.len() as u64 > LONGEST_HEADER {
        return Err(input(format!(
            "{shown}: line 1 is over {LONGEST_HEADER} bytes long; expected a header such as emotion,pixels"
        )));
    }
    let text = std::str::from_utf8(&line).map_err(|error| {
        input(format!(
            "{shown}: line 1: not UTF-8 at byte {}; expected a header such as emotion,pixels",
            error.valid_up_to() + 1
        ))
    })?;
    let mut reader =
        ::csv::ReaderBuilder::new().has_headers(false).from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let mut header = ::csv::StringRecord::new();
    reader.read_record(&mut header).map_err(|error| input(format!("{shown}: line 1: {error}")))?;
    let names: Vec<&str> = header.iter().map(str::trim).collect();
    let find = |name: &str| -> anyhow::Result<Option<usize>> {
        let mut places = names.iter().enumerate().filter(|(_, n)| **n == name).map(|(place, _)| place);
        let first = places.next();
        match places.next() {
            Some(_) => Err(input(format!("{shown}: line 1: two columns are named {name}"))),
            None => Ok(first),
        }
    };
    let found = || names.iter().take(10).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let missing = |name: &str| input(format!("{shown}: line 1: no column {name}; found {}", found()));
    let columns = Columns {
        pixels: find("pixels")?.ok_or_else(|| missing("pixels"))?,
        emotion: find("emotion")?,
        id: find("id")?,
        usage: find("Usage")?,
        count: names.len(),
    };
    if needs_labels && columns.emotion.is_none() {
        return Err(missing("emotion"));
    }
    Ok(columns)
}

/// The fast way; `None` when anything at all is not as it should be.
///
/// Looking for quotes is half of polars' work on these files, and most of them have none. So it first reads without,
/// and again with them when that meets a quote or does not work out.
fn read_fast(path: &Path, columns: &Columns, options: ReadOptions<'_>) -> Option<Faces> {
    let without_quotes = read_with_polars(path, columns, options, None);
    without_quotes.or_else(|| read_with_polars(path, columns, options, Some(b'"')))
}

fn read_with_polars(path: &Path, columns: &Columns, options: ReadOptions<'_>, quote: Option<u8>) -> Option<Faces> {
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
            Some(place) => {
                let plain = |text: &&str| quote.is_some() || !text.contains('"');
                let text = |text: Option<&str>| text.filter(plain).map(|text| text.trim().to_owned());
                texts(place)?.iter().map(text).collect::<Option<Vec<_>>>().map(Some)
            }
        }
    };
    let count = frame.height();
    let mut pixel_bytes = vec![0; count * PIXELS];
    let cells: Vec<&str> = pixel_texts.iter().collect::<Option<_>>()?;
    let all_good = cells
        .par_iter()
        .zip(pixel_bytes.par_chunks_exact_mut(PIXELS))
        .all(|(cell, face)| pixels::parse(cell.as_bytes(), face).is_ok());
    all_good.then_some(())?;
    Some(Faces {
        pixels: pixel_bytes,
        labels,
        ids: owned(columns.id)?,
        usages: owned(columns.usage)?,
        rows: (0..u32::try_from(count).ok()?).collect(),
        ..Faces::default()
    })
}

/// The class number in an `emotion` cell, when it is one.
pub fn parse_label(text: &str, classes: usize) -> Option<u8> {
    text.trim().parse::<u8>().ok().filter(|label| usize::from(*label) < classes)
}

#[cfg(test)]
mod tests;
