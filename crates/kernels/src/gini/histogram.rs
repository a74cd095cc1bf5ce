//! Large nodes: weights of classes by value of the feature. Bytes have 256 values, so nothing is rounded into bins.

use super::{Cut, MOST_CLASSES, Mark, middle};
use crate::dispatch::compiled;

/// Values of a byte.
const VALUES: usize = 256;

/// Room for the counts of one feature after another.
#[derive(Debug)]
pub struct Histogram {
    counts: Vec<u32>,
    /// Classes, rounded up to what loops are compiled for.
    lanes: usize,
}

impl Histogram {
    /// For labels below `classes`.
    ///
    /// # Panics
    /// With more than [`MOST_CLASSES`] classes.
    pub fn new(classes: usize) -> Self {
        assert!(classes <= MOST_CLASSES);
        let lanes = classes.next_power_of_two().max(8);
        Self { counts: vec![0; VALUES * lanes], lanes }
    }

    /// The best split of a node by a feature with these `values`, one for each of the `marks` of its rows; `totals` has the
    /// node's weight of each class. `None` when all have the same value.
    ///
    /// # Panics
    /// When values and marks differ in number, or a class was not announced.
    pub fn best(&mut self, values: &[u8], marks: &[Mark], totals: &[u32]) -> Option<Cut> {
        assert!(values.len() == marks.len() && totals.len() <= self.lanes);
        let node = Node { values, marks, totals };
        let mut found = None;
        match self.lanes {
            8 => best_of_8(table(&mut self.counts), &node, &mut found),
            16 => best_of_16(table(&mut self.counts), &node, &mut found),
            32 => best_of_32(table(&mut self.counts), &node, &mut found),
            64 => best_of_64(table(&mut self.counts), &node, &mut found),
            _ => best_of_128(table(&mut self.counts), &node, &mut found),
        }
        found
    }
}

struct Node<'a> {
    values: &'a [u8],
    marks: &'a [Mark],
    totals: &'a [u32],
}

/// Counts by value and class.
type Table<const LANES: usize> = [[u32; LANES]; VALUES];

fn table<const LANES: usize>(counts: &mut [u32]) -> &mut Table<LANES> {
    let Some(table) = counts.as_chunks_mut().0.first_chunk_mut() else { unreachable!("there is room for every value") };
    table
}

compiled! {
    fn best_of_8(counts: &mut Table<8>, node: &Node<'_>, found: &mut Option<Cut>) = body
}
compiled! {
    fn best_of_16(counts: &mut Table<16>, node: &Node<'_>, found: &mut Option<Cut>) = body
}
compiled! {
    fn best_of_32(counts: &mut Table<32>, node: &Node<'_>, found: &mut Option<Cut>) = body
}
compiled! {
    fn best_of_64(counts: &mut Table<64>, node: &Node<'_>, found: &mut Option<Cut>) = body
}
compiled! {
    fn best_of_128(counts: &mut Table<128>, node: &Node<'_>, found: &mut Option<Cut>) = body
}

#[inline(always)]
fn body<const LANES: usize>(counts: &mut Table<LANES>, node: &Node<'_>, found: &mut Option<Cut>) {
    *counts = [[0; LANES]; VALUES];
    for (value, mark) in node.values.iter().zip(node.marks) {
        counts[usize::from(*value)][usize::from(mark.class()) % LANES] += mark.weight();
    }
    *found = scan(counts, node.totals);
}

/// The best of the 255 splits between values. Where a value does not occur, the split after it equals the one before it,
/// and the first of equals is taken.
#[inline(always)]
fn scan<const LANES: usize>(counts: &Table<LANES>, totals: &[u32]) -> Option<Cut> {
    let mut right = [0u32; LANES];
    right[..totals.len()].copy_from_slice(totals);
    let weight: f64 = totals.iter().map(|total| f64::from(*total)).sum();
    let mut left = [0u32; LANES];
    let (mut weights, mut lefts, mut rights) = ([0.0; VALUES], [0.0; VALUES], [0.0; VALUES]);
    for value in 0..VALUES {
        let (mut on_left, mut sum_left, mut sum_right) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for class in 0..LANES {
            left[class] += counts[value][class];
            right[class] -= counts[value][class];
            let (l, r) = (f64::from(left[class]), f64::from(right[class]));
            (on_left[class], sum_left[class], sum_right[class]) = (l, l * l, r * r);
        }
        weights[value] = sum(on_left);
        lefts[value] = sum(sum_left);
        rights[value] = sum(sum_right);
    }
    let mut scores = [0.0; VALUES];
    for value in 0..VALUES {
        let score = lefts[value] / weights[value] + rights[value] / (weight - weights[value]);
        // Where one part is empty that was no number, and there is no split.
        let splits = weights[value] > 0.0 && weights[value] < weight;
        scores[value] = if splits { score } else { -1.0 };
    }
    let mut best = (-1.0, 0);
    for (value, score) in scores.iter().enumerate() {
        if *score > best.0 {
            best = (*score, value);
        }
    }
    let (score, low) = best;
    if score < 0.0 {
        return None;
    }
    let high = (low + 1..VALUES).find(|value| counts[*value] != [0; LANES])?;
    Some(Cut { score, threshold: middle(low as u8, high as u8) })
}

/// Halves added to halves: whole numbers, so the order changes nothing, and this one becomes vector instructions.
#[inline(always)]
fn sum<const LANES: usize>(mut values: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for place in 0..half {
            values[place] += values[place + half];
        }
        half /= 2;
    }
    values[0]
}
