//! Layers that train faster on the CPU through the crate `kernels` than through libtorch's own operations: tensors are handed
//! over as slices, on libtorch's threads, and autograd is told the gradients.
//!
//! Each has a `shape` or `fits` that says whether this machine and these sizes have the kernels. Where not, on GPUs, and
//! where a tracer records the operations for an export, libtorch's own run; results agree but for rounding.

pub mod batch_norm;
pub mod conv_pool;
pub mod tail;

use anyhow::Result;
use tch::Tensor;

/// Whether this machine has the kernels; tests can do without them.
fn has_kernels() -> bool {
    #[cfg(test)]
    if tests::PLAIN.get() {
        return false;
    }
    kernels::isa().is_some()
}

/// [N, C, H, W] as a contiguous [N, H, W, C]; a copy only where it is not in channels-last memory format.
fn dense(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?)
}

/// An uninitialised [N, C, H, W] like `x` but of these channels, rows and columns, in channels-last memory format.
fn empty_like(x: &Tensor, [channels, rows, columns]: [i64; 3]) -> Result<Tensor> {
    let images = x.size().first().copied().unwrap_or(0);
    let strides = [rows * columns * channels, 1, columns * channels, channels];
    Ok(Tensor::f_empty_strided([images, channels, rows, columns], strides, (x.f_kind()?, x.device()))?)
}

#[cfg(test)]
pub mod tests {
    use std::cell::Cell;

    use tch::{Kind, Tensor};

    thread_local! {
        /// Keeps this thread to libtorch's own operations.
        pub static PLAIN: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `body` with libtorch's own operations only.
    pub fn plainly<T>(body: impl FnOnce() -> T) -> T {
        PLAIN.set(true);
        let result = body();
        PLAIN.set(false);
        result
    }

    /// Holds each result of a fast path to the plain one's: same shape and dtype, and no further from it than `tolerance`
    /// times its norm.
    pub fn assert_all_near(fast: &[Tensor], plain: &[Tensor], tolerance: f64, case: &str) {
        assert_eq!(fast.len(), plain.len(), "{case}");
        for (index, (fast, plain)) in fast.iter().zip(plain).enumerate() {
            assert_eq!((fast.size(), fast.kind()), (plain.size(), plain.kind()), "{case}, {index}");
            let norm = |tensor: &Tensor| tensor.to_kind(Kind::Float).norm().double_value(&[]);
            let error = norm(&(fast.to_kind(Kind::Float) - plain.to_kind(Kind::Float)));
            let scale = norm(plain).max(1e-3);
            assert!(error < tolerance * scale, "{case}, {index}: {error} of {scale}");
        }
    }
}
