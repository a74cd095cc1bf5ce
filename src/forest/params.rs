//! What a forest is to be like: unchecked, then checked, as linfa has it.

use std::fmt;

use linfa::ParamGuard;

use super::config::{Finder, ForestConfig, MaxFeatures};

/// What watches a forest grow.
pub trait Watch: Sync {
    /// Another tree is grown; called from any thread.
    fn tree_grown(&self) {}

    /// Whether to stop: fitting then ends with [`ForestError::Stopped`].
    fn stops(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl Watch for () {}

/// What a forest is to be like; fitting checks it first.
#[derive(Clone, Copy)]
pub struct ForestParams<'a>(ForestValidParams<'a>);

/// What a forest is to be like, checked.
#[derive(Clone, Copy)]
pub struct ForestValidParams<'a> {
    pub(super) trees: usize,
    pub(super) max_features: MaxFeatures,
    pub(super) finder: Finder,
    pub(super) classes: usize,
    pub(super) seed: u64,
    pub(super) watch: &'a dyn Watch,
}

impl<'a> ForestParams<'a> {
    /// A forest as the config says.
    pub fn of(config: &ForestConfig, watch: &'a dyn Watch) -> Self {
        let table = &config.forest;
        Self(ForestValidParams {
            trees: table.trees,
            max_features: table.max_features,
            finder: table.finder,
            classes: config.data.classes.len(),
            seed: config.seed,
            watch,
        })
    }

    /// scikit-learn's defaults: 100 trees, the root of the number of features at each node.
    pub fn new(classes: usize, seed: u64) -> ForestParams<'static> {
        ForestParams(ForestValidParams {
            trees: 100,
            max_features: MaxFeatures::Sqrt,
            finder: Finder::Histogram,
            classes,
            seed,
            watch: &(),
        })
    }

    /// Another number of trees.
    #[must_use]
    pub fn trees(mut self, trees: usize) -> Self {
        self.0.trees = trees;
        self
    }

    /// Another number of features drawn at each node.
    #[must_use]
    pub fn max_features(mut self, max_features: MaxFeatures) -> Self {
        self.0.max_features = max_features;
        self
    }

    /// Another split finder.
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
        let refuse = |what: String| Err(ForestError::Parameters(what));
        if self.0.trees == 0 {
            return refuse("a forest has at least one tree".into());
        }
        if !(1..=kernels::gini::MAX_CLASSES).contains(&self.0.classes) {
            return refuse(format!("{} classes; expected 1 to {}", self.0.classes, kernels::gini::MAX_CLASSES));
        }
        if self.0.max_features == MaxFeatures::Count(0) {
            return refuse("at least one feature is drawn at a node".into());
        }
        Ok(&self.0)
    }

    fn check(self) -> Result<Self::Checked, ForestError> {
        self.check_ref().copied()
    }
}

/// Why a forest was not fitted.
#[derive(Debug)]
pub enum ForestError {
    /// A parameter or the data is out of range.
    Parameters(String),
    /// The watch said so.
    Stopped,
    /// linfa's own.
    Linfa(linfa::Error),
}

impl fmt::Display for ForestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameters(what) => f.write_str(what),
            Self::Stopped => f.write_str("fitting the forest was stopped"),
            Self::Linfa(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ForestError {}

impl From<linfa::Error> for ForestError {
    fn from(error: linfa::Error) -> Self {
        Self::Linfa(error)
    }
}
