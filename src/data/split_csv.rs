//! `split.csv`: the part and the hash of each image of a run.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use fs_err as fs;

use super::images::{ImageHash, Images};
use crate::util::error::input;
use crate::util::files::replace_atomically;

/// What `split.csv` says, written row by row: its text has 50 bytes an image.
#[derive(Debug, Clone, Copy)]
pub struct SplitCsv<'a> {
    /// Training images, in file order.
    pub train: &'a Images,
    /// Validation images, in file order.
    pub validation: &'a Images,
    /// Whether they are of another file, so that rows of both have the same numbers.
    pub is_separate: bool,
}

impl SplitCsv<'_> {
    /// Hash of the text, in hexadecimal.
    ///
    /// # Errors
    /// None that can happen.
    pub fn hash(self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        self.write_to(&mut BufWriter::new(&mut hasher))?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Writes the file at `path` atomically.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write(self, path: &Path) -> Result<()> {
        replace_atomically(path, |temporary| {
            let mut file = BufWriter::new(fs::File::create(temporary)?);
            self.write_to(&mut file)?;
            Ok(file.flush()?)
        })
    }

    /// The lines `row,part,hash` in file order, row indices from 0 per file. The rows of a separate
    /// validation file follow those of the training file.
    fn write_to(self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "row,part,hash")?;
        let mut train = lines(self.train, "train").peekable();
        let mut validation = lines(self.validation, "validation").peekable();
        loop {
            let is_train = match (train.peek(), validation.peek()) {
                (Some((row, ..)), Some((other, ..))) => self.is_separate || row < other,
                (row, _) => row.is_some(),
            };
            let next = if is_train { train.next() } else { validation.next() };
            let Some((row, part, hash)) = next else { break };
            writeln!(out, "{row},{part},{hash}")?;
        }
        out.flush()
    }
}

/// The rows of a part.
fn lines(images: &Images, part: &'static str) -> impl Iterator<Item = (u32, &'static str, ImageHash)> {
    images.rows.iter().zip(&images.hashes).map(move |(row, hash)| (*row, part, *hash))
}

/// The hashes of the images in the two parts of a split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SplitHashes {
    /// Of the training images.
    pub train: HashSet<ImageHash>,
    /// Of the validation images.
    pub validation: HashSet<ImageHash>,
}

/// Parses `split.csv`.
///
/// # Errors
/// An input error for a malformed line.
pub fn split_hashes(split_csv: &str, path: &Path) -> Result<SplitHashes> {
    let mut hashes = SplitHashes::default();
    for (number, line) in split_csv.lines().enumerate().skip(1) {
        let mut fields = line.split(',').skip(1);
        let (part, image) = (fields.next(), fields.next().and_then(ImageHash::from_hex));
        match (part, image) {
            (Some("train"), Some(image)) => drop(hashes.train.insert(image)),
            (Some("validation"), Some(image)) => drop(hashes.validation.insert(image)),
            _ => {
                return Err(input(format!(
                    "{}: line {}: expected row,part,hash, got {line:?}",
                    path.display(),
                    number + 1
                )));
            }
        }
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(rows: &[u32]) -> Images {
        let hashes = rows.iter().map(|row| ImageHash::new(&row.to_le_bytes())).collect();
        Images { rows: rows.to_vec(), hashes, ..Images::default() }
    }

    /// The rows and parts of the lines.
    fn text(train: &[u32], validation: &[u32], is_separate: bool) -> String {
        let (train, validation) = (images(train), images(validation));
        let csv = SplitCsv { train: &train, validation: &validation, is_separate };
        let mut text = Vec::new();
        csv.write_to(&mut text).unwrap();
        assert_eq!(csv.hash().unwrap(), blake3::hash(&text).to_hex().to_string());
        let folder = tempfile::tempdir().unwrap();
        csv.write(&folder.path().join("split.csv")).unwrap();
        assert_eq!(fs::read(folder.path().join("split.csv")).unwrap(), text);
        let text = String::from_utf8(text).unwrap();
        let hashes = split_hashes(&text, Path::new("split.csv")).unwrap();
        assert_eq!((hashes.train.len(), hashes.validation.len()), (train.len(), validation.len()));
        text.lines().skip(1).map(|line| line.rsplit_once(',').unwrap().0.to_owned() + " ").collect()
    }

    #[test]
    fn rows_are_in_the_order_of_their_files() {
        let merged = "0,train 1,validation 3,train 4,train 7,validation ";
        assert_eq!(text(&[0, 3, 4], &[1, 7], false), merged);
        assert_eq!(text(&[0, 3], &[0, 1], true), "0,train 3,train 0,validation 1,validation ");
        assert_eq!(text(&[], &[2], false), "2,validation ");
        assert_eq!(text(&[2], &[], true), "2,train ");
    }
}
