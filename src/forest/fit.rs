//! Fits a forest to a linfa dataset, with its trees in parallel in the current rayon pool.

use linfa::DatasetBase;
use linfa::dataset::AsSingleTargets;
use linfa::traits::Fit;
use ndarray::{ArrayBase, Data, Ix2};
use rayon::prelude::*;

use super::config::Finder;
use super::split_finder::{Histogram, Linfa, SplitFinder};
use super::{FeatureMatrix, Forest, ForestError, ForestValidParams, tree};

impl<D, T> Fit<ArrayBase<D, Ix2>, T, ForestError> for ForestValidParams<'_>
where
    D: Data<Elem = u8>,
    T: AsSingleTargets<Elem = usize>,
{
    type Object = Forest;

    /// Fits a forest to uint8 records `[N, features]` and labels `[N]`. A tree is a function of the
    /// seed and its index, so with the histogram finder the forest does not depend on the number of
    /// threads.
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<Forest, ForestError> {
        let matrix = FeatureMatrix::new(dataset, self.classes)?;
        let grow = |number| {
            let mut finder: Box<dyn SplitFinder> = match self.finder {
                Finder::Histogram => Box::new(Histogram::new(self.classes)),
                Finder::Linfa => Box::new(Linfa),
            };
            let grown = tree::grow(&matrix, self, &mut *finder, number);
            self.callback.on_tree_fitted();
            grown
        };
        let grown: Vec<_> = (0..self.trees).into_par_iter().map(grow).collect::<Result<_, _>>()?;
        let mut importance = vec![0.0; matrix.width()];
        let mut trees = Vec::with_capacity(self.trees);
        for (tree, tree_importance) in grown {
            importance.iter_mut().zip(tree_importance).for_each(|(sum, value)| *sum += value);
            trees.push(tree);
        }
        let sum: f64 = importance.iter().sum();
        if sum > 0.0 {
            importance.iter_mut().for_each(|value| *value /= sum);
        }
        Ok(Forest { trees, classes: self.classes, importance })
    }
}
