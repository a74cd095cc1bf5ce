//! CPU fast paths: layers computed by the crate `kernels` instead of libtorch's operations.
//!
//! Tensors are passed to the kernels as slices, on libtorch's thread pool, and the gradients are
//! registered with autograd. Each layer has a function `shape` or `is_supported` that checks sizes,
//! dtype, device and instruction set. libtorch's operations run if it fails, and during tracing for
//! an export; results agree up to rounding.

pub mod conv_pool;
pub mod norm_act;
pub mod winograd;

use anyhow::Result;
use kernels::conv::{KERNEL, Shape};
use tch::{Device, Kind, Tensor};

/// Whether this processor has the kernels and no test has disabled them.
fn has_kernels() -> bool {
    #[cfg(test)]
    if tests::WITHOUT_KERNELS.get() {
        return false;
    }
    kernels::isa().is_some()
}

/// Returns the sizes of a 3x3 convolution with stride 1 on the CPU, from `x` [N, C, H, W] and `weight`
/// [F, C, 3, 3], which is float32; `None` for others, or without kernels. The kernels check the sizes.
fn conv_shape(x: &Tensor, weight: &Tensor, padding: i64) -> Option<Shape> {
    let [_, channels, height, width] = x.size()[..] else { return None };
    let [filters, inputs, rows, columns] = weight.size()[..] else { return None };
    let size = |size: i64| usize::try_from(size).unwrap_or(0);
    let is_supported = x.device() == Device::Cpu
        && (weight.device(), weight.kind()) == (Device::Cpu, Kind::Float)
        && (size(rows), size(columns), inputs) == (KERNEL, KERNEL, channels)
        && has_kernels();
    is_supported.then(|| Shape {
        height: size(height),
        width: size(width),
        channels: size(channels),
        filters: size(filters),
        padding: size(padding),
    })
}

/// Permutes [N, C, H, W] to a contiguous [N, H, W, C]; copies unless `x` has channels-last memory
/// format.
fn to_channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?)
}

/// N of `x` [N, ...].
fn images_of(x: &Tensor) -> usize {
    x.size().first().map_or(0, |images| images.unsigned_abs() as usize)
}

/// Creates an uninitialized tensor [N, channels, rows, columns] in channels-last memory format,
/// with N, dtype and device of `x`.
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
        /// Disables the kernels in this thread.
        pub static WITHOUT_KERNELS: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `body` with libtorch's operations only.
    pub fn without_kernels<T>(body: impl FnOnce() -> T) -> T {
        WITHOUT_KERNELS.set(true);
        let result = body();
        WITHOUT_KERNELS.set(false);
        result
    }

    /// Asserts that the results of a fast path have the shape and dtype of libtorch's, and that the
    /// norm of their difference is below `tolerance` times the norm.
    pub fn assert_all_close(fast: &[Tensor], reference: &[Tensor], tolerance: f64, case: &str) {
        assert_eq!(fast.len(), reference.len(), "{case}");
        for (index, (fast, reference)) in fast.iter().zip(reference).enumerate() {
            assert_eq!((fast.size(), fast.kind()), (reference.size(), reference.kind()), "{case}, {index}");
            let norm = |tensor: &Tensor| tensor.to_kind(Kind::Float).norm().double_value(&[]);
            let error = norm(&(fast.to_kind(Kind::Float) - reference.to_kind(Kind::Float)));
            let scale = norm(reference).max(1e-3);
            assert!(error < tolerance * scale, "{case}, {index}: {error} of {scale}");
        }
    }
}
