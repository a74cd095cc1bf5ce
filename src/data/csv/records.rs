//! Reading a CSV record by record, with file and line in every error.

use std::path::Path;

use anyhow::Result;

use super::columns::Header;
use super::lines::{LineCounter, without_bom};
use super::scan;
use super::source::CsvSource;
use crate::util::error::input;

/// The records of a CSV with a header. Cells are trimmed; every record has as many as the header.
pub struct Records {
    name: String,
    reader: ::csv::Reader<Box<dyn std::io::Read>>,
    lines: LineCounter,
    /// Length of the byte order mark in bytes.
    bom_length: u64,
    header: Header,
    /// The expected columns, for messages.
    expected: String,
    record: ::csv::StringRecord,
    /// Byte offset of the current record.
    start: u64,
}

impl Records {
    /// Opens the CSV at `path`, however it is stored, and reads its header. `what` describes the
    /// file and `expected` its columns, for messages; the first of them selects the separator.
    /// `check` checks the header.
    ///
    /// # Errors
    /// Input errors with file and line: those of [`CsvSource::open`] and `check`, an empty file, a
    /// record longer than 1 MiB, an invalid header.
    pub fn open(path: &Path, what: &str, expected: &str, check: impl Fn(&Header) -> Result<()>) -> Result<Self> {
        let required = expected.split(',').next().unwrap_or_default();
        let read_header = |source: &CsvSource| -> Result<Header> {
            let header = Header::read(source, required, expected)?;
            check(&header)?;
            Ok(header)
        };
        let source = CsvSource::open(path, what, &|source| read_header(source).map(drop))?;
        let header = read_header(&source)?;
        scan::scan_source(&source, header.separator, scan::CHUNK)?;
        let (file, bom_length) = without_bom(source.reader())?;
        let file: Box<dyn std::io::Read> = Box::new(file);
        let mut reader =
            ::csv::ReaderBuilder::new().delimiter(header.separator).trim(::csv::Trim::All).from_reader(file);
        // Positions the reader after the header.
        reader.byte_headers().map_err(|error| input(format!("{}: line 1: {error}", source.name())))?;
        Ok(Self {
            name: source.name().to_owned(),
            reader,
            lines: LineCounter::new(&source),
            bom_length,
            header,
            expected: expected.to_owned(),
            record: ::csv::StringRecord::new(),
            start: 0,
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Name of the file, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The position, from 0, of the column `name`, regardless of case.
    ///
    /// # Errors
    /// An input error if there is no such column, or two.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.header.require(name, &self.expected)
    }

    /// Reads the next record; `false` at the end of the file.
    ///
    /// # Errors
    /// Input errors with the line: a wrong number of cells, invalid UTF-8.
    pub fn advance(&mut self) -> Result<bool> {
        self.start = self.bom_length + self.reader.position().byte();
        match self.reader.read_record(&mut self.record) {
            Ok(found) => Ok(found),
            Err(error) => Err(self.error(&format!(": {}", describe(&error)))),
        }
    }

    /// The cell of the current record in `column`; empty if out of range.
    pub fn cell(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or_default()
    }

    /// An input error for the current record: `FILE: line 3` followed by `problem`.
    pub fn error(&mut self, problem: &str) -> anyhow::Error {
        match self.lines.line_at(self.start) {
            Ok(line) => input(format!("{}: line {line}{problem}", self.name)),
            Err(error) => error,
        }
    }
}

/// Describes an error of the csv crate without its position, which is not a line number.
fn describe(error: &::csv::Error) -> String {
    match error.kind() {
        ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields; the header has {expected_len}")
        }
        ::csv::ErrorKind::Utf8 { err, .. } => format!("field {}: not UTF-8", err.field() + 1),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records_and_errors_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let open = |text: &str| {
            fs_err::write(&path, text).unwrap();
            Records::open(&path, "a CSV of numbers", "a,b", |_| Ok(()))
        };
        let mut records = open("\u{feff}b, a\r\n1,2\r\n\r\n3\r\n").unwrap();
        assert_eq!((records.column("a").unwrap(), records.column("b").unwrap()), (1, 0));
        assert!(
            records
                .column("c")
                .unwrap_err()
                .to_string()
                .ends_with("x.csv: line 1: no column c; found \"b\", \"a\"; expected a,b")
        );
        assert!(records.advance().unwrap());
        assert_eq!((records.cell(1), records.cell(2)), ("2", ""));
        assert!(records.error(", column a: odd").to_string().ends_with("x.csv: line 2, column a: odd"));
        assert!(records.advance().unwrap_err().to_string().ends_with("x.csv: line 4: 1 fields; the header has 2"));
        assert!(!open("a\n").unwrap().advance().unwrap());
        let message = |text: &str| open(text).err().unwrap().to_string();
        assert!(message("").ends_with("x.csv: is empty; expected a CSV with the columns a,b"));
        assert!(open("a,b,a\n").unwrap().column("a").unwrap_err().to_string().contains("duplicate column a"));
    }
}
