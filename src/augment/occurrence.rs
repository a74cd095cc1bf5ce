//! Faces that come more than once in an epoch.

use std::collections::HashMap;

/// For each of `rows` how often it stands before, from 0.
pub fn occurrences(rows: &[i64]) -> Vec<u64> {
    let mut seen: HashMap<i64, u64> = HashMap::with_capacity(rows.len());
    rows.iter()
        .map(|row| {
            let count = seen.entry(*row).or_default();
            *count += 1;
            *count - 1
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_by_itself() {
        assert_eq!(occurrences(&[4, 2, 4, 4, 0, 2]), [0, 0, 1, 2, 0, 1]);
        assert!(occurrences(&[]).is_empty());
    }
}
