//! The baseline: a random forest (Breiman 2001) equivalent to scikit-learn's
//! `RandomForestClassifier`, on linfa's traits.
//!
//! Each tree is grown to pure leaves on a bootstrap sample. A node samples a few pixels and splits
//! at the threshold with the minimum Gini impurity. Predictions are the mean of the class
//! frequencies in the leaves.

mod bootstrap;
pub mod config;
mod feature_matrix;
mod fit;
mod folds;
mod forest_file;
mod forest_params;
pub mod run;
mod split_finder;
mod tree;
mod voting;
mod warnings;

#[cfg(test)]
mod tests;

pub use config::{Finder, ForestConfig};
pub use feature_matrix::FeatureMatrix;
pub use folds::stratified_folds;
pub use forest_file::{Origin, from_bytes, load, save, to_bytes};
pub use forest_params::{FitCallback, ForestError, ForestParams, ForestValidParams};
pub use split_finder::{Histogram, Linfa, Node, Split, SplitFinder};
pub use tree::Tree;
pub use voting::LeafFrequencies;

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

    /// Mean decrease in Gini impurity of each feature, with sum 1, or 0 without any split
    /// (scikit-learn's `feature_importances_`).
    pub fn importance(&self) -> &[f64] {
        &self.importance
    }

    /// Number of nodes of all trees, including leaves.
    pub fn nodes(&self) -> usize {
        self.trees.iter().map(|tree| tree.nodes().len()).sum()
    }
}
