//! The two kernels of the network: a dense layer over pixels (a matrix product) and the depthwise
//! convolution, in float32 or with products of bfloat16 values.

// Loops over the registers of a tile are counted: with iterators the compiler does not always unroll
// them, and then keeps the sums in memory.
#![allow(clippy::needless_range_loop)]

mod arithmetic;
mod dense;
mod depthwise;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use arithmetic::Value;
pub(crate) use dense::{Dense, Row, Store};
pub(crate) use depthwise::Depthwise;
