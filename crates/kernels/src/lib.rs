//! CPU kernels for training small convolutional networks: slices in, slices out, no libtorch.
//!
//! One level of parallelism is left to the caller: a kernel works on the images it is given, in one thread.
#![warn(missing_docs)]

mod element;
mod lanes;

pub mod conv_pool;

pub use element::Element;
pub use half::bf16;
pub use lanes::{Isa, isa};
