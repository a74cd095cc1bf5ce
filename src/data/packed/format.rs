//! The preamble and the index of a packed file.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::data::config::check_classes;
use crate::data::images::PIXELS;

/// The first bytes of a packed file. As in PNG, a transfer as text changes them.
pub const MAGIC: [u8; 8] = *b"\x89FACES\r\n";

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Bytes of the preamble: the magic bytes, version, length and offset of the index, length of the
/// file, and the BLAKE3 hash of these and of the index.
const PREAMBLE: usize = 64;

/// Bytes of the preamble before its checksum.
const FIELDS: usize = 32;

/// Offset of the first section, a page.
pub const FIRST_SECTION: u64 = 4096;

/// Sections begin at multiples of this.
pub const ALIGNMENT: u64 = 64;

/// Maximum bytes of the index.
const MAX_INDEX: u32 = 1 << 20;

/// What a section holds, for N images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// uint8 [N, 48, 48], row-major.
    Pixels,
    /// The first 16 bytes of the BLAKE3 hash of each image.
    Hashes,
    /// uint8 `[N]`: class numbers.
    Labels,
    /// uint32 `[N]`: rows in the file that was packed, if they are not 0 to N - 1.
    Rows,
    /// Texts, see `text_section`.
    Ids,
    /// Texts.
    Usages,
    /// Texts.
    Groups,
    /// float32 [N, classes]: normalized soft labels; an image without has zeros.
    Votes,
}

/// A section of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// What it holds.
    pub kind: Kind,
    /// Its offset in the file.
    pub start: u64,
    /// Its bytes.
    pub length: u64,
    /// BLAKE3 hash in hexadecimal digits; none of pixels, which have the hashes of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// The index, at the end of the file as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Program and version.
    pub written_by: String,
    /// Number of images.
    pub images: u32,
    /// Number of rows of the file that was packed.
    pub file_rows: u32,
    /// Class names; empty without labels and votes.
    pub classes: Vec<String>,
    /// Name of the column with the groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Sections in the order of their offsets.
    pub sections: Vec<Section>,
}

impl Index {
    /// The section of this kind, if the file has it.
    pub fn section(&self, kind: Kind) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind)
    }

    /// Checks what the types do not, for sections that lie in `room`.
    fn check(&self, room: Range<u64>) -> Result<()> {
        let mut free = room.start;
        for section in &self.sections {
            let end = section.start.checked_add(section.length).context("a section is too long")?;
            ensure!(section.start >= free && end <= room.end, "its sections overlap or are out of place");
            ensure!(self.section(section.kind) == Some(section), "it has a section twice");
            ensure!(self.fits(section), "its section {:?} has {} bytes", section.kind, section.length);
            ensure!(section.checksum.is_some() || section.kind == Kind::Pixels, "a section has no checksum");
            free = end;
        }
        for kind in [Kind::Pixels, Kind::Hashes] {
            ensure!(self.section(kind).is_some(), "it has no section {kind:?}");
        }
        ensure!(self.images <= self.file_rows, "it has more images than rows");
        ensure!(self.group.is_some() == self.section(Kind::Groups).is_some(), "its groups have no name");
        let has_classes = self.section(Kind::Labels).or(self.section(Kind::Votes)).is_some();
        match check_classes(&self.classes) {
            Ok(()) => Ok(()),
            Err(_) if !has_classes && self.classes.is_empty() => Ok(()),
            Err(problem) => bail!("its classes are {}", problem.value),
        }
    }

    /// Whether a section has the bytes of as many images; texts have at least those of their ends.
    fn fits(&self, section: &Section) -> bool {
        let images = u64::from(self.images);
        let bytes = match section.kind {
            Kind::Pixels => PIXELS as u64,
            Kind::Hashes => 16,
            Kind::Labels => 1,
            Kind::Rows => 4,
            Kind::Votes => 4 * self.classes.len() as u64,
            Kind::Ids | Kind::Usages | Kind::Groups => return section.length >= 8 * images,
        };
        section.length == bytes * images
    }
}

/// Whether the file at `path` is a packed one, by its first bytes or, if it is damaged, its name.
pub fn is_packed(path: &Path) -> bool {
    let begins = || {
        let mut start = Vec::new();
        File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
        Ok::<bool, std::io::Error>(start == MAGIC)
    };
    let has_name = || path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("faces"));
    path.is_file() && (has_name() || begins().unwrap_or(false))
}

/// Writes the index of a file at offset `start`, which is its end, and then the preamble: before, it
/// is no packed file.
///
/// # Errors
/// An I/O error; an index that is too long.
pub fn write(file: &File, index: &Index, start: u64) -> Result<()> {
    let text = serde_json::to_vec(index)?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length <= MAX_INDEX).context("too long an index")?;
    let mut preamble = [&MAGIC[..], &VERSION.to_le_bytes(), &length.to_le_bytes(), &start.to_le_bytes()].concat();
    preamble.extend((start + u64::from(length)).to_le_bytes());
    let checksum = checksum(&preamble, &text);
    preamble.extend(checksum.as_bytes());
    file.write_all_at(&text, start)?;
    Ok(file.write_all_at(&preamble, 0)?)
}

fn checksum(fields: &[u8], index: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(fields).update(index).finalize()
}

/// Reads and checks the preamble and the index of a file of `size` bytes.
///
/// # Errors
/// What is wrong with the file and what to do, as the end of a sentence about it.
pub fn read(file: &File, size: u64) -> Result<Index> {
    const AGAIN: &str = "restore it from a copy, or pack it again";
    let mut preamble = [0; PREAMBLE];
    let length = usize::try_from(size).unwrap_or(PREAMBLE).min(PREAMBLE);
    file.read_exact_at(preamble.get_mut(..length).unwrap_or_default(), 0).context("cannot be read")?;
    if length < MAGIC.len() || preamble.first_chunk() != Some(&MAGIC) {
        // An unfinished file, or one that was lost in a crash of the system, is all zeros.
        let zeros = size > 0 && preamble.iter().all(|byte| *byte == 0);
        ensure!(!zeros, "is incomplete: its first bytes are zeros; {AGAIN}");
        bail!("is not a packed file of images; expected one written by grimace data pack");
    }
    ensure!(length == PREAMBLE, "is truncated: it has {size} bytes; {AGAIN}");
    let fields = preamble.get(..FIELDS).unwrap_or_default();
    let (version, index_length) = (u32_at(fields, 8), u32_at(fields, 12));
    if version != VERSION {
        let newer = if version > VERSION { "a newer grimace wrote it: update this one" } else { "it is corrupt" };
        bail!(
            "has format version {version}, and this grimace ({}) reads version {VERSION}; {newer}, or pack it again with \
             this one",
            env!("CARGO_PKG_VERSION")
        );
    }
    let (start, expected) = (u64_at(fields, 16), u64_at(fields, 24));
    ensure!(size >= expected, "is truncated: it has {size} bytes of {expected}; {AGAIN}");
    let corrupt = |problem: String| anyhow!("is corrupt: {problem}; {AGAIN}");
    let is_last = start.checked_add(u64::from(index_length)) == Some(size);
    if index_length > MAX_INDEX || start < FIRST_SECTION || !is_last || size != expected {
        return Err(corrupt(format!("it has {size} bytes of {expected}, and its index is out of place")));
    }
    let mut text = vec![0; index_length as usize];
    file.read_exact_at(&mut text, start).context("cannot be read")?;
    if checksum(fields, &text).as_bytes()[..] != *preamble.get(FIELDS..).unwrap_or_default() {
        return Err(corrupt("its index does not match its checksum".to_owned()));
    }
    let index: Index = serde_json::from_slice(&text).map_err(|error| corrupt(format!("its index: {error}")))?;
    index.check(FIRST_SECTION..start).map_err(|error| corrupt(format!("{error:#}")))?;
    Ok(index)
}

fn u32_at(bytes: &[u8], start: usize) -> u32 {
    bytes.get(start..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], start: usize) -> u64 {
    bytes.get(start..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
