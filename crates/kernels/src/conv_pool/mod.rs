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

mod dot;
mod fused_forward;
mod sparse_backward;
mod tiling;

use crate::conv::TAPS;
pub use crate::conv::{BLOCK, KERNEL, Shape};
pub(crate) use fused_forward::store_max;
pub use fused_forward::{Packed, forward, pack_for_forward};
pub use sparse_backward::{Gradients, Saved, backward, pack_for_backward};

impl Shape {
    /// Whether the kernels of convolution and pooling support this shape: one channel or a multiple
    /// of 16, a multiple of 16 filters, and at least one pooled pixel.
    pub fn can_pool(&self) -> bool {
        self.has_output()
            && (self.channels == 1 || self.has_blocks())
            && self.padded_height() > KERNEL
            && self.padded_width() > KERNEL
    }

    /// Height of the pooled output; an odd last row of the convolution is dropped.
    pub fn pooled_height(&self) -> usize {
        self.conv_height() / 2
    }

    /// Width of the pooled output; an odd last column of the convolution is dropped.
    pub fn pooled_width(&self) -> usize {
        self.conv_width() / 2
    }

    /// Values per image after pooling.
    pub fn pooled_len(&self) -> usize {
        self.pooled_height() * self.pooled_width() * self.filters
    }

    fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK)
    }
}

#[cfg(test)]
pub(crate) mod tests;
