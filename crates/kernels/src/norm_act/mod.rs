//! Batch norm with the operations around it, for images in channels-last order: ReLU before or
//! after, squeeze-and-excitation, stochastic depth, residual add.
//!
//! Batch norm (Ioffe and Szegedy 2015), squeeze-and-excitation and stochastic depth amount to one
//! affine transform per channel, or per channel of each image, whose coefficients depend on sums
//! over the input. So there are two passes over memory forward and two backward, whichever of them
//! are used:
//!
//! | pass | computes |
//! | --- | --- |
//! | [`sums`] | sums of the input and of its square |
//! | [`apply`] | output = factor x + offset (+ shortcut) |
//! | [`backward_sums`] | sums of the gradient and of its product with the input |
//! | [`backward_apply`] | gradients of input and shortcut |
//!
//! Rows are summed in groups, with one sum per group and channel. A group is an image if the
//! affine transform is per image, and all rows of a thread if it is per channel. Sums run in
//! `f32` over 16 rows and then in `f64`, in the order of the rows: the gradient of a first layer is
//! a small difference of large sums.

mod backward_passes;
mod forward_passes;
mod relu;
#[cfg(test)]
mod tests;

pub use backward_passes::{Coefficients, OutputGradient, backward_apply, backward_sums};
pub use forward_passes::{apply, sums};

/// Channels per block: their sums stay in registers.
const BLOCK: usize = 16;

/// Rows that are summed in `f32` before the sum is added in `f64`.
const RUN: usize = 16;

/// Position of the ReLU in the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relu {
    /// No ReLU.
    None,
    /// On the input: the layer normalizes `relu(x)`, as in Keras' order of layers.
    Before,
    /// On the output, after the residual add.
    After,
}

impl Relu {
    /// Returns the threshold of a ReLU before: 0, or NaN if there is none, since comparisons
    /// with NaN are false. A constant generic in its place prevents vectorization of some loops.
    #[inline(always)]
    fn threshold_before(self) -> f32 {
        if self == Self::Before { 0.0 } else { f32::NAN }
    }
}

/// Calls a function compiled for `AFTER`, whether ReLU comes after.
macro_rules! with_relu {
    ($relu:expr, $name:ident($($argument:expr),*)) => {
        if $relu == Relu::After { $name::<E, true>($($argument),*) } else { $name::<E, false>($($argument),*) }
    };
}

/// Input of the layer, in groups of rows.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a, E> {
    /// Values, [groups, rows, channels]; the last group may have fewer rows.
    pub input: &'a [E],
    /// Rows (pixels) per group.
    pub rows: usize,
    /// Channels, a multiple of 16.
    pub channels: usize,
    /// Position of the ReLU.
    pub relu: Relu,
}

impl<E> Groups<'_, E> {
    /// Number of groups.
    fn count(&self) -> usize {
        self.input.len().div_ceil(self.group_len())
    }

    /// Values per group.
    fn group_len(&self) -> usize {
        self.rows * self.channels
    }

    /// Checks the lengths of slices with one element per value, per group and channel, and per
    /// channel.
    fn check(&self, values: &[usize], groups: &[usize], channels: &[usize]) {
        assert!(self.channels > 0 && self.channels.is_multiple_of(BLOCK), "{} channels", self.channels);
        assert!(self.rows > 0 && self.input.len().is_multiple_of(self.channels), "incomplete rows");
        assert!(values.iter().all(|length| *length == self.input.len()), "expected one element per value");
        let count = self.count() * self.channels;
        assert!(groups.iter().all(|length| *length == count), "expected one element per group and channel");
        assert!(channels.iter().all(|length| *length == self.channels), "expected one element per channel");
    }
}

use with_relu;
