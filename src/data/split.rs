//! The train/validation split: group exact duplicates, sort groups by a seeded random key, take
//! groups up to the fraction.
//!
//! It takes some 30 bytes per row: ten million rows are split on a machine with little memory.

use std::cmp::Reverse;

use rayon::prelude::*;

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

/// Rows to split, in file order.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// `[N]` number of each row in its file.
    pub numbers: &'a [u32],
    /// `[N]` hash of each image.
    pub hashes: &'a [ImageHash],
    /// `[N]` class numbers.
    pub labels: &'a [u8],
}

/// Returns a mask `[N]` that is true for validation rows.
///
/// A group is an image with all its duplicates, or a single row. Its key is a function of the seed
/// and of the number of its first row in the file: a row that is left out moves few others to the
/// other part. Groups are sorted by key, within the class of their first row if stratified, and
/// assigned to validation up to the fraction. The random split takes ceil(fraction * rows), as
/// scikit-learn's `train_test_split`; the stratified split rounds within each class.
pub fn validation_mask(rows: Rows<'_>, request: SplitRequest) -> Vec<bool> {
    let groups = Groups::new(rows.hashes, request.group_duplicates);
    let mut order: Vec<(u8, u64, u32)> = groups
        .firsts()
        .map(|first| (rows.stratum(first, request.kind), rows.key(first, request.seed), first))
        .collect();
    order.par_sort_unstable();
    let mut is_taken = vec![false; rows.hashes.len()];
    for stratum in order.chunk_by(|(one, ..), (other, ..)| one == other) {
        let total: u64 = stratum.iter().map(|(.., first)| groups.size(*first)).sum();
        let exact = total as f64 * request.fraction;
        let target = match request.kind {
            SplitKind::Stratified => exact.round(),
            SplitKind::Random => exact.ceil(),
        };
        let mut taken = 0;
        for (.., first) in stratum {
            let size = groups.size(*first);
            taken += size;
            // Take a group if more than half of it fits.
            if taken as f64 - size as f64 / 2.0 >= target {
                break;
            }
            if let Some(slot) = is_taken.get_mut(*first as usize) {
                *slot = true;
            }
        }
    }
    groups.spread(&is_taken)
}

/// Returns the fold of each row `[N]`, 1 to `folds`.
///
/// Groups as in [`validation_mask`], large ones first and then by their key, go to the fold with the
/// fewest rows of their class if stratified, of those to the one with the fewest rows. `fraction` is
/// not used.
pub fn folds(rows: Rows<'_>, request: SplitRequest, folds: u32) -> Vec<u32> {
    let groups = Groups::new(rows.hashes, request.group_duplicates);
    let mut order: Vec<(Reverse<u64>, u64, u32)> =
        groups.firsts().map(|first| (Reverse(groups.size(first)), rows.key(first, request.seed), first)).collect();
    order.par_sort_unstable();
    // Rows of each class, and of all, in each fold.
    let mut counts = vec![([0_u64; 256], 0_u64); folds as usize];
    let mut assigned = vec![1; rows.hashes.len()];
    for (Reverse(size), _, first) in order {
        let class = usize::from(rows.stratum(first, request.kind));
        let fewest = (1_u32..).zip(&mut counts).min_by_key(|(_, (classes, all))| (classes.get(class).copied(), *all));
        let Some((fold, (classes, all))) = fewest else { continue };
        *all += size;
        if let Some(count) = classes.get_mut(class) {
            *count += size;
        }
        if let Some(slot) = assigned.get_mut(first as usize) {
            *slot = fold;
        }
    }
    groups.spread(&assigned)
}

impl Rows<'_> {
    /// The class of the group whose first row is at the position `first`, if classes matter.
    fn stratum(&self, first: u32, kind: SplitKind) -> u8 {
        match kind {
            SplitKind::Stratified => self.labels.get(first as usize).copied().unwrap_or_default(),
            SplitKind::Random => 0,
        }
    }

    /// The random key of that group.
    fn key(&self, first: u32, seed: u64) -> u64 {
        let number = self.numbers.get(first as usize).copied().unwrap_or(first);
        Rng::new(&[Stream::Split as u64, seed, u64::from(number)]).next_u64()
    }
}

/// Groups of rows, each named by the position of its first row.
struct Groups {
    /// `[N]` the group of each row.
    first: Vec<u32>,
    /// `[N]` at the position of a first row, the number of rows of its group.
    sizes: Vec<u32>,
}

impl Groups {
    /// Rows with equal hashes are a group if `group_duplicates`, otherwise each row is.
    fn new(hashes: &[ImageHash], group_duplicates: bool) -> Self {
        let positions = 0..hashes.len() as u32;
        if !group_duplicates {
            return Self { first: positions.collect(), sizes: vec![1; hashes.len()] };
        }
        let mut order: Vec<(ImageHash, u32)> = hashes.iter().copied().zip(positions).collect();
        order.par_sort_unstable();
        let mut found = Self { first: vec![0; hashes.len()], sizes: vec![0; hashes.len()] };
        for group in order.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((_, first)) = group.first() else { continue };
            if let Some(size) = found.sizes.get_mut(*first as usize) {
                *size = group.len() as u32;
            }
            for (_, position) in group {
                if let Some(slot) = found.first.get_mut(*position as usize) {
                    *slot = *first;
                }
            }
        }
        found
    }

    /// The positions of first rows, in file order.
    fn firsts(&self) -> impl Iterator<Item = u32> {
        (0_u32..).zip(&self.first).filter(|(position, first)| position == *first).map(|(position, _)| position)
    }

    fn size(&self, first: u32) -> u64 {
        self.sizes.get(first as usize).copied().map_or(0, u64::from)
    }

    /// The value of each row, which is that of the first row of its group.
    fn spread<T: Copy + Default>(&self, of_first: &[T]) -> Vec<T> {
        self.first.iter().map(|first| of_first.get(*first as usize).copied().unwrap_or_default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` rows with imbalanced labels 0..3; every fifth row duplicates the image before it.
    fn rows(n: usize) -> (Vec<ImageHash>, Vec<u8>) {
        let hash = |i: usize| ImageHash::new(&(if i % 5 == 4 { i - 1 } else { i }).to_le_bytes());
        ((0..n).map(hash).collect(), (0..n).map(|i| [0, 0, 0, 1, 1, 2][i % 6]).collect())
    }

    /// The mask of a file without gaps.
    fn mask(hashes: &[ImageHash], labels: &[u8], request: SplitRequest) -> Vec<bool> {
        let numbers: Vec<u32> = (0..hashes.len() as u32).collect();
        validation_mask(Rows { numbers: &numbers, hashes, labels }, request)
    }

    fn request(kind: SplitKind, group_duplicates: bool, seed: u64) -> SplitRequest {
        SplitRequest { fraction: 0.2, kind, group_duplicates, seed }
    }

    #[test]
    fn split_is_a_function_of_the_seed() {
        let (hashes, labels) = rows(1000);
        for kind in [SplitKind::Random, SplitKind::Stratified] {
            let one = mask(&hashes, &labels, request(kind, true, 1));
            assert_eq!(one, mask(&hashes, &labels, request(kind, true, 1)));
            assert_ne!(one, mask(&hashes, &labels, request(kind, true, 2)));
        }
    }

    #[test]
    fn random_split_rounds_up_as_scikit_learn() {
        let (hashes, labels) = rows(1003);
        let mask = mask(&hashes, &labels, request(SplitKind::Random, false, 42));
        assert_eq!(mask.iter().filter(|v| **v).count(), 201);
    }

    #[test]
    fn stratified_split_takes_the_fraction_of_every_class() {
        let (hashes, labels) = rows(1200);
        let mask = mask(&hashes, &labels, request(SplitKind::Stratified, false, 42));
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
            let all = mask(&hashes, &labels, request(kind, true, 42));
            let some = validation_mask(
                Rows { numbers: &left_rows, hashes: &left_hashes, labels: &of(&labels) },
                request(kind, true, 42),
            );
            let moved = left.iter().zip(&some).filter(|(row, part)| all[**row] != **part).count();
            assert!(moved <= 12, "{moved} of 1960 rows");
        }
    }

    #[test]
    fn group_duplicates_keeps_duplicates_in_one_part() {
        let (hashes, labels) = rows(2000);
        let separated = |mask: &[bool]| (0..2000).filter(|i| i % 5 == 4 && mask[*i] != mask[i - 1]).count();
        for kind in [SplitKind::Random, SplitKind::Stratified] {
            let grouped = mask(&hashes, &labels, request(kind, true, 42));
            assert_eq!(separated(&grouped), 0);
            let count = grouped.iter().filter(|v| **v).count();
            assert!((397..=403).contains(&count), "{count} validation rows of 2000");
            let ungrouped = mask(&hashes, &labels, request(kind, false, 42));
            assert!(separated(&ungrouped) > 50);
        }
    }

    #[test]
    fn folds_are_even_in_every_class_and_keep_duplicates_together() {
        let (hashes, labels) = rows(2003);
        for kind in [SplitKind::Random, SplitKind::Stratified] {
            let numbers: Vec<u32> = (0..2003).collect();
            let rows = Rows { numbers: &numbers, hashes: &hashes, labels: &labels };
            let found = folds(rows, request(kind, true, 42), 5);
            assert_eq!(found, folds(rows, request(kind, true, 42), 5));
            assert_ne!(found, folds(rows, request(kind, true, 43), 5));
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
