//! The two kernels of the network: a dense layer over pixels (a matrix product) and the depthwise
//! convolution, in float32 or with products of bfloat16 values.

mod arithmetic;
mod dense;
mod depthwise;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use arithmetic::Value;
pub(crate) use dense::{Dense, Row, Store};
pub(crate) use depthwise::Depthwise;
