//! A 3x3 convolution with stride 1 followed by 2x2 max-pooling with stride 2, as one function with a gradient.
//!
//! The gradient of max-pooling is zero everywhere but at one of four pixels: the winner. A convolution's backward pass over
//! it therefore needs a quarter of the dense multiplications, and less after ReLU, where a pooled value that is not active
//! passes nothing back at all. [`backward`] visits only what is not zero.
//!
//! Images are dense in height-width-channel order (a libtorch tensor [N, C, H, W] in channels-last memory format), filters
//! in filter-row-column-channel order (channels-last [F, C, 3, 3]).

mod backward;
mod forward;
mod pool;
mod tile;

pub use backward::{Gradients, Saved, backward, pack_filters};
pub use forward::{forward, has_forward, pack_for_forward};
pub use pool::pool;

/// Side of the filters.
pub const KERNEL: usize = 3;
/// Values of one filter in one channel.
const TAPS: usize = KERNEL * KERNEL;
/// Channels are handled in blocks of this many; so channels (unless there is one) and filters must be multiples of it.
pub const BLOCK: usize = 16;

/// The sizes of one image on its way through convolution and pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Channels of the output.
    pub filters: usize,
    /// Rows and columns of zeros around the input.
    pub padding: usize,
}

impl Shape {
    /// Whether the kernels can handle it: one channel or a multiple of 16, a multiple of 16 filters, and at least one pooled
    /// pixel.
    pub fn is_supported(&self) -> bool {
        let padded = |side: usize| side + 2 * self.padding;
        self.height > 0
            && self.width > 0
            && (self.channels == 1 || (self.channels > 0 && self.channels.is_multiple_of(BLOCK)))
            && self.filters > 0
            && self.filters.is_multiple_of(BLOCK)
            && padded(self.height) > KERNEL
            && padded(self.width) > KERNEL
    }

    /// Rows of the convolution's result.
    pub fn conv_height(&self) -> usize {
        self.height + 2 * self.padding + 1 - KERNEL
    }

    /// Columns of the convolution's result.
    pub fn conv_width(&self) -> usize {
        self.width + 2 * self.padding + 1 - KERNEL
    }

    /// Rows of the pooled result; an odd last row of the convolution is dropped.
    pub fn pooled_height(&self) -> usize {
        self.conv_height() / 2
    }

    /// Columns of the pooled result.
    pub fn pooled_width(&self) -> usize {
        self.conv_width() / 2
    }

    /// Values of an input image.
    pub fn input_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Values of a convolved image.
    pub fn conv_len(&self) -> usize {
        self.conv_height() * self.conv_width() * self.filters
    }

    /// Values of a pooled image.
    pub fn pooled_len(&self) -> usize {
        self.pooled_height() * self.pooled_width() * self.filters
    }

    /// Values of all filters.
    pub fn weights_len(&self) -> usize {
        self.filters * TAPS * self.channels
    }

    fn padded_height(&self) -> usize {
        self.height + 2 * self.padding
    }

    fn padded_width(&self) -> usize {
        self.width + 2 * self.padding
    }

    fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK)
    }
}

#[cfg(test)]
mod tests;
