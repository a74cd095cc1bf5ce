//! The train/validation split: group exact duplicates, sort groups by a seeded random key, take
//! groups up to the fraction.
//!
//! It runs in polars because polars does all data work of the project, reading and splitting. A
//! plain sort of a `Vec` would do as well.

use anyhow::Result;
use polars::prelude::*;

use super::config::SplitKind;
use super::images::ImageHash;
use crate::util::rng::{Rng, Stream};

/// Parameters of a split.
#[derive(Debug, Clone, Copy)]
pub struct SplitRequest {
    /// Fraction of the rows used for validation: above 0, below 1.
    pub fraction: f64,
    /// Stratified or random.
    pub kind: SplitKind,
    /// Put exact duplicates of an image in the same part.
    pub group_duplicates: bool,
    /// Seed of the random keys.
    pub seed: u64,
}

/// Returns a mask `[N]` that is true for validation rows.
///
/// A group is an image with all its duplicates, or a single row. Its key is a function of the seed
/// and of the number of its first row in the file, `rows`: a row that is left out moves few others to
/// the other part. Groups are sorted by key, within the class of their first row if stratified,
/// and assigned to validation up to the fraction. The random split takes ceil(fraction * rows), as
/// scikit-learn's `train_test_split`; the stratified split rounds within each class.
pub fn validation_mask(rows: &[u32], hashes: &[ImageHash], labels: &[u8], request: SplitRequest) -> Result<Vec<bool>> {
    let groups = groups(hashes, request.group_duplicates)?;
    let stratum = |first: usize| match request.kind {
        SplitKind::Stratified => labels.get(first).copied().map_or(0, u32::from),
        SplitKind::Random => 0,
    };
    let first_rows = || groups.iter().map(|rows| first(rows));
    let frame = DataFrame::new(
        groups.len(),
        vec![
            Column::new("group".into(), (0..groups.len() as u32).collect::<Vec<_>>()),
            Column::new("stratum".into(), first_rows().map(stratum).collect::<Vec<_>>()),
            Column::new("key".into(), first_rows().map(|first| key(rows, first, request.seed)).collect::<Vec<_>>()),
            Column::new("size".into(), groups.iter().map(|rows| rows.len() as u32).collect::<Vec<_>>()),
        ],
    )?
    .sort(["stratum", "key"], SortMultipleOptions::default())?;

    let mut validation = vec![false; hashes.len()];
    for (start, length) in equal_runs(frame.column("stratum")?.u32()?) {
        let part = frame.slice(start, length);
        let sizes = part.column("size")?.as_materialized_series().cast(&DataType::UInt64)?;
        let total = sizes.sum::<u64>()?;
        let exact = total as f64 * request.fraction;
        let target = match request.kind {
            SplitKind::Stratified => exact.round(),
            SplitKind::Random => exact.ceil(),
        };
        let cumulative = cum_sum(&sizes, false)?;
        let candidates = part.column("group")?.u32()?.iter().zip(cumulative.u64()?.iter()).zip(sizes.u64()?.iter());
        for ((group, cumulative), size) in candidates {
            let (Some(group), Some(cumulative), Some(size)) = (group, cumulative, size) else { continue };
            // Take a group if more than half of it fits.
            if cumulative as f64 - size as f64 / 2.0 >= target {
                break;
            }
            for row in groups.get(group as usize).into_iter().flatten() {
                if let Some(is_validation) = validation.get_mut(*row as usize) {
                    *is_validation = true;
                }
            }
        }
    }
    Ok(validation)
}

/// Returns the fold of each row `[N]`, 1 to `folds`.
///
/// Groups as in [`validation_mask`], large ones first and then by their key, go to the fold with the
/// fewest rows of their class if stratified, of those to the one with the fewest rows. `fraction` is
/// not used.
pub fn folds(rows: &[u32], hashes: &[ImageHash], labels: &[u8], request: SplitRequest, folds: u32) -> Result<Vec<u32>> {
    let mut groups = groups(hashes, request.group_duplicates)?;
    groups.sort_by_cached_key(|group| (std::cmp::Reverse(group.len()), key(rows, first(group), request.seed)));
    // Rows of each class, and of all, in each fold.
    let mut counts = vec![([0_usize; 256], 0_usize); folds as usize];
    let mut assigned = vec![1; hashes.len()];
    for rows in groups {
        let class = match request.kind {
            SplitKind::Stratified => labels.get(first(&rows)).copied().map_or(0, usize::from),
            SplitKind::Random => 0,
        };
        let fewest = (1_u32..).zip(&mut counts).min_by_key(|(_, (classes, all))| (classes.get(class).copied(), *all));
        let Some((fold, (classes, all))) = fewest else { continue };
        *all += rows.len();
        if let Some(count) = classes.get_mut(class) {
            *count += rows.len();
        }
        for row in rows {
            if let Some(slot) = assigned.get_mut(row as usize) {
                *slot = fold;
            }
        }
    }
    Ok(assigned)
}

/// The position of the first row of a group.
fn first(group: &[u32]) -> usize {
    group.first().map_or(0, |position| *position as usize)
}

/// The random key of a group whose first row is at `position`.
fn key(rows: &[u32], position: usize, seed: u64) -> u64 {
    let row = rows.get(position).map_or(position as u64, |row| u64::from(*row));
    Rng::new(&[Stream::Split as u64, seed, row]).next_u64()
}

/// The positions of the rows of each group; groups are in the order of their first row.
fn groups(hashes: &[ImageHash], group_duplicates: bool) -> Result<Vec<Vec<u32>>> {
    if !group_duplicates {
        return Ok((0..hashes.len() as u32).map(|row| vec![row]).collect());
    }
    // As two numbers, which take a fifth of the memory of texts.
    let half = |range: std::ops::Range<usize>| -> Vec<u64> {
        let half = |hash: &ImageHash| hash.as_bytes().get(range.clone()).and_then(|bytes| bytes.first_chunk().copied());
        hashes.iter().map(|hash| half(hash).map_or(0, u64::from_be_bytes)).collect()
    };
    let columns = vec![Column::new("high".into(), half(0..8)), Column::new("low".into(), half(8..16))];
    let groups = DataFrame::new(hashes.len(), columns)?.group_by_stable(["high", "low"])?.into_groups();
    Ok(groups
        .iter()
        .map(|group| match group {
            GroupsIndicator::Idx((_, rows)) => rows.to_vec(),
            GroupsIndicator::Slice([first, length]) => (first..first + length).collect(),
        })
        .collect())
}

/// Start and length of each run of equal values.
fn equal_runs(values: &UInt32Chunked) -> Vec<(i64, usize)> {
    let mut runs: Vec<(i64, usize)> = Vec::new();
    let mut last = None;
    for (position, value) in values.iter().enumerate() {
        match runs.last_mut() {
            Some((_, length)) if last == Some(value) => *length += 1,
            _ => runs.push((position as i64, 1)),
        }
        last = Some(value);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` rows with imbalanced labels 0..3; every fifth row duplicates the image before it.
    fn rows(n: usize) -> (Vec<ImageHash>, Vec<u8>) {
        let hash = |i: usize| ImageHash::new(&(if i % 5 == 4 { i - 1 } else { i }).to_le_bytes());
        ((0..n).map(hash).collect(), (0..n).map(|i| [0, 0, 0, 1, 1, 2][i % 6]).collect())
    }

    /// Row numbers of a file without gaps.
    fn numbers(hashes: &[ImageHash]) -> Vec<u32> {
        (0..hashes.len() as u32).collect()
    }

    fn request(kind: SplitKind, group_duplicates: bool, seed: u64) -> SplitRequest {
        SplitRequest { fraction: 0.2, kind, group_duplicates, seed }
    }

    #[test]
    fn split_is_a_function_of_the_seed() {
        let (hashes, labels) = rows(1000);
        for kind in [SplitKind::Random, SplitKind::Stratified] {
            let one = validation_mask(&numbers(&hashes), &hashes, &labels, request(kind, true, 1)).unwrap();
            assert_eq!(one, validation_mask(&numbers(&hashes), &hashes, &labels, request(kind, true, 1)).unwrap());
            assert_ne!(one, validation_mask(&numbers(&hashes), &hashes, &labels, request(kind, true, 2)).unwrap());
        }
    }

    #[test]
    fn random_split_rounds_up_as_scikit_learn() {
        let (hashes, labels) = rows(1003);
        let mask = validation_mask(&numbers(&hashes), &hashes, &labels, request(SplitKind::Random, false, 42)).unwrap();
        assert_eq!(mask.iter().filter(|v| **v).count(), 201);
    }

    #[test]
    fn stratified_split_takes_the_fraction_of_every_class() {
        let (hashes, labels) = rows(1200);
        let mask =
            validation_mask(&numbers(&hashes), &hashes, &labels, request(SplitKind::Stratified, false, 42)).unwrap();
        for (class, expected) in [(0, 120), (1, 80), (2, 40)] {
            let count = mask.iter().zip(&labels).filter(|(v, label)| **v && **label == class).count();
            assert_eq!(count, expected, "validation rows of class {class}");
        }
    }

    #[test]
    fn rows_that_are_left_out_hardly_change_the_parts_of_others() {
        let (hashes, labels) = rows(2000);
        let left: Vec<usize> = (0..2000).filter(|row| row % 50 != 1).collect();
        let of = |values: &[u8]| left.iter().map(|row| values[*row]).collect::<Vec<_>>();
        let left_rows: Vec<u32> = left.iter().map(|row| *row as u32).collect();
        let left_hashes: Vec<ImageHash> = left.iter().map(|row| hashes[*row]).collect();
        for kind in [SplitKind::Random, SplitKind::Stratified] {
            let all = validation_mask(&numbers(&hashes), &hashes, &labels, request(kind, true, 42)).unwrap();
            let some = validation_mask(&left_rows, &left_hashes, &of(&labels), request(kind, true, 42)).unwrap();
            let moved = left.iter().zip(&some).filter(|(row, part)| all[**row] != **part).count();
            assert!(moved <= 12, "{moved} of 1960 rows");
        }
    }

    #[test]
    fn group_duplicates_keeps_duplicates_in_one_part() {
        let (hashes, labels) = rows(2000);
        let separated = |mask: &[bool]| (0..2000).filter(|i| i % 5 == 4 && mask[*i] != mask[i - 1]).count();
        for kind in [SplitKind::Random, SplitKind::Stratified] {
            let grouped = validation_mask(&numbers(&hashes), &hashes, &labels, request(kind, true, 42)).unwrap();
            assert_eq!(separated(&grouped), 0);
            let count = grouped.iter().filter(|v| **v).count();
            assert!((397..=403).contains(&count), "{count} validation rows of 2000");
            let ungrouped = validation_mask(&numbers(&hashes), &hashes, &labels, request(kind, false, 42)).unwrap();
            assert!(separated(&ungrouped) > 50);
        }
    }

    #[test]
    fn folds_are_even_in_every_class_and_keep_duplicates_together() {
        let (hashes, labels) = rows(2003);
        for kind in [SplitKind::Random, SplitKind::Stratified] {
            let found = folds(&numbers(&hashes), &hashes, &labels, request(kind, true, 42), 5).unwrap();
            assert_eq!(found, folds(&numbers(&hashes), &hashes, &labels, request(kind, true, 42), 5).unwrap());
            assert_ne!(found, folds(&numbers(&hashes), &hashes, &labels, request(kind, true, 43), 5).unwrap());
            assert!((0..2003).all(|row| row % 5 != 4 || found[row] == found[row - 1]));
            let count = |fold: u32, class: Option<u8>| {
                let is_counted = |(f, label): &(&u32, &u8)| **f == fold && class.is_none_or(|class| **label == class);
                found.iter().zip(&labels).filter(is_counted).count() as i64
            };
            for fold in 1..=5 {
                assert!((count(fold, None) - 401).abs() <= 3, "{} rows", count(fold, None));
                for (class, expected) in [(0, 200), (1, 134), (2, 67)] {
                    let found = count(fold, Some(class));
                    // A group has the class of its first row.
                    let is_even = (found - expected).abs() <= 10;
                    assert!(kind == SplitKind::Random || is_even, "{found} rows of class {class}");
                }
            }
        }
    }
}
