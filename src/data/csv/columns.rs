//! Reading the header of a CSV of images.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::data::config::OnBadRow;
use crate::util::error::input;
use crate::util::text::short;

/// Maximum length of the header line in bytes.
const MAX_HEADER: u64 = 1 << 16;

/// Options for reading a CSV of images.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions<'a> {
    /// Class names; labels are 0..classes.len().
    pub classes: &'a [String],
    /// Whether the column `emotion` is required.
    pub labels: LabelColumn,
    /// What to do with a row that cannot be read.
    pub on_bad_row: OnBadRow,
}

/// How to treat the column `emotion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelColumn {
    /// It must exist, with valid labels.
    Required,
    /// It may be absent; if present, its labels must be valid.
    Optional,
    /// It is not read.
    Ignored,
}

/// Positions of the known columns, from 0. Names are trimmed; other columns are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub pixels: usize,
    pub emotion: Option<usize>,
    pub id: Option<usize>,
    pub usage: Option<usize>,
    pub count: usize,
}

/// Reads and checks the header line.
pub(super) fn read_header(path: &Path, labels: LabelColumn) -> anyhow::Result<Columns> {
    let display = path.display();
    let mut line = Vec::new();
    let file = File::open(path).map_err(|error| input(format!("{display}: cannot be opened: {error}")))?;
    BufReader::new(file)
        .take(MAX_HEADER + 1)
        .read_until(b'\n', &mut line)
        .map_err(|error| anyhow::anyhow!("{display}: cannot be read: {error}"))?;
    if line.is_empty() || line == b"\xef\xbb\xbf" {
        return Err(input(format!("{display}: is empty; expected a CSV with the columns emotion and pixels")));
    }
    if line.len() as u64 > MAX_HEADER {
        return Err(input(format!(
            "{display}: line 1 is longer than {MAX_HEADER} bytes; expected a header such as emotion,pixels"
        )));
    }
    let text = std::str::from_utf8(&line).map_err(|error| {
        input(format!(
            "{display}: line 1: not UTF-8 at byte {}; expected a header such as emotion,pixels",
            error.valid_up_to() + 1
        ))
    })?;
    let mut reader =
        ::csv::ReaderBuilder::new().has_headers(false).from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let mut header = ::csv::StringRecord::new();
    reader.read_record(&mut header).map_err(|error| input(format!("{display}: line 1: {error}")))?;
    let names: Vec<&str> = header.iter().map(str::trim).collect();
    let find = |name: &str| -> anyhow::Result<Option<usize>> {
        let mut positions = names.iter().enumerate().filter(|(_, n)| **n == name).map(|(position, _)| position);
        let first = positions.next();
        match positions.next() {
            Some(_) => Err(input(format!("{display}: line 1: duplicate column {name}"))),
            None => Ok(first),
        }
    };
    if names.iter().all(|name| name.is_empty()) {
        return Err(input(format!("{display}: line 1 is blank; expected a header such as emotion,pixels")));
    }
    let found = || names.iter().take(10).map(|name| format!("{:?}", short(name, 40))).collect::<Vec<_>>().join(", ");
    let missing = |name: &str| input(format!("{display}: line 1: no column {name}; found {}", found()));
    let columns = Columns {
        pixels: find("pixels")?.ok_or_else(|| missing("pixels"))?,
        emotion: if labels == LabelColumn::Ignored { None } else { find("emotion")? },
        id: find("id")?,
        usage: find("Usage")?,
        count: names.len(),
    };
    if labels == LabelColumn::Required && columns.emotion.is_none() {
        return Err(missing("emotion"));
    }
    Ok(columns)
}
