//! Reading a CSV of images: first the header, then chunk by chunk with polars, parsing pixels in
//! parallel. No more than a chunk is in memory besides the images.
//!
//! Polars errors do not name a line. A chunk that the fast reader rejects is read again row by row
//! in `diagnose`, which names line and column. Valid files never take that path.

mod chunks;
pub mod columns;
mod diagnose;
mod fast;
mod file_kind;
pub mod lines;
mod pixels;
pub mod records;
pub mod scan;
pub mod source;
mod zip_file;

use std::path::Path;

use super::bad_rows::BadRows;
use super::images::Images;
use super::label_map::LabelMap;
use crate::data::config::OnBadRow;
use crate::data::csv::chunks::Chunks;
use crate::data::csv::columns::{Columns, read_columns};
use crate::data::csv::diagnose::RowReader;
use crate::data::csv::scan::{Quoting, ScanResult};
use crate::data::csv::source::CsvSource;
use crate::data::read_options::ReadOptions;
use crate::util::error::input;
use crate::util::text::count;

/// Files with more columns are read row by row; Kaggle's layouts have at most three.
const MAX_COLUMNS: usize = 100;

/// Receives the images of a file in parts, in order, at least one. `file_rows`, `skipped` and the
/// other fields of the file as a whole are not set.
pub type TakePart<'a> = dyn FnMut(Images) -> anyhow::Result<()> + 'a;

/// Reads the images of a CSV in any of Kaggle's layouts, from a file, a gzip file, a zip archive
/// with one CSV, a pipe, or standard input for `-`.
///
/// # Errors
/// Input errors with file, line, column and the expected value.
pub fn read_allow_empty(path: &Path, options: ReadOptions<'_>) -> anyhow::Result<Images> {
    let mut images = Images::default();
    let whole = read_parts(path, options, &mut |part| images.append(part))?;
    Ok(Images {
        file_rows: whole.file_rows,
        skipped: whole.skipped,
        left_out: whole.left_out,
        unused_labels: whole.unused_labels,
        notes: whole.notes,
        ..images
    })
}

/// Like [`read_allow_empty`], but passes the images on to `take`, a few thousand at a time. The
/// result has what concerns the file as a whole, and no images.
///
/// # Errors
/// Input errors, and those of `take`. With [`OnBadRow::Error`], the error for a bad row comes at the
/// end of the file.
pub fn read_parts(path: &Path, options: ReadOptions<'_>, take: &mut TakePart<'_>) -> anyhow::Result<Images> {
    let source = CsvSource::open(path, "a CSV file of images", &|source| {
        read_columns(source, options.labels, options.group).map(drop)
    })?;
    read_source(&source, options, scan::CHUNK, take)
}

/// [`read_parts`] of a file that is open, in chunks of at least `chunk` bytes.
fn read_source(
    source: &CsvSource,
    options: ReadOptions<'_>,
    chunk: u64,
    take: &mut TakePart<'_>,
) -> anyhow::Result<Images> {
    let columns = read_columns(source, options.labels, options.group)?;
    let map = LabelMap::new(options.classes, options.label_names);
    let scan = scan::scan_source(source, columns.separator, chunk)?;
    let mut reader = Reader { source, columns: &columns, map: &map, options, read: Counts::default(), take };
    reader.read(&scan)?;
    let Counts { rows, skipped, left_out } = reader.read;
    let name = source.name();
    if skipped.count() > 0 && options.on_bad_row == OnBadRow::Error {
        return Err(skipped.to_error(name, options.advice));
    }
    let mut notes: Vec<String> = columns.notes.iter().map(|note| format!("{name}: {note}")).collect();
    if left_out > 0 {
        let (map, rows) = (options.advice.label_rule(), count(rows as usize, "row"));
        notes.push(format!("{name}: {map} leaves out {left_out} of {rows}"));
    }
    let unused_labels = if columns.emotion.is_some() { map.unused() } else { Vec::new() };
    Ok(Images { file_rows: rows, skipped, left_out, unused_labels, notes, ..Images::default() })
}

/// Rows read so far.
#[derive(Debug, Default)]
struct Counts {
    /// All of them.
    rows: u32,
    /// Those that could not be read.
    skipped: BadRows,
    /// Those that `data.labels` leaves out.
    left_out: usize,
}

impl Counts {
    /// Adds `rows` rows of the file `name`.
    ///
    /// # Errors
    /// An input error for more than [`u32::MAX`].
    fn add_rows(&mut self, rows: usize, name: &str) -> anyhow::Result<()> {
        let sum = u32::try_from(rows).ok().and_then(|rows| self.rows.checked_add(rows));
        self.rows = sum.ok_or_else(|| input(format!("{name}: more than {} rows", u32::MAX)))?;
        Ok(())
    }
}

/// A CSV that is being read.
struct Reader<'a> {
    source: &'a CsvSource,
    columns: &'a Columns,
    map: &'a LabelMap,
    options: ReadOptions<'a>,
    read: Counts,
    take: &'a mut TakePart<'a>,
}

impl Reader<'_> {
    fn read(&mut self, scan: &ScanResult) -> anyhow::Result<()> {
        // Also of a file without rows, the columns are known.
        (self.take)(self.columns.empty_images())?;
        let mut slow = RowReader::new(self.source, self.columns, self.map, self.options);
        // Polars would hold all columns in memory; the slow reader holds one row.
        let is_wide = self.columns.count > MAX_COLUMNS || scan.too_short_for_images();
        if is_wide || scan.quoting == Quoting::Ambiguous {
            return slow.read(self.source.reader(), 0, &mut self.read, self.take);
        }
        // Quote handling takes half of polars' time on these files, and most have no quotes.
        let quote = (scan.quoting == Quoting::Standard).then_some(b'"');
        let mut chunks = Chunks::new(self.source, scan)?;
        while let Some(chunk) = chunks.advance()? {
            match fast::read(chunk.text, self.columns, self.map, quote, self.read.rows) {
                Some(part) => {
                    self.read.add_rows(part.rows, self.source.name())?;
                    self.read.left_out += part.left_out;
                    (self.take)(part.images)?;
                }
                None => slow.read(chunk.text, chunk.shift, &mut self.read, self.take)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
