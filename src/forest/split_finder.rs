//! What finds the best split of a node: our own counting, or linfa-trees.

use kernels::gini::{self, Mark, SmallNodes};
use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_trees::DecisionTree;
use ndarray::{Array1, Array2};

use super::{ForestError, Table};

/// The rows of a node.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Distinct rows of the table, ascending.
    pub rows: &'a [u32],
    /// Class and weight of each.
    pub marks: &'a [Mark],
    /// Weight of each class.
    pub totals: &'a [u32],
}

/// A split: rows whose feature is at most the threshold go to the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Column of the table.
    pub feature: u16,
    /// Greatest value on the left.
    pub threshold: u8,
}

/// Finds splits, node after node of one tree.
pub trait SplitFinder {
    /// The split of `node` by one of `features` with the least Gini impurity; `None` when none of them splits it.
    ///
    /// # Errors
    /// linfa's.
    fn find(&mut self, table: &Table<'_>, node: Node<'_>, features: &[u16]) -> Result<Option<Split>, ForestError>;
}

/// Counts classes by value where a node is large; sorts its rows by sixteen features at once where it is small.
#[derive(Debug)]
pub struct Histogram {
    large: gini::Histogram,
    small: SmallNodes,
    /// `[features, rows of the node]`
    values: Vec<u8>,
}

/// Where a node has less than one in so many of the table's rows, a cache line of a column holds but few of them: its rows
/// are then read by row, which is what its children will look at again. Measured: 4 and less cost a fifth, 40 changes nothing.
const SPARSE: usize = 16;

impl Histogram {
    /// For labels below `classes`, at most [`gini::MAX_CLASSES`].
    pub fn new(classes: usize) -> Self {
        Self { large: gini::Histogram::new(classes), small: SmallNodes::new(), values: Vec::new() }
    }
}

impl Histogram {
    /// Gathers the values of `features` in `rows`.
    fn read(&mut self, table: &Table<'_>, rows: &[u32], features: &[u16]) {
        self.values.resize(features.len() * rows.len(), 0);
        if rows.len() * SPARSE > table.rows() {
            for (to, feature) in self.values.chunks_exact_mut(rows.len()).zip(features) {
                let column = table.column(*feature);
                for (to, row) in to.iter_mut().zip(rows) {
                    *to = column.get(*row as usize).copied().unwrap_or_default();
                }
            }
        } else {
            for (place, row) in rows.iter().enumerate() {
                let from = table.row(*row);
                let to = self.values.iter_mut().skip(place).step_by(rows.len());
                for (to, feature) in to.zip(features) {
                    *to = from.get(usize::from(*feature)).copied().unwrap_or_default();
                }
            }
        }
    }
}

impl SplitFinder for Histogram {
    fn find(&mut self, table: &Table<'_>, node: Node<'_>, features: &[u16]) -> Result<Option<Split>, ForestError> {
        let Node { rows, marks, totals } = node;
        if SmallNodes::supports(marks, totals) {
            let node = gini::Node { pixels: table.values(), width: table.width(), rows, marks, totals };
            let best = self.small.best_split(node, features);
            return Ok(best.and_then(|(place, threshold)| Some(Split { feature: *features.get(place)?, threshold })));
        }
        self.read(table, rows, features);
        let mut best: Option<(f64, Split)> = None;
        for (feature, values) in features.iter().copied().zip(self.values.chunks_exact(rows.len())) {
            if let Some(cut) = self.large.best_split(values, marks, totals)
                && best.is_none_or(|(score, _)| cut.score > score)
            {
                best = Some((cut.score, Split { feature, threshold: cut.threshold }));
            }
        }
        Ok(best.map(|(_, split)| split))
    }
}

/// A decision tree of linfa-trees, of depth 1, fitted on the node's rows and the drawn features alone.
///
/// It gives up where the impurity would sink by less than float32 tells from nothing. It sums class frequencies in the order
/// of a hash map, which differs between processes, so of two splits that are nearly alike either may win.
#[derive(Debug)]
pub struct Linfa;

impl SplitFinder for Linfa {
    fn find(&mut self, table: &Table<'_>, node: Node<'_>, features: &[u16]) -> Result<Option<Split>, ForestError> {
        let columns: Vec<&[u8]> = features.iter().map(|feature| table.column(*feature)).collect();
        let value = |(row, feature): (usize, usize)| {
            let place = node.rows.get(row).map_or(0, |row| *row as usize);
            columns.get(feature).and_then(|column| column.get(place)).copied().map_or(0.0, f32::from)
        };
        let records = Array2::from_shape_fn((node.rows.len(), features.len()), value);
        let targets: Array1<usize> = node.marks.iter().map(|mark| usize::from(mark.class())).collect();
        let weights: Array1<f32> = node.marks.iter().map(|mark| mark.weight() as f32).collect();
        let dataset = DatasetBase::new(records, targets).with_weights(weights);
        let stump = DecisionTree::params().max_depth(Some(1)).min_impurity_decrease(f32::EPSILON).fit(&dataset)?;
        // Not the children: they are cut off where both have the same majority.
        let (place, value, decrease) = stump.root_node().split();
        let found = features.get(place).filter(|_| decrease > 0.0);
        // Halfway between two bytes, so at least 0 and below 255.
        Ok(found.map(|feature| Split { feature: *feature, threshold: value as u8 }))
    }
}
