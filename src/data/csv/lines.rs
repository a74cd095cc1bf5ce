//! What readers through the csv crate need beside it: a file without its byte order mark, and the line of a record.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Result;
use fs_err as fs;

/// Counts lines of a file up to given places, which may only move forward.
///
/// The csv crate counts line feeds and stops before those that end a record (CRLF) or stand alone (blank lines), so its own
/// numbers are too low. Only bad rows ask, so a good file is never counted.
#[derive(Debug)]
pub struct Lines {
    reader: BufReader<fs::File>,
    /// Bytes counted.
    at: u64,
    /// Line breaks among them: line feeds, and carriage returns without one.
    breaks: u64,
    /// Whether the last of them was a carriage return.
    after_return: bool,
}

impl Lines {
    /// Counts from the beginning of the file.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn new(path: &Path) -> Result<Self> {
        Ok(Self { reader: BufReader::new(fs::File::open(path)?), at: 0, breaks: 0, after_return: false })
    }

    /// The line, from 1, of the record that begins at byte `start` or behind the line breaks that follow there.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn of(&mut self, start: u64) -> Result<u64> {
        loop {
            let block = self.reader.fill_buf()?;
            let mut used = 0;
            for byte in block {
                let is_break = matches!(byte, b'\n' | b'\r');
                if self.at >= start && !is_break {
                    break;
                }
                // The line feed of a pair was counted with its carriage return.
                self.breaks += u64::from(is_break && !(*byte == b'\n' && self.after_return));
                self.after_return = *byte == b'\r';
                self.at += 1;
                used += 1;
            }
            let ended = used < block.len() || block.is_empty();
            self.reader.consume(used);
            if ended {
                return Ok(self.breaks + 1);
            }
        }
    }
}

/// The file from behind a byte order mark, if it has one (the csv crate would take it for part of the first name), and the
/// bytes of the mark.
///
/// # Errors
/// An I/O error.
pub fn without_bom(mut file: std::fs::File) -> Result<(impl Read, u64)> {
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
    fn every_kind_of_line_break_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        fs::write(&path, "a,b\r\n1,2\n\n\r\n3,4\r5,6\n").unwrap();
        let mut lines = Lines::new(&path).unwrap();
        // As the csv crate gives them: right behind the first character of the line break before.
        assert_eq!([0, 4, 9, 14, 18, 19].map(|start| lines.of(start).unwrap()), [1, 2, 5, 5, 6, 7]);
    }
}
