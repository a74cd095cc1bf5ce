//! The slow CSV reader: row by row, with line and column of every error.

use super::columns::{Columns, ReadOptions};
use super::lines::{LineCounter, without_bom};
use super::pixels;
use super::source::CsvSource;
use crate::data::advice::Advice;
use crate::data::config::OnBadRow;
use crate::data::images::{BadRow, BadRows, Images, PIXELS};
use crate::data::label_map::{LabelMap, LabelTarget};
use crate::util::error::input;

/// Number of bad rows listed in an error message.
const MAX_LISTED: usize = 5;

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

/// Reads a CSV row by row.
///
/// # Errors
/// With `OnBadRow::Error`, an input error that lists the first bad rows.
pub(super) fn read(
    source: &CsvSource,
    columns: &Columns,
    map: &LabelMap,
    options: ReadOptions<'_>,
) -> anyhow::Result<Images> {
    let name = source.name();
    let (file, bom_length) = without_bom(source.reader())?;
    let mut reader =
        ::csv::ReaderBuilder::new().delimiter(columns.separator).flexible(true).has_headers(true).from_reader(file);
    let mut images = Images {
        labels: columns.emotion.map(|_| Vec::new()),
        ids: columns.id.map(|_| Vec::new()),
        usages: columns.usage.map(|_| Vec::new()),
        ..Images::default()
    };
    let mut record = ::csv::ByteRecord::new();
    let mut lines = LineCounter::new(source);
    let mut row = 0u32;
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Err(anyhow::Error::new(error).context(format!("{name}: cannot be read"))),
        }
        match read_row(&record, columns, map, options.advice) {
            Ok(Some(cells)) => cells.push_to(&mut images, row),
            Ok(None) => images.left_out += 1,
            Err(CellError { column, problem }) => {
                // Only rows that are kept need a line.
                let start = bom_length + record.position().map_or(0, ::csv::Position::byte);
                let line = if images.skipped.is_full() { 0 } else { lines.line_at(start)? };
                images.skipped.push(BadRow { line, column, problem });
            }
        }
        row = row.checked_add(1).ok_or_else(|| input(format!("{name}: more than {} rows", u32::MAX)))?;
    }
    images.file_rows = row;
    match options.on_bad_row {
        OnBadRow::Error if images.skipped.count() > 0 => Err(input(describe(name, &images.skipped, options.advice))),
        _ => Ok(images),
    }
}

/// The error message for bad rows: the first few, then a count.
pub(super) fn describe(name: &str, bad: &BadRows, advice: Advice) -> String {
    let mut text =
        bad.kept().iter().take(MAX_LISTED).map(|row| format!("{name}: {row}")).collect::<Vec<_>>().join("\n");
    if bad.count() > MAX_LISTED {
        text += &format!("\nand {} more bad rows", bad.count() - MAX_LISTED);
    }
    text + &format!("\nfix the file, or {}", advice.skip_bad_rows())
}

/// The parsed cells of a row.
struct Cells {
    image: [u8; PIXELS],
    label: Option<u8>,
    id: Option<String>,
    usage: Option<String>,
}

impl Cells {
    fn push_to(self, images: &mut Images, row: u32) {
        images.pixels.extend_from_slice(&self.image);
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
    Ok(Some(Cells { image, label, id, usage: text(columns.usage, "Usage")? }))
}
