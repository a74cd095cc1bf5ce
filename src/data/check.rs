//! `grimace data check`: class counts, blank images, exact duplicates, conflicting labels and
//! train/validation leakage in CSV files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::class_counts::count_rows;
use super::images::{ImageHash, Images, PIXELS};
use crate::util::files::input_name;
use crate::util::text::{escaped, short};

/// Images that are read at a time.
const BLOCK: usize = 1024;

/// A column Usage with more distinct values is not used as a split; Kaggle's has three.
const MAX_USAGES: usize = 20;

/// Maximum length of a reported Usage in characters.
const MAX_USAGE_LENGTH: usize = 40;

/// Results for one file.
#[derive(Debug, Serialize)]
pub struct FileReport {
    /// Path as given on the command line.
    #[serde(serialize_with = "serialize_lossy")]
    pub file: PathBuf,
    /// Readable rows.
    pub rows: usize,
    /// Rows per class, in class order; absent if the file has no labels.
    pub classes: Option<Vec<ClassCount>>,
    /// Rows per Usage; empty without that column or with more than 20 distinct values.
    pub usages: BTreeMap<String, usize>,
    /// Images of a single gray value.
    pub blank: usize,
    /// Rows whose image is an exact duplicate of an earlier row of the file.
    pub duplicates: usize,
    /// Messages about the file, such as a column that is ignored.
    pub notes: Vec<String>,
    /// Rows that could not be read.
    pub bad_row_count: usize,
    /// The first 1000 of them, each with line and reason.
    pub bad_rows: Vec<String>,
}

/// Serializes a path that may not be UTF-8.
fn serialize_lossy<S: serde::Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Number of rows of one class.
#[derive(Debug, Serialize)]
pub struct ClassCount {
    /// Name of the class.
    pub class: String,
    /// Number of rows.
    pub rows: usize,
}

/// Results for all files.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// Results per file.
    pub files: Vec<FileReport>,
    /// Distinct images with more than one label, over all files.
    pub conflicting_labels: usize,
    /// Exact duplicates between each pair of splits (files, or usages of a file).
    pub duplicates_across: Vec<SplitOverlap>,
}

/// Exact duplicates between two splits.
#[derive(Debug, Serialize)]
pub struct SplitOverlap {
    /// First split: a file, or a Usage of it.
    pub from: String,
    /// Second split.
    pub to: String,
    /// Rows of `to` whose image is also in `from`.
    pub rows: usize,
}

impl CheckReport {
    /// Whether any row could not be read.
    pub fn has_bad_rows(&self) -> bool {
        self.files.iter().any(|file| file.bad_row_count > 0)
    }

    /// Whether there are blank images, exact duplicates (within a file or across splits) or
    /// conflicting labels.
    pub fn has_findings(&self) -> bool {
        let in_files = self.files.iter().any(|file| file.blank + file.duplicates > 0);
        in_files || self.conflicting_labels > 0 || self.duplicates_across.iter().any(|overlap| overlap.rows > 0)
    }
}

/// Checks files whose images have been read.
///
/// # Errors
/// An image in a packed file that cannot be read.
pub fn check_files(files: &[(PathBuf, Images)], classes: &[String]) -> Result<CheckReport> {
    let mut labels: HashMap<ImageHash, BTreeSet<u8>> = HashMap::new();
    for (_, images) in files {
        for (hash, label) in images.hashes.iter().zip(images.labels.iter().flatten()) {
            labels.entry(*hash).or_default().insert(*label);
        }
    }
    Ok(CheckReport {
        files: files.iter().map(|(path, images)| check_file(path, images, classes)).collect::<Result<_>>()?,
        conflicting_labels: labels.values().filter(|labels| labels.len() > 1).count(),
        duplicates_across: overlaps(files),
    })
}

fn check_file(path: &std::path::Path, images: &Images, classes: &[String]) -> Result<FileReport> {
    let is_blank = |image: &&[u8]| image.iter().all(|pixel| Some(pixel) == image.first());
    let mut blank = 0;
    for block in images.pixels.blocks(BLOCK) {
        blank += block?.chunks_exact(PIXELS).filter(is_blank).count();
    }
    let unique: BTreeSet<&ImageHash> = images.hashes.iter().collect();
    let mut usages = BTreeMap::new();
    for usage in usages_of(images).into_iter().flatten() {
        *usages.entry(escaped(&short(usage, MAX_USAGE_LENGTH))).or_insert(0) += 1;
    }
    Ok(FileReport {
        file: path.to_path_buf(),
        rows: images.len(),
        classes: images.labels.as_ref().map(|labels| {
            count_rows(classes, labels).map(|(class, rows)| ClassCount { class: class.to_owned(), rows }).collect()
        }),
        usages,
        blank,
        duplicates: images.len() - unique.len(),
        notes: images.notes.clone(),
        bad_row_count: images.skipped.count(),
        bad_rows: images.skipped.kept().iter().map(ToString::to_string).collect(),
    })
}

/// The Usage of each image, if the column has few enough distinct values to be a split.
fn usages_of(images: &Images) -> Option<&Vec<String>> {
    let usages = images.usages.as_ref()?;
    let mut distinct = BTreeSet::new();
    let few = usages.iter().all(|usage| {
        distinct.insert(usage);
        distinct.len() <= MAX_USAGES
    });
    few.then_some(usages)
}

/// A split: a Usage of a file, or a file without usages.
#[derive(Debug, Clone)]
pub struct Split {
    /// Name of the file, with the Usage.
    pub name: String,
    /// Number of the file.
    pub file: usize,
    /// Positions of its images in the file.
    pub positions: Vec<usize>,
}

/// The splits of files, those of training images first in each file.
pub fn splits(files: &[(PathBuf, Images)]) -> Vec<Split> {
    let mut splits = Vec::new();
    for (file, (path, images)) in files.iter().enumerate() {
        let name = input_name(path).display().to_string();
        let Some(usages) = usages_of(images) else {
            splits.push(Split { name, file, positions: (0..images.len()).collect() });
            continue;
        };
        let distinct: BTreeSet<&String> = usages.iter().collect();
        // Training first, so that the other usages are checked against it.
        let mut distinct: Vec<&String> = distinct.into_iter().collect();
        distinct.sort_by_key(|usage| *usage != "Training");
        for usage in distinct {
            let positions = (0..images.len()).filter(|position| usages.get(*position) == Some(usage)).collect();
            splits.push(Split { name: format!("{name} [{usage}]"), file, positions });
        }
    }
    splits
}

/// Exact duplicates between splits. A split is a Usage of a file, or a file without usages.
fn overlaps(files: &[(PathBuf, Images)]) -> Vec<SplitOverlap> {
    let hashes = |split: Split| -> (String, Vec<ImageHash>) {
        let of_file = files.get(split.file).map(|(_, images)| images.hashes.as_slice()).unwrap_or_default();
        (split.name, split.positions.iter().filter_map(|position| of_file.get(*position).copied()).collect())
    };
    let splits: Vec<(String, Vec<ImageHash>)> = splits(files).into_iter().map(hashes).collect();
    let mut found = Vec::new();
    for (number, (from, first)) in splits.iter().enumerate() {
        let reference = first.iter().copied().collect();
        for (to, second) in splits.iter().skip(number + 1) {
            let mask = super::duplicates::duplicate_mask(second, &reference);
            let rows = mask.iter().filter(|duplicate| **duplicate).count();
            found.push(SplitOverlap { from: from.clone(), to: to.clone(), rows });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::PIXELS;

    fn images(values: &[u8], labels: &[u8], usages: Option<&[&str]>) -> Images {
        let image = |value: &u8| {
            let value = *value;
            (0..PIXELS).map(move |i| if value == 0 { 0 } else { value ^ (i % 2) as u8 })
        };
        Images {
            pixels: values.iter().flat_map(image).collect::<Vec<u8>>().into(),
            labels: Some(labels.to_vec()),
            usages: usages.map(|usages| usages.iter().map(|usage| (*usage).to_owned()).collect()),
            rows: (0..values.len() as u32).collect(),
            ..Images::default()
        }
        .with_hashes()
        .unwrap()
    }

    #[test]
    fn blanks_duplicates_conflicts_and_leakage_are_counted() {
        let classes: Vec<String> = ["a", "b"].map(String::from).to_vec();
        let train = images(&[0, 4, 4, 6, 8], &[0, 0, 1, 1, 1], None);
        let test = images(&[4, 6, 10], &[0, 1, 0], Some(&["PublicTest", "PublicTest", "Training"]));
        let report = check_files(&[("train.csv".into(), train), ("test.csv".into(), test)], &classes).unwrap();
        let [first, second] = &report.files[..] else { panic!("two files") };
        assert_eq!((first.rows, first.blank, first.duplicates), (5, 1, 1));
        assert_eq!(first.classes.as_ref().unwrap().iter().map(|c| c.rows).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((second.duplicates, second.usages["PublicTest"]), (0, 2));
        assert_eq!(report.conflicting_labels, 1, "image 4 has both labels");
        let across: Vec<_> =
            report.duplicates_across.iter().map(|a| (a.from.as_str(), a.to.as_str(), a.rows)).collect();
        assert_eq!(across[0], ("train.csv", "test.csv [Training]", 0));
        assert_eq!(across[1], ("train.csv", "test.csv [PublicTest]", 2));
        assert_eq!(across[2], ("test.csv [Training]", "test.csv [PublicTest]", 0));
        assert!(report.has_findings() && !report.has_bad_rows());
    }

    #[test]
    fn a_usage_column_with_many_values_is_not_a_split() {
        let words: Vec<String> = (0..21).map(|word| word.to_string()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let report = |count: usize| {
            let values: Vec<u8> = (0..count as u8).map(|value| 2 * value + 2).collect();
            check_files(
                &[("x.csv".into(), images(&values, &vec![0; count], Some(&words[..count])))],
                &["a".into(), "b".into()],
            )
            .unwrap()
        };
        assert_eq!((report(20).files[0].usages.len(), report(20).duplicates_across.len()), (20, 190));
        assert_eq!((report(21).files[0].usages.len(), report(21).duplicates_across.len()), (0, 0));
    }
}
