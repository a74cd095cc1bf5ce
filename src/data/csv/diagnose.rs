//! The slow CSV reader: row by row, with line and column of every error.

use std::io::Read;

use anyhow::Context as _;

use super::columns::Columns;
use super::lines::{LineCounter, without_bom};
use super::source::CsvSource;
use super::{Counts, TakePart, pixels};
use crate::data::advice::Advice;
use crate::data::bad_rows::{BadRow, Place};
use crate::data::config::OnBadRow;
use crate::data::images::{Images, PIXELS};
use crate::data::label_map::{LabelMap, LabelTarget};
use crate::data::read_options::ReadOptions;

/// What is wrong with a cell, or with the row as a whole, whose column is empty.
#[derive(Debug, thiserror::Error)]
#[error("column {column}: {problem}")]
struct CellError {
    column: &'static str,
    problem: String,
}

impl CellError {
    fn new(column: &'static str, problem: impl Into<String>) -> Self {
        Self { column, problem: problem.into() }
    }
}

/// Rows that are passed on at a time.
const PART: usize = 4096;

/// Reads a CSV row by row, or parts of it in their order.
pub(super) struct RowReader<'a> {
    name: &'a str,
    columns: &'a Columns,
    map: &'a LabelMap,
    options: ReadOptions<'a>,
    lines: LineCounter,
}

impl<'a> RowReader<'a> {
    /// Starts at the first line of `source`.
    pub fn new(source: &'a CsvSource, columns: &'a Columns, map: &'a LabelMap, options: ReadOptions<'a>) -> Self {
        Self { name: source.name(), columns, map, options, lines: LineCounter::new(source) }
    }

    /// Reads `text`, a header and whole records, whose offsets in the file are larger by `shift` than
    /// those in `text`. Passes its images on to `take`, and adds its rows to `read`.
    ///
    /// # Errors
    /// An I/O error, or one of `take`. Bad rows are no error.
    pub fn read(
        &mut self,
        text: impl Read,
        shift: u64,
        read: &mut Counts,
        take: &mut TakePart<'_>,
    ) -> anyhow::Result<()> {
        let (text, bom_length) = without_bom(text)?;
        let separator = self.columns.separator;
        let mut reader =
            ::csv::ReaderBuilder::new().delimiter(separator).flexible(true).has_headers(true).from_reader(text);
        let mut images = self.columns.empty_images();
        let mut record = ::csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).with_context(|| format!("{}: cannot be read", self.name))? {
            match read_row(&record, self.columns, self.map, self.options.advice) {
                // After an error that ends the reading, rows are only checked.
                Ok(Some(_)) if self.options.on_bad_row == OnBadRow::Error && read.skipped.count() > 0 => {}
                Ok(Some(cells)) => cells.push_to(&mut images, read.rows)?,
                Ok(None) => read.left_out += 1,
                Err(CellError { column, problem }) => {
                    // Only rows that are kept need a line.
                    let start = shift + bom_length + record.position().map_or(0, ::csv::Position::byte);
                    let line = if read.skipped.is_full() { 0 } else { self.lines.line_at(start)? };
                    read.skipped.push(BadRow { place: Place::Line { line, column }, problem });
                }
            }
            read.add_rows(1, self.name)?;
            if images.len() == PART {
                let part = std::mem::replace(&mut images, self.columns.empty_images());
                take(part.with_hashes()?)?;
            }
        }
        take(images.with_hashes()?)
    }
}

/// The parsed cells of a row.
struct Cells {
    image: [u8; PIXELS],
    label: Option<u8>,
    id: Option<String>,
    usage: Option<String>,
    group: Option<String>,
}

impl Cells {
    fn push_to(self, images: &mut Images, row: u32) -> anyhow::Result<()> {
        images.pixels.append(&self.image)?;
        images.rows.push(row);
        if let (Some(labels), Some(label)) = (&mut images.labels, self.label) {
            labels.push(label);
        }
        if let (Some(ids), Some(id)) = (&mut images.ids, self.id) {
            ids.push(id);
        }
        if let (Some(usages), Some(usage)) = (&mut images.usages, self.usage) {
            usages.push(usage);
        }
        if let (Some(groups), Some(group)) = (&mut images.groups, self.group) {
            groups.push(group);
        }
        Ok(())
    }
}

/// `None` for a row that `data.labels` leaves out.
fn read_row(
    record: &::csv::ByteRecord,
    columns: &Columns,
    map: &LabelMap,
    advice: Advice,
) -> Result<Option<Cells>, CellError> {
    if record.len() != columns.count {
        return Err(CellError::new("", format!("{} fields; the header has {}", record.len(), columns.count)));
    }
    let cell = |column: usize, name: &'static str| -> Result<&str, CellError> {
        let bytes = record.get(column).unwrap_or_default();
        std::str::from_utf8(bytes)
            .map_err(|error| CellError::new(name, format!("not UTF-8 at byte {} of the cell", error.valid_up_to() + 1)))
    };
    let text = |column: Option<usize>, name: &'static str| -> Result<Option<String>, CellError> {
        column.map(|column| cell(column, name).map(|text| text.trim().to_owned())).transpose()
    };
    let label = columns
        .emotion
        .map(|column| {
            let text = cell(column, "emotion")?;
            map.resolve(text).ok_or_else(|| CellError::new("emotion", map.describe_unknown(text, advice)))
        })
        .transpose()?;
    let label = match label {
        Some(LabelTarget::Skip) => return Ok(None),
        Some(LabelTarget::Class(class)) => Some(class),
        None => None,
    };
    let mut image = [0; PIXELS];
    pixels::parse(cell(columns.pixels, "pixels")?.as_bytes(), &mut image)
        .map_err(|error| CellError::new("pixels", error.to_string()))?;
    let id = text(columns.id, "id")?;
    if id.as_ref().is_some_and(String::is_empty) {
        return Err(CellError::new("id", "empty; expected the id of the row"));
    }
    let (usage, group) = (text(columns.usage, "Usage")?, text(columns.group, "of data.group")?);
    Ok(Some(Cells { image, label, id, usage, group }))
}
