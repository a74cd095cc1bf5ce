//! CPU kernels for training small convolutional networks and decision trees: slices in, slices out,
//! no libtorch.
//!
//! Each kernel runs in the calling thread on the images it is given; the caller splits a batch into
//! chunks for its threads.
// Every public function checks the lengths of its slices; an index out of range behind those checks
// is a bug of the kernel, not bad input.
#![allow(clippy::indexing_slicing, clippy::unreachable)]

mod dispatch;
mod element;
mod isa;

pub mod adam;
pub mod color_jitter;
pub mod conv;
pub mod conv_pool;
pub mod gini;
pub mod norm_act;
pub mod warp;
pub mod winograd;

pub use element::Element;
pub use half::bf16;
pub use isa::{Isa, isa, limit_isa};
