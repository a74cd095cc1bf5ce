//! 3x3 convolution with stride 1 by Winograd's minimal filtering (Winograd 1980; Lavin and Gray
//! 2016), with its two gradients. Images are float32 or bfloat16; filters, transforms and sums are
//! float32.
//!
//! F(m x m, 3x3) computes m x m outputs from a window of n x n inputs, n = m + 2, with n^2
//! multiplications per channel and filter instead of 9 m^2. Input windows, filters and outputs are
//! transformed; between the transforms there is one matrix product per place of the window.
//!
//! - [`forward`] transforms a block of windows, multiplies, and transforms back, so that the block
//!   stays in the cache.
//! - [`forward_max_pool`] does the same and stores the maxima of 2x2 outputs; its gradients are those of
//!   [`conv_pool`](crate::conv_pool).
//! - The gradient of the input is [`forward`] of the gradient of the output with flipped filters:
//!   [`Shape::transposed`] and [`Filters::Flipped`].
//! - The gradient of the filters ([`weight_gradient`]) is the adjoint of the forward pass: the same
//!   windows times the spread gradients, summed over all tiles, then one transform.
//!
//! Images are contiguous [N, H, W, C] (a libtorch tensor [N, C, H, W] in channels-last memory
//! format), filters contiguous [F, 3, 3, C].

mod filters;
mod forward;
mod machine;
mod output;
mod product;
mod strided;
mod tile;
pub mod weight_gradient;
mod window;

use std::sync::atomic::{AtomicBool, Ordering};

pub use filters::{Filters, pack};
pub use forward::{forward, forward_max_pool};

use crate::conv::{self, TAPS};
pub use crate::conv::{BLOCK, KERNEL};

static IS_ENABLED: AtomicBool = AtomicBool::new(true);

/// Whether callers should use these kernels; see [`set_enabled`].
pub fn is_enabled() -> bool {
    IS_ENABLED.load(Ordering::Relaxed) && crate::isa().is_some()
}

/// Turns [`is_enabled`] on or off in all threads; for comparisons. The functions work in any case.
pub fn set_enabled(is_enabled: bool) {
    IS_ENABLED.store(is_enabled, Ordering::Relaxed);
}

/// Size of the output tiles: F(2x2, 3x3), F(3x3, 3x3) or F(4x4, 3x3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileSize {
    /// 2x2 outputs from 16 multiplications: 2.25 times fewer than directly.
    Two,
    /// 3x3 outputs from 25 multiplications: 3.24 times fewer.
    Three,
    /// 4x4 outputs from 36 multiplications: 4 times fewer.
    Four,
}

impl TileSize {
    /// Height and width of an output tile in pixels.
    pub fn side(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => 4,
        }
    }

    /// Places of an input window: multiplications per tile, channel and filter.
    pub fn places(self) -> usize {
        (self.side() + KERNEL - 1).pow(2)
    }
}

/// Sizes of one image before and after the convolution, and of its tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The convolution, with a padding of 0 to 2.
    pub conv: conv::Shape,
    /// Size of the output tiles.
    pub tile: TileSize,
    /// Whether 2x2 max pooling with stride 2 follows, so that an odd last row and column of the outputs
    /// are not needed: [`forward_max_pool`]. Only for even tiles.
    pub max_pool: bool,
}

impl Shape {
    /// Whether the kernels support these sizes: channels and filters multiples of 16, and at least one
    /// output; before max pooling 2x2 outputs, in tiles of an even size.
    pub fn is_supported(&self) -> bool {
        let can_pool = self.tile != TileSize::Three && self.conv.can_pool();
        self.conv.padding < KERNEL && self.conv.has_output() && self.conv.has_blocks() && (!self.max_pool || can_pool)
    }

    /// Values of all transformed filters, or of their gradients.
    pub fn transformed_len(&self) -> usize {
        self.tile.places() * self.conv.filters * self.conv.channels
    }

    /// The convolution whose forward pass is the gradient of this one's input: of an image of the
    /// output's size, with flipped filters.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let conv = conv::Shape {
            height: self.conv.conv_height(),
            width: self.conv.conv_width(),
            channels: self.conv.filters,
            filters: self.conv.channels,
            padding: KERNEL - 1 - self.conv.padding,
        };
        Self { conv, max_pool: false, ..*self }
    }

    /// Multiplications of an image per channel and filter.
    pub fn multiplications(&self) -> usize {
        self.tiles_per_image() * self.tile.places()
    }

    /// Number of images in `input`.
    ///
    /// # Panics
    /// If it is not a whole number, or the shape is not supported.
    fn images<E>(&self, input: &[E]) -> usize {
        assert!(self.is_supported(), "no kernel for this shape");
        assert!(input.len().is_multiple_of(self.conv.input_len()));
        input.len() / self.conv.input_len()
    }

    /// Tiles per column and per row of an image. The last ones may reach beyond its edge.
    fn tiles(&self) -> [usize; 2] {
        let side = self.tile.side();
        self.outputs().map(|size| size.div_ceil(side))
    }

    /// Rows and columns of the outputs that are needed.
    fn outputs(&self) -> [usize; 2] {
        let sizes = [self.conv.conv_height(), self.conv.conv_width()];
        if self.max_pool { sizes.map(|size| size / 2 * 2) } else { sizes }
    }

    /// Tiles per image.
    pub fn tiles_per_image(&self) -> usize {
        let [rows, columns] = self.tiles();
        rows * columns
    }
}

#[cfg(test)]
mod tests;
