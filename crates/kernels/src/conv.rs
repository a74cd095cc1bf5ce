//! Sizes of a 3x3 convolution with stride 1.

/// Height and width of the filters.
pub const KERNEL: usize = 3;
/// Weights of one filter in one channel.
pub(crate) const TAPS: usize = KERNEL * KERNEL;
/// Channels, or filters, that kernels handle together.
pub const BLOCK: usize = 16;

/// Sizes of one image before and after the convolution.
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
    /// Height of the convolution's output.
    pub fn conv_height(&self) -> usize {
        self.padded_height() + 1 - KERNEL
    }

    /// Width of the convolution's output.
    pub fn conv_width(&self) -> usize {
        self.padded_width() + 1 - KERNEL
    }

    /// Values per input image.
    pub fn input_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Values per image after the convolution.
    pub fn conv_len(&self) -> usize {
        self.conv_height() * self.conv_width() * self.filters
    }

    /// Weights of all filters.
    pub fn weights_len(&self) -> usize {
        self.filters * TAPS * self.channels
    }

    /// Whether there is an output pixel, and filters are a multiple of 16.
    pub(crate) fn has_output(&self) -> bool {
        self.height > 0
            && self.width > 0
            && self.padded_height() >= KERNEL
            && self.padded_width() >= KERNEL
            && self.filters > 0
            && self.filters.is_multiple_of(BLOCK)
    }

    /// Whether channels are a multiple of 16.
    pub(crate) fn has_blocks(&self) -> bool {
        self.channels > 0 && self.channels.is_multiple_of(BLOCK)
    }

    pub(crate) fn padded_height(&self) -> usize {
        self.height + 2 * self.padding
    }

    pub(crate) fn padded_width(&self) -> usize {
        self.width + 2 * self.padding
    }
}
