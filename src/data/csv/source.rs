//! Opens a CSV however it is stored: plain, gzip, a zip with one CSV, UTF-16, a pipe, or standard
//! input.
//!
//! Whatever is not a plain file is decoded into a temporary file first, so that all readers can read
//! it several times. On Linux it has no name, and the system removes it also when the process is
//! killed.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use encoding_rs_io::DecodeReaderBytesBuilder;
use flate2::read::MultiGzDecoder;

use super::file_kind::{FileKind, Foreign, PREFIX};
use super::scan::MAX_RECORD;
use crate::util::error::input;
use crate::util::files::{input_name, is_standard_input, open_input};
use crate::util::text::shell_quoted;

/// Maximum bytes of decoded text.
const MAX_DECODED: u64 = 64 << 30;

/// How many times its size a compressed file may expand to, above [`MAX_SMALL`]. Images of faces
/// expand about four times, blank ones a thousand times.
const MAX_EXPANSION: u64 = 200;

/// Bytes that a compressed file of any size may expand to.
const MAX_SMALL: u64 = 1 << 30;

/// Bytes decoded at a time.
const BLOCK: usize = 1 << 18;

/// The text of a CSV, in a file that can be read several times.
#[derive(Debug, Clone)]
pub struct CsvSource {
    /// As in messages: the path, `standard input`, or `archive.zip/name.csv`.
    name: String,
    file: Arc<File>,
}

/// Reads a [`CsvSource`] from its start, independently of other readers.
#[derive(Debug)]
pub struct SourceReader {
    file: Arc<File>,
    position: u64,
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl CsvSource {
    /// Opens the file at `path`, or standard input for `-`. `what` describes the expected file for
    /// messages, such as `a CSV file of images`. A long text that has to be stored is passed to
    /// `check` when its beginning is there: an error there saves storing the rest.
    ///
    /// # Errors
    /// Input errors: no such file, a folder, a file of another kind (named), an archive without or
    /// with several CSVs, a corrupt archive, one that expands too much. An I/O error if the decoded
    /// text cannot be stored. Those of `check`.
    pub fn open(path: &Path, what: &str, check: &dyn Fn(&Self) -> Result<()>) -> Result<Self> {
        let name = input_name(path).display().to_string();
        let mut opened = Opened { name, path: path.to_path_buf(), what, check, compression: None, limit: MAX_DECODED };
        if is_standard_input(path) {
            return opened.read_stream(std::io::stdin().lock());
        }
        let file = open_input(path, what)?;
        if !file.metadata()?.is_file() {
            return opened.read_stream(file);
        }
        opened.read_file(file)
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fills `buffer` with the bytes from offset `start`.
    ///
    /// # Errors
    /// An error with the name of the file; also if it ends before, because it has been changed.
    pub fn read_at(&self, buffer: &mut [u8], start: u64) -> Result<()> {
        self.file.read_exact_at(buffer, start).with_context(|| format!("{}: cannot be read", self.name))
    }

    /// A reader of the text, from its start.
    pub fn reader(&self) -> SourceReader {
        SourceReader { file: Arc::clone(&self.file), position: 0 }
    }
}

/// A file that is being opened.
pub(super) struct Opened<'a> {
    /// As in messages.
    pub(super) name: String,
    path: PathBuf,
    /// What is expected, for messages.
    pub(super) what: &'a str,
    check: &'a dyn Fn(&CsvSource) -> Result<()>,
    /// How the text that is being read is compressed, such as `gzip-compressed`.
    compression: Option<&'static str>,
    /// Maximum bytes of its text.
    limit: u64,
}

impl Opened<'_> {
    /// Reads a file that is not a regular one. An archive needs to be seekable, so it is stored
    /// before it is opened.
    fn read_stream(&mut self, mut stream: impl Read) -> Result<CsvSource> {
        let prefix = self.prefix(&mut stream)?;
        let is_compressed = matches!(FileKind::detect(&prefix), FileKind::Zip | FileKind::Gzip);
        let stored = self.store(Cursor::new(prefix).chain(stream), !is_compressed)?;
        self.read_file(stored)
    }

    fn read_file(&mut self, mut file: File) -> Result<CsvSource> {
        let prefix = self.prefix(&mut file)?;
        file.seek(SeekFrom::Start(0))?;
        match FileKind::detect(&prefix) {
            FileKind::Text => Ok(CsvSource { name: self.name.clone(), file: Arc::new(file) }),
            FileKind::Gzip => {
                let size = file.metadata()?.len();
                self.read_compressed(MultiGzDecoder::new(BufReader::new(file)), size, "gzip-compressed")
            }
            FileKind::Zip => self.read_zip(file),
            FileKind::Utf16 { little_endian } => {
                let file = self.store(utf16_to_utf8(file, little_endian), true)?;
                Ok(CsvSource { name: self.name.clone(), file: Arc::new(file) })
            }
            FileKind::Foreign(foreign) => Err(self.foreign(foreign)),
        }
    }

    /// Decodes the only file of a compressed one of `size` bytes.
    pub(super) fn read_compressed(&mut self, mut reader: impl Read, size: u64, how: &'static str) -> Result<CsvSource> {
        self.compression = Some(how);
        self.limit = size.saturating_mul(MAX_EXPANSION).clamp(MAX_SMALL, MAX_DECODED);
        let prefix = self.prefix(&mut reader)?;
        let whole = Cursor::new(prefix.clone()).chain(reader);
        let file = match FileKind::detect(&prefix) {
            FileKind::Text => self.store(whole, true)?,
            FileKind::Utf16 { little_endian } => self.store(utf16_to_utf8(whole, little_endian), true)?,
            FileKind::Gzip | FileKind::Zip => {
                let (name, what) = (&self.name, self.what);
                return Err(input(format!("{name}: is {how} twice; expected {what}; decompress it once")));
            }
            FileKind::Foreign(Foreign::TAR) => {
                let (name, what, advice) = (&self.name, self.what, Foreign::TAR.advice(self.file_path()));
                return Err(input(format!("{name}: is a compressed tar archive; expected {what}{advice}")));
            }
            FileKind::Foreign(foreign) => {
                let (name, what) = (&self.name, self.what);
                return Err(input(format!("{name}: is {how} and holds {}; expected {what}", foreign.what)));
            }
        };
        Ok(CsvSource { name: self.name.clone(), file: Arc::new(file) })
    }

    pub(super) fn foreign(&self, foreign: Foreign) -> anyhow::Error {
        let (name, what) = (&self.name, self.what);
        input(format!("{name}: is {}; expected {what}{}", foreign.what, foreign.advice(self.file_path())))
    }

    fn too_long(&self) -> anyhow::Error {
        let (name, limit) = (&self.name, self.limit >> 30);
        input(match self.compression {
            Some(how) if self.limit < MAX_DECODED => format!(
                "{name}: is {how} and expands to more than {limit} GiB, over {MAX_EXPANSION} times its size; expected \
                 {}; if it is one, decompress it first",
                self.what
            ),
            _ => format!("{name}: more than {limit} GiB of text; split the file"),
        })
    }

    /// The path of the file, for a command in a message; `None` if it is standard input.
    pub(super) fn file_path(&self) -> Option<&Path> {
        (!is_standard_input(&self.path)).then_some(self.path.as_path())
    }

    /// The first bytes of `reader`.
    fn prefix(&self, reader: &mut impl Read) -> Result<Vec<u8>> {
        let mut prefix = Vec::new();
        reader.by_ref().take(PREFIX as u64).read_to_end(&mut prefix).map_err(|error| self.unreadable(&error))?;
        Ok(prefix)
    }

    fn unreadable(&self, error: &std::io::Error) -> anyhow::Error {
        let name = &self.name;
        input(match self.compression {
            Some(how)
                if error.kind() == std::io::ErrorKind::Unsupported || error.to_string().contains("not supported") =>
            {
                let unzip = self.file_path().map_or_else(String::new, |path| format!(": unzip {}", shell_quoted(path)));
                format!("{name}: is {how} in a way that is not read directly: {error}; extract it first{unzip}")
            }
            Some(how) => {
                format!("{name}: is {how} and cannot be decompressed: {error}; download or create it again")
            }
            None => format!("{name}: cannot be read: {error}"),
        })
    }

    /// Copies `reader` to a temporary file. Text ends early after a line that is too long for any
    /// reader: the scan of the file reports it.
    fn store(&self, mut reader: impl Read, is_text: bool) -> Result<File> {
        let folder = std::env::temp_dir();
        let full = || format!("{}: cannot be decoded into the temporary folder {}", self.name, folder.display());
        let mut file = tempfile::tempfile().with_context(full)?;
        let mut is_checked = !is_text;
        let mut block = vec![0; BLOCK];
        let (mut total, mut line) = (0u64, 0u64);
        loop {
            let count = match reader.read(&mut block) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| self.unreadable(&error))?,
            };
            let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            file.write_all(bytes).with_context(full)?;
            total += count as u64;
            if total > self.limit {
                return Err(self.too_long());
            }
            if !is_checked && total > MAX_RECORD {
                (self.check)(&CsvSource { name: self.name.clone(), file: Arc::new(file.try_clone()?) })?;
                is_checked = true;
            }
            line = match memchr::memrchr2(b'\n', b'\r', bytes) {
                Some(end) => (count - end) as u64,
                None => line + count as u64,
            };
            if is_text && line > 2 * MAX_RECORD {
                // A corrupt archive may look like this; its checksum is at its end.
                if self.compression.is_some() {
                    std::io::copy(&mut reader.take(self.limit), &mut std::io::sink())
                        .map_err(|error| self.unreadable(&error))?;
                }
                break;
            }
        }
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }
}

/// Decodes UTF-16 and removes its byte order mark.
fn utf16_to_utf8(reader: impl Read, little_endian: bool) -> impl Read {
    let encoding = if little_endian { encoding_rs::UTF_16LE } else { encoding_rs::UTF_16BE };
    DecodeReaderBytesBuilder::new().encoding(Some(encoding)).bom_override(true).build(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "emotion,pixels\n3,1 2 3\n";
    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in files {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn utf16(text: &str, little_endian: bool) -> Vec<u8> {
        text.encode_utf16().flat_map(|c| if little_endian { c.to_le_bytes() } else { c.to_be_bytes() }).collect()
    }

    fn open(bytes: &[u8]) -> Result<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        fs_err::write(&path, bytes).unwrap();
        let source = CsvSource::open(&path, "a CSV file of images", &|_| Ok(()))?;
        let mut text = String::new();
        source.reader().read_to_string(&mut text).unwrap();
        let mut part = vec![0; text.len() - text.len() / 2];
        source.read_at(&mut part, text.len() as u64 / 2).unwrap();
        assert_eq!(text.as_bytes()[text.len() / 2..], part, "the second half");
        Ok((text, source.name().rsplit_once("x.bin").unwrap().1.to_owned()))
    }

    #[test]
    fn archives_and_encodings_give_the_same_text() {
        let marked = format!("\u{feff}{TEXT}");
        let two_members = [gzip(b"emotion,pixels\n"), gzip(b"3,1 2 3\n")].concat();
        for (what, bytes, name) in [
            ("plain", TEXT.as_bytes().to_vec(), ""),
            ("gzip", gzip(TEXT.as_bytes()), ""),
            ("gzip of several members", two_members, ""),
            ("UTF-16LE", utf16(&marked, true), ""),
            ("UTF-16BE", utf16(&marked, false), ""),
            ("UTF-16 without a mark", utf16(TEXT, true), ""),
            ("gzip of UTF-16", gzip(&utf16(&marked, true)), ""),
            (
                "zip",
                zip_of(&[("__MACOSX/._a.csv", b"x"), ("fer/a.csv", TEXT.as_bytes()), ("README.txt", b"x")]),
                "/fer/a.csv",
            ),
        ] {
            assert_eq!(open(&bytes).unwrap(), (TEXT.to_owned(), name.to_owned()), "{what}");
        }
        assert_eq!(open(b"").unwrap().0, "");
    }

    #[test]
    fn other_files_are_named() {
        let truncated = gzip(&TEXT.repeat(10_000).into_bytes());
        let mut encrypted = zip_of(&[("a.csv", b"a,b")]);
        for (signature, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
            let header = encrypted.windows(4).position(|bytes| bytes == signature).unwrap();
            encrypted[header + flags] |= 1;
        }
        let mut corrupt = zip_of(&[("a.csv", &vec![b'7'; 5 << 20])]);
        let crc = corrupt.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap() + 16;
        corrupt[crc] ^= 1;
        let tar = [&[b'x'; 257][..], b"ustar", &[0; 300]].concat();
        for (bytes, expected) in [
            (b"\x89PNG\r\n\x1a\n".to_vec(), "x.bin: is a PNG image; expected a CSV file of images"),
            (
                zip_of(&[("train.csv", b"a"), ("test.csv", b"b")]),
                "a zip archive with 2 CSVs: \"train.csv\", \"test.csv\"; ",
            ),
            (zip_of(&[("train/angry/1.jpg", b"a")]), "a zip archive without a CSV; it holds \"train/angry/1.jpg\""),
            (
                encrypted,
                "is a zip archive that cannot be read directly: Password required to decrypt file; extract it first: unzip ",
            ),
            (zip_of(&[("[Content_Types].xml", b"a"), ("xl/workbook.xml", b"")]), "is an Excel workbook; expected"),
            (zip_of(&[]), "it holds nothing"),
            (b"PK\x03\x04 and then nothing".to_vec(), "is a zip archive that cannot be read"),
            (zip_of(&[("a.csv", &gzip(b"a,b"))]), "x.bin/a.csv: is zip-compressed twice"),
            (gzip(&tar), "is a compressed tar archive; expected a CSV file of images; extract it first: tar xf"),
            (gzip(b"\x89PNG"), "is gzip-compressed and holds a PNG image"),
            (corrupt, "x.bin/a.csv: is zip-compressed and cannot be decompressed: "),
            (truncated[..truncated.len() / 2].to_vec(), "x.bin: is gzip-compressed and cannot be decompressed: "),
        ] {
            let message = format!("{:#}", open(&bytes).unwrap_err());
            assert!(message.contains(expected), "{expected:?} is not in {message:?}");
            assert!(crate::util::error::is_input(&open(&bytes).unwrap_err()), "{message}");
        }
    }

    fn opened<'a>(
        check: &'a dyn Fn(&CsvSource) -> Result<()>,
        compression: Option<&'static str>,
        limit: u64,
    ) -> Opened<'a> {
        Opened { name: "x".into(), path: "x".into(), what: "a CSV", check, compression, limit }
    }

    #[test]
    fn a_stream_of_something_else_is_refused_early() {
        let message = |check: &dyn Fn(&CsvSource) -> Result<()>| {
            let read = opened(check, None, 3 * MAX_RECORD).read_stream(std::io::repeat(b'\n'));
            read.unwrap_err().to_string()
        };
        let first = |source: &CsvSource| {
            let mut byte = [0];
            source.reader().read_exact(&mut byte)?;
            assert!(source.file.metadata()?.len() < 2 * MAX_RECORD);
            Err(input(format!("begins with {byte:?}")))
        };
        assert_eq!(message(&first), "begins with [10]");
        assert_eq!(message(&|_| Ok(())), "x: more than 0 GiB of text; split the file");
    }

    #[test]
    fn an_archive_that_expands_too_much_is_refused() {
        let bomb = gzip(&b"0\n".repeat(1 << 20));
        let message = opened(&|_| Ok(()), Some("gzip-compressed"), 1 << 20).store(MultiGzDecoder::new(&bomb[..]), true);
        let message = message.unwrap_err().to_string();
        assert!(message.contains("expands to more than 0 GiB, over 200 times its size; expected a CSV"), "{message}");
    }

    #[test]
    fn a_line_without_end_stops_early() {
        let bomb = gzip(&vec![b'7'; 64 << 20]);
        assert!(bomb.len() < 1 << 20);
        let text = open(&bomb).unwrap().0;
        assert!((2 * MAX_RECORD as usize..(3 * MAX_RECORD) as usize).contains(&text.len()), "{}", text.len());
    }
}
