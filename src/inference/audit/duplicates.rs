//! Exact and near duplicates, within splits and across them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{Finding, Place, Problem, split_numbers};
use crate::data::check::Split;
use crate::data::images::{ImageHash, Images};
use crate::data::near_duplicates::near_pairs;

/// Duplicates between two splits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SplitDuplicates {
    /// First split: a file, or a Usage of it.
    pub from: String,
    /// Second split.
    pub to: String,
    /// Rows of `to` whose image is also in `from`.
    pub exact: usize,
    /// Other rows of `to` whose image is nearly the same as one in `from`.
    pub near: usize,
}

/// The duplicates of all files.
#[derive(Debug, Default)]
pub struct Duplicates {
    pub findings: Vec<Finding>,
    pub exact: usize,
    pub near: usize,
    pub groups: usize,
    pub across: Vec<SplitDuplicates>,
}

/// A row, with the number of its distinct image.
#[derive(Debug, Clone, Copy)]
struct Row {
    place: Place,
    split: usize,
    image: usize,
    label: Option<u8>,
}

/// Finds them. Groups are connected by near duplicates: two images of a group may be less alike.
pub fn find(files: &[(PathBuf, Images)], splits: &[Split], min_correlation: f32) -> Result<Duplicates> {
    let (rows, first) = distinct(files, splits);
    let pixels = |image: usize| {
        let (file, position) = first.get(image).copied().context("a distinct image has a row")?;
        files.get(file).context("an image has a file")?.1.image(position)
    };
    let pairs = near_pairs(first.len(), &pixels, min_correlation)?;
    let mut roots: Vec<usize> = (0..first.len()).collect();
    let mut best: HashMap<usize, f64> = HashMap::new();
    let mut near: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for pair in &pairs {
        let (a, b) = (root(&roots, pair.first), root(&roots, pair.second));
        if let Some(slot) = roots.get_mut(a.max(b)) {
            *slot = a.min(b);
        }
        for (one, other) in [(pair.first, pair.second), (pair.second, pair.first)] {
            let slot = best.entry(one).or_default();
            *slot = slot.max(f64::from(pair.correlation));
            near.entry(one).or_default().push(other);
        }
    }
    let mut groups: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
    rows.iter().for_each(|row| groups.entry(root(&roots, row.image)).or_default().push(*row));
    groups.retain(|_, members| members.len() > 1);
    let copies = Copies::new(&rows, first.len());
    let mut found = Duplicates { groups: groups.len(), across: across(&rows, splits, &near), ..Duplicates::default() };
    found.exact = rows.len() - first.len();
    for (number, members) in (1..).zip(groups.values()) {
        let images: BTreeSet<usize> = members.iter().map(|row| row.image).collect();
        found.near += images.len() - 1;
        for row in members {
            let others = near.get(&row.image).map_or(&[][..], Vec::as_slice);
            let score = if copies.of(row.image).len() > 1 { 1.0 } else { best.get(&row.image).copied().unwrap_or(1.0) };
            found.findings.extend(copies.problems(row, others).into_iter().map(|(problem, exclude)| Finding {
                place: row.place,
                problem,
                group: Some(number),
                suggested: None,
                score,
                exclude,
            }));
        }
    }
    Ok(found)
}

/// The representative of the group of `image`.
fn root(roots: &[usize], image: usize) -> usize {
    let mut image = image;
    while let Some(next) = roots.get(image).filter(|next| **next != image) {
        image = *next;
    }
    image
}

/// The rows of all files, and the first row of each distinct image. Blank images are copies of one
/// another too.
fn distinct(files: &[(PathBuf, Images)], splits: &[Split]) -> (Vec<Row>, Vec<Place>) {
    let numbers = split_numbers(files, splits);
    let (mut rows, mut first) = (Vec::new(), Vec::new());
    let mut known: HashMap<ImageHash, usize> = HashMap::new();
    for (file, ((_, images), numbers)) in files.iter().zip(&numbers).enumerate() {
        for (position, (hash, split)) in images.hashes.iter().zip(numbers).enumerate() {
            let image = *known.entry(*hash).or_insert_with(|| {
                first.push((file, position));
                first.len() - 1
            });
            let label = images.labels.as_ref().and_then(|labels| labels.get(position).copied());
            rows.push(Row { place: (file, position), split: *split, image, label });
        }
    }
    (rows, first)
}

/// The rows of each distinct image.
struct Copies {
    by_image: Vec<Vec<Row>>,
    /// The splits that each image is in.
    splits: Vec<BTreeSet<usize>>,
    /// Which row of an image in a split to keep.
    kept: HashMap<(usize, usize), Option<Place>>,
}

impl Copies {
    fn new(rows: &[Row], images: usize) -> Self {
        let mut by_image = vec![Vec::new(); images];
        for row in rows {
            if let Some(of_image) = by_image.get_mut(row.image) {
                of_image.push(*row);
            }
        }
        let splits: Vec<BTreeSet<usize>> =
            by_image.iter().map(|copies| copies.iter().map(|row| row.split).collect()).collect();
        let mut kept = HashMap::new();
        for (image, (copies, splits)) in by_image.iter().zip(&splits).enumerate() {
            for split in splits {
                kept.insert((image, *split), keeper(copies.iter().filter(|row| row.split == *split)));
            }
        }
        Self { by_image, splits, kept }
    }

    fn of(&self, image: usize) -> &[Row] {
        self.by_image.get(image).map_or(&[], Vec::as_slice)
    }

    fn is_elsewhere(&self, image: usize, split: usize) -> bool {
        self.splits.get(image).is_some_and(|splits| splits.iter().any(|other| *other != split))
    }

    /// What is wrong with a row of a group, with whether to leave it out for that. `near` has the images
    /// that are nearly its own.
    ///
    /// The first split, which is for training, loses what is in another one, so that a model is not
    /// tested on what it is trained on. Of copies in a split the first with the most frequent label is
    /// kept, and none if there is no such label.
    fn problems(&self, row: &Row, near: &[usize]) -> Vec<(Problem, bool)> {
        let copies = self.of(row.image);
        let is_copy = copies.iter().filter(|other| other.split == row.split).take(2).count() > 1;
        let is_redundant = is_copy && self.kept.get(&(row.image, row.split)) != Some(&Some(row.place));
        // Images for testing may have no labels.
        let differs = |other: &Row| other.label.zip(row.label).is_some_and(|(one, other)| one != other);
        let is_conflict = copies.iter().any(differs);
        let is_first = row.split == 0;
        let mut problems = Vec::new();
        if self.is_elsewhere(row.image, row.split) {
            problems.push((Problem::ExactAcrossSplits, is_first || is_redundant));
        } else if near.iter().any(|image| self.is_elsewhere(*image, row.split)) {
            problems.push((Problem::NearAcrossSplits, is_first || is_redundant));
        }
        if is_conflict {
            problems.push((Problem::ConflictingLabels, is_redundant));
        }
        if problems.is_empty() {
            let problem = if is_copy { Problem::ExactDuplicate } else { Problem::NearDuplicate };
            problems.push((problem, is_redundant));
        }
        problems
    }
}

/// Which of the copies of an image in a split to keep.
fn keeper<'a>(copies: impl Iterator<Item = &'a Row> + Clone) -> Option<Place> {
    let mut counts: BTreeMap<Option<u8>, usize> = BTreeMap::new();
    copies.clone().for_each(|row| *counts.entry(row.label).or_default() += 1);
    let most = counts.values().copied().max().unwrap_or_default();
    let mut frequent = counts.iter().filter(|(_, count)| **count == most).map(|(label, _)| *label);
    let (first, second) = (frequent.next(), frequent.next());
    let mut copies = copies.filter(|row| second.is_none() && Some(row.label) == first);
    copies.next().map(|row| row.place)
}

/// Duplicates between each pair of splits that have some.
fn across(rows: &[Row], splits: &[Split], near: &BTreeMap<usize, Vec<usize>>) -> Vec<SplitDuplicates> {
    let mut images: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); splits.len()];
    for row in rows {
        if let Some(of_split) = images.get_mut(row.split) {
            of_split.insert(row.image);
        }
    }
    let mut found = Vec::new();
    for (number, (from, first)) in splits.iter().zip(&images).enumerate() {
        for (other, to) in splits.iter().enumerate().skip(number + 1) {
            let of_second = rows.iter().filter(|row| row.split == other);
            let (exact, others): (Vec<&Row>, Vec<&Row>) = of_second.partition(|row| first.contains(&row.image));
            let is_near = |row: &&&Row| near.get(&row.image).is_some_and(|all| all.iter().any(|i| first.contains(i)));
            let near = others.iter().filter(is_near).count();
            found.push(SplitDuplicates { from: from.name.clone(), to: to.name.clone(), exact: exact.len(), near });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of (split, image, label), in the order of a file.
    fn copies(rows: &[(usize, usize, u8)]) -> (Vec<Row>, Copies) {
        let row = |(position, (split, image, label)): (usize, &(usize, usize, u8))| Row {
            place: (0, position),
            split: *split,
            image: *image,
            label: Some(*label),
        };
        let rows: Vec<Row> = rows.iter().enumerate().map(row).collect();
        let images = rows.iter().map(|row| row.image + 1).max().unwrap_or_default();
        let copies = Copies::new(&rows, images);
        (rows, copies)
    }

    #[test]
    fn a_chain_of_near_duplicates_is_judged_by_its_pairs() {
        // 0 is nearly 1, and 1 is nearly 2, which is for testing.
        let (rows, copies) = copies(&[(0, 0, 1), (0, 1, 1), (1, 2, 1)]);
        assert_eq!(copies.problems(&rows[0], &[1]), [(Problem::NearDuplicate, false)]);
        assert_eq!(copies.problems(&rows[1], &[0, 2]), [(Problem::NearAcrossSplits, true)]);
        assert_eq!(copies.problems(&rows[2], &[1]), [(Problem::NearAcrossSplits, false)]);
    }

    #[test]
    fn the_first_split_loses_what_is_in_another() {
        let (rows, copies) = copies(&[(0, 0, 1), (1, 0, 1), (1, 1, 1), (2, 1, 2)]);
        let problems: Vec<_> = rows.iter().map(|row| copies.problems(row, &[])).collect();
        assert_eq!(problems[0], [(Problem::ExactAcrossSplits, true)]);
        assert_eq!(problems[1], [(Problem::ExactAcrossSplits, false)]);
        // Neither of the two is for training, and their labels differ.
        let differ = [(Problem::ExactAcrossSplits, false), (Problem::ConflictingLabels, false)];
        assert_eq!((problems[2].as_slice(), problems[3].as_slice()), (&differ[..], &differ[..]));
    }

    #[test]
    fn an_image_without_a_label_is_no_conflict() {
        let row = |position, split, label| Row { place: (0, position), split, image: 0, label };
        let rows = [row(0, 0, Some(3)), row(1, 1, None)];
        let copies = Copies::new(&rows, 1);
        assert_eq!(copies.problems(&rows[0], &[]), [(Problem::ExactAcrossSplits, true)]);
        assert_eq!(copies.problems(&rows[1], &[]), [(Problem::ExactAcrossSplits, false)]);
    }

    #[test]
    fn of_copies_the_first_with_the_most_frequent_label_is_kept() {
        let excluded = |labels: &[u8]| -> Vec<bool> {
            let (rows, copies) = copies(&labels.iter().map(|label| (0, 0, *label)).collect::<Vec<_>>());
            rows.iter().map(|row| copies.problems(row, &[])[0].1).collect()
        };
        assert_eq!(excluded(&[1, 1]), [false, true]);
        assert_eq!(excluded(&[2, 1, 1]), [true, false, true]);
        assert_eq!(excluded(&[2, 1]), [true, true]);
    }
}
