//! Images in memory: one block of bytes, and a hash per image that identifies exact duplicates.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::Path;

use rayon::prelude::*;

use crate::util::error::input;
use crate::util::text::short;

/// Height and width of an image in pixels.
pub const SIDE: usize = 48;
/// Pixels per image.
pub const PIXELS: usize = SIDE * SIDE;

/// The first 16 bytes of the BLAKE3 hash of an image's 2304 pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageHash([u8; 16]);

impl ImageHash {
    /// Hashes the pixels of one image.
    pub fn new(image: &[u8]) -> Self {
        let mut prefix = [0; 16];
        for (to, from) in prefix.iter_mut().zip(blake3::hash(image).as_bytes()) {
            *to = *from;
        }
        Self(prefix)
    }

    /// Parses the 32 hexadecimal digits that `Display` writes.
    pub fn from_hex(text: &str) -> Option<Self> {
        let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16).ok().filter(|_| hex).map(|value| Self(value.to_be_bytes()))
    }
}

impl fmt::Display for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Kaggle's Usage of training rows.
pub const TRAINING: &str = "Training";

/// Whether a Usage in a file is `wanted`, regardless of case; `train` is short for `Training`.
pub fn is_usage(found: &str, wanted: &str) -> bool {
    let full = |usage: &str| if usage.eq_ignore_ascii_case("train") { TRAINING.to_owned() } else { usage.to_owned() };
    full(found).eq_ignore_ascii_case(&full(wanted))
}

/// The images of one CSV, with their columns.
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// uint8 [N, 48, 48], row-major.
    pub pixels: Vec<u8>,
    /// `[N]` class numbers, if the file has the column `emotion`.
    pub labels: Option<Vec<u8>>,
    /// `[N]` values of the column `id`, if present.
    pub ids: Option<Vec<String>>,
    /// `[N]` values of the column `Usage`, if present.
    pub usages: Option<Vec<String>>,
    /// `[N]` row index in the file, from 0; not consecutive if rows were skipped.
    pub rows: Vec<u32>,
    /// `[N]` hash of each image.
    pub hashes: Vec<ImageHash>,
    /// Number of rows in the file, whether or not they are among the images.
    pub file_rows: u32,
    /// Rows skipped by `on_bad_row = "skip"`.
    pub skipped: BadRows,
    /// Rows that `data.labels` leaves out.
    pub left_out: usize,
    /// Labels of `data.labels` that no row has.
    pub unused_labels: Vec<String>,
    /// Messages about the file for the log, such as a column that is ignored.
    pub notes: Vec<String>,
}

/// Rows that could not be read: all are counted, the first 1000 are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRows {
    kept: Vec<BadRow>,
    count: usize,
}

impl BadRows {
    /// Bounds the memory that a hostile file can take.
    const MAX_KEPT: usize = 1000;

    /// Adds a row.
    pub fn push(&mut self, row: BadRow) {
        self.count += 1;
        if !self.is_full() {
            self.kept.push(row);
        }
    }

    /// Whether further rows are only counted.
    pub fn is_full(&self) -> bool {
        self.kept.len() >= Self::MAX_KEPT
    }

    /// The first bad row.
    pub fn first(&self) -> Option<&BadRow> {
        self.kept.first()
    }

    /// The first 1000 bad rows.
    pub fn kept(&self) -> &[BadRow] {
        &self.kept
    }

    /// How many rows were skipped, and where the first is; `None` if none was.
    pub fn describe(&self) -> Option<String> {
        let first = self.first()?;
        Some(match self.count {
            1 => format!("skipped 1 bad row: {first}"),
            count => format!("skipped {count} bad rows, the first at {first}"),
        })
    }

    /// Number of bad rows.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// A row that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Line in the file, from 1, at which the row starts.
    pub line: u64,
    /// Name of the column; empty if the whole row is bad.
    pub column: &'static str,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            "" => write!(f, "line {}: {}", self.line, self.problem),
            column => write!(f, "line {}, column {column}: {}", self.line, self.problem),
        }
    }
}

impl Images {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The pixels of image `index`, row-major; empty if the index is out of range.
    pub fn image(&self, index: usize) -> &[u8] {
        self.pixels.get(index * PIXELS..(index + 1) * PIXELS).unwrap_or_default()
    }

    /// Computes `hashes` from `pixels`.
    pub(super) fn with_hashes(mut self) -> Self {
        self.hashes = self.pixels.par_chunks_exact(PIXELS).map(ImageHash::new).collect();
        self
    }

    /// The images at `positions`, in that order.
    pub fn select(&self, positions: &[usize]) -> Self {
        let pick = |texts: &Option<Vec<String>>| {
            texts.as_ref().map(|texts| positions.iter().filter_map(|p| texts.get(*p).cloned()).collect())
        };
        let mut pixels = Vec::with_capacity(positions.len() * PIXELS);
        positions.iter().for_each(|position| pixels.extend_from_slice(self.image(*position)));
        Self {
            pixels,
            labels: self.labels.as_ref().map(|l| positions.iter().filter_map(|p| l.get(*p).copied()).collect()),
            ids: pick(&self.ids),
            usages: pick(&self.usages),
            rows: positions.iter().filter_map(|p| self.rows.get(*p).copied()).collect(),
            hashes: positions.iter().filter_map(|p| self.hashes.get(*p).copied()).collect(),
            file_rows: self.file_rows,
            skipped: self.skipped.clone(),
            left_out: self.left_out,
            unused_labels: self.unused_labels.clone(),
            notes: self.notes.clone(),
        }
    }

    /// The id of each image in label and prediction files: the column `id`, or the row index from
    /// 0.
    pub fn row_ids(&self) -> Vec<String> {
        self.ids.clone().unwrap_or_else(|| self.rows.iter().map(ToString::to_string).collect())
    }

    /// Checks that ids are unique. `path` is the images' file, for the message.
    ///
    /// # Errors
    /// An input error with the first duplicate id.
    pub fn check_ids(&self, path: &Path) -> anyhow::Result<()> {
        let mut seen = HashSet::new();
        match self.ids.iter().flatten().find(|id| !seen.insert(id.as_str())) {
            Some(id) => Err(input(format!("{}: column id: duplicate id {:?}", path.display(), short(id, 40)))),
            None => Ok(()),
        }
    }

    /// The images whose Usage is `usage`, regardless of case.
    ///
    /// # Errors
    /// An input error if the file has no column Usage or no such row; it lists the existing usages.
    pub fn with_usage(&self, usage: &str, path: &Path) -> anyhow::Result<Self> {
        let usages = self.usages.as_ref().ok_or_else(|| {
            input(format!("{}: no column Usage, so no rows with Usage {usage:?} can be selected", path.display()))
        })?;
        let positions: Vec<usize> =
            (0..self.len()).filter(|i| usages.get(*i).is_some_and(|u| is_usage(u, usage))).collect();
        if positions.is_empty() {
            let found: BTreeSet<&String> = usages.iter().collect();
            let shown: Vec<String> = found.iter().take(10).map(|usage| format!("{:?}", short(usage, 40))).collect();
            let rest = found.len().saturating_sub(10);
            let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            let (display, usage) = (path.display(), short(usage, 40));
            return Err(input(format!("{display}: no row has Usage {usage:?}; found {}{rest}", shown.join(", "))));
        }
        Ok(self.select(&positions))
    }

    /// The mean image, uint8 [48, 48]; black if there are no images.
    pub fn mean(&self) -> Vec<u8> {
        let mut sums = vec![0u64; PIXELS];
        for image in self.pixels.chunks_exact(PIXELS) {
            sums.iter_mut().zip(image).for_each(|(sum, pixel)| *sum += u64::from(*pixel));
        }
        sums.into_iter().map(|sum| (sum / self.len().max(1) as u64) as u8).collect()
    }

    /// A hash of pixels and labels in row order, independent of the CSV layout.
    pub fn content_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update_rayon(&self.pixels);
        hasher.update(self.labels.as_deref().unwrap_or_default());
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_rows_are_counted() {
        let mut skipped = BadRows::default();
        assert_eq!(skipped.describe(), None);
        skipped.push(BadRow { line: 3, column: "pixels", problem: "2303 pixels".to_owned() });
        assert_eq!(skipped.describe().unwrap(), "skipped 1 bad row: line 3, column pixels: 2303 pixels");
        skipped.push(BadRow { line: 9, column: "", problem: "3 fields".to_owned() });
        let expected = "skipped 2 bad rows, the first at line 3, column pixels: 2303 pixels";
        assert_eq!(skipped.describe().unwrap(), expected);
    }

    #[test]
    fn hashes_differ_and_round_trip() {
        let black = ImageHash::new(&[0; PIXELS]);
        let mut other = [0; PIXELS];
        other[2303] = 1;
        assert_ne!(black, ImageHash::new(&other));
        assert_eq!(black.to_string().len(), 32);
        assert_eq!(ImageHash::from_hex(&black.to_string()), Some(black));
        assert_eq!(ImageHash::from_hex("xyz"), None);
        assert_eq!(ImageHash::from_hex("+0000000000000000000000000000000"), None);
    }
}
