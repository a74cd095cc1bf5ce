//! The header of a CSV of images: which columns there are, and what the small ones may hold.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::data::config::OnBadRow;
use crate::util::error::input;
use crate::util::text::short;

/// A header longer than this is not one of a CSV of images; it is refused before anything is read.
const MAX_HEADER: u64 = 1 << 16;

/// What a file must have and how strict to be.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions<'a> {
    /// Class names; a label is a number below their count.
    pub classes: &'a [String],
    /// What to do about the column `emotion`.
    pub labels: Labels,
    /// What to do with a row that cannot be read.
    pub on_bad_row: OnBadRow,
}

/// What to do about the column `emotion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// It must be there, and every label be known.
    Needed,
    /// Where it is there, every label must be known.
    IfPresent,
    /// It is not looked at.
    Ignored,
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

/// Reads and checks the header line.
pub(super) fn read_header(path: &Path, labels: Labels) -> anyhow::Result<Columns> {
    let shown = path.display();
    let mut line = Vec::new();
    let file = File::open(path).map_err(|error| input(format!("{shown}: cannot be opened: {error}")))?;
    BufReader::new(file)
        .take(MAX_HEADER + 1)
        .read_until(b'\n', &mut line)
        .map_err(|error| anyhow::anyhow!("{shown}: cannot be read: {error}"))?;
    if line.is_empty() || line == b"\xef\xbb\xbf" {
        return Err(input(format!("{shown}: is empty; expected a CSV with the columns emotion and pixels")));
    }
    if line.len() as u64 > MAX_HEADER {
        return Err(input(format!(
            "{shown}: line 1 is over {MAX_HEADER} bytes long; expected a header such as emotion,pixels"
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
    if names.iter().all(|name| name.is_empty()) {
        return Err(input(format!("{shown}: line 1 is blank; expected a header such as emotion,pixels")));
    }
    let found = || names.iter().take(10).map(|name| format!("{:?}", short(name, 40))).collect::<Vec<_>>().join(", ");
    let missing = |name: &str| input(format!("{shown}: line 1: no column {name}; found {}", found()));
    let columns = Columns {
        pixels: find("pixels")?.ok_or_else(|| missing("pixels"))?,
        emotion: if labels == Labels::Ignored { None } else { find("emotion")? },
        id: find("id")?,
        usage: find("Usage")?,
        count: names.len(),
    };
    if labels == Labels::Needed && columns.emotion.is_none() {
        return Err(missing("emotion"));
    }
    Ok(columns)
}
