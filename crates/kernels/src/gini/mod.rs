//! The best split of a decision tree's node by Gini impurity, where features are bytes (Breiman, Friedman, Olshen and Stone
//! 1984; Breiman 2001).
//!
//! A split sends the rows whose feature is at most a threshold to the left. Of all splits it is the best that makes
//! sum(left²) / |left| + sum(right²) / |right| greatest, with the weights of each class in each part squared and summed: that is
//! the weight of the node less its Gini impurity after the split times that weight. Sums are exact, so that results are the
//! same for every instruction set.

mod histogram;
mod network;
mod small;
#[cfg(test)]
mod tests;

pub use histogram::Histogram;
pub use small::{Node, Small};

/// The class of a row and how often it stands in the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u32);

/// Classes of the largest problem.
pub const MOST_CLASSES: usize = 128;

/// The greatest weight of a row.
pub const MOST_WEIGHT: u32 = (1 << 24) - 1;

impl Mark {
    /// A row of `class`, `weight` times; greater weights than [`MOST_WEIGHT`] count as that.
    pub fn new(class: u8, weight: u32) -> Self {
        Self(weight.min(MOST_WEIGHT) << 8 | u32::from(class))
    }

    /// Its class.
    pub fn class(self) -> u8 {
        self.0 as u8
    }

    /// How often it stands in the sample.
    pub fn weight(self) -> u32 {
        self.0 >> 8
    }
}

/// A split by one feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    /// What the best split makes greatest.
    pub score: f64,
    /// Rows with at most this value go to the left: the middle between two neighbouring values, rounded down.
    pub threshold: u8,
}

/// Halfway between two values, rounded down: what bytes are at most, if they are below the middle.
fn middle(low: u8, high: u8) -> u8 {
    low.midpoint(high)
}
