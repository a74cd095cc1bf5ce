//! Stratified folds of the cross-validation.

use std::collections::HashMap;

use crate::data::images::ImageHash;

/// Orders rows for linfa's `iter_fold`, which cuts them into `folds` consecutive folds, so that
/// each fold has the same class fractions.
///
/// The folds are those of scikit-learn's `StratifiedKFold` without shuffling, except that linfa's
/// all have N / folds rows. The remaining N mod folds rows come last: every fold trains on them and
/// none validates on them.
///
/// With `group_duplicates` an image and its exact duplicates go into one fold, the one with the
/// fewest images of its class. A few rows that fit nowhere fill up the folds.
pub fn stratified_folds(labels: &[u8], hashes: &[ImageHash], folds: usize, group_duplicates: bool) -> Vec<usize> {
    let folds = folds.max(1);
    let parts = if group_duplicates { grouped_folds(labels, hashes, folds) } else { sklearn_folds(labels, folds) };
    let size = labels.len() / folds;
    let mut left_over: Vec<usize> = parts.iter().flat_map(|part| part.iter().skip(size).copied()).collect();
    let mut order = Vec::with_capacity(labels.len());
    for part in &parts {
        order.extend(part.iter().take(size));
        // From the end, to keep the order of the others.
        order.extend((part.len()..size).filter_map(|_| left_over.pop()));
    }
    left_over.sort_unstable();
    order.extend(left_over);
    order
}

/// The test rows of scikit-learn's `StratifiedKFold`: it deals the sorted labels to the folds in
/// turn, and a fold takes as many rows of a class, in order, as it was dealt. Classes are sorted by
/// first appearance.
fn sklearn_folds(labels: &[u8], folds: usize) -> Vec<Vec<usize>> {
    let mut by_class: Vec<(u8, Vec<usize>)> = Vec::new();
    for (row, label) in labels.iter().enumerate() {
        match by_class.iter_mut().find(|(class, _)| class == label) {
            Some((_, rows)) => rows.push(row),
            None => by_class.push((*label, vec![row])),
        }
    }
    let mut parts = vec![Vec::new(); folds];
    let mut dealt = 0;
    for (_, rows) in by_class {
        let mut rows_left = rows.iter();
        for (number, part) in parts.iter_mut().enumerate() {
            let count = (dealt..dealt + rows.len()).filter(|position| position % folds == number).count();
            part.extend(rows_left.by_ref().take(count));
        }
        dealt += rows.len();
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    parts
}

/// Folds that keep duplicates together; rows that fit nowhere are at the end of the last one.
fn grouped_folds(labels: &[u8], hashes: &[ImageHash], folds: usize) -> Vec<Vec<usize>> {
    let mut indices: HashMap<ImageHash, usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (row, hash) in hashes.iter().enumerate() {
        let group = *indices.entry(*hash).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(rows) => rows.push(row),
            None => groups.push(vec![row]),
        }
    }
    // Large groups first, while there is room for them; then in the order of the file.
    groups.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let size = labels.len() / folds;
    let mut parts = vec![Vec::new(); folds];
    let mut counts = vec![[0usize; 256]; folds];
    let mut left_over = Vec::new();
    for rows in groups {
        let label = |row: &usize| labels.get(*row).copied().map_or(0, usize::from);
        let first = rows.first().map_or(0, label);
        let free = parts.iter_mut().zip(&mut counts).filter(|(part, _)| part.len() + rows.len() <= size);
        let fewest = free.min_by_key(|(part, counts)| (counts.get(first).copied(), part.len()));
        let Some((part, counts)) = fewest else {
            left_over.extend(rows);
            continue;
        };
        for row in &rows {
            if let Some(count) = counts.get_mut(label(row)) {
                *count += 1;
            }
        }
        part.extend(rows);
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    if let Some(last) = parts.last_mut() {
        left_over.sort_unstable();
        last.extend(left_over);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distinct(count: usize) -> Vec<ImageHash> {
        (0..count).map(|row| ImageHash::new(&row.to_le_bytes())).collect()
    }

    /// ```python
    /// from sklearn.model_selection import StratifiedKFold          # 1.9.1
    /// y = [2, 0, 1, 2, 0, 0, 1, 2, 2, 0, 1, 1, 2]
    /// [test.tolist() for _, test in StratifiedKFold(3).split(y, y)]
    /// # [[0, 1, 2, 3, 6], [4, 7, 8, 10], [5, 9, 11, 12]]
    /// ```
    #[test]
    fn folds_match_scikit_learn() {
        let labels = [2, 0, 1, 2, 0, 0, 1, 2, 2, 0, 1, 1, 2];
        assert_eq!(sklearn_folds(&labels, 3), [vec![0, 1, 2, 3, 6], vec![4, 7, 8, 10], vec![5, 9, 11, 12]]);
        let order = stratified_folds(&labels, &distinct(13), 3, false);
        assert_eq!(order, [0, 1, 2, 3, 4, 7, 8, 10, 5, 9, 11, 12, 6], "four each, and one left over");
    }

    #[test]
    fn folds_are_a_permutation_with_even_classes() {
        let labels: Vec<u8> = (0..1003).map(|row| [0, 0, 0, 1, 1, 2][row % 6]).collect();
        // Every fifth image of the second half duplicates one of the first half.
        let is_duplicate = |row: usize| row >= 500 && row % 5 == 4;
        let hashes: Vec<ImageHash> = (0..1003)
            .map(|row| ImageHash::new(&(if is_duplicate(row) { row - 499 } else { row }).to_le_bytes()))
            .collect();
        for grouped in [false, true] {
            let order = stratified_folds(&labels, &hashes, 5, grouped);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..1003).collect::<Vec<_>>());
            for part in order.chunks(200).take(5) {
                let count = |class| part.iter().filter(|row| labels[**row] == class).count() as i64;
                for (class, expected) in [(0, 100), (1, 67), (2, 33)] {
                    assert!((count(class) - expected).abs() <= 2, "class {class}: {}", count(class));
                }
            }
            let part = |row: usize| order.iter().position(|other| *other == row).unwrap() / 200;
            let separated = (0..1003).filter(|row| is_duplicate(*row) && part(*row) != part(row - 499)).count();
            assert!(if grouped { separated <= 1 } else { separated > 90 }, "{separated} duplicates in another fold");
        }
    }

    #[test]
    fn a_group_larger_than_a_fold_is_divided() {
        let labels = [0, 1, 0, 1, 0, 1, 0, 1];
        let hashes = vec![ImageHash::new(b"the same image"); 8];
        let mut order = stratified_folds(&labels, &hashes, 4, true);
        order.sort_unstable();
        assert_eq!(order, (0..8).collect::<Vec<_>>());
    }
}
