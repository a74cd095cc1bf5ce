//! Fused convolution and max-pooling: the convolution's output is never written to memory.

use super::tiling::unpack;
use super::{BLOCK, KERNEL, Shape, TAPS};
use crate::Element;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx512, Dot, F32Vector};

/// Filters per group: two vectors.
const FILTER_GROUP: usize = 2 * BLOCK;
/// Pooled pixels per group. With four pixels each and two vectors of filters that makes 24 sums and
/// leaves 8 of the 32 registers for weights and inputs.
const PIXEL_GROUP: usize = 3;
/// Images whose pooled pixels are grouped together, so that few groups are incomplete.
const IMAGES: usize = 8;

/// Whether [`forward`] supports this shape, dtype and processor: AVX-512 for float32, AVX-512 BF16
/// for bf16. Otherwise compute the convolution elsewhere and apply [`max_pool`](super::max_pool).
pub fn has_forward<E: Element>(shape: &Shape) -> bool {
    shape.is_supported() && E::has_dot() && (shape.channels == 1 || shape.filters.is_multiple_of(FILTER_GROUP))
}

/// Packs filters [F, 3, 3, C] for [`forward`] as [filter groups, 9 taps, C / width, filters per
/// group, width], where width is the number of channels that one instruction multiplies.
///
/// # Panics
/// If the length of `filters` disagrees with `shape`.
pub fn pack_for_forward<E: Element>(shape: &Shape, filters: &[E]) -> Vec<E> {
    assert_eq!(filters.len(), shape.weights_len());
    let (channels, width) = (shape.channels, E::DOT_WIDTH.min(shape.channels));
    let group = if channels == 1 { BLOCK } else { FILTER_GROUP };
    let mut packed = Vec::with_capacity(filters.len());
    for group in filters.chunks_exact(group * TAPS * channels) {
        for start in (0..TAPS * channels).step_by(width) {
            for filter in group.chunks_exact(TAPS * channels) {
                packed.extend_from_slice(&filter[start..start + width]);
            }
        }
    }
    packed
}

/// Convolves `input` ([N, H, W, C]) with filters from [`pack_for_forward`], pools 2x2, adds `bias`
/// (`[F]`), and writes `pooled` and `argmax` like [`max_pool`](super::max_pool). Sums are `f32`.
///
/// # Panics
/// If the lengths of the slices disagree with `shape` or with one another, or [`has_forward`] is
/// false.
pub fn forward<E: Element>(
    shape: &Shape,
    input: &[E],
    packed: &[E],
    bias: &[f32],
    pooled: &mut [E],
    argmax: &mut [u8],
) {
    let images = input.len() / shape.input_len();
    assert!(has_forward::<E>(shape), "no forward kernel for this processor, dtype or shape");
    assert_eq!(input.len(), images * shape.input_len());
    assert_eq!(packed.len(), shape.weights_len());
    assert_eq!(bias.len(), shape.filters);
    assert_eq!(pooled.len(), images * shape.pooled_len());
    assert_eq!(argmax.len(), pooled.len());
    // SAFETY: `has_forward` checked the instruction sets, and the lengths are checked above.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    unsafe {
        let arguments = Arguments { input, packed, bias, pooled, argmax };
        if E::DOT_WIDTH == 1 {
            forward_f32(shape, arguments);
        } else {
            forward_bf16(shape, arguments);
        }
    }
}

/// Slices that [`forward`] is called with.
struct Arguments<'a, E> {
    input: &'a [E],
    packed: &'a [E],
    bias: &'a [f32],
    pooled: &'a mut [E],
    argmax: &'a mut [u8],
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn forward_f32<E: Element>(shape: &Shape, arguments: Arguments<'_, E>) {
    forward_with(shape, arguments);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
fn forward_bf16<E: Element>(shape: &Shape, arguments: Arguments<'_, E>) {
    forward_with(shape, arguments);
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn forward_with<E: Element>(shape: &Shape, arguments: Arguments<'_, E>) {
    if shape.channels == 1 {
        return one_channel(shape, arguments);
    }
    let Arguments { input, packed, bias, pooled, argmax } = arguments;
    let (rows, columns, channels) = (shape.padded_height(), shape.padded_width(), shape.channels);
    let mut padded = vec![E::default(); if shape.padding > 0 { IMAGES * rows * columns * channels } else { 0 }];
    let inputs = input.chunks(IMAGES * shape.input_len());
    let outputs = pooled.chunks_mut(IMAGES * shape.pooled_len()).zip(argmax.chunks_mut(IMAGES * shape.pooled_len()));
    for (input, (pooled, argmax)) in inputs.zip(outputs) {
        let input = if shape.padding > 0 { pad(shape, input, &mut padded) } else { input };
        many_channels(shape, Arguments { input, packed, bias, pooled, argmax });
    }
}

/// Copies images into the interior of `padded`, whose border is zero and stays so.
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
fn many_channels<E: Element>(shape: &Shape, arguments: Arguments<'_, E>) {
    let Arguments { input, packed, bias, pooled, argmax } = arguments;
    let (filters, channels) = (shape.filters, shape.channels);
    let row = shape.padded_width() * channels;
    let per_image = shape.pooled_height() * shape.pooled_width();
    let pixels = pooled.len() / filters;
    // Start of the 4x4 input pixels of a pooled pixel.
    let corner = |pixel: usize| {
        let (image, place) = (pixel / per_image, pixel % per_image);
        let (y, x) = (place / shape.pooled_width(), place % shape.pooled_width());
        (image * shape.padded_height() + 2 * y) * row + 2 * x * channels
    };
    for (group, packed) in packed.chunks_exact(FILTER_GROUP * TAPS * channels).enumerate() {
        let first = group * FILTER_GROUP;
        for start in (0..pixels).step_by(PIXEL_GROUP) {
            // An incomplete group repeats the last pixel, and the copies are not stored.
            let corners = std::array::from_fn(|index| corner((start + index).min(pixels - 1)));
            let sums = dot_products(input, corners, packed, row, channels);
            for (index, sums) in sums.iter().enumerate().take(pixels - start) {
                for (half, sums) in sums.iter().enumerate() {
                    let at = (start + index) * filters + first + half * BLOCK;
                    let bias = &bias[first + half * BLOCK..];
                    store_max(*sums, bias, &mut pooled[at..][..BLOCK], &mut argmax[at..][..BLOCK]);
                }
            }
        }
    }
}

/// Convolves with 32 filters at the four pixels of each of three pooled pixels; the result is
/// [pooled pixel][half of the filters][pixel].
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline(always)]
fn dot_products<E: Dot>(
    input: &[E],
    corners: [usize; PIXEL_GROUP],
    packed: &[E],
    row: usize,
    channels: usize,
) -> [[[Avx512; 4]; 2]; PIXEL_GROUP] {
    let mut sums = [[[Avx512::splat(0.0); 4]; 2]; PIXEL_GROUP];
    let reach = KERNEL * row + (KERNEL + 1) * channels;
    assert!(corners.iter().all(|corner| corner + reach <= input.len()));
    assert!(packed.len() == FILTER_GROUP * TAPS * channels && channels.is_multiple_of(E::DOT_WIDTH));
    let mut weights = packed.as_ptr();
    for tap_row in 0..KERNEL {
        // SAFETY: inputs are read up to `row * 3 + channels * 4` from a corner, and weights up to
        // the end of `packed`; both are checked above.
        unsafe {
            let inputs: [[*const E; 2]; PIXEL_GROUP] =
                corners.map(|corner| [0, 1].map(|below| input.as_ptr().add(corner + (tap_row + below) * row)));
            for at in (0..KERNEL * channels).step_by(E::DOT_WIDTH) {
                let (left, right) = (E::load_weights(weights), E::load_weights(weights.add(BLOCK * E::DOT_WIDTH)));
                weights = weights.add(FILTER_GROUP * E::DOT_WIDTH);
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

/// Stores the maximum of four pixels and its index, for 16 filters.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn store_max<E: Element>(four: [Avx512; 4], bias: &[f32], pooled: &mut [E], argmax: &mut [u8]) {
    let (mut best, mut index) = (four[0], Avx512::splat(0.0));
    for (number, other) in [1.0, 2.0, 3.0].into_iter().zip(&four[1..]) {
        let is_max = other.is_greater_or_nan(best);
        best = best.blend(is_max, *other);
        index = index.blend(is_max, Avx512::splat(number));
    }
    E::store(best.add(Avx512::load(bias)), pooled);
    index.store_bytes(argmax);
}

/// Handles one input channel, where the nine weights of 16 filters stay in registers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn one_channel<E: Element>(shape: &Shape, arguments: Arguments<'_, E>) {
    let Arguments { input, packed, bias, pooled, argmax } = arguments;
    let (filters, width) = (shape.filters, shape.padded_width());
    let mut unpacked = vec![0.0; shape.padded_height() * width];
    let outputs = pooled.chunks_exact_mut(shape.pooled_len()).zip(argmax.chunks_exact_mut(shape.pooled_len()));
    for (input, (pooled, argmax)) in input.chunks_exact(shape.input_len()).zip(outputs) {
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
                    store_max(four, bias, &mut pooled[at..][..BLOCK], &mut argmax[at..][..BLOCK]);
                }
            }
        }
    }
}
