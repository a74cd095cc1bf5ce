//! Images: their pixels, columns, and a hash per image that identifies exact duplicates.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::Path;

use rayon::prelude::*;

use super::bad_rows::BadRows;
use super::pixel_store::Pixels;
use crate::util::error::input;
use crate::util::text::short;

/// Height and width of an image in pixels.
pub const SIDE: usize = 48;
/// Pixels per image.
pub const PIXELS: usize = SIDE * SIDE;

/// Images that are read at a time to compute something over all of them.
const BLOCK: usize = 1024;

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

    /// The hash with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
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

/// Names of splits, in lower case; those in a row are the same.
const SPLITS: [&[&str]; 6] = [
    &["training", "train"],
    &["validation", "val", "valid"],
    &["test", "testing"],
    &["dev"],
    &["publictest"],
    &["privatetest"],
];

/// Whether a Usage in a file is `wanted`, regardless of case; `train` is short for `Training`, and
/// `val` for `validation`.
pub fn is_usage(found: &str, wanted: &str) -> bool {
    let (found, wanted) = (found.to_lowercase(), wanted.to_lowercase());
    found == wanted || SPLITS.iter().any(|names| names.contains(&found.as_str()) && names.contains(&wanted.as_str()))
}

/// Whether a folder of this name is a split, not a class.
pub fn is_split(folder: &str) -> bool {
    SPLITS.iter().any(|names| names.contains(&folder.to_lowercase().as_str()))
}

/// The images of one CSV, with their columns.
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// uint8 [N, 48, 48], row-major.
    pub pixels: Pixels,
    /// `[N]` class numbers, if the file has the column `emotion`.
    pub labels: Option<Vec<u8>>,
    /// `[N]` values of the column `id`, if present.
    pub ids: Option<Vec<String>>,
    /// `[N]` values of the column `Usage`, if present.
    pub usages: Option<Vec<String>>,
    /// `[N]` values of the column `data.group`, if it is set.
    pub groups: Option<Vec<String>>,
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

impl Images {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The pixels of image `index`, row-major.
    ///
    /// # Errors
    /// An index out of range; an image in a file that cannot be read.
    pub fn image(&self, index: usize) -> anyhow::Result<Cow<'_, [u8]>> {
        self.pixels.image(index)
    }

    /// Adds the images of `part` at the end. The columns are those of the first part.
    ///
    /// # Errors
    /// If these images are a selection or in a file, or those of `part` cannot be read.
    pub fn append(&mut self, part: Self) -> anyhow::Result<()> {
        fn extend<T>(all: &mut Option<Vec<T>>, part: Option<Vec<T>>, is_first: bool) {
            match (all, part) {
                (Some(all), Some(part)) => all.extend(part),
                (all, part) if is_first => *all = part,
                _ => {}
            }
        }
        let is_first = self.is_empty();
        self.pixels.append(&part.pixels.all()?)?;
        extend(&mut self.labels, part.labels, is_first);
        extend(&mut self.ids, part.ids, is_first);
        extend(&mut self.usages, part.usages, is_first);
        extend(&mut self.groups, part.groups, is_first);
        self.rows.extend(part.rows);
        self.hashes.extend(part.hashes);
        Ok(())
    }

    /// Computes `hashes` from `pixels`.
    ///
    /// # Errors
    /// An image in a file that cannot be read.
    pub fn with_hashes(mut self) -> anyhow::Result<Self> {
        let hashes = self.pixels.all()?.par_chunks_exact(PIXELS).map(ImageHash::new).collect();
        self.hashes = hashes;
        Ok(self)
    }

    /// The images at `positions`, in that order.
    pub fn select(&self, positions: &[usize]) -> Self {
        let pick = |texts: &Option<Vec<String>>| {
            texts.as_ref().map(|texts| positions.iter().filter_map(|p| texts.get(*p).cloned()).collect())
        };
        Self {
            pixels: self.pixels.select(positions),
            labels: self.labels.as_ref().map(|l| positions.iter().filter_map(|p| l.get(*p).copied()).collect()),
            ids: pick(&self.ids),
            usages: pick(&self.usages),
            groups: pick(&self.groups),
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

    /// The positions of the images whose Usage is `usage`, regardless of case.
    pub fn positions_of_usage(&self, usage: &str) -> Vec<usize> {
        let usages = self.usages.as_deref().unwrap_or_default();
        (0..self.len()).filter(|i| usages.get(*i).is_some_and(|u| is_usage(u, usage))).collect()
    }

    /// The images whose Usage is `usage`, regardless of case.
    ///
    /// # Errors
    /// An input error if the file has no column Usage or no such row; it lists the existing usages.
    pub fn with_usage(&self, usage: &str, path: &Path) -> anyhow::Result<Self> {
        let usages = self.usages.as_ref().ok_or_else(|| {
            input(format!("{}: no column Usage, so no rows with Usage {usage:?} can be selected", path.display()))
        })?;
        let positions = self.positions_of_usage(usage);
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
    ///
    /// # Errors
    /// An image in a file that cannot be read.
    pub fn mean(&self) -> anyhow::Result<Vec<u8>> {
        let mut sums = vec![0u64; PIXELS];
        for block in self.pixels.blocks(BLOCK) {
            for image in block?.chunks_exact(PIXELS) {
                sums.iter_mut().zip(image).for_each(|(sum, pixel)| *sum += u64::from(*pixel));
            }
        }
        Ok(sums.into_iter().map(|sum| (sum / self.len().max(1) as u64) as u8).collect())
    }

    /// A hash of images and labels in row order, independent of how they are stored. It is over the
    /// hashes of the images, so that the pixels of a packed file need not be read.
    pub fn content_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for hash in &self.hashes {
            hasher.update(&hash.0);
        }
        hasher.update(self.labels.as_deref().unwrap_or_default());
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::bad_rows::{BadRow, Place};

    #[test]
    fn skipped_rows_are_counted() {
        let mut skipped = BadRows::default();
        assert_eq!(skipped.describe(), None);
        skipped.push(BadRow { place: Place::Line { line: 3, column: "pixels" }, problem: "2303 pixels".to_owned() });
        assert_eq!(skipped.describe().unwrap(), "skipped 1 bad row: line 3, column pixels: 2303 pixels");
        skipped.push(BadRow { place: Place::Line { line: 9, column: "" }, problem: "3 fields".to_owned() });
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
