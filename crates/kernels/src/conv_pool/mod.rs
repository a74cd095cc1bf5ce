//! A 3x3 convolution with stride 1 and 2x2 max-pooling with stride 2 as one differentiable
//! function.
//!
//! The gradient of max-pooling is zero except at one of four pixels, the argmax. The backward pass
//! of the convolution before it therefore needs a quarter of the dense multiplications, and fewer
//! after ReLU, where inactive pooled values have no gradient. [`backward`] visits the nonzero
//! values only.
//!
//! Images are contiguous [N, H, W, C] (a libtorch tensor [N, C, H, W] in channels-last memory
//! format), filters contiguous [F, 3, 3, C] (channels-last [F, C, 3, 3]).

mod fused_forward;
mod max_pool;
mod sparse_backward;
mod tiling;

pub use fused_forward::{forward, has_forward, pack_for_forward};
pub use max_pool::max_pool;
pub use sparse_backward::{Gradients, Saved, backward, pack_for_backward};

/// Height and width of the filters.
pub const KERNEL: usize = 3;
/// Weights of one filter in one channel.
const TAPS: usize = KERNEL * KERNEL;
/// Channels per block. The number of filters must be a multiple of it, and so must that of channels
/// unless it is 1.
pub const BLOCK: usize = 16;

/// Sizes of one image before and after convolution and pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Input height in pixels.
    pub height: usize,
    /// Input width in pixels.
    pub width: usize,
    /// Input channels.
    pub channels: usize,
    /// Filters: output channels.
    pub filters: usize,
    /// Zero padding on each side, in pixels.
    pub padding: usize,
}

impl Shape {
    /// Whether the kernels support this shape: one channel or a multiple of 16, a multiple of 16
    /// filters, and at least one pooled pixel.
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

    /// Height of the convolution's output.
    pub fn conv_height(&self) -> usize {
        self.height + 2 * self.padding + 1 - KERNEL
    }

    /// Width of the convolution's output.
    pub fn conv_width(&self) -> usize {
        self.width + 2 * self.padding + 1 - KERNEL
    }

    /// Height of the pooled output; an odd last row of the convolution is dropped.
    pub fn pooled_height(&self) -> usize {
        self.conv_height() / 2
    }

    /// Width of the pooled output; an odd last column of the convolution is dropped.
    pub fn pooled_width(&self) -> usize {
        self.conv_width() / 2
    }

    /// Values per input image.
    pub fn input_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Values per image after the convolution.
    pub fn conv_len(&self) -> usize {
        self.conv_height() * self.conv_width() * self.filters
    }

    /// Values per image after pooling.
    pub fn pooled_len(&self) -> usize {
        self.pooled_height() * self.pooled_width() * self.filters
    }

    /// Weights of all filters.
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
