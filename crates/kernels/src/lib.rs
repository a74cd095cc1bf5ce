//! CPU kernels for training small convolutional networks and decision trees: slices in, slices out, no libtorch.
//!
//! One level of parallelism is left to the caller: a kernel works on the images it is given, in one thread.
// Elsewhere only the plain loops are used.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports, unused_variables))]
// Sizes are checked where a kernel is entered; within it an index that missed would be an error of ours, not of any input.
#![allow(clippy::indexing_slicing, clippy::unreachable)]

mod dispatch;
mod element;
mod lanes;

pub mod adam;
pub mod conv_pool;
pub mod gini;
pub mod light;
pub mod norm;
pub mod sample;
pub mod tail;

pub use element::Element;
pub use half::bf16;
pub use lanes::{Isa, isa, limit};
