//! Additions to the csv crate: line numbers of records, and files without their byte order mark.

use std::io::{BufRead, BufReader, Read};

use anyhow::Result;

use super::source::{CsvSource, SourceReader};

/// Converts byte offsets of a file to line numbers. Offsets must not decrease.
///
/// The csv crate's own line numbers are too low: it counts line feeds only, and not those of CRLF
/// record ends and blank lines before a record. Only bad rows need a line, so valid files are never
/// counted.
#[derive(Debug)]
pub struct LineCounter {
    reader: BufReader<SourceReader>,
    /// Bytes read so far.
    position: u64,
    /// Line breaks so far: LF, CRLF or CR.
    breaks: u64,
    /// Whether the last byte was a carriage return.
    after_return: bool,
}

impl LineCounter {
    /// Starts at the first line of the text.
    pub fn new(source: &CsvSource) -> Self {
        Self { reader: BufReader::new(source.reader()), position: 0, breaks: 0, after_return: false }
    }

    /// The line, from 1, of the record at byte `start`. Line breaks at `start` are skipped.
    pub fn line_at(&mut self, start: u64) -> Result<u64> {
        loop {
            let block = self.reader.fill_buf()?;
            let mut used = 0;
            for byte in block {
                let is_break = matches!(byte, b'\n' | b'\r');
                if self.position >= start && !is_break {
                    break;
                }
                // CRLF was counted at its CR.
                self.breaks += u64::from(is_break && !(*byte == b'\n' && self.after_return));
                self.after_return = *byte == b'\r';
                self.position += 1;
                used += 1;
            }
            let found = used < block.len() || block.is_empty();
            self.reader.consume(used);
            if found {
                return Ok(self.breaks + 1);
            }
        }
    }
}

/// Skips a byte order mark, which the csv crate would read as part of the first column name.
/// Returns the rest of the file and the length of the mark in bytes.
pub fn without_bom(mut file: impl Read) -> Result<(impl Read, u64)> {
    let mut start = Vec::new();
    file.by_ref().take(3).read_to_end(&mut start)?;
    let mark = start == b"\xef\xbb\xbf";
    if mark {
        start.clear();
    }
    Ok((std::io::Cursor::new(start).chain(file), if mark { 3 } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lf_crlf_and_cr_each_count_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        fs_err::write(&path, "a,b\r\n1,2\n\n\r\n3,4\r5,6\n").unwrap();
        let mut lines = LineCounter::new(&CsvSource::open(&path, "a CSV", &|_| Ok(())).unwrap());
        // The csv crate's offsets: right after the first character of the preceding line break.
        assert_eq!([0, 4, 9, 14, 18, 19].map(|start| lines.line_at(start).unwrap()), [1, 2, 5, 5, 6, 7]);
    }
}
