//! Compares both split finders with a reference implementation on every instruction set.

use proptest::prelude::*;

use super::{Histogram, Mark, Node, SmallNodes};
use crate::isa::tests::for_each_isa;

/// A node: `values[row][feature]` and the marks of its rows.
#[derive(Debug, Clone)]
struct Example {
    classes: usize,
    values: Vec<Vec<u8>>,
    marks: Vec<Mark>,
}

impl Example {
    fn totals(&self) -> Vec<u32> {
        let mut totals = vec![0; self.classes];
        self.marks.iter().for_each(|mark| totals[usize::from(mark.class())] += mark.weight());
        totals
    }

    /// Score of sending values up to `threshold` to the left; `None` if that leaves a side empty.
    fn score(&self, feature: usize, threshold: u8) -> Option<f64> {
        let mut sides = [vec![0u64; self.classes], vec![0; self.classes]];
        for (values, mark) in self.values.iter().zip(&self.marks) {
            sides[usize::from(values[feature] > threshold)][usize::from(mark.class())] += u64::from(mark.weight());
        }
        let score = |counts: &[u64]| {
            let weight: u64 = counts.iter().sum();
            (weight > 0).then(|| counts.iter().map(|count| count * count).sum::<u64>() as f64 / weight as f64)
        };
        Some(score(&sides[0])? + score(&sides[1])?)
    }

    fn best_score(&self, features: usize) -> Option<f64> {
        let all = (0..features).flat_map(|feature| (0..255).map(move |threshold| (feature, threshold)));
        all.filter_map(|(feature, threshold)| self.score(feature, threshold)).max_by(f64::total_cmp)
    }

    /// Whether the threshold is the midpoint of two values that occur.
    fn is_midpoint(&self, feature: usize, threshold: u8) -> bool {
        let values = || self.values.iter().map(|values| values[feature]);
        let low = values().filter(|value| *value <= threshold).max();
        let high = values().filter(|value| *value > threshold).min();
        low.zip(high).is_some_and(|(low, high)| threshold == low.midpoint(high))
    }
}

const FEATURES: usize = 37;

fn examples() -> impl Strategy<Value = Example> {
    let shape = (1usize..=150, prop_oneof![Just(7usize), 2usize..=12], prop_oneof![Just(1u8), Just(6), Just(255)]);
    shape.prop_flat_map(|(rows, classes, spread)| {
        let value = (0..=spread).prop_map(move |value| value.wrapping_mul(255 / spread));
        let marks = prop::collection::vec((0..classes as u8, 1u32..4), rows);
        let values = prop::collection::vec(prop::collection::vec(value, FEATURES), rows);
        (values, marks).prop_map(move |(values, marks)| Example {
            classes,
            values,
            marks: marks.into_iter().map(|(class, weight)| Mark::new(class, weight)).collect(),
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_implementations_find_the_best_split(example in examples()) {
        let rows: Vec<u32> = (0..example.values.len() as u32).collect();
        let totals = example.totals();
        let features: Vec<u16> = (0..FEATURES as u16).collect();
        let expected = example.best_score(FEATURES);
        let pixels = example.values.concat();
        let mut results = Vec::new();
        for_each_isa(|_| {
            let mut histogram = Histogram::new(example.classes);
            let splits: Vec<_> = (0..FEATURES).map(|feature| {
                let column: Vec<u8> = example.values.iter().map(|values| values[feature]).collect();
                histogram.best_split(&column, &example.marks, &totals)
            }).collect();
            for (feature, split) in splits.iter().enumerate() {
                assert_eq!(split.map(|split| split.score), (0..255).filter_map(|t| example.score(feature, t)).max_by(f64::total_cmp));
                if let Some(split) = split {
                    assert_eq!(example.score(feature, split.threshold), Some(split.score));
                    assert!(example.is_midpoint(feature, split.threshold));
                }
            }
            let small = SmallNodes::supports(&example.marks, &totals).then(|| {
                let node = Node { pixels: &pixels, width: FEATURES, rows: &rows, marks: &example.marks, totals: &totals };
                SmallNodes::new().best_split(node, &features)
            });
            if let Some(found) = small {
                assert_eq!(found.is_some(), expected.is_some());
                if let Some((feature, threshold)) = found {
                    let (score, expected) = (example.score(feature, threshold).unwrap(), expected.unwrap());
                    assert!((score - expected).abs() <= 1e-6 * expected, "{score}, expected {expected}");
                    assert!(example.is_midpoint(feature, threshold));
                }
            }
            results.push((splits, small));
        });
        prop_assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "instruction sets differ");
    }
}

#[test]
fn only_small_nodes_are_supported() {
    let marks = |count, weight| vec![Mark::new(0, weight); count];
    let supports = |marks: &[Mark], classes| {
        let mut totals = vec![0; classes];
        totals[0] = marks.iter().map(|mark| mark.weight()).sum();
        SmallNodes::supports(marks, &totals)
    };
    assert!(supports(&marks(SmallNodes::MAX_ROWS, 1), 8));
    assert!(!supports(&marks(SmallNodes::MAX_ROWS + 1, 1), 8));
    assert!(!supports(&marks(2, 1), 9));
    assert!(!supports(&marks(1, 32), 8));
    assert!(supports(&marks(8, 31), 8) && !supports(&marks(9, 31), 8));
}

#[test]
fn the_first_of_equal_splits_is_returned() {
    // Features 1 and 2 are equal, feature 0 is constant.
    let pixels = [5, 0, 0, 5, 0, 0, 5, 9, 9, 5, 9, 9];
    let marks = [0, 0, 1, 1].map(|class| Mark::new(class, 1));
    let node = Node { pixels: &pixels, width: 3, rows: &[0, 1, 2, 3], marks: &marks, totals: &[2, 2] };
    assert_eq!(SmallNodes::new().best_split(node, &[0, 2, 1]), Some((1, 4)));
    assert_eq!(SmallNodes::new().best_split(node, &[0]), None);
    let constant = Histogram::new(2).best_split(&[5; 4], &marks, &[2, 2]);
    assert_eq!(constant, None);
}
