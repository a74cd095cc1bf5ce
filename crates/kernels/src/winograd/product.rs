//! The matrix products between the transforms, with sums in registers.
//!
//! Transformed filters are [blocks of 16 filters][place][channels][16 filters].

use simd::Vector;

use super::BLOCK;
use super::window::Layout;

/// Tiles whose products are in registers at once.
#[inline(always)]
pub(super) fn row_group<V: Vector>() -> usize {
    if V::LANES == 16 { 12 } else { 6 }
}

/// Multiplies the transformed inputs of one place ([channel blocks][tiles][16]) with its filters, to
/// `to` ([filter blocks][tiles][16]). The number of tiles is a multiple of [`row_group`].
///
/// `filters` starts at the place in the first block of filters; `stride` is the distance of blocks.
#[inline(always)]
pub(super) fn multiply<V: Vector>(
    input: &[f32],
    layout: Layout,
    channels: usize,
    filters: &[f32],
    stride: usize,
    to: &mut [f32],
) {
    let count = to.len() / layout.block();
    let mut block = 0;
    while block < count {
        let filters = &filters[block * stride..];
        let to = &mut to[block * layout.block()..];
        // 12 to 24 sums in registers; 16 filters are 4, 2 or 1 vectors.
        match (V::LANES, count - block) {
            (16, 1) => rows::<V, 12, 1>(input, layout, channels, filters, stride, to),
            (16, _) => rows::<V, 12, 2>(input, layout, channels, filters, stride, to),
            (8, _) => rows::<V, 6, 2>(input, layout, channels, filters, stride, to),
            _ => rows::<V, 6, 4>(input, layout, channels, filters, stride, to),
        }
        block += if V::LANES == 16 { 2 } else { 1 };
    }
}

/// [`multiply`] for `VECTORS` vectors of filters.
#[inline(always)]
fn rows<V: Vector, const ROWS: usize, const VECTORS: usize>(
    input: &[f32],
    layout: Layout,
    channels: usize,
    filters: &[f32],
    stride: usize,
    to: &mut [f32],
) {
    for first in (0..layout.block()).step_by(ROWS * BLOCK) {
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        for block in 0..channels / BLOCK {
            let rows = &input[block * layout.block() + first..][..ROWS * BLOCK];
            let mut weights: [&[f32]; VECTORS] = [&[]; VECTORS];
            for (vector, weights) in weights.iter_mut().enumerate() {
                let at = vector * V::LANES;
                let from = at / BLOCK * stride + block * BLOCK * BLOCK + at % BLOCK;
                *weights = &filters[from..][..(BLOCK - 1) * BLOCK + V::LANES];
            }
            for channel in 0..BLOCK {
                let mut vectors = [V::splat(0.0); VECTORS];
                for (vector, weights) in vectors.iter_mut().zip(&weights) {
                    *vector = V::load(&weights[channel * BLOCK..]);
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = V::splat(rows[row * BLOCK + channel]);
                    for (sum, weight) in sums.iter_mut().zip(&vectors) {
                        *sum = value.mul_add(*weight, *sum);
                    }
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, sum) in sums.iter().enumerate() {
                let at = vector * V::LANES;
                sum.store(&mut to[at / BLOCK * layout.block() + first + row * BLOCK + at % BLOCK..]);
            }
        }
    }
}

/// Adds the products of the inputs of one place and the gradients of one block of 16 filters
/// ([tiles][16]), summed over the tiles in their order, to `to` ([channels][16 filters]).
#[inline(always)]
pub(super) fn accumulate<V: Vector>(input: &[f32], layout: Layout, gradient: &[f32], to: &mut [f32]) {
    let inputs = input.chunks_exact(layout.block());
    for (input, to) in inputs.zip(to.chunks_exact_mut(BLOCK * BLOCK)) {
        match V::LANES {
            16 => columns::<V, 16, 1>(input, gradient, 0, to),
            8 => {
                columns::<V, 6, 2>(input, gradient, 0, to);
                columns::<V, 6, 2>(input, gradient, 6, to);
                columns::<V, 4, 2>(input, gradient, 12, to);
            }
            _ => {
                columns::<V, 6, 4>(input, gradient, 0, to);
                columns::<V, 6, 4>(input, gradient, 6, to);
                columns::<V, 4, 4>(input, gradient, 12, to);
            }
        }
    }
}

/// [`accumulate`] for `CHANNELS` channels.
#[inline(always)]
fn columns<V: Vector, const CHANNELS: usize, const VECTORS: usize>(
    input: &[f32],
    gradient: &[f32],
    first: usize,
    to: &mut [f32],
) {
    let mut sums = [[V::splat(0.0); VECTORS]; CHANNELS];
    for (channel, sums) in sums.iter_mut().enumerate() {
        for (vector, sum) in sums.iter_mut().enumerate() {
            *sum = V::load(&to[(first + channel) * BLOCK + vector * V::LANES..]);
        }
    }
    for (input, gradient) in input.chunks_exact(BLOCK).zip(gradient.chunks_exact(BLOCK)) {
        let mut gradients = [V::splat(0.0); VECTORS];
        for (vector, value) in gradients.iter_mut().enumerate() {
            *value = V::load(&gradient[vector * V::LANES..]);
        }
        for (channel, sums) in sums.iter_mut().enumerate() {
            let value = V::splat(input[first + channel]);
            for (sum, gradient) in sums.iter_mut().zip(&gradients) {
                *sum = value.mul_add(*gradient, *sum);
            }
        }
    }
    for (channel, sums) in sums.iter().enumerate() {
        for (vector, sum) in sums.iter().enumerate() {
            sum.store(&mut to[(first + channel) * BLOCK + vector * V::LANES..]);
        }
    }
}
