//! A first look at a CSV: that no record is absurdly long, before a reader takes memory for it.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;

use super::pixels::MIN_CELL;
use crate::util::error::input;

/// Bytes of the longest record that is read: a hundred times a row of an image.
const MAX_RECORD: u64 = 1 << 20;

/// Bytes read at a time.
const BLOCK: usize = 1 << 18;

/// What the first look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Records that end with a line break, the header among them.
    records: u64,
    /// Bytes of the file.
    bytes: u64,
    /// How fields are quoted.
    pub quoting: Quoting,
}

/// How the fields of a CSV are quoted, and whether readers agree on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Quoting {
    /// There is no quote in the file.
    #[default]
    None,
    /// Quotes stand around whole fields, and are doubled within.
    Regular,
    /// There are quotes elsewhere, or carriage returns without a line feed behind: each reader makes something else of those.
    Odd,
}

impl Bounds {
    /// Whether the records are too short on average for every one to hold an image.
    pub fn too_short_for_images(&self) -> bool {
        self.records.saturating_sub(1).saturating_mul(MIN_CELL) > self.bytes
    }
}

/// Where the scan is, in the terms of RFC 4180: a quoted field may hold commas, line breaks and doubled quotes.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes before the block that is looked at.
    position: u64,
    /// Where the record begins.
    start: u64,
    /// Line breaks so far, and how many of them before the record.
    lines: u64,
    lines_before: u64,
    records: u64,
    /// Whether a quoted field is open.
    quoted: bool,
    /// Where the last quoted field was closed: a quote right behind opens it again, for the two are one doubled quote.
    closed: Option<u64>,
    /// The last byte of the block before.
    last: u8,
    /// Where the last carriage return was, while nothing is behind it.
    returned: Option<u64>,
    quoting: Quoting,
}

impl Scan {
    /// Looks at the next bytes; whether no record is too long.
    fn take(&mut self, block: &[u8]) -> bool {
        if self.closed.is_some_and(|at| at + 1 == self.position) {
            self.look_behind_quote(block.first());
        }
        for place in memchr::memchr3_iter(b'\n', b'"', b'\r', block) {
            let here = self.position + place as u64;
            let byte = block.get(place).copied().unwrap_or_default();
            if self.returned.take().is_some_and(|at| at + 1 != here || byte != b'\n') {
                self.quoting = Quoting::Odd;
            }
            if byte == b'\r' {
                self.returned = Some(here);
            } else if byte == b'\n' {
                self.lines += 1;
                if !self.quoted {
                    if here - self.start > MAX_RECORD {
                        return false;
                    }
                    self.records += 1;
                    (self.start, self.lines_before) = (here + 1, self.lines);
                }
            } else if self.quoted {
                (self.quoted, self.closed) = (false, Some(here));
                self.look_behind_quote(block.get(place + 1));
            } else {
                // Elsewhere than at the beginning of a field a quote is a character like any other.
                let before = place.checked_sub(1).and_then(|before| block.get(before)).copied().unwrap_or(self.last);
                self.quoted = here == self.start || before == b',' || self.closed.is_some_and(|at| at + 1 == here);
                self.quoting = self.quoting.max(if self.quoted { Quoting::Regular } else { Quoting::Odd });
            }
        }
        self.last = block.last().copied().unwrap_or(self.last);
        self.position += block.len() as u64;
        self.position - self.start <= MAX_RECORD
    }

    /// Behind a quoted field its separator stands, or a quote that makes it one doubled quote. (`None`: it is not known yet.)
    fn look_behind_quote(&mut self, next: Option<&u8>) {
        if next.is_some_and(|byte| !matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
            self.quoting = Quoting::Odd;
        }
    }
}

/// Looks through the file at `path`; takes a fraction of the time of reading it.
///
/// # Errors
/// An input error that names the line on which a record of more than 1 MiB begins.
pub fn check(path: &Path) -> Result<Bounds> {
    let mut file = fs::File::open(path)?;
    scan(&mut file, path)
}

fn scan(file: &mut impl Read, path: &Path) -> Result<Bounds> {
    let mut scan = Scan::default();
    let mut block = vec![0; BLOCK];
    loop {
        let read = file.read(&mut block).with_context(|| format!("{}: cannot be read", path.display()))?;
        let Some(bytes) = block.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        if !scan.take(bytes) {
            let why = if scan.quoted { " (a quote in it is not closed)" } else { "" };
            let (shown, line) = (path.display(), scan.lines_before + 1);
            return Err(input(format!(
                "{shown}: line {line} is over {MAX_RECORD} bytes long{why}; expected a CSV with one row a line"
            )));
        }
    }
    // (Behind a comma at the end there is a last, empty field, which polars does not see.)
    let open = scan.quoted || scan.returned.is_some() || scan.last == b',';
    let quoting = if open { Quoting::Odd } else { scan.quoting };
    Ok(Bounds { records: scan.records, bytes: scan.position, quoting })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &[u8]) -> Result<Bounds> {
        // In small and odd pieces: a read may end anywhere.
        struct Pieces<'a>(&'a [u8]);
        impl Read for Pieces<'_> {
            fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
                let length = to.len().min(7919);
                self.0.read(&mut to[..length])
            }
        }
        scan(&mut Pieces(text), Path::new("x.csv"))
    }

    #[test]
    fn records_are_counted_as_a_reader_of_csv_would() {
        let records = |text: &str| look(text.as_bytes()).unwrap().records;
        assert_eq!(records(""), 0);
        assert_eq!(records("a,b\n1,2\n3,4"), 2);
        assert_eq!(records("a,b\r\n\"1\n2\",\"x \"\"y\"\" z\"\r\n3,4\n"), 3);
        assert_eq!(records("a,b\n5\" screen,2\n\"\",4\n"), 3, "a quote within a field opens nothing");
        assert_eq!(records("a,b\nx\"\"y,2\n3,4\n"), 3);
    }

    #[test]
    fn quoting_is_odd_where_readers_of_csv_differ() {
        let quoting = |text: &str| look(text.as_bytes()).unwrap().quoting;
        assert_eq!(quoting("a,b\r\n1,2\r\n"), Quoting::None);
        assert_eq!(quoting("a,b\n\"1\",\"x \"\"y\"\"\"\r\n"), Quoting::Regular);
        for odd in ["a,b\n5\" screen,2\n", "a,b\n\"1\" ,2\n", "a,b\n\"1,2\n", "a,b\r1,2\r", "a,b\n1,"] {
            assert_eq!(quoting(odd), Quoting::Odd, "{odd:?}");
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_named_by_the_line_it_begins_on() {
        let long = MAX_RECORD as usize;
        let message = |text: String| look(text.as_bytes()).unwrap_err().to_string();
        let fine = format!("a,b\n{}\n{}", "x".repeat(long), "y".repeat(long));
        assert!(look(fine.as_bytes()).is_ok());
        let text = message(format!("a,b\n\"1\n2\",3\n{}\n4,5\n", "x".repeat(long + 1)));
        assert!(text.contains("x.csv: line 4 is over 1048576 bytes long; expected a CSV"), "{text}");
        let text = message(format!("a,b\n\"1,2\n{}", "3,4\n".repeat(long / 4)));
        assert!(text.contains("line 2 is over 1048576 bytes long (a quote in it is not closed)"), "{text}");
    }

    #[test]
    fn rows_too_short_for_images_are_known() {
        assert!(look("emotion,pixels\n1,2\n".repeat(9).as_bytes()).unwrap().too_short_for_images());
        let image = vec!["0"; 2304].join(" ");
        assert!(!look(format!("pixels\n{image}\n{image}\n").as_bytes()).unwrap().too_short_for_images());
    }
}
