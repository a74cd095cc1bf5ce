//! Which rows are tested in which fold of a cross-validation.

use std::collections::HashMap;

use crate::data::images::ImageHash;

/// Rows in an order in which linfa's `iter_fold` cuts them into `folds` parts with the same share of every class each: the
/// rows of the first fold, then those of the second, and so on.
///
/// Parts are those of scikit-learn's `StratifiedKFold` (not shuffled), but for one thing: linfa's are all of N / folds rows.
/// The N mod folds rows that are left over stand at the end: they are fitted on in every fold and tested in none.
///
/// With `group_duplicates` an image and its exact copies are put into one part instead, each into that which has the least
/// of its class; what then fits nowhere, a few rows at most, fills up the parts.
pub fn stratified_folds(labels: &[u8], hashes: &[ImageHash], folds: usize, group_duplicates: bool) -> Vec<usize> {
    let folds = folds.max(1);
    let parts =
        if group_duplicates { with_copies_together(labels, hashes, folds) } else { as_scikit_learn(labels, folds) };
    let size = labels.len() / folds;
    let mut left_over: Vec<usize> = parts.iter().flat_map(|part| part.iter().skip(size).copied()).collect();
    let mut order = Vec::with_capacity(labels.len());
    for part in &parts {
        order.extend(part.iter().take(size));
        // From the end, so that the others keep their order.
        order.extend((part.len()..size).filter_map(|_| left_over.pop()));
    }
    left_over.sort_unstable();
    order.extend(left_over);
    order
}

/// scikit-learn deals the sorted labels out, one to each part in turn, and gives each part as many rows of a class, in their
/// order, as it was dealt. Classes are sorted by their first appearance.
fn as_scikit_learn(labels: &[u8], folds: usize) -> Vec<Vec<usize>> {
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
            // Of the places dealt..dealt + rows.len(), those that leave this remainder.
            let own = (dealt..dealt + rows.len()).filter(|place| place % folds == number).count();
            part.extend(rows_left.by_ref().take(own));
        }
        dealt += rows.len();
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    parts
}

fn with_copies_together(labels: &[u8], hashes: &[ImageHash], folds: usize) -> Vec<Vec<usize>> {
    let mut places: HashMap<ImageHash, usize> = HashMap::new();
    let mut units: Vec<Vec<usize>> = Vec::new();
    for (row, hash) in hashes.iter().enumerate() {
        let unit = *places.entry(*hash).or_insert(units.len());
        match units.get_mut(unit) {
            Some(rows) => rows.push(row),
            None => units.push(vec![row]),
        }
    }
    // Those of many rows first, while there is room for them; then in the order of the file.
    units.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let size = labels.len() / folds;
    let mut parts = vec![Vec::new(); folds];
    let mut counts = vec![[0usize; 256]; folds];
    let mut left_over = Vec::new();
    for rows in units {
        let label = |row: &usize| labels.get(*row).copied().map_or(0, usize::from);
        let first = rows.first().map_or(0, label);
        let free = parts.iter_mut().zip(&mut counts).filter(|(part, _)| part.len() + rows.len() <= size);
        let least = free.min_by_key(|(part, counts)| (counts.get(first).copied(), part.len()));
        let Some((part, counts)) = least else {
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
    // The first part hands them on to whoever has room.
    parts.iter_mut().for_each(|part| part.sort_unstable());
    if let Some(last) = parts.last_mut() {
        let at = last.len();
        left_over.sort_unstable();
        last.splice(at..at, left_over);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distinct(count: usize) -> Vec<ImageHash> {
        (0..count).map(|row| ImageHash::of(&row.to_le_bytes())).collect()
    }

    /// ```python
    /// from sklearn.model_selection import StratifiedKFold          # 1.9.1
    /// y = [2, 0, 1, 2, 0, 0, 1, 2, 2, 0, 1, 1, 2]
    /// [test.tolist() for _, test in StratifiedKFold(3).split(y, y)]
    /// # [[0, 1, 2, 3, 6], [4, 7, 8, 10], [5, 9, 11, 12]]
    /// ```
    #[test]
    fn parts_are_those_of_scikit_learn() {
        let labels = [2, 0, 1, 2, 0, 0, 1, 2, 2, 0, 1, 1, 2];
        assert_eq!(as_scikit_learn(&labels, 3), [vec![0, 1, 2, 3, 6], vec![4, 7, 8, 10], vec![5, 9, 11, 12]]);
        let order = stratified_folds(&labels, &distinct(13), 3, false);
        assert_eq!(order, [0, 1, 2, 3, 4, 7, 8, 10, 5, 9, 11, 12, 6], "four each, and one left over");
    }

    #[test]
    fn every_row_stands_there_once_and_classes_are_even() {
        let labels: Vec<u8> = (0..1003).map(|row| [0, 0, 0, 1, 1, 2][row % 6]).collect();
        // Of the second half every fifth image is a copy of one in the first.
        let is_copy = |row: usize| row >= 500 && row % 5 == 4;
        let hashes: Vec<ImageHash> =
            (0..1003).map(|row| ImageHash::of(&(if is_copy(row) { row - 499 } else { row }).to_le_bytes())).collect();
        for together in [false, true] {
            let order = stratified_folds(&labels, &hashes, 5, together);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..1003).collect::<Vec<_>>());
            for part in order.chunks(200).take(5) {
                let count = |class| part.iter().filter(|row| labels[**row] == class).count() as i64;
                for (class, wanted) in [(0, 100), (1, 67), (2, 33)] {
                    assert!((count(class) - wanted).abs() <= 2, "class {class}: {}", count(class));
                }
            }
            let part = |row: usize| order.iter().position(|other| *other == row).unwrap() / 200;
            let torn = (0..1003).filter(|row| is_copy(*row) && part(*row) != part(row - 499)).count();
            assert!(if together { torn <= 1 } else { torn > 90 }, "{torn} copies torn apart");
        }
    }

    #[test]
    fn more_folds_than_copies_can_fill_still_get_their_rows() {
        let labels = [0, 1, 0, 1, 0, 1, 0, 1];
        let hashes = vec![ImageHash::of(b"all alike"); 8];
        let mut order = stratified_folds(&labels, &hashes, 4, true);
        order.sort_unstable();
        assert_eq!(order, (0..8).collect::<Vec<_>>());
    }
}
