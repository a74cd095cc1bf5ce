//! Chunks of a CSV, one in memory at a time.

use anyhow::Result;

use super::scan::ScanResult;
use super::source::CsvSource;

/// Reads a CSV in the chunks that a scan found. A chunk is whole records, and can be read like a file.
#[derive(Debug)]
pub(super) struct Chunks<'a> {
    source: &'a CsvSource,
    borders: &'a [u64],
    /// Bytes of the file.
    end: u64,
    /// Number of the next chunk.
    next: usize,
    /// The header, then the records of a chunk.
    text: Vec<u8>,
    /// Bytes of the header, with a byte order mark.
    header: usize,
}

/// Records of a CSV.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk<'a> {
    /// The header of the file, then the records.
    pub text: &'a [u8],
    /// Offset of a record in the file, minus its offset in `text`.
    pub shift: u64,
}

impl<'a> Chunks<'a> {
    /// Starts with the first record of `source`.
    ///
    /// # Errors
    /// An I/O error.
    pub fn new(source: &'a CsvSource, scan: &'a ScanResult) -> Result<Self> {
        // A header that no line feed ends is the whole file.
        let length = scan.borders.first().copied().unwrap_or(scan.bytes);
        let mut text = vec![0; usize::try_from(length)?];
        source.read_at(&mut text, 0)?;
        Ok(Self { source, borders: &scan.borders, end: scan.bytes, next: 0, header: text.len(), text })
    }

    /// Reads the next chunk; `None` at the end of the file.
    ///
    /// # Errors
    /// An I/O error.
    pub fn advance(&mut self) -> Result<Option<Chunk<'_>>> {
        let Some(start) = self.borders.get(self.next).copied().filter(|start| *start < self.end) else {
            return Ok(None);
        };
        let end = self.borders.get(self.next + 1).copied().unwrap_or(self.end);
        self.next += 1;
        self.text.resize(self.header + usize::try_from(end - start)?, 0);
        self.source.read_at(self.text.get_mut(self.header..).unwrap_or_default(), start)?;
        Ok(Some(Chunk { text: &self.text, shift: start - self.header as u64 }))
    }
}
