//! Finds the best split of a node: with class histograms, or with linfa-trees.

use kernels::gini::{self, Mark, SmallNodes};
use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_trees::DecisionTree;
use ndarray::{Array1, Array2};

use super::{FeatureMatrix, ForestError};

/// The rows of a node.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Distinct rows of the feature matrix, in ascending order.
    pub rows: &'a [u32],
    /// Class and weight of each row.
    pub marks: &'a [Mark],
    /// Total weight of each class.
    pub totals: &'a [u32],
}

/// A split: rows with a feature value of at most the threshold go left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Column of the feature matrix.
    pub feature: u16,
    /// Maximum value on the left.
    pub threshold: u8,
}

/// Finds the splits of one tree, node by node.
pub trait SplitFinder {
    /// The split of `node` by one of `features` with the minimum Gini impurity; `None` if all
    /// are constant.
    ///
    /// # Errors
    /// Those of linfa.
    fn find(
        &mut self,
        matrix: &FeatureMatrix<'_>,
        node: Node<'_>,
        features: &[u16],
    ) -> Result<Option<Split>, ForestError>;
}

/// Class histograms by value in large nodes; in small nodes, sorting by sixteen features at once.
#[derive(Debug)]
pub struct Histogram {
    large: gini::Histogram,
    small: SmallNodes,
    /// `[features, rows of the node]`
    values: Vec<u8>,
}

/// A node with fewer than one in this many rows is read by row: a cache line of a column would hold
/// few of its rows, and its children read the same rows again. Measured: values of 4 or less are a
/// fifth slower, 40 is no different.
const SPARSE: usize = 16;

impl Histogram {
    /// For labels below `classes`, at most [`gini::MAX_CLASSES`].
    pub fn new(classes: usize) -> Self {
        Self { large: gini::Histogram::new(classes), small: SmallNodes::new(), values: Vec::new() }
    }
}

impl Histogram {
    /// Gathers `features` of `rows` into `values`.
    fn gather(&mut self, matrix: &FeatureMatrix<'_>, rows: &[u32], features: &[u16]) {
        self.values.resize(features.len() * rows.len(), 0);
        if rows.len() * SPARSE > matrix.rows() {
            for (to, feature) in self.values.chunks_exact_mut(rows.len()).zip(features) {
                let column = matrix.column(*feature);
                for (to, row) in to.iter_mut().zip(rows) {
                    *to = column.get(*row as usize).copied().unwrap_or_default();
                }
            }
        } else {
            for (index, row) in rows.iter().enumerate() {
                let from = matrix.row(*row);
                let to = self.values.iter_mut().skip(index).step_by(rows.len());
                for (to, feature) in to.zip(features) {
                    *to = from.get(usize::from(*feature)).copied().unwrap_or_default();
                }
            }
        }
    }
}

impl SplitFinder for Histogram {
    fn find(
        &mut self,
        matrix: &FeatureMatrix<'_>,
        node: Node<'_>,
        features: &[u16],
    ) -> Result<Option<Split>, ForestError> {
        let Node { rows, marks, totals } = node;
        if SmallNodes::supports(marks, totals) {
            let node = gini::Node { pixels: matrix.values(), width: matrix.width(), rows, marks, totals };
            let best = self.small.best_split(node, features);
            return Ok(best.and_then(|(index, threshold)| Some(Split { feature: *features.get(index)?, threshold })));
        }
        self.gather(matrix, rows, features);
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

/// A depth-1 decision tree of linfa-trees, fitted on the node's rows and the sampled features.
///
/// It ignores splits that decrease the impurity by less than float32's epsilon. It sums class
/// frequencies in the order of a hash map, which differs between processes, so either of two nearly
/// equal splits may win.
#[derive(Debug)]
pub struct Linfa;

impl SplitFinder for Linfa {
    fn find(
        &mut self,
        matrix: &FeatureMatrix<'_>,
        node: Node<'_>,
        features: &[u16],
    ) -> Result<Option<Split>, ForestError> {
        let columns: Vec<&[u8]> = features.iter().map(|feature| matrix.column(*feature)).collect();
        let value = |(row, feature): (usize, usize)| {
            let row = node.rows.get(row).map_or(0, |row| *row as usize);
            columns.get(feature).and_then(|column| column.get(row)).copied().map_or(0.0, f32::from)
        };
        let records = Array2::from_shape_fn((node.rows.len(), features.len()), value);
        let targets: Array1<usize> = node.marks.iter().map(|mark| usize::from(mark.class())).collect();
        let weights: Array1<f32> = node.marks.iter().map(|mark| mark.weight() as f32).collect();
        let dataset = DatasetBase::new(records, targets).with_weights(weights);
        let stump = DecisionTree::params().max_depth(Some(1)).min_impurity_decrease(f32::EPSILON).fit(&dataset)?;
        // The root alone: linfa prunes its children if both have the same majority.
        let (index, value, decrease) = stump.root_node().split();
        let found = features.get(index).filter(|_| decrease > 0.0);
        // Midway between two uint8 values, so at least 0 and below 255.
        Ok(found.map(|feature| Split { feature: *feature, threshold: value as u8 }))
    }
}
