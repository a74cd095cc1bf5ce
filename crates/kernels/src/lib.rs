//! CPU kernels for training small convolutional networks and decision trees: slices in, slices out,
//! no libtorch.
//!
//! Each kernel runs in the calling thread on the images it is given; the caller splits a batch into
//! chunks for its threads.
// Other architectures use the portable loops only.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports, unused_variables))]
// Every public function checks the lengths of its slices; an index out of range behind those checks
// is a bug of the kernel, not bad input.
#![allow(clippy::indexing_slicing, clippy::unreachable)]

mod dispatch;
mod element;
mod simd;

pub mod adam;
pub mod color_jitter;
pub mod conv_pool;
pub mod gini;
pub mod norm_act;
pub mod warp;

pub use element::Element;
pub use half::bf16;
pub use simd::{Isa, isa, limit_isa};
