//! Recognizes what a file is by its first bytes, so that an archive is opened and anything that is
//! not a CSV is named.

use std::path::Path;

use crate::util::text::shell_quoted;

/// Bytes of a file that [`FileKind::detect`] needs: tar's magic number is at byte 257.
pub const PREFIX: usize = 512;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Text in UTF-8, or in an encoding that extends ASCII.
    Text,
    /// Text in UTF-16, with or without a byte order mark.
    Utf16 { little_endian: bool },
    /// gzip: RFC 1952.
    Gzip,
    /// A zip archive.
    Zip,
    /// Anything else.
    Foreign(Foreign),
}

/// A file that is not a CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// What it is, such as `a PNG image`.
    pub what: &'static str,
    advice: Advice,
}

/// How to get a CSV from a [`Foreign`] file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advice {
    /// Nothing better than naming what is read.
    None,
    /// Decompress or extract it with this command.
    Command(&'static str),
    /// Any other action.
    Action(&'static str),
}

/// Magic numbers: offset, bytes, what the file is, and what to do.
const MAGIC: &[(usize, &[u8], &str, Advice)] = &[
    (0, b"\x89FACES\r\n", "a packed file of images", Advice::Action("give its path: it is not read from a pipe")),
    (0, b"\x89PNG", "a PNG image", Advice::Action(PICTURE)),
    (0, b"\xff\xd8\xff", "a JPEG image", Advice::Action(PICTURE)),
    (0, b"GIF8", "a GIF image", Advice::Action(CONVERT)),
    (0, b"II*\0", "a TIFF image", Advice::Action(PICTURE)),
    (0, b"MM\0*", "a TIFF image", Advice::Action(PICTURE)),
    (8, b"WEBP", "a WebP image", Advice::Action(PICTURE)),
    (4, b"ftypheic", "a HEIC image", Advice::Action(CONVERT)),
    (4, b"ftypheix", "a HEIC image", Advice::Action(CONVERT)),
    (4, b"ftypmif1", "a HEIF image", Advice::Action(CONVERT)),
    (4, b"ftypavif", "an AVIF image", Advice::Action(CONVERT)),
    (0, b"%PDF-", "a PDF document", Advice::None),
    (257, b"ustar", Foreign::TAR.what, Foreign::TAR.advice),
    (0, b"\xfd7zXZ\0", "compressed with xz", Advice::Command("xz -dk")),
    (0, b"BZh", "compressed with bzip2", Advice::Command("bzip2 -dk")),
    (0, b"\x28\xb5\x2f\xfd", "compressed with Zstandard", Advice::Command("zstd -d")),
    (0, b"\x04\x22\x4d\x18", "compressed with LZ4", Advice::Command("lz4 -dk")),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", Advice::Command("7z x")),
    (0, b"Rar!\x1a\x07", "a RAR archive", Advice::Command("unrar x")),
    (0, b"\x89HDF\r\n", "an HDF5 file", Advice::None),
    (0, b"\x93NUMPY", "a NumPy array", Advice::None),
    (0, b"PAR1", "a Parquet file", Advice::Action(PANDAS)),
    (0, b"ARROW1", "an Arrow (Feather) file", Advice::Action(PANDAS)),
    (0, b"SQLite format 3\0", "an SQLite database", Advice::None),
    (0, b"\xd0\xcf\x11\xe0", "an Excel workbook", Advice::Action(EXCEL)),
    (0, b"\x7fELF", "a program", Advice::None),
    (0, b"\x80\x02", "a Python pickle", Advice::Action(PANDAS)),
    (0, b"\x80\x03", "a Python pickle", Advice::Action(PANDAS)),
    (0, b"\x80\x04", "a Python pickle", Advice::Action(PANDAS)),
    (0, b"\x80\x05", "a Python pickle", Advice::Action(PANDAS)),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", Advice::Action("run git lfs pull")),
];

/// Advice for pictures.
const PICTURE: &str = "pass it with the ending of its name, such as .png, or from standard input with --faces";

/// Advice for pictures that are not read.
const CONVERT: &str = "convert it to JPEG or PNG";

/// Advice for tables that pandas reads.
const PANDAS: &str = "convert it in Python with DataFrame.to_csv(PATH, index=False)";

/// Advice for spreadsheets.
const EXCEL: &str = "save it as CSV";

impl FileKind {
    /// Detects the kind from the first [`PREFIX`] bytes.
    pub fn detect(prefix: &[u8]) -> Self {
        let has = |offset: usize, magic: &[u8]| prefix.get(offset..).is_some_and(|bytes| bytes.starts_with(magic));
        if has(0, b"\x1f\x8b") {
            return Self::Gzip;
        }
        if has(0, b"PK\x03\x04") || has(0, b"PK\x05\x06") {
            return Self::Zip;
        }
        // Without a mark, ASCII in UTF-16 has a zero in every other byte.
        let zero_at = |index: usize| prefix.get(index) == Some(&0);
        if has(0, b"\xff\xfe\0\0") || has(0, b"\0\0\xfe\xff") {
            return Self::Foreign(Foreign { what: "text in UTF-32", advice: Advice::Action("save it as UTF-8") });
        }
        if has(0, b"\xff\xfe") || (zero_at(1) && zero_at(3) && !zero_at(0) && !zero_at(2)) {
            return Self::Utf16 { little_endian: true };
        }
        if has(0, b"\xfe\xff") || (zero_at(0) && zero_at(2) && !zero_at(1) && !zero_at(3)) {
            return Self::Utf16 { little_endian: false };
        }
        if let Some((.., what, advice)) = MAGIC.iter().find(|(offset, magic, ..)| has(*offset, magic)) {
            return Self::Foreign(Foreign { what, advice: *advice });
        }
        let text = prefix.strip_prefix(b"\xef\xbb\xbf").unwrap_or(prefix);
        let start: Vec<u8> = text.trim_ascii_start().iter().take(14).map(u8::to_ascii_lowercase).collect();
        let foreign = |what| Self::Foreign(Foreign { what, advice: Advice::None });
        if start.starts_with(b"<!doctype html") || start.starts_with(b"<html") {
            let advice = Advice::Action("download the file again: this page may be a login page");
            return Self::Foreign(Foreign { what: "an HTML page", advice });
        }
        match start.as_slice() {
            [b'<', b'?', b'x', b'm', b'l', ..] => foreign("an XML document"),
            [b'{', ..] | [b'[', b'{' | b'[' | b'\n' | b' ', ..] => foreign("a JSON document"),
            _ => Self::Text,
        }
    }
}

impl Foreign {
    /// A tar archive.
    pub const TAR: Self = Self { what: "a tar archive", advice: Advice::Command("tar xf") };

    /// An Excel workbook in the newer format, which is a zip archive.
    pub const WORKBOOK: Self = Self { what: "an Excel workbook", advice: Advice::Action(EXCEL) };

    /// What to do with the file at `path`, or on standard input without one, as the end of a
    /// message: empty or `; ...`.
    pub fn advice(&self, path: Option<&Path>) -> String {
        match (self.advice, path) {
            (Advice::None, _) => String::new(),
            (Advice::Action(action), _) => format!("; {action}"),
            (Advice::Command(command), Some(path)) => format!("; extract it first: {command} {}", shell_quoted(path)),
            (Advice::Command(_), None) => "; extract it first".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_detected_from_the_first_bytes() {
        let foreign = |bytes: &[u8]| match FileKind::detect(bytes) {
            FileKind::Foreign(foreign) => format!("{}{}", foreign.what, foreign.advice(Some(Path::new("a b")))),
            other => panic!("{other:?}"),
        };
        for text in [&b"emotion,pixels\n"[..], b"\xef\xbb\xbfid", b"", b"a", b"emo\xfftion", b"[a],b\n"] {
            assert_eq!(FileKind::detect(text), FileKind::Text, "{text:?}");
        }
        assert_eq!(FileKind::detect(b"\x1f\x8b\x08"), FileKind::Gzip);
        assert_eq!(FileKind::detect(b"PK\x03\x04"), FileKind::Zip);
        for little_endian in [true, false] {
            let encode = |text: &str| -> Vec<u8> {
                text.encode_utf16()
                    .flat_map(|c| if little_endian { c.to_le_bytes() } else { c.to_be_bytes() })
                    .collect()
            };
            for text in ["\u{feff}id", "id,emotion"] {
                assert_eq!(FileKind::detect(&encode(text)), FileKind::Utf16 { little_endian }, "{text:?}");
            }
        }
        assert!(foreign(b"\x89PNG\r\n").starts_with("a PNG image; pass it with the ending of its name"));
        assert_eq!(foreign(b"\0\0\0\x18ftypheic\0"), "a HEIC image; convert it to JPEG or PNG");
        assert_eq!(foreign(b"\xfd7zXZ\0"), "compressed with xz; extract it first: xz -dk 'a b'");
        let tar = [&[b'x'; 257][..], b"ustar"].concat();
        assert_eq!(foreign(&tar), "a tar archive; extract it first: tar xf 'a b'");
        assert_eq!(
            foreign(b"\n <!DOCTYPE html><p>"),
            "an HTML page; download the file again: this page may be a login page"
        );
        assert_eq!(foreign(b"[{\"emotion\": 1}]"), "a JSON document");
        assert_eq!(foreign(b"\xef\xbb\xbf{\"emotion\": 1}"), "a JSON document");
        assert_eq!(foreign(b"\xff\xfe\0\0e\0\0\0"), "text in UTF-32; save it as UTF-8");
        assert_eq!(Foreign::TAR.advice(None), "; extract it first");
        assert!(foreign(b"version https://git-lfs.github.com/spec/v1").ends_with("run git lfs pull"));
    }
}
