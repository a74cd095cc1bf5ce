//! Both finders against the definition, for every instruction set.

use proptest::prelude::*;

use super::{Histogram, Mark, Node, Small};
use crate::lanes::tests::with_each;

/// A node by itself: `values[row][feature]`, and the marks of its rows.
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

    /// The score of sending values up to `threshold` to the left; `None` when that leaves a part empty.
    fn score(&self, feature: usize, threshold: u8) -> Option<f64> {
        let mut parts = [vec![0u64; self.classes], vec![0; self.classes]];
        for (values, mark) in self.values.iter().zip(&self.marks) {
            parts[usize::from(values[feature] > threshold)][usize::from(mark.class())] += u64::from(mark.weight());
        }
        let share = |counts: &[u64]| {
            let weight: u64 = counts.iter().sum();
            (weight > 0).then(|| counts.iter().map(|count| count * count).sum::<u64>() as f64 / weight as f64)
        };
        Some(share(&parts[0])? + share(&parts[1])?)
    }

    fn best(&self, features: usize) -> Option<f64> {
        let all = (0..features).flat_map(|feature| (0..255).map(move |threshold| (feature, threshold)));
        all.filter_map(|(feature, threshold)| self.score(feature, threshold)).max_by(f64::total_cmp)
    }

    /// Whether the threshold is halfway between two values that occur.
    fn is_halfway(&self, feature: usize, threshold: u8) -> bool {
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
    fn both_find_the_best(example in examples()) {
        let rows: Vec<u32> = (0..example.values.len() as u32).collect();
        let totals = example.totals();
        let features: Vec<u16> = (0..FEATURES as u16).collect();
        let wanted = example.best(FEATURES);
        let pixels = example.values.concat();
        let mut every = Vec::new();
        with_each(|_| {
            let mut histogram = Histogram::new(example.classes);
            let cuts: Vec<_> = (0..FEATURES).map(|feature| {
                let column: Vec<u8> = example.values.iter().map(|values| values[feature]).collect();
                histogram.best(&column, &example.marks, &totals)
            }).collect();
            for (feature, cut) in cuts.iter().enumerate() {
                assert_eq!(cut.map(|cut| cut.score), (0..255).filter_map(|t| example.score(feature, t)).max_by(f64::total_cmp));
                if let Some(cut) = cut {
                    assert_eq!(example.score(feature, cut.threshold), Some(cut.score));
                    assert!(example.is_halfway(feature, cut.threshold));
                }
            }
            let small = Small::takes(&example.marks, &totals).then(|| {
                let node = Node { pixels: &pixels, width: FEATURES, rows: &rows, marks: &example.marks, totals: &totals };
                Small::new().best(node, &features)
            });
            if let Some(found) = small {
                assert_eq!(found.is_some(), wanted.is_some());
                if let Some((feature, threshold)) = found {
                    let (score, wanted) = (example.score(feature, threshold).unwrap(), wanted.unwrap());
                    assert!((score - wanted).abs() <= 1e-6 * wanted, "{score} against {wanted}");
                    assert!(example.is_halfway(feature, threshold));
                }
            }
            every.push((cuts, small));
        });
        prop_assert!(every.windows(2).all(|pair| pair[0] == pair[1]), "instruction sets differ");
    }
}

#[test]
fn only_small_nodes_are_taken() {
    let marks = |count, weight| vec![Mark::new(0, weight); count];
    let takes = |marks: &[Mark], classes| {
        let mut totals = vec![0; classes];
        totals[0] = marks.iter().map(|mark| mark.weight()).sum();
        Small::takes(marks, &totals)
    };
    assert!(takes(&marks(Small::MOST_ROWS, 1), 8));
    assert!(!takes(&marks(Small::MOST_ROWS + 1, 1), 8));
    assert!(!takes(&marks(2, 1), 9));
    assert!(!takes(&marks(1, 32), 8));
    assert!(takes(&marks(8, 31), 8) && !takes(&marks(9, 31), 8));
}

#[test]
fn the_first_of_equals_is_taken() {
    // Features 1 and 2 are alike, 0 is of no use.
    let pixels = [5, 0, 0, 5, 0, 0, 5, 9, 9, 5, 9, 9];
    let marks = [0, 0, 1, 1].map(|class| Mark::new(class, 1));
    let node = Node { pixels: &pixels, width: 3, rows: &[0, 1, 2, 3], marks: &marks, totals: &[2, 2] };
    assert_eq!(Small::new().best(node, &[0, 2, 1]), Some((1, 4)));
    assert_eq!(Small::new().best(node, &[0]), None);
    let alike = Histogram::new(2).best(&[5; 4], &marks, &[2, 2]);
    assert_eq!(alike, None);
}
