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
    let mut found = Duplicates { groups: groups.len(), across: across(&rows, splits, &near), ..Duplicates::default() };
    found.exact = rows.len() - first.len();
    for (number, members) in (1..).zip(groups.values()) {
        let images: BTreeSet<usize> = members.iter().map(|row| row.image).collect();
        found.near += images.len() - 1;
        found.findings.extend(findings(members, number, &best));
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

/// The findings of a group: one for each row. Of a row in several splits, the splits listed first lose
/// it, so that a model is not tested on what it is trained on; of exact duplicates in one split the
/// first with the most frequent label is kept, and none if there is no such label.
fn findings(members: &[Row], group: usize, best: &HashMap<usize, f64>) -> Vec<Finding> {
    let last_split = members.iter().map(|row| row.split).max().unwrap_or_default();
    let copies = |row: &Row| members.iter().filter(|other| other.image == row.image).copied().collect::<Vec<_>>();
    let finding = |row: &Row| {
        let copies = copies(row);
        let in_split: Vec<Row> = copies.iter().filter(|other| other.split == row.split).copied().collect();
        let (keeper, is_conflict) = keeper(&in_split);
        let is_across = members.iter().any(|other| other.split != row.split);
        let is_exact_across = copies.iter().any(|other| other.split != row.split);
        let is_copy = in_split.len() > 1;
        let problem = match (is_across, is_exact_across, is_conflict, is_copy) {
            (true, true, ..) => Problem::ExactAcrossSplits,
            (true, false, ..) => Problem::NearAcrossSplits,
            (false, _, true, _) => Problem::ConflictingLabels,
            (false, _, false, true) => Problem::ExactDuplicate,
            (false, _, false, false) => Problem::NearDuplicate,
        };
        let is_redundant = is_copy && keeper != Some(row.place);
        let exclude = is_redundant || (is_across && row.split < last_split);
        let score = if copies.len() > 1 { 1.0 } else { best.get(&row.image).copied().unwrap_or(1.0) };
        Finding { place: row.place, problem, group: Some(group), suggested: None, score, exclude }
    };
    members.iter().map(finding).collect()
}

/// Which of the copies of an image to keep, and whether their labels differ.
fn keeper(copies: &[Row]) -> (Option<Place>, bool) {
    let mut counts: BTreeMap<Option<u8>, usize> = BTreeMap::new();
    copies.iter().for_each(|row| *counts.entry(row.label).or_default() += 1);
    let most = counts.values().copied().max().unwrap_or_default();
    let mut frequent = counts.iter().filter(|(_, count)| **count == most).map(|(label, _)| *label);
    let (first, second) = (frequent.next(), frequent.next());
    let kept = if second.is_some() { None } else { copies.iter().find(|row| Some(row.label) == first) };
    (kept.map(|row| row.place), counts.len() > 1)
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
