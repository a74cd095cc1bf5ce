//! The second, slow way through a CSV: row by row, naming line and column of whatever is wrong.

use std::path::Path;

use super::columns::{Columns, ReadOptions};
use super::lines::{Lines, without_bom};
use super::pixels;
use crate::data::config::OnBadRow;
use crate::data::images::{BadRow, BadRows, Images, PIXELS};
use crate::data::labels::parse_label;
use crate::util::error::input;

/// How many bad rows an error names before it only counts them.
const SHOWN: usize = 5;

/// Reads row by row.
///
/// # Errors
/// With `OnBadRow::Error`, an input error that names the first bad rows; I/O errors always.
pub(super) fn read(path: &Path, columns: &Columns, options: ReadOptions<'_>) -> anyhow::Result<Images> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| input(format!("{shown}: cannot be opened: {error}")))?;
    let (file, mark) = without_bom(file)?;
    let mut reader = ::csv::ReaderBuilder::new().flexible(true).has_headers(true).from_reader(file);
    let mut images = Images {
        labels: columns.emotion.map(|_| Vec::new()),
        ids: columns.id.map(|_| Vec::new()),
        usages: columns.usage.map(|_| Vec::new()),
        ..Images::default()
    };
    let mut record = ::csv::ByteRecord::new();
    let mut lines = Lines::new(path)?;
    let mut row = 0u32;
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Err(anyhow::Error::new(error).context(format!("{shown}: cannot be read"))),
        }
        match read_row(&record, columns, options) {
            Ok(cells) => cells.add_to(&mut images, row),
            Err((column, problem)) => {
                // Lines are counted for rows that will be shown.
                let start = mark + record.position().map_or(0, ::csv::Position::byte);
                let line = if images.skipped.is_full() { 0 } else { lines.of(start)? };
                images.skipped.push(BadRow { line, column, problem });
            }
        }
        row = row.checked_add(1).ok_or_else(|| input(format!("{shown}: more than {} rows", u32::MAX)))?;
    }
    match options.on_bad_row {
        OnBadRow::Error if images.skipped.count() > 0 => Err(input(describe(path, &images.skipped))),
        _ => Ok(images),
    }
}

/// The text of an error over bad rows: the first few, then a count.
pub(super) fn describe(path: &Path, bad: &BadRows) -> String {
    let mut text =
        bad.kept().iter().take(SHOWN).map(|row| format!("{}: {row}", path.display())).collect::<Vec<_>>().join("\n");
    if bad.count() > SHOWN {
        text += &format!("\nand {} further bad rows", bad.count() - SHOWN);
    }
    text + "\nmend the file, or set data.on_bad_row = \"skip\" to leave such rows out"
}

/// One row's cells, all read.
struct Cells {
    image: [u8; PIXELS],
    label: Option<u8>,
    id: Option<String>,
    usage: Option<String>,
}

impl Cells {
    fn add_to(self, images: &mut Images, row: u32) {
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

fn read_row(
    record: &::csv::ByteRecord,
    columns: &Columns,
    options: ReadOptions<'_>,
) -> Result<Cells, (&'static str, String)> {
    if record.len() != columns.count {
        return Err(("", format!("{} fields; the header has {}", record.len(), columns.count)));
    }
    let cell = |place: usize, name: &'static str| -> Result<&str, (&'static str, String)> {
        let bytes = record.get(place).unwrap_or_default();
        std::str::from_utf8(bytes)
            .map_err(|error| (name, format!("not UTF-8 at byte {} of the cell", error.valid_up_to() + 1)))
    };
    let text = |place: Option<usize>, name: &'static str| -> Result<Option<String>, (&'static str, String)> {
        place.map(|place| cell(place, name).map(|text| text.trim().to_owned())).transpose()
    };
    let label = columns
        .emotion
        .map(|place| {
            let text = cell(place, "emotion")?;
            parse_label(text, options.classes.len()).ok_or_else(|| ("emotion", describe_label(text, options.classes)))
        })
        .transpose()?;
    let mut image = [0; PIXELS];
    pixels::parse(cell(columns.pixels, "pixels")?.as_bytes(), &mut image)
        .map_err(|error| ("pixels", error.to_string()))?;
    let id = text(columns.id, "id")?;
    if id.as_ref().is_some_and(String::is_empty) {
        return Err(("id", "is empty; expected the id of the row".into()));
    }
    Ok(Cells { image, label, id, usage: text(columns.usage, "Usage")? })
}

fn describe_label(text: &str, classes: &[String]) -> String {
    let shown: String = text.chars().take(40).collect();
    let names = classes.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    format!("unknown label {shown:?}; expected 0..{} ({names})", classes.len() - 1)
}
