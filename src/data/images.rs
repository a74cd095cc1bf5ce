//! Images in memory: one block of bytes, and a hash of each image by which copies are known.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use rayon::prelude::*;

use crate::util::error::input;
use crate::util::text::short;

/// Edge of an image in pixels.
pub const SIDE: usize = 48;
/// Pixels of an image, row-major.
pub const PIXELS: usize = SIDE * SIDE;

/// Identity of an image: the first 16 bytes of the BLAKE3 hash of its 2304 pixels. Equal pixels, equal hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageHash([u8; 16]);

impl ImageHash {
    /// The hash of one image.
    pub fn of(image: &[u8]) -> Self {
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(blake3::hash(image).as_bytes()) {
            *to = *from;
        }
        Self(short)
    }

    /// Reads what `Display` writes.
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

/// The rows of one CSV that could be read.
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// uint8 [N, 48, 48], row-major.
    pub pixels: Vec<u8>,
    /// `[N]` class numbers, where the file has `emotion`.
    pub labels: Option<Vec<u8>>,
    /// `[N]` what the `id` column says, where there is one.
    pub ids: Option<Vec<String>>,
    /// `[N]` what the `Usage` column says, where there is one.
    pub usages: Option<Vec<String>>,
    /// `[N]` data row in the file, from 0; not consecutive where rows were skipped.
    pub rows: Vec<u32>,
    /// `[N]` identity of each image.
    pub hashes: Vec<ImageHash>,
    /// Rows left out by `on_bad_row = "skip"`, each with its line and reason.
    pub skipped: BadRows,
}

/// The rows that could not be read: all are counted, the first are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRows {
    kept: Vec<BadRow>,
    count: usize,
}

impl BadRows {
    /// Rows kept: as many as somebody might look at, however many a hostile file has.
    const KEPT: usize = 1000;

    /// Adds one.
    pub fn push(&mut self, row: BadRow) {
        self.count += 1;
        if !self.is_full() {
            self.kept.push(row);
        }
    }

    /// Whether further ones are only counted.
    pub fn is_full(&self) -> bool {
        self.kept.len() >= Self::KEPT
    }

    /// The first one.
    pub fn first(&self) -> Option<&BadRow> {
        self.kept.first()
    }

    /// The first thousand.
    pub fn kept(&self) -> &[BadRow] {
        &self.kept
    }

    /// All of them.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// A row that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Line in the file, from 1, where the row begins.
    pub line: u64,
    /// The column, empty when it is the row as a whole.
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

    /// The pixels of image `index`, row-major; empty when there is no such image.
    pub fn image(&self, index: usize) -> &[u8] {
        self.pixels.get(index * PIXELS..(index + 1) * PIXELS).unwrap_or_default()
    }

    /// Fills `hashes` from `pixels`.
    pub(super) fn hash(mut self) -> Self {
        self.hashes = self.pixels.par_chunks_exact(PIXELS).map(ImageHash::of).collect();
        self
    }

    /// The images at these positions, in this order.
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
            skipped: self.skipped.clone(),
        }
    }

    /// What each image is called in files beside this one: its `id` column, or else its row number in its file from 0.
    pub fn names(&self) -> Vec<String> {
        self.ids.clone().unwrap_or_else(|| self.rows.iter().map(ToString::to_string).collect())
    }

    /// Refuses images of which two have one id: what is said of an id that stands there twice is of no use.
    ///
    /// # Errors
    /// An input error with the id; `path` is where the images are from.
    pub fn check_ids(&self, path: &Path) -> anyhow::Result<()> {
        let mut known = HashSet::new();
        match self.ids.iter().flatten().find(|id| !known.insert(id.as_str())) {
            Some(id) => Err(input(format!("{}: column id: {:?} stands there twice", path.display(), short(id, 40)))),
            None => Ok(()),
        }
    }

    /// The images whose Usage is `usage`.
    ///
    /// # Errors
    /// An input error when the file has no Usage column or no such row; it lists the usages there are.
    pub fn with_usage(&self, usage: &str, path: &Path) -> anyhow::Result<Self> {
        let usages = self.usages.as_ref().ok_or_else(|| {
            input(format!(
                "{}: has no column Usage, so no rows of Usage {usage:?} can be taken from it",
                path.display()
            ))
        })?;
        let positions: Vec<usize> = (0..self.len()).filter(|i| usages.get(*i).is_some_and(|u| u == usage)).collect();
        if positions.is_empty() {
            let known: std::collections::BTreeSet<&String> = usages.iter().collect();
            return Err(input(format!("{}: no row has Usage {usage:?}; there are {known:?}", path.display())));
        }
        Ok(self.select(&positions))
    }

    /// The mean of all images, `[48, 48]`; black where there are none.
    pub fn mean(&self) -> Vec<u8> {
        let mut sums = vec![0u64; PIXELS];
        for image in self.pixels.chunks_exact(PIXELS) {
            sums.iter_mut().zip(image).for_each(|(sum, pixel)| *sum += u64::from(*pixel));
        }
        sums.into_iter().map(|sum| (sum / self.len().max(1) as u64) as u8).collect()
    }

    /// A hash of pixels and labels in row order: the same for the same images in whatever CSV layout.
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
    fn hashes_tell_images_apart_and_read_back() {
        let black = ImageHash::of(&[0; PIXELS]);
        let mut other = [0; PIXELS];
        other[2303] = 1;
        assert_ne!(black, ImageHash::of(&other));
        assert_eq!(black.to_string().len(), 32);
        assert_eq!(ImageHash::from_hex(&black.to_string()), Some(black));
        assert_eq!(ImageHash::from_hex("xyz"), None);
        assert_eq!(ImageHash::from_hex("+0000000000000000000000000000000"), None);
    }
}
