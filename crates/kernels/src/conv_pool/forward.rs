//! Convolution and pooling in one pass: the convolution's result is never written to memory.

use super::tile::unpack;
use super::{BLOCK, KERNEL, Shape, TAPS};
use crate::Element;
#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx512, Dot, Lanes};

/// Filters that are computed side by side: two vectors.
const SIDE_BY_SIDE: usize = 2 * BLOCK;
/// Pooled pixels that are computed together: with four pixels each and two vectors of filters that is 24 sums, which leaves
/// 8 of 32 registers for weights and inputs.
const TOGETHER: usize = 3;
/// Images whose pooled pixels are numbered through, so that few are left over at the end.
const IMAGES: usize = 8;

/// Whether [`forward`] can be used for this shape, on this processor and with these numbers: AVX-512 for float32, its dot
/// product for bf16. Where it cannot, convolve otherwise and [`pool`](super::pool) the result.
pub fn has_forward<E: Element>(shape: &Shape) -> bool {
    shape.is_supported() && E::has_dot() && (shape.channels == 1 || shape.filters.is_multiple_of(SIDE_BY_SIDE))
}

/// Filters [filters, 3, 3, channels] laid out for [`forward`]: [groups of filters side by side, 9 taps, channels], and within that
/// as many channels as one instruction multiplies of each filter.
///
/// # Panics
/// When `filters` has another length than `shape` says.
pub fn pack_for_forward<E: Element>(shape: &Shape, filters: &[E]) -> Vec<E> {
    assert_eq!(filters.len(), shape.weights_len());
    let (channels, step) = (shape.channels, E::STEP.min(shape.channels));
    let group = if channels == 1 { BLOCK } else { SIDE_BY_SIDE };
    let mut packed = Vec::with_capacity(filters.len());
    for group in filters.chunks_exact(group * TAPS * channels) {
        for start in (0..TAPS * channels).step_by(step) {
            for filter in group.chunks_exact(TAPS * channels) {
                packed.extend_from_slice(&filter[start..start + step]);
            }
        }
    }
    packed
}

/// Convolves `input` (images [height, width, channels]) with filters from [`pack_for_forward`], pools 2x2, adds `bias`, and
/// writes `pooled` and `winners` as [`pool`](super::pool) does. Sums are `f32`.
///
/// # Panics
/// When a slice has another length than `shape` and the other slices say, or [`has_forward`] is false.
pub fn forward<E: Element>(
    shape: &Shape,
    input: &[E],
    packed: &[E],
    bias: &[f32],
    pooled: &mut [E],
    winners: &mut [u8],
) {
    let images = input.len() / shape.input_len();
    assert!(has_forward::<E>(shape), "this processor or shape has no forward kernel");
    assert_eq!(input.len(), images * shape.input_len());
    assert_eq!(packed.len(), shape.weights_len());
    assert_eq!(bias.len(), shape.filters);
    assert_eq!(pooled.len(), images * shape.pooled_len());
    assert_eq!(winners.len(), pooled.len());
    // SAFETY: `has_forward` has found the instructions; the lengths are checked above.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    unsafe {
        let work = Work { input, packed, bias, pooled, winners };
        if E::STEP == 1 {
            forward_f32(shape, work);
        } else {
            forward_bf16(shape, work);
        }
    }
}

/// The arguments of [`forward`].
struct Work<'a, E> {
    input: &'a [E],
    packed: &'a [E],
    bias: &'a [f32],
    pooled: &'a mut [E],
    winners: &'a mut [u8],
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn forward_f32<E: Element>(shape: &Shape, work: Work<'_, E>) {
    forward_with(shape, work);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
fn forward_bf16<E: Element>(shape: &Shape, work: Work<'_, E>) {
    forward_with(shape, work);
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn forward_with<E: Element>(shape: &Shape, work: Work<'_, E>) {
    if shape.channels == 1 {
        return one_channel(shape, work);
    }
    let Work { input, packed, bias, pooled, winners } = work;
    let (rows, columns, channels) = (shape.padded_height(), shape.padded_width(), shape.channels);
    let mut padded = vec![E::default(); if shape.padding > 0 { IMAGES * rows * columns * channels } else { 0 }];
    let parts = input.chunks(IMAGES * shape.input_len());
    let outputs = pooled.chunks_mut(IMAGES * shape.pooled_len()).zip(winners.chunks_mut(IMAGES * shape.pooled_len()));
    for (input, (pooled, winners)) in parts.zip(outputs) {
        let input = if shape.padding > 0 { pad(shape, input, &mut padded) } else { input };
        many_channels(shape, Work { input, packed, bias, pooled, winners });
    }
}

/// Copies images into the middle of `padded`, whose borders are and stay zero.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pad<'a, E: Element>(shape: &Shape, input: &[E], padded: &'a mut [E]) -> &'a [E] {
    let row = shape.width * shape.channels;
    let images = input.len() / shape.input_len();
    for (index, from) in input.chunks_exact(row).enumerate() {
        let (image, y) = (index / shape.height, index % shape.height);
        let start = (image * shape.padded_height() + y + shape.padding) * shape.padded_width() + shape.padding;
        padded[start * shape.channels..][..row].copy_from_slice(from);
    }
    &padded[..images * shape.padded_height() * shape.padded_width() * shape.channels]
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn many_channels<E: Element>(shape: &Shape, work: Work<'_, E>) {
    let Work { input, packed, bias, pooled, winners } = work;
    let (filters, channels) = (shape.filters, shape.channels);
    let row = shape.padded_width() * channels;
    let per_image = shape.pooled_height() * shape.pooled_width();
    let pixels = pooled.len() / filters;
    // Where a pooled pixel's four by four inputs begin.
    let corner = |pixel: usize| {
        let (image, place) = (pixel / per_image, pixel % per_image);
        let (y, x) = (place / shape.pooled_width(), place % shape.pooled_width());
        (image * shape.padded_height() + 2 * y) * row + 2 * x * channels
    };
    for (group, packed) in packed.chunks_exact(SIDE_BY_SIDE * TAPS * channels).enumerate() {
        let first = group * SIDE_BY_SIDE;
        for start in (0..pixels).step_by(TOGETHER) {
            // Past the end the last pixel is computed again, and not written.
            let corners = std::array::from_fn(|index| corner((start + index).min(pixels - 1)));
            let sums = dot_products(input, corners, packed, row, channels);
            for (index, sums) in sums.iter().enumerate().take(pixels - start) {
                for (half, sums) in sums.iter().enumerate() {
                    let at = (start + index) * filters + first + half * BLOCK;
                    let bias = &bias[first + half * BLOCK..];
                    greatest(*sums, bias, &mut pooled[at..][..BLOCK], &mut winners[at..][..BLOCK]);
                }
            }
        }
    }
}

/// The convolution with 32 filters at the four pixels of each of three pooled pixels: [pooled pixel][half of the filters][4].
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline(always)]
fn dot_products<E: Dot>(
    input: &[E],
    corners: [usize; TOGETHER],
    packed: &[E],
    row: usize,
    channels: usize,
) -> [[[Avx512; 4]; 2]; TOGETHER] {
    let mut sums = [[[Avx512::splat(0.0); 4]; 2]; TOGETHER];
    let reach = KERNEL * row + (KERNEL + 1) * channels;
    assert!(corners.iter().all(|corner| corner + reach <= input.len()));
    assert!(packed.len() == SIDE_BY_SIDE * TAPS * channels && channels.is_multiple_of(E::STEP));
    let mut weights = packed.as_ptr();
    for tap_row in 0..KERNEL {
        // SAFETY: the farthest input read is `row * 3 + channels * 4` from a corner, and as many weights are read as there are;
        // both are checked above.
        unsafe {
            let inputs: [[*const E; 2]; TOGETHER] =
                corners.map(|corner| [0, 1].map(|below| input.as_ptr().add(corner + (tap_row + below) * row)));
            for at in (0..KERNEL * channels).step_by(E::STEP) {
                let (left, right) = (E::load_weights(weights), E::load_weights(weights.add(BLOCK * E::STEP)));
                weights = weights.add(SIDE_BY_SIDE * E::STEP);
                for (inputs, sums) in inputs.iter().zip(&mut sums) {
                    for pixel in 0..4 {
                        let input = E::load_input(inputs[pixel / 2].add(at + pixel % 2 * channels));
                        sums[0][pixel] = E::dot(left, input, sums[0][pixel]);
                        sums[1][pixel] = E::dot(right, input, sums[1][pixel]);
                    }
                }
            }
        }
    }
    sums
}

/// Writes the greatest of four and which it is, for 16 filters.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn greatest<E: Element>(four: [Avx512; 4], bias: &[f32], pooled: &mut [E], winners: &mut [u8]) {
    let (mut best, mut winner) = (four[0], Avx512::splat(0.0));
    for (number, other) in [1.0, 2.0, 3.0].into_iter().zip(&four[1..]) {
        let wins = other.is_greater_or_nan(best);
        best = best.replace(wins, *other);
        winner = winner.replace(wins, Avx512::splat(number));
    }
    E::store(best.add(Avx512::load(bias)), pooled);
    winner.store_bytes(winners);
}

/// One channel: the nine weights of 16 filters stay in registers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn one_channel<E: Element>(shape: &Shape, work: Work<'_, E>) {
    let Work { input, packed, bias, pooled, winners } = work;
    let (filters, width) = (shape.filters, shape.padded_width());
    let mut unpacked = vec![0.0; shape.padded_height() * width];
    let outputs = pooled.chunks_exact_mut(shape.pooled_len()).zip(winners.chunks_exact_mut(shape.pooled_len()));
    for (input, (pooled, winners)) in input.chunks_exact(shape.input_len()).zip(outputs) {
        unpack(shape, 1, input, &mut unpacked);
        for (group, packed) in packed.chunks_exact(BLOCK * TAPS).enumerate() {
            let mut weights = [Avx512::splat(0.0); TAPS];
            for (weights, packed) in weights.iter_mut().zip(packed.chunks_exact(BLOCK)) {
                let values: [f32; BLOCK] = std::array::from_fn(|lane| packed[lane].to_f32());
                *weights = Avx512::load(&values);
            }
            for y in 0..shape.pooled_height() {
                for x in 0..shape.pooled_width() {
                    let mut four = [Avx512::splat(0.0); 4];
                    for row in 0..=KERNEL {
                        let input = &unpacked[(2 * y + row) * width + 2 * x..][..=KERNEL];
                        for (column, input) in input.iter().enumerate() {
                            let input = Avx512::splat(*input);
                            for (pixel, sum) in four.iter_mut().enumerate() {
                                let (tap_row, tap) = (row.wrapping_sub(pixel / 2), column.wrapping_sub(pixel % 2));
                                if tap_row < KERNEL && tap < KERNEL {
                                    *sum = input.mul_add(weights[tap_row * KERNEL + tap], *sum);
                                }
                            }
                        }
                    }
                    let at = (y * shape.pooled_width() + x) * filters + group * BLOCK;
                    let bias = &bias[group * BLOCK..];
                    greatest(four, bias, &mut pooled[at..][..BLOCK], &mut winners[at..][..BLOCK]);
                }
            }
        }
    }
}
