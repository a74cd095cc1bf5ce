//! The transforms of filters and of their gradients.

use simd::Vector;

use super::machine::{self, Pass};
use super::strided::{load_strided, store_strided};
use super::tile::Tile;
use super::{BLOCK, KERNEL, Shape, TAPS};

/// Which convolution filters are packed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filters {
    /// The convolution itself.
    Forward,
    /// The gradient of its input: filters are rotated by 180 degrees, and filters and channels
    /// exchanged.
    Flipped,
}

/// Transforms a block of 16 output channels of filters [F, 3, 3, C] for
/// [`forward`](super::forward()). `shape` is that of the convolution itself. `to` is part `block` of
/// the packed filters, which have `transformed_len` values: one part for each 16 filters
/// ([`Filters::Forward`]) or channels ([`Filters::Flipped`]).
///
/// # Panics
/// If a length disagrees with `shape`, or the shape is not supported.
pub fn pack(shape: &Shape, direction: Filters, filters: &[f32], block: usize, to: &mut [f32]) {
    let inputs = match direction {
        Filters::Forward => shape.conv.channels,
        Filters::Flipped => shape.conv.filters,
    };
    assert!(shape.is_supported());
    assert_eq!(filters.len(), shape.conv.weights_len());
    assert_eq!(to.len(), shape.tile.places() * inputs * BLOCK);
    machine::run::<f32>(shape.tile, Pack { shape, direction, filters, block, inputs, to });
}

struct Pack<'a> {
    shape: &'a Shape,
    direction: Filters,
    filters: &'a [f32],
    block: usize,
    inputs: usize,
    to: &'a mut [f32],
}

impl Pass for Pack<'_> {
    #[inline(always)]
    fn run<V: Vector, T: Tile<M, N>, const M: usize, const N: usize>(self) {
        let Self { shape, direction, filters, block, inputs, to } = self;
        let channels = shape.conv.channels;
        for input in 0..inputs {
            // The nine weights of this input for 16 outputs.
            let mut taps = [0.0; TAPS * BLOCK];
            for (tap, values) in taps.chunks_exact_mut(BLOCK).enumerate() {
                match direction {
                    Filters::Forward => {
                        for (lane, value) in values.iter_mut().enumerate() {
                            *value = filters[((block * BLOCK + lane) * TAPS + tap) * channels + input];
                        }
                    }
                    Filters::Flipped => {
                        let from = (input * TAPS + TAPS - 1 - tap) * channels + block * BLOCK;
                        values.copy_from_slice(&filters[from..][..BLOCK]);
                    }
                }
            }
            for lane in (0..BLOCK).step_by(V::LANES) {
                let mut half = [[V::splat(0.0); KERNEL]; N];
                for column in 0..KERNEL {
                    let x = apply::<V, N>(&T::FILTER, load_strided(&taps[column * BLOCK + lane..], KERNEL * BLOCK));
                    for (half, x) in half.iter_mut().zip(x) {
                        half[column] = x;
                    }
                }
                for (row, half) in half.iter().enumerate() {
                    let to = &mut to[(row * N * inputs + input) * BLOCK + lane..];
                    store_strided(apply::<V, N>(&T::FILTER, *half), to, inputs * BLOCK);
                }
            }
        }
    }
}

/// Sums the gradients of the transformed filters, each [place][filter blocks][C][16 filters], and
/// transforms those of one block back.
pub(super) struct Unpack<'a> {
    pub(super) shape: &'a Shape,
    pub(super) sums: &'a [f32],
    pub(super) block: usize,
    pub(super) to: &'a mut [f32],
}

impl Pass for Unpack<'_> {
    #[inline(always)]
    fn run<V: Vector, T: Tile<M, N>, const M: usize, const N: usize>(self) {
        let Self { shape, sums, block, to } = self;
        let channels = shape.conv.channels;
        for channel in 0..channels {
            for lane in (0..BLOCK).step_by(V::LANES) {
                let place = channels * shape.conv.filters;
                let from = (block * channels + channel) * BLOCK + lane;
                let mut half = [[V::splat(0.0); N]; KERNEL];
                for column in 0..N {
                    let mut x = [V::splat(0.0); N];
                    for sums in sums.chunks_exact(shape.transformed_len()) {
                        let more: [V; N] = load_strided(&sums[from + column * place..], N * place);
                        for (sum, more) in x.iter_mut().zip(more) {
                            *sum = sum.add(more);
                        }
                    }
                    let x = apply_transposed::<V, N>(&T::FILTER, x);
                    for (half, x) in half.iter_mut().zip(x) {
                        half[column] = x;
                    }
                }
                let mut taps = [[V::splat(0.0); KERNEL]; KERNEL];
                for (taps, half) in taps.iter_mut().zip(half) {
                    *taps = apply_transposed::<V, N>(&T::FILTER, half);
                }
                for (tap, values) in taps.iter().flatten().enumerate() {
                    let mut lanes = [0.0; BLOCK];
                    values.store(&mut lanes);
                    for (offset, value) in lanes.iter().take(V::LANES).enumerate() {
                        to[((lane + offset) * TAPS + tap) * channels + channel] = *value;
                    }
                }
            }
        }
    }
}

/// Multiplies the transform with the three weights of a row or column.
#[inline(always)]
fn apply<V: Vector, const N: usize>(matrix: &[[f32; KERNEL]; N], x: [V; KERNEL]) -> [V; N] {
    let mut all = [V::splat(0.0); N];
    for (sum, factors) in all.iter_mut().zip(matrix) {
        for (value, factor) in x.iter().zip(factors) {
            *sum = V::splat(*factor).mul_add(*value, *sum);
        }
    }
    all
}

/// Multiplies the transposed transform with a row or column of gradients.
#[inline(always)]
fn apply_transposed<V: Vector, const N: usize>(matrix: &[[f32; KERNEL]; N], x: [V; N]) -> [V; KERNEL] {
    let mut all = [V::splat(0.0); KERNEL];
    for (value, factors) in x.iter().zip(matrix) {
        for (sum, factor) in all.iter_mut().zip(factors) {
            *sum = V::splat(*factor).mul_add(*value, *sum);
        }
    }
    all
}
