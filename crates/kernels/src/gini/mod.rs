//! Best split of a decision tree node by Gini impurity, for uint8 features (Breiman, Friedman,
//! Olshen and Stone 1984; Breiman 2001).
//!
//! A split sends the rows whose feature is at most a threshold to the left. The best split
//! maximizes sum(left²) / |left| + sum(right²) / |right|, where the class weights of each side are
//! squared and summed. This score is the node's weight times one minus the weighted Gini impurity
//! of its children.
//!
//! Sums are exact, so results are equal on every instruction set.

mod histogram;
mod small_nodes;
mod sorting_network;
#[cfg(test)]
mod tests;

pub use histogram::Histogram;
pub use small_nodes::{Node, SmallNodes};

/// Class and bootstrap weight of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u32);

/// Max number of classes.
pub const MAX_CLASSES: usize = 128;

/// Max weight of a row.
pub const MAX_WEIGHT: u32 = (1 << 24) - 1;

impl Mark {
    /// Creates the mark of a row that occurs `weight` times in the bootstrap sample; `weight` is
    /// clamped to [`MAX_WEIGHT`].
    pub fn new(class: u8, weight: u32) -> Self {
        Self(weight.min(MAX_WEIGHT) << 8 | u32::from(class))
    }

    /// Returns the class.
    pub fn class(self) -> u8 {
        self.0 as u8
    }

    /// Returns the weight: how often the row occurs in the bootstrap sample.
    pub fn weight(self) -> u32 {
        self.0 >> 8
    }
}

/// A split by one feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    /// The score that the best split maximizes.
    pub score: f64,
    /// Max value on the left: the midpoint of two values that occur, rounded down.
    pub threshold: u8,
}

/// Returns the midpoint of two values, rounded down.
fn midpoint(low: u8, high: u8) -> u8 {
    low.midpoint(high)
}
