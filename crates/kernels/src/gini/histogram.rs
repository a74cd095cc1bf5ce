//! Split search for large nodes: a histogram of class weights by feature value. A uint8 feature has
//! 256 values, so there is one bin per value.

use super::{MAX_CLASSES, Mark, Split, midpoint};
use crate::dispatch::multiversion;

/// Values of a uint8 feature.
const VALUES: usize = 256;

/// Split finder with a buffer that is reused from feature to feature.
#[derive(Debug)]
pub struct Histogram {
    counts: Vec<u32>,
    /// Number of classes, rounded up to one that loops are compiled for.
    lanes: usize,
}

impl Histogram {
    /// Creates a finder for labels below `classes`.
    ///
    /// # Panics
    /// If `classes` is above [`MAX_CLASSES`].
    pub fn new(classes: usize) -> Self {
        assert!(classes <= MAX_CLASSES);
        let lanes = classes.next_power_of_two().max(8);
        Self { counts: vec![0; VALUES * lanes], lanes }
    }

    /// Finds the best split of a node by a feature with `values` ([rows of the node]). `marks` are
    /// of the same rows; `totals` (`[classes]`) is the node's weight per class. `None` if all
    /// values are equal.
    ///
    /// # Panics
    /// If values and marks differ in number, or there are more totals than classes.
    pub fn best_split(&mut self, values: &[u8], marks: &[Mark], totals: &[u32]) -> Option<Split> {
        assert!(values.len() == marks.len() && totals.len() <= self.lanes);
        let node = Node { values, marks, totals };
        let mut found = None;
        match self.lanes {
            8 => best_split_of_8(bins(&mut self.counts), &node, &mut found),
            16 => best_split_of_16(bins(&mut self.counts), &node, &mut found),
            32 => best_split_of_32(bins(&mut self.counts), &node, &mut found),
            64 => best_split_of_64(bins(&mut self.counts), &node, &mut found),
            _ => best_split_of_128(bins(&mut self.counts), &node, &mut found),
        }
        found
    }
}

struct Node<'a> {
    values: &'a [u8],
    marks: &'a [Mark],
    totals: &'a [u32],
}

/// Weights by value and class.
type Bins<const LANES: usize> = [[u32; LANES]; VALUES];

fn bins<const LANES: usize>(counts: &mut [u32]) -> &mut Bins<LANES> {
    let Some(bins) = counts.as_chunks_mut().0.first_chunk_mut() else { unreachable!("the buffer has a bin per value") };
    bins
}

multiversion! {
    fn best_split_of_8(counts: &mut Bins<8>, node: &Node<'_>, found: &mut Option<Split>) = body
}
multiversion! {
    fn best_split_of_16(counts: &mut Bins<16>, node: &Node<'_>, found: &mut Option<Split>) = body
}
multiversion! {
    fn best_split_of_32(counts: &mut Bins<32>, node: &Node<'_>, found: &mut Option<Split>) = body
}
multiversion! {
    fn best_split_of_64(counts: &mut Bins<64>, node: &Node<'_>, found: &mut Option<Split>) = body
}
multiversion! {
    fn best_split_of_128(counts: &mut Bins<128>, node: &Node<'_>, found: &mut Option<Split>) = body
}

#[inline(always)]
fn body<const LANES: usize>(counts: &mut Bins<LANES>, node: &Node<'_>, found: &mut Option<Split>) {
    *counts = [[0; LANES]; VALUES];
    for (value, mark) in node.values.iter().zip(node.marks) {
        counts[usize::from(*value)][usize::from(mark.class()) % LANES] += mark.weight();
    }
    *found = scan(counts, node.totals);
}

/// Finds the best of the 255 splits between values, the first of equals. If a value does not
/// occur, the split after it equals the one before it.
#[inline(always)]
fn scan<const LANES: usize>(counts: &Bins<LANES>, totals: &[u32]) -> Option<Split> {
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
        // The score is NaN where one side is empty, which is not a split.
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
    Some(Split { score, threshold: midpoint(low as u8, high as u8) })
}

/// Sums by halving, which vectorizes. The values are integers, so the order does not change the
/// sum.
#[inline(always)]
fn sum<const LANES: usize>(mut values: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for at in 0..half {
            values[at] += values[at + half];
        }
        half /= 2;
    }
    values[0]
}
