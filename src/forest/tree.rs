//! One tree: grown, and walked through.

use kernels::gini::Mark;

use super::bootstrap::{FeatureDraw, bootstrap};
use super::split_finder::{Node, SplitFinder};
use super::{ForestError, ForestValidParams, Table};
use crate::util::rng::{Rng, Stream};

/// In the place of a feature: the node is a leaf.
pub(super) const LEAF: u16 = u16::MAX;

/// A node of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeNode {
    /// Of a split: the place of its left child in the tree, after which the right one stands. Of a leaf: its row of leaf counts.
    pub next: u32,
    /// The column looked at, or `u16::MAX` for a leaf.
    pub feature: u16,
    /// The greatest value that goes to the left.
    pub threshold: u8,
}

/// A tree: its root comes first, children after their parents.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    nodes: Vec<TreeNode>,
    /// `[leaves, classes]`: weight of each class in a leaf. The first rows are those of pure leaves, one for each class.
    counts: Vec<u32>,
    classes: usize,
}

impl Tree {
    /// A tree of these parts, which hold together: see [`super::store`].
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

    /// The row of leaf counts that a row of values ends at.
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

    /// `[leaves, classes]`: share of each class.
    pub(super) fn frequencies(&self) -> Vec<f64> {
        let share = |counts: &[u32]| {
            let weight: u64 = counts.iter().copied().map(u64::from).sum();
            counts.iter().map(|count| f64::from(*count) / weight as f64).collect::<Vec<_>>()
        };
        self.counts.chunks(self.classes.max(1)).flat_map(share).collect()
    }
}

/// The part of a tree's rows that a node has, still to be split.
struct Open {
    place: usize,
    start: usize,
    end: usize,
}

/// Grows tree `number` of a forest; also how much each feature lessened the impurity, from 0 to 1 all together.
pub(super) fn grow(
    table: &Table<'_>,
    params: &ForestValidParams<'_>,
    finder: &mut dyn SplitFinder,
    number: usize,
) -> Result<(Tree, Vec<f64>), ForestError> {
    let mut rng = Rng::new(&[Stream::Forest as u64, params.seed, number as u64]);
    let sample = bootstrap(&mut rng, table.labels());
    let mut draw = FeatureDraw::new(table.width());
    let classes = params.classes;
    let mut counts = vec![0; classes * classes];
    counts.iter_mut().step_by(classes + 1).for_each(|count| *count = 1);
    let leaf = TreeNode { next: 0, feature: LEAF, threshold: 0 };
    let mut nodes = vec![leaf];
    let mut importance = vec![0.0; table.width()];
    let (mut rows, mut marks) = sample;
    let mut room = Room::default();
    let mut open = vec![Open { place: 0, start: 0, end: rows.len() }];
    let mut totals = vec![0; classes];
    while let Some(Open { place, start, end }) = open.pop() {
        if params.watch.stops() {
            return Err(ForestError::Stopped);
        }
        let (Some(rows), Some(marks)) = (rows.get_mut(start..end), marks.get_mut(start..end)) else { continue };
        weigh(marks, &mut totals);
        let node = Node { rows, marks, totals: &totals };
        let split = if is_pure(&totals) { None } else { find(table, params, finder, &mut draw, &mut rng, node)? };
        let Some(split) = split else {
            let row = leaf_row(&totals, &mut counts);
            if let Some(node) = nodes.get_mut(place) {
                node.next = row;
            }
            continue;
        };
        let before = square_share(&totals);
        let on_left = room.divide(table.column(split.feature), split.threshold, rows, marks);
        let (left, right) = marks.split_at(on_left);
        weigh(left, &mut totals);
        let after = square_share(&totals);
        weigh(right, &mut totals);
        if let Some(importance) = importance.get_mut(usize::from(split.feature)) {
            *importance += after + square_share(&totals) - before;
        }
        let next = nodes.len();
        if let Some(node) = nodes.get_mut(place) {
            *node = TreeNode { next: next as u32, feature: split.feature, threshold: split.threshold };
        }
        nodes.extend([leaf, leaf]);
        // The left one is next: its rows are likely still in the cache.
        open.push(Open { place: next + 1, start: start + on_left, end });
        open.push(Open { place: next, start, end: start + on_left });
    }
    let sum: f64 = importance.iter().sum();
    if sum > 0.0 {
        importance.iter_mut().for_each(|value| *value /= sum);
    }
    Ok((Tree { nodes, counts, classes }, importance))
}

/// The best split by the drawn features, and where they do not split the node, by the first further one that does.
fn find(
    table: &Table<'_>,
    params: &ForestValidParams<'_>,
    finder: &mut dyn SplitFinder,
    draw: &mut FeatureDraw,
    rng: &mut Rng,
    node: Node<'_>,
) -> Result<Option<super::Split>, ForestError> {
    let features = draw.first(rng, params.max_features.of(table.width()));
    let mut found = finder.find(table, node, features)?;
    while found.is_none() {
        let Some(feature) = draw.next(rng) else { break };
        if !is_constant(table.column(feature), node.rows) {
            found = finder.find(table, node, &[feature])?;
        }
    }
    Ok(found)
}

fn is_constant(column: &[u8], rows: &[u32]) -> bool {
    let mut values = rows.iter().map(|row| column.get(*row as usize));
    let first = values.next();
    values.all(|value| Some(value) == first)
}

/// Weight of each class.
fn weigh(marks: &[Mark], totals: &mut [u32]) {
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

/// Sum of squares over the sum: the weight of a node, less that times its Gini impurity.
fn square_share(totals: &[u32]) -> f64 {
    let (mut sum, mut squares) = (0.0, 0.0);
    for total in totals.iter().copied().map(f64::from) {
        sum += total;
        squares += total * total;
    }
    squares / sum
}

/// The row of leaf counts for these; a new one unless the leaf is pure.
fn leaf_row(totals: &[u32], counts: &mut Vec<u32>) -> u32 {
    if is_pure(totals) {
        return totals.iter().position(|total| *total > 0).unwrap_or(0) as u32;
    }
    let row = counts.len() / totals.len().max(1);
    counts.extend_from_slice(totals);
    row as u32
}

/// Room for the rows that go to the right.
#[derive(Debug, Default)]
struct Room {
    rows: Vec<u32>,
    marks: Vec<Mark>,
}

impl Room {
    /// Puts the rows that go to the left in front, each part in its order; how many those are.
    fn divide(&mut self, column: &[u8], threshold: u8, rows: &mut [u32], marks: &mut [Mark]) -> usize {
        self.rows.clear();
        self.marks.clear();
        let mut kept = 0;
        for place in 0..rows.len() {
            let (Some(row), Some(mark)) = (rows.get(place).copied(), marks.get(place).copied()) else { break };
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
