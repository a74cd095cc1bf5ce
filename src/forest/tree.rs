//! A decision tree: growing and traversal.

use kernels::gini::Mark;

use super::bootstrap::{FeatureSampler, bootstrap};
use super::split_finder::{Node, SplitFinder};
use super::{FeatureMatrix, ForestError, ForestValidParams};
use crate::util::rng::{Rng, Stream};

/// Feature of a leaf.
pub(super) const LEAF: u16 = u16::MAX;

/// A node of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeNode {
    /// For a split, the index of the left child, with the right child after it. For a leaf, its row
    /// of leaf counts.
    pub next: u32,
    /// Feature of the split, or `u16::MAX` for a leaf.
    pub feature: u16,
    /// Maximum value that goes left.
    pub threshold: u8,
}

/// A tree; the root is the first node, and children come after their parents.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    nodes: Vec<TreeNode>,
    /// `[leaves, classes]`: weight of each class in a leaf. All pure leaves of a class share one of
    /// the first rows.
    counts: Vec<u32>,
    classes: usize,
}

impl Tree {
    /// A tree of valid parts, as [`super::forest_file`] checks them.
    pub(super) fn from_parts(nodes: Vec<TreeNode>, counts: Vec<u32>, classes: usize) -> Self {
        Self { nodes, counts, classes }
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[TreeNode] {
        &self.nodes
    }

    /// `[leaves, classes]`
    pub(super) fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// The row of leaf counts for a row of features.
    pub(super) fn leaf(&self, values: &[u8]) -> usize {
        let mut node = self.nodes.first();
        while let Some(TreeNode { next, feature, threshold }) = node.copied() {
            if feature == LEAF {
                return next as usize;
            }
            let right = values.get(usize::from(feature)).is_some_and(|value| *value > threshold);
            node = self.nodes.get(next as usize + usize::from(right));
        }
        0
    }

    /// `[leaves, classes]`: frequency of each class.
    pub(super) fn frequencies(&self) -> Vec<f64> {
        let normalize = |counts: &[u32]| {
            let weight: u64 = counts.iter().copied().map(u64::from).sum();
            counts.iter().map(|count| f64::from(*count) / weight as f64).collect::<Vec<_>>()
        };
        self.counts.chunks(self.classes.max(1)).flat_map(normalize).collect()
    }
}

/// A node that is not split yet, and its range of the tree's rows.
struct PendingNode {
    index: usize,
    start: usize,
    end: usize,
}

/// Grows tree `number` of a forest. Returns it with the decrease in impurity of each feature,
/// normalized to sum 1.
pub(super) fn grow(
    matrix: &FeatureMatrix<'_>,
    params: &ForestValidParams<'_>,
    finder: &mut dyn SplitFinder,
    number: usize,
) -> Result<(Tree, Vec<f64>), ForestError> {
    let mut rng = Rng::new(&[Stream::Forest as u64, params.seed, number as u64]);
    let sample = bootstrap(&mut rng, matrix.labels());
    let mut sampler = FeatureSampler::new(matrix.width());
    let classes = params.classes;
    let mut counts = vec![0; classes * classes];
    counts.iter_mut().step_by(classes + 1).for_each(|count| *count = 1);
    let leaf = TreeNode { next: 0, feature: LEAF, threshold: 0 };
    let mut nodes = vec![leaf];
    let mut importance = vec![0.0; matrix.width()];
    let (mut rows, mut marks) = sample;
    let mut buffer = PartitionBuffer::default();
    let mut pending = vec![PendingNode { index: 0, start: 0, end: rows.len() }];
    let mut totals = vec![0; classes];
    while let Some(PendingNode { index, start, end }) = pending.pop() {
        if params.callback.should_stop() {
            return Err(ForestError::Stopped);
        }
        let (Some(rows), Some(marks)) = (rows.get_mut(start..end), marks.get_mut(start..end)) else { continue };
        sum_weights(marks, &mut totals);
        let node = Node { rows, marks, totals: &totals };
        let split = if is_pure(&totals) { None } else { find(matrix, params, finder, &mut sampler, &mut rng, node)? };
        let Some(split) = split else {
            let row = leaf_row(&totals, &mut counts);
            if let Some(node) = nodes.get_mut(index) {
                node.next = row;
            }
            continue;
        };
        let before = squares_over_sum(&totals);
        let on_left = buffer.partition(matrix.column(split.feature), split.threshold, rows, marks);
        let (left, right) = marks.split_at(on_left);
        sum_weights(left, &mut totals);
        let after = squares_over_sum(&totals);
        sum_weights(right, &mut totals);
        if let Some(importance) = importance.get_mut(usize::from(split.feature)) {
            *importance += after + squares_over_sum(&totals) - before;
        }
        let next = nodes.len();
        if let Some(node) = nodes.get_mut(index) {
            *node = TreeNode { next: next as u32, feature: split.feature, threshold: split.threshold };
        }
        nodes.extend([leaf, leaf]);
        // The left child is next: its rows are likely still in the cache.
        pending.push(PendingNode { index: next + 1, start: start + on_left, end });
        pending.push(PendingNode { index: next, start, end: start + on_left });
    }
    let sum: f64 = importance.iter().sum();
    if sum > 0.0 {
        importance.iter_mut().for_each(|value| *value /= sum);
    }
    Ok((Tree { nodes, counts, classes }, importance))
}

/// The best split by the sampled features; if all are constant, by the first further one that is
/// not.
fn find(
    matrix: &FeatureMatrix<'_>,
    params: &ForestValidParams<'_>,
    finder: &mut dyn SplitFinder,
    sampler: &mut FeatureSampler,
    rng: &mut Rng,
    node: Node<'_>,
) -> Result<Option<super::Split>, ForestError> {
    let features = sampler.sample(rng, params.max_features.resolve(matrix.width()));
    let mut found = finder.find(matrix, node, features)?;
    while found.is_none() {
        let Some(feature) = sampler.sample_next(rng) else { break };
        if !is_constant(matrix.column(feature), node.rows) {
            found = finder.find(matrix, node, &[feature])?;
        }
    }
    Ok(found)
}

fn is_constant(column: &[u8], rows: &[u32]) -> bool {
    let mut values = rows.iter().map(|row| column.get(*row as usize));
    let first = values.next();
    values.all(|value| Some(value) == first)
}

/// Sums the weights of each class.
fn sum_weights(marks: &[Mark], totals: &mut [u32]) {
    totals.fill(0);
    for mark in marks {
        if let Some(total) = totals.get_mut(usize::from(mark.class())) {
            *total += mark.weight();
        }
    }
}

fn is_pure(totals: &[u32]) -> bool {
    totals.iter().filter(|total| **total > 0).count() < 2
}

/// Sum of squares over the sum: the weight of a node times (1 - its Gini impurity).
fn squares_over_sum(totals: &[u32]) -> f64 {
    let (mut sum, mut squares) = (0.0, 0.0);
    for total in totals.iter().copied().map(f64::from) {
        sum += total;
        squares += total * total;
    }
    squares / sum
}

/// The row of leaf counts for these totals; a new one unless the leaf is pure.
fn leaf_row(totals: &[u32], counts: &mut Vec<u32>) -> u32 {
    if is_pure(totals) {
        return totals.iter().position(|total| *total > 0).unwrap_or(0) as u32;
    }
    let row = counts.len() / totals.len().max(1);
    counts.extend_from_slice(totals);
    row as u32
}

/// Holds the rows that go right during a partition.
#[derive(Debug, Default)]
struct PartitionBuffer {
    rows: Vec<u32>,
    marks: Vec<Mark>,
}

impl PartitionBuffer {
    /// Moves the rows that go left to the front, in stable order, and returns their number.
    fn partition(&mut self, column: &[u8], threshold: u8, rows: &mut [u32], marks: &mut [Mark]) -> usize {
        self.rows.clear();
        self.marks.clear();
        let mut kept = 0;
        for index in 0..rows.len() {
            let (Some(row), Some(mark)) = (rows.get(index).copied(), marks.get(index).copied()) else { break };
            if column.get(row as usize).is_some_and(|value| *value > threshold) {
                self.rows.push(row);
                self.marks.push(mark);
            } else {
                if let (Some(to), Some(mark_to)) = (rows.get_mut(kept), marks.get_mut(kept)) {
                    (*to, *mark_to) = (row, mark);
                }
                kept += 1;
            }
        }
        if let (Some(rows), Some(marks)) = (rows.get_mut(kept..), marks.get_mut(kept..)) {
            rows.copy_from_slice(&self.rows);
            marks.copy_from_slice(&self.marks);
        }
        kept
    }
}
