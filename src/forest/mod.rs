//! The baseline to beat: a random forest (Breiman 2001) as scikit-learn's `RandomForestClassifier` grows it, on linfa's
//! interfaces.
//!
//! Each tree is grown to purity on a bootstrap sample; at every node a few pixels are drawn, and of all their thresholds the
//! one with the least Gini impurity splits. Votes are averaged class frequencies of leaves.

mod bootstrap;
pub mod config;
mod feature_matrix;
mod fit;
mod folds;
mod forest_file;
mod params;
pub mod run;
mod split_finder;
mod tree;
mod voting;

#[cfg(test)]
mod tests;

pub use config::{Finder, ForestConfig};
pub use feature_matrix::Table;
pub use folds::stratified_folds;
pub use forest_file::{Origin, from_bytes, load, save, to_bytes};
pub use params::{ForestError, ForestParams, ForestValidParams, Watch};
pub use split_finder::{Histogram, Linfa, Node, Split, SplitFinder};
pub use tree::Tree;

/// A fitted forest.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    trees: Vec<Tree>,
    classes: usize,
    importance: Vec<f64>,
}

impl Forest {
    /// Its trees.
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How much each feature lessened the Gini impurity, from 0; all together 1, unless no tree has a split (scikit-learn's
    /// `feature_importances_`).
    pub fn importance(&self) -> &[f64] {
        &self.importance
    }

    /// Nodes of all trees, leaves among them.
    pub fn nodes(&self) -> usize {
        self.trees.iter().map(|tree| tree.nodes().len()).sum()
    }
}
