//! A small CSV read record by record, with errors that name file and line.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

use super::lines::{Lines, without_bom};
use super::scan;
use crate::util::error::input;
use crate::util::files::check_regular_file;

/// A CSV with a header; cells are trimmed, every record has as many as the header.
pub struct Table {
    path: PathBuf,
    reader: ::csv::Reader<Box<dyn Read>>,
    lines: Lines,
    /// Bytes of a byte order mark.
    mark: u64,
    header: ::csv::StringRecord,
    /// The columns that are wanted, for messages.
    expected: String,
    record: ::csv::StringRecord,
    /// Where the record begins.
    start: u64,
}

impl Table {
    /// Opens the CSV at `path` and reads its header; `what` it should be and the columns that are `expected` are for messages.
    ///
    /// # Errors
    /// Input errors that name the file and line: no regular file, an empty one, a record over 1 MiB, a header that is none.
    pub fn open(path: &Path, what: &str, expected: &str) -> Result<Self> {
        let shown = path.display();
        check_regular_file(path, what)?;
        scan::check(path)?;
        let (file, mark) = without_bom(fs::File::open(path)?.into_parts().0)?;
        let file: Box<dyn Read> = Box::new(file);
        let mut reader = ::csv::ReaderBuilder::new().trim(::csv::Trim::All).from_reader(file);
        let header = reader.headers().map_err(|error| input(format!("{shown}: line 1: {error}")))?.clone();
        if header.is_empty() {
            return Err(input(format!("{shown}: is empty; expected a CSV with the columns {expected}")));
        }
        Ok(Self {
            path: path.to_path_buf(),
            reader,
            lines: Lines::new(path)?,
            mark,
            header,
            expected: expected.to_owned(),
            record: ::csv::StringRecord::new(),
            start: 0,
        })
    }

    /// The place, from 0, of the one column with this name.
    ///
    /// # Errors
    /// An input error when there is none, or two.
    pub fn column(&self, name: &str) -> Result<usize> {
        let (shown, expected) = (self.path.display(), &self.expected);
        let mut places = self.header.iter().enumerate().filter(|(_, column)| *column == name).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (None, _) => Err(input(format!("{shown}: line 1: no column {name}; expected {expected}"))),
            _ => Err(input(format!("{shown}: line 1: two columns are named {name}"))),
        }
    }

    /// Goes to the next record; whether there is one.
    ///
    /// # Errors
    /// Input errors that name the line: another number of cells, no UTF-8.
    pub fn advance(&mut self) -> Result<bool> {
        self.start = self.mark + self.reader.position().byte();
        match self.reader.read_record(&mut self.record) {
            Ok(found) => Ok(found),
            Err(error) => Err(self.refuse(&format!(": {}", describe(&error)))),
        }
    }

    /// The cell of the record at `place`; empty where there is none.
    pub fn cell(&self, place: usize) -> &str {
        self.record.get(place).unwrap_or_default()
    }

    /// An input error about the record, which `problem` follows: `FILE: line 3`.
    pub fn refuse(&mut self, problem: &str) -> anyhow::Error {
        match self.lines.of(self.start) {
            Ok(line) => input(format!("{}: line {line}{problem}", self.path.display())),
            Err(error) => error,
        }
    }
}

/// What is wrong with a record, without the place that the csv crate gives, which is not a line.
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
    fn records_come_one_by_one_and_errors_name_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let open = |text: &str| {
            fs::write(&path, text).unwrap();
            Table::open(&path, "a CSV of numbers", "a,b")
        };
        let mut table = open("\u{feff}b, a\r\n1,2\r\n\r\n3\r\n").unwrap();
        assert_eq!((table.column("a").unwrap(), table.column("b").unwrap()), (1, 0));
        assert!(table.column("c").unwrap_err().to_string().ends_with("x.csv: line 1: no column c; expected a,b"));
        assert!(table.advance().unwrap());
        assert_eq!((table.cell(1), table.cell(2)), ("2", ""));
        assert!(table.refuse(", column a: odd").to_string().ends_with("x.csv: line 2, column a: odd"));
        assert!(table.advance().unwrap_err().to_string().ends_with("x.csv: line 4: 1 fields; the header has 2"));
        assert!(!open("a\n").unwrap().advance().unwrap());
        let message = |text: &str| open(text).err().unwrap().to_string();
        assert!(message("").ends_with("x.csv: is empty; expected a CSV with the columns a,b"));
        assert!(open("a,b,a\n").unwrap().column("a").unwrap_err().to_string().contains("two columns are named a"));
    }
}
