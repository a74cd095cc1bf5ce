//! Hyperparameters of a forest, unchecked and checked, following linfa's `ParamGuard`.

use linfa::ParamGuard;

use super::config::{Finder, ForestConfig, MaxFeatures};

/// Observes and stops a fit.
pub trait FitCallback: Sync {
    /// Called after each tree, from any thread.
    fn on_tree_fitted(&self) {}

    /// Whether to stop the fit with [`ForestError::Stopped`].
    fn should_stop(&self) -> bool {
        false
    }
}

/// Does nothing.
impl FitCallback for () {}

/// Hyperparameters; fitting checks them first.
#[derive(Clone, Copy)]
pub struct ForestParams<'a>(ForestValidParams<'a>);

/// Checked hyperparameters.
#[derive(Clone, Copy)]
pub struct ForestValidParams<'a> {
    pub(super) trees: usize,
    pub(super) max_features: MaxFeatures,
    pub(super) finder: Finder,
    pub(super) classes: usize,
    pub(super) seed: u64,
    pub(super) callback: &'a dyn FitCallback,
}

impl<'a> ForestParams<'a> {
    /// The hyperparameters of a config.
    pub fn from_config(config: &ForestConfig, callback: &'a dyn FitCallback) -> Self {
        let table = &config.forest;
        Self(ForestValidParams {
            trees: table.trees,
            max_features: table.max_features,
            finder: table.finder,
            classes: config.data.classes.len(),
            seed: config.seed,
            callback,
        })
    }

    /// scikit-learn's defaults: 100 trees, the square root of the number of features at each node.
    pub fn new(classes: usize, seed: u64) -> ForestParams<'static> {
        ForestParams(ForestValidParams {
            trees: 100,
            max_features: MaxFeatures::Sqrt,
            finder: Finder::Histogram,
            classes,
            seed,
            callback: &(),
        })
    }

    /// Sets the number of trees.
    #[must_use]
    pub fn trees(mut self, trees: usize) -> Self {
        self.0.trees = trees;
        self
    }

    /// Sets the number of features sampled at each node.
    #[must_use]
    pub fn max_features(mut self, max_features: MaxFeatures) -> Self {
        self.0.max_features = max_features;
        self
    }

    /// Sets the split finder.
    #[must_use]
    pub fn finder(mut self, finder: Finder) -> Self {
        self.0.finder = finder;
        self
    }
}

impl<'a> ParamGuard for ForestParams<'a> {
    type Checked = ForestValidParams<'a>;
    type Error = ForestError;

    fn check_ref(&self) -> Result<&Self::Checked, ForestError> {
        let refuse = |problem: String| Err(ForestError::Parameters(problem));
        if self.0.trees == 0 {
            return refuse("0 trees; expected at least 1".into());
        }
        if !(1..=kernels::gini::MAX_CLASSES).contains(&self.0.classes) {
            return refuse(format!("{} classes; expected 1 to {}", self.0.classes, kernels::gini::MAX_CLASSES));
        }
        if self.0.max_features == MaxFeatures::Count(0) {
            return refuse("0 features at a node; expected at least 1".into());
        }
        Ok(&self.0)
    }

    fn check(self) -> Result<Self::Checked, ForestError> {
        self.check_ref().copied()
    }
}

/// Error of a fit.
#[derive(Debug, thiserror::Error)]
pub enum ForestError {
    /// A hyperparameter or the data is out of range.
    #[error("{0}")]
    Parameters(String),
    /// The callback stopped the fit.
    #[error("fitting the forest was stopped")]
    Stopped,
    /// An error of linfa.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}
