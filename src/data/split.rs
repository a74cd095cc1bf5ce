//! Dividing rows into training and validation, in polars: group copies, order by a seeded key, cut at the fraction.

use std::collections::HashSet;

use anyhow::Result;
use polars::prelude::*;

use super::config::SplitKind;
use super::images::ImageHash;
use crate::util::rng::{Rng, Stream};

/// How to divide.
#[derive(Debug, Clone, Copy)]
pub struct SplitRequest {
    /// Share of the rows that goes to validation: above 0, below 1.
    pub fraction: f64,
    /// By class or regardless of it.
    pub kind: SplitKind,
    /// Exact copies of an image fall into one part.
    pub group_duplicates: bool,
    /// Same seed and rows, same split.
    pub seed: u64,
}

/// For each row whether it is a validation row.
///
/// Rows are taken in units: an image with all its copies, or a single row. Each unit gets a random key that follows from the
/// seed and its first row; units are sorted by key, within their class when stratified (the class of the unit's first
/// row), and taken for validation up to the fraction. The random split takes ceil(fraction * rows), as scikit-learn's
/// `train_test_split`; the stratified one rounds within each class.
///
/// # Errors
/// Only polars' own, which no input can cause.
pub fn draw(hashes: &[ImageHash], labels: &[u8], request: SplitRequest) -> Result<Vec<bool>> {
    let units = units(hashes, request.group_duplicates)?;
    let stratum = |first: usize| match request.kind {
        SplitKind::Stratified => labels.get(first).copied().map_or(0, u32::from),
        SplitKind::Random => 0,
    };
    let key = |first: usize| Rng::new(&[Stream::Split as u64, request.seed, first as u64]).next_u64();
    let firsts = || units.iter().map(|rows| rows.first().map_or(0, |row| *row as usize));
    let frame = DataFrame::new(
        units.len(),
        vec![
            Column::new("unit".into(), (0..units.len() as u32).collect::<Vec<_>>()),
            Column::new("stratum".into(), firsts().map(stratum).collect::<Vec<_>>()),
            Column::new("key".into(), firsts().map(key).collect::<Vec<_>>()),
            Column::new("size".into(), units.iter().map(|rows| rows.len() as u32).collect::<Vec<_>>()),
        ],
    )?
    .sort(["stratum", "key"], SortMultipleOptions::default())?;

    let mut validation = vec![false; hashes.len()];
    for (start, length) in runs(frame.column("stratum")?.u32()?) {
        let part = frame.slice(start, length);
        let sizes = part.column("size")?.as_materialized_series().cast(&DataType::UInt64)?;
        let total = sizes.sum::<u64>()?;
        let exact = total as f64 * request.fraction;
        let target = match request.kind {
            SplitKind::Stratified => exact.round(),
            SplitKind::Random => exact.ceil(),
        };
        let reached = cum_sum(&sizes, false)?;
        let chosen = part.column("unit")?.u32()?.iter().zip(reached.u64()?.iter()).zip(sizes.u64()?.iter());
        for ((unit, reached), size) in chosen {
            let (Some(unit), Some(reached), Some(size)) = (unit, reached, size) else { continue };
            // A unit of several rows is taken when more than half of it fits; a single row when it fits.
            if reached as f64 - size as f64 / 2.0 >= target {
                break;
            }
            for row in units.get(unit as usize).into_iter().flatten() {
                if let Some(place) = validation.get_mut(*row as usize) {
                    *place = true;
                }
            }
        }
    }
    Ok(validation)
}

/// The rows of each unit, units in the order of their first row.
fn units(hashes: &[ImageHash], group_duplicates: bool) -> Result<Vec<Vec<u32>>> {
    if !group_duplicates {
        return Ok((0..hashes.len() as u32).map(|row| vec![row]).collect());
    }
    let images: Vec<String> = hashes.iter().map(ToString::to_string).collect();
    let frame = DataFrame::new(images.len(), vec![Column::new("image".into(), images)])?;
    let groups = frame.group_by_stable(["image"])?.into_groups();
    Ok(groups
        .iter()
        .map(|group| match group {
            GroupsIndicator::Idx((_, rows)) => rows.to_vec(),
            GroupsIndicator::Slice([first, length]) => (first..first + length).collect(),
        })
        .collect())
}

/// Start and length of each run of equal values.
fn runs(values: &UInt32Chunked) -> Vec<(i64, usize)> {
    let mut runs: Vec<(i64, usize)> = Vec::new();
    let mut last = None;
    for (place, value) in values.iter().enumerate() {
        match runs.last_mut() {
            Some((_, length)) if last == Some(value) => *length += 1,
            _ => runs.push((place as i64, 1)),
        }
        last = Some(value);
    }
    runs
}

/// For each image whether it also stands among `known`.
pub fn seen_in(hashes: &[ImageHash], known: &HashSet<ImageHash>) -> Vec<bool> {
    hashes.iter().map(|hash| known.contains(hash)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` rows of which every fifth repeats the image of the row before; labels 0..3 unevenly.
    fn rows(n: usize) -> (Vec<ImageHash>, Vec<u8>) {
        let hash = |i: usize| ImageHash::of(&(if i % 5 == 4 { i - 1 } else { i }).to_le_bytes());
        ((0..n).map(hash).collect(), (0..n).map(|i| [0, 0, 0, 1, 1, 2][i % 6]).collect())
    }

    fn request(kind: SplitKind, keep: bool, seed: u64) -> SplitRequest {
        SplitRequest { fraction: 0.2, kind, group_duplicates: keep, seed }
    }

    #[test]
    fn the_seed_fixes_it() {
        let (hashes, labels) = rows(1000);
        for kind in [SplitKind::Random, SplitKind::Stratified] {
            let one = draw(&hashes, &labels, request(kind, true, 1)).unwrap();
            assert_eq!(one, draw(&hashes, &labels, request(kind, true, 1)).unwrap());
            assert_ne!(one, draw(&hashes, &labels, request(kind, true, 2)).unwrap());
        }
    }

    #[test]
    fn random_takes_the_ceiling_as_scikit_learn() {
        let (hashes, labels) = rows(1003);
        let taken = draw(&hashes, &labels, request(SplitKind::Random, false, 42)).unwrap();
        assert_eq!(taken.iter().filter(|v| **v).count(), 201);
    }

    #[test]
    fn stratified_takes_the_fraction_of_every_class() {
        let (hashes, labels) = rows(1200);
        let taken = draw(&hashes, &labels, request(SplitKind::Stratified, false, 42)).unwrap();
        for (class, wanted) in [(0, 120), (1, 80), (2, 40)] {
            let count = taken.iter().zip(&labels).filter(|(v, label)| **v && **label == class).count();
            assert_eq!(count, wanted, "validation rows of class {class}");
        }
    }

    #[test]
    fn copies_stay_together_when_asked() {
        let (hashes, labels) = rows(2000);
        let broken = |taken: &[bool]| (0..2000).filter(|i| i % 5 == 4 && taken[*i] != taken[i - 1]).count();
        for kind in [SplitKind::Random, SplitKind::Stratified] {
            let together = draw(&hashes, &labels, request(kind, true, 42)).unwrap();
            assert_eq!(broken(&together), 0);
            let count = together.iter().filter(|v| **v).count();
            assert!((397..=403).contains(&count), "{count} validation rows of 2000");
            assert!(
                broken(&draw(&hashes, &labels, request(kind, false, 42)).unwrap()) > 50,
                "without it they are torn apart"
            );
        }
    }
}
