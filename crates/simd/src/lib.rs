//! SIMD vectors of `f32` for AVX-512, AVX2, NEON and plain Rust behind one trait, so that a kernel is
//! written once: as a [`Task`], generic over [`Vector`], that [`run`] compiles for every instruction
//! set and runs with one that the processor has.
//!
//! A task must be plain loops, and its functions `#[inline(always)]`. A closure around these
//! operations does not always become part of the function that enables the instruction set, and then
//! each operation is a call.
// An index out of range behind the checks of a kernel is a bug, not bad input.
#![allow(unsafe_code, clippy::indexing_slicing)]

mod dispatch;
mod portable;
mod vector;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;

pub use dispatch::{Bf16Task, Isa, Task, has_bf16, run, run_bf16, run_with_bf16};
pub use vector::{Bf16Vector, Vector, round_to_bf16};
