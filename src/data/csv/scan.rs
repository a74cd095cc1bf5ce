//! A first pass over a CSV: bounds the length of records before a reader allocates memory for them,
//! and finds out how fields are quoted.

use std::io::Read;

use anyhow::{Context, Result};

use super::pixels::MIN_CELL_BYTES;
use super::source::CsvSource;
use crate::util::error::input;

/// Maximum length of a record in bytes: about a hundred times a row with an image.
pub const MAX_RECORD: u64 = 1 << 20;

/// Size of the read buffer in bytes.
const BLOCK: usize = 1 << 18;

/// Bytes of a chunk that is read at a time, at least; it ends with the record there.
pub const CHUNK: u64 = 16 << 20;

/// Result of the first pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanResult {
    /// Records that end with a line break, including the header.
    records: u64,
    /// File size in bytes.
    pub bytes: u64,
    /// How fields are quoted.
    pub quoting: Quoting,
    /// Offsets at which chunks of the file begin: after the header, then at the first record at least
    /// a chunk later. Empty if no line feed ends the header.
    pub borders: Vec<u64>,
}

/// How the fields of a CSV are quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Quoting {
    /// No quotes.
    #[default]
    None,
    /// As in RFC 4180: quotes around whole fields, doubled inside them.
    Standard,
    /// Quotes elsewhere, or carriage returns without a line feed, which CSV readers treat
    /// differently.
    Ambiguous,
}

impl ScanResult {
    /// Whether the records are too short on average to contain an image each.
    pub fn too_short_for_images(&self) -> bool {
        self.records.saturating_sub(1).saturating_mul(MIN_CELL_BYTES) > self.bytes
    }
}

/// Scanner state. As in RFC 4180, a quoted field may contain separators, line breaks and doubled
/// quotes.
#[derive(Debug, Default)]
struct Scanner {
    /// Separates fields.
    separator: u8,
    /// Offset of the current block.
    position: u64,
    /// Offset of the current record.
    start: u64,
    /// Line breaks so far.
    lines: u64,
    /// Line breaks before the current record.
    lines_before: u64,
    records: u64,
    /// Whether a quoted field is open.
    quoted: bool,
    /// Offset of the last closing quote. Another quote right after it is a doubled quote and
    /// reopens the field.
    closed: Option<u64>,
    /// The last byte of the previous block.
    last: u8,
    /// Offset of the last carriage return, until the next special byte.
    last_return: Option<u64>,
    quoting: Quoting,
    /// Bytes of a chunk, at least.
    chunk: u64,
    /// See [`ScanResult::borders`].
    borders: Vec<u64>,
}

impl Scanner {
    /// Scans the next block; returns `false` if a record is too long.
    fn scan_block(&mut self, block: &[u8]) -> bool {
        if self.closed.is_some_and(|at| at + 1 == self.position) {
            self.check_after_quote(block.first());
        }
        for index in memchr::memchr3_iter(b'\n', b'"', b'\r', block) {
            let here = self.position + index as u64;
            let byte = block.get(index).copied().unwrap_or_default();
            let returned = self.last_return.take();
            let is_pair = byte == b'\n' && returned.is_some_and(|at| at + 1 == here);
            if returned.is_some() && !is_pair {
                self.quoting = Quoting::Ambiguous;
            }
            if byte == b'\r' {
                self.last_return = Some(here);
            }
            if is_pair {
                // The carriage return before has ended the record.
                self.start = if self.quoted { self.start } else { here + 1 };
                self.add_border(here);
            } else if matches!(byte, b'\r' | b'\n') {
                self.lines += 1;
                if !self.quoted {
                    if here - self.start > MAX_RECORD {
                        return false;
                    }
                    self.records += 1;
                    (self.start, self.lines_before) = (here + 1, self.lines);
                    // After a carriage return, a line feed may follow.
                    if byte == b'\n' {
                        self.add_border(here);
                    }
                }
            } else if self.quoted {
                (self.quoted, self.closed) = (false, Some(here));
                self.check_after_quote(block.get(index + 1));
            } else {
                // Only at the start of a field does a quote open it; elsewhere it is an ordinary
                // character.
                let before = index.checked_sub(1).and_then(|before| block.get(before)).copied().unwrap_or(self.last);
                self.quoted =
                    here == self.start || before == self.separator || self.closed.is_some_and(|at| at + 1 == here);
                self.quoting = self.quoting.max(if self.quoted { Quoting::Standard } else { Quoting::Ambiguous });
            }
        }
        self.last = block.last().copied().unwrap_or(self.last);
        self.position += block.len() as u64;
        self.position - self.start <= MAX_RECORD
    }

    /// Begins a chunk after the line feed at offset `here`, unless a quoted field is open or the chunk
    /// before is still small.
    fn add_border(&mut self, here: u64) {
        if !self.quoted && self.borders.last().is_none_or(|last| here + 1 - last >= self.chunk) {
            self.borders.push(here + 1);
        }
    }

    /// Checks that a closing quote is followed by a separator or another quote. `None` means that
    /// the next byte is in the next block.
    fn check_after_quote(&mut self, next: Option<&u8>) {
        if next.is_some_and(|byte| *byte != self.separator && !matches!(byte, b'"' | b'\r' | b'\n')) {
            self.quoting = Quoting::Ambiguous;
        }
    }
}

/// Scans a CSV with this separator, in a fraction of the time that parsing takes, and divides it into
/// chunks of at least `chunk` bytes.
///
/// # Errors
/// An input error with the line at which a record longer than 1 MiB starts.
pub fn scan_source(source: &CsvSource, separator: u8, chunk: u64) -> Result<ScanResult> {
    scan(&mut source.reader(), separator, chunk, source.name())
}

fn scan(file: &mut impl Read, separator: u8, chunk: u64, name: &str) -> Result<ScanResult> {
    let mut scanner = Scanner { separator, chunk, ..Scanner::default() };
    let mut block = vec![0; BLOCK];
    loop {
        let read = file.read(&mut block).with_context(|| format!("{name}: cannot be read"))?;
        let Some(bytes) = block.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        if !scanner.scan_block(bytes) {
            let why = if scanner.quoted { " (unclosed quote)" } else { "" };
            let line = scanner.lines_before + 1;
            return Err(input(format!(
                "{name}: line {line} is longer than {MAX_RECORD} bytes{why}; expected a CSV with one row per line"
            )));
        }
    }
    // Polars ignores the empty field after a separator at the end of the file.
    let open = scanner.quoted || scanner.last_return.is_some() || scanner.last == separator;
    let quoting = if open { Quoting::Ambiguous } else { scanner.quoting };
    Ok(ScanResult { records: scanner.records, bytes: scanner.position, quoting, borders: scanner.borders })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan_text(text: &[u8]) -> Result<ScanResult> {
        // Short reads of a prime length, so that blocks end anywhere.
        struct ShortReads<'a>(&'a [u8]);
        impl Read for ShortReads<'_> {
            fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
                let length = to.len().min(7919);
                self.0.read(&mut to[..length])
            }
        }
        scan(&mut ShortReads(text), b',', 10, "x.csv")
    }

    #[test]
    fn chunks_begin_after_records() {
        let borders = |text: &str| scan_text(text.as_bytes()).unwrap().borders;
        assert!(borders("a,b").is_empty());
        assert_eq!(borders("a,b\n1,2\n3,4\n5,6\n7,8\n"), [4, 16], "at least 10 bytes");
        assert_eq!(borders("a,b\r\n12,34\r\n56,78\r\n9,0\r\n"), [5, 19], "after the line feed of a pair");
        assert_eq!(borders("a,b\n1,\"x\n\n\n\n\n\n\n\n\ny\"\n3,4\n"), [4, 20], "not within quotes");
    }

    #[test]
    fn records_are_counted_as_by_a_csv_reader() {
        let records = |text: &str| scan_text(text.as_bytes()).unwrap().records;
        assert_eq!(records(""), 0);
        assert_eq!(records("a,b\n1,2\n3,4"), 2);
        assert_eq!(records("a,b\r\n\"1\n2\",\"x \"\"y\"\" z\"\r\n3,4\n"), 3);
        assert_eq!(records("a,b\n5\" screen,2\n\"\",4\n"), 3, "a quote inside a field does not open it");
        assert_eq!(records("a,b\nx\"\"y,2\n3,4\n"), 3);
    }

    #[test]
    fn quoting_is_ambiguous_where_csv_readers_differ() {
        let quoting = |text: &str| scan_text(text.as_bytes()).unwrap().quoting;
        assert_eq!(quoting("a,b\r\n1,2\r\n"), Quoting::None);
        assert_eq!(quoting("a,b\n\"1\",\"x \"\"y\"\"\"\r\n"), Quoting::Standard);
        for text in ["a,b\n5\" screen,2\n", "a,b\n\"1\" ,2\n", "a,b\n\"1,2\n", "a,b\r1,2\r", "a,b\n1,"] {
            assert_eq!(quoting(text), Quoting::Ambiguous, "{text:?}");
        }
    }

    #[test]
    fn error_names_the_first_line_of_a_long_record() {
        let long = MAX_RECORD as usize;
        let message = |text: String| scan_text(text.as_bytes()).unwrap_err().to_string();
        let fine = format!("a,b\n{}\n{}", "x".repeat(long), "y".repeat(long));
        assert!(scan_text(fine.as_bytes()).is_ok());
        let text = message(format!("a,b\n\"1\n2\",3\n{}\n4,5\n", "x".repeat(long + 1)));
        assert!(text.contains("x.csv: line 4 is longer than 1048576 bytes; expected a CSV"), "{text}");
        let text = message(format!("a,b\n\"1,2\n{}", "3,4\n".repeat(long / 4)));
        assert!(text.contains("line 2 is longer than 1048576 bytes (unclosed quote)"), "{text}");
    }

    #[test]
    fn detects_rows_too_short_for_images() {
        assert!(scan_text("emotion,pixels\n1,2\n".repeat(9).as_bytes()).unwrap().too_short_for_images());
        let image = vec!["0"; 2304].join(" ");
        assert!(!scan_text(format!("pixels\n{image}\n{image}\n").as_bytes()).unwrap().too_short_for_images());
    }
}
