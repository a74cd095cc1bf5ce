//! `grimace data check`: what is in CSV files of images, and what a careful person would want to know before training.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use serde::Serialize;

use super::images::{ImageHash, Images};
use crate::util::text::{escaped, short};

/// Different words in a column Usage beyond which it is no such thing; Kaggle's has three.
const MAX_USAGES: usize = 20;

/// Characters of a Usage that are shown.
const MAX_USAGE: usize = 40;

/// What was found in one file.
#[derive(Debug, Serialize)]
pub struct FileReport {
    /// Path as given.
    #[serde(serialize_with = "lossy")]
    pub file: PathBuf,
    /// Rows that could be read.
    pub rows: usize,
    /// Rows of each class, in the order of the classes; absent where the file has no labels.
    pub classes: Option<Vec<ClassCount>>,
    /// Rows of each Usage, where the file has that column; none where it holds more than 20 different words.
    pub usages: BTreeMap<String, usize>,
    /// Images of a single gray value.
    pub blank: usize,
    /// Rows whose image already stood in an earlier row of the file.
    pub copies: usize,
    /// Rows that could not be read.
    pub bad_row_count: usize,
    /// The first thousand of them, each with its line and reason.
    pub bad_rows: Vec<String>,
}

/// A path as JSON can have it, whatever its bytes.
fn lossy<S: serde::Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Rows of one class.
#[derive(Debug, Serialize)]
pub struct ClassCount {
    /// Name of the class.
    pub class: String,
    /// Its rows.
    pub rows: usize,
}

/// What was found in all files together.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Each file by itself.
    pub files: Vec<FileReport>,
    /// Images that carry more than one label, over all files.
    pub conflicting_labels: usize,
    /// Between each two splits (files, or usages of a file): rows of the second whose image stands in the first.
    pub copies_across: Vec<Across>,
}

/// Copies between two splits.
#[derive(Debug, Serialize)]
pub struct Across {
    /// One split: a file, or a Usage of it.
    pub from: String,
    /// The other.
    pub to: String,
    /// Rows of `to` whose image stands in `from`.
    pub rows: usize,
}

impl Report {
    /// Whether rows could not be read.
    pub fn has_bad_rows(&self) -> bool {
        self.files.iter().any(|file| file.bad_row_count > 0)
    }

    /// Whether anything was found that may spoil a figure: blanks, copies, conflicting labels, copies across splits.
    pub fn has_findings(&self) -> bool {
        let in_files = self.files.iter().any(|file| file.blank + file.copies > 0);
        in_files || self.conflicting_labels > 0 || self.copies_across.iter().any(|across| across.rows > 0)
    }
}

/// Looks at files that have been read.
pub fn check(files: &[(PathBuf, Images)], classes: &[String]) -> Report {
    let mut labels: HashMap<ImageHash, BTreeSet<u8>> = HashMap::new();
    for (_, images) in files {
        for (hash, label) in images.hashes.iter().zip(images.labels.iter().flatten()) {
            labels.entry(*hash).or_default().insert(*label);
        }
    }
    Report {
        files: files.iter().map(|(path, images)| check_file(path, images, classes)).collect(),
        conflicting_labels: labels.values().filter(|labels| labels.len() > 1).count(),
        copies_across: across(files),
    }
}

fn check_file(path: &std::path::Path, images: &Images, classes: &[String]) -> FileReport {
    let blank = |index: &usize| images.image(*index).windows(2).all(|pair| matches!(pair, [a, b] if a == b));
    let unique: BTreeSet<&ImageHash> = images.hashes.iter().collect();
    let count = |number: usize, labels: &[u8]| labels.iter().filter(|label| usize::from(**label) == number).count();
    let mut usages = BTreeMap::new();
    for usage in usages_of(images).into_iter().flatten() {
        *usages.entry(escaped(&short(usage, MAX_USAGE))).or_insert(0) += 1;
    }
    FileReport {
        file: path.to_path_buf(),
        rows: images.len(),
        classes: images.labels.as_ref().map(|labels| {
            let counted =
                |(number, class): (usize, &String)| ClassCount { class: class.clone(), rows: count(number, labels) };
            classes.iter().enumerate().map(counted).collect()
        }),
        usages,
        blank: (0..images.len()).filter(blank).count(),
        copies: images.len() - unique.len(),
        bad_row_count: images.skipped.count(),
        bad_rows: images.skipped.kept().iter().map(ToString::to_string).collect(),
    }
}

/// The Usage of each image, where the column holds usages: few words for many rows. Anything else in it divides nothing.
fn usages_of(images: &Images) -> Option<&Vec<String>> {
    let usages = images.usages.as_ref()?;
    let mut known = BTreeSet::new();
    let few = usages.iter().all(|usage| {
        known.insert(usage);
        known.len() <= MAX_USAGES
    });
    few.then_some(usages)
}

/// Copies between splits: files are splits, and so are the usages of a file that has them.
fn across(files: &[(PathBuf, Images)]) -> Vec<Across> {
    let mut splits: Vec<(String, Vec<ImageHash>)> = Vec::new();
    for (path, images) in files {
        let name = path.display().to_string();
        match usages_of(images) {
            None => splits.push((name, images.hashes.clone())),
            Some(usages) => {
                let known: BTreeSet<&String> = usages.iter().collect();
                // Training first: what matters is which rows of the others stand in it.
                let mut known: Vec<&String> = known.into_iter().collect();
                known.sort_by_key(|usage| *usage != "Training");
                for usage in known {
                    let of = |(u, hash): (&String, &ImageHash)| (u == usage).then_some(*hash);
                    splits.push((
                        format!("{name} [{usage}]"),
                        usages.iter().zip(&images.hashes).filter_map(of).collect(),
                    ));
                }
            }
        }
    }
    let mut found = Vec::new();
    for (number, (from, first)) in splits.iter().enumerate() {
        let known = first.iter().copied().collect();
        for (to, second) in splits.iter().skip(number + 1) {
            let rows = super::split::seen_in(second, &known).iter().filter(|seen| **seen).count();
            found.push(Across { from: from.clone(), to: to.clone(), rows });
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
            pixels: values.iter().flat_map(image).collect(),
            labels: Some(labels.to_vec()),
            usages: usages.map(|usages| usages.iter().map(|usage| (*usage).to_owned()).collect()),
            rows: (0..values.len() as u32).collect(),
            ..Images::default()
        }
        .hash()
    }

    #[test]
    fn blanks_copies_conflicts_and_leaks_are_counted() {
        let classes: Vec<String> = ["a", "b"].map(String::from).to_vec();
        let train = images(&[0, 4, 4, 6, 8], &[0, 0, 1, 1, 1], None);
        let test = images(&[4, 6, 10], &[0, 1, 0], Some(&["PublicTest", "PublicTest", "Training"]));
        let report = check(&[("train.csv".into(), train), ("test.csv".into(), test)], &classes);
        let [first, second] = &report.files[..] else { panic!("two files") };
        assert_eq!((first.rows, first.blank, first.copies), (5, 1, 1));
        assert_eq!(first.classes.as_ref().unwrap().iter().map(|c| c.rows).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((second.copies, second.usages["PublicTest"]), (0, 2));
        assert_eq!(report.conflicting_labels, 1, "image 4 is labeled both ways");
        let across: Vec<_> = report.copies_across.iter().map(|a| (a.from.as_str(), a.to.as_str(), a.rows)).collect();
        assert_eq!(across[0], ("train.csv", "test.csv [Training]", 0));
        assert_eq!(across[1], ("train.csv", "test.csv [PublicTest]", 2));
        assert_eq!(across[2], ("test.csv [Training]", "test.csv [PublicTest]", 0));
        assert!(report.has_findings() && !report.has_bad_rows());
    }

    #[test]
    fn a_column_of_many_words_is_no_usage() {
        let words: Vec<String> = (0..21).map(|word| word.to_string()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let report = |count: usize| {
            let values: Vec<u8> = (0..count as u8).map(|value| 2 * value + 2).collect();
            check(
                &[("x.csv".into(), images(&values, &vec![0; count], Some(&words[..count])))],
                &["a".into(), "b".into()],
            )
        };
        assert_eq!((report(20).files[0].usages.len(), report(20).copies_across.len()), (20, 190));
        assert_eq!((report(21).files[0].usages.len(), report(21).copies_across.len()), (0, 0));
    }
}
