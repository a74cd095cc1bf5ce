//! Fused convolution and max-pooling: the convolution's output is never written to memory.

use simd::{Bf16Task, Bf16Vector, Task, Vector};

use super::dot::{Dot, Floats, Pairs};
use super::tiling::unpack;
use super::{BLOCK, KERNEL, Shape, TAPS};
use crate::{Element, isa};

/// Filters that are packed together; the last 16 may be alone.
const FILTER_GROUP: usize = 2 * BLOCK;
/// Images whose pooled pixels are grouped together, so that few groups are incomplete.
const IMAGES: usize = 8;

/// Filters in the order in which [`forward`] reads them: [filter groups, 9 taps, C / width, filters
/// per group, width], where width is the number of channels that one instruction multiplies.
#[derive(Debug, Clone)]
pub struct Packed(Filters);

#[derive(Debug, Clone)]
enum Filters {
    Floats(Vec<f32>),
    /// Bits of bfloat16, with a width of 2.
    Pairs(Vec<u16>),
}

/// Packs filters [F, 3, 3, C] for [`forward`] on this processor.
///
/// # Panics
/// If the length of `filters` disagrees with `shape`.
pub fn pack_for_forward<E: Element>(shape: &Shape, filters: &[E]) -> Packed {
    assert_eq!(filters.len(), shape.weights_len());
    match E::as_bf16(filters) {
        Some(bits) if shape.channels > 1 && simd::has_bf16(isa()) => Packed(Filters::Pairs(pack(shape, bits, 2))),
        _ => {
            let floats: Vec<f32> = filters.iter().map(|value| value.to_f32()).collect();
            Packed(Filters::Floats(pack(shape, &floats, 1)))
        }
    }
}

fn pack<T: Copy>(shape: &Shape, filters: &[T], width: usize) -> Vec<T> {
    let channels = shape.channels;
    let mut packed = Vec::with_capacity(filters.len());
    for group in filters.chunks(group_of(shape) * TAPS * channels) {
        for start in (0..TAPS * channels).step_by(width) {
            for filter in group.chunks_exact(TAPS * channels) {
                packed.extend_from_slice(&filter[start..start + width]);
            }
        }
    }
    packed
}

fn group_of(shape: &Shape) -> usize {
    if shape.channels == 1 { BLOCK } else { FILTER_GROUP }
}

/// Convolves `input` ([N, H, W, C]) with filters from [`pack_for_forward`], pools 2x2 with stride 2,
/// adds `bias` (`[F]`), and writes `pooled` and `argmax` (both [N, pooled height, pooled width, F]).
/// Sums are `f32`.
///
/// The argmax is 0 to 3 in row-major order of the four pixels, the first of equal values. NaN counts
/// as the maximum, as in PyTorch's `max_pool2d`.
///
/// # Panics
/// If the lengths of the slices disagree with `shape` or with one another, the shape is not
/// supported, or the filters were packed while [`isa`] was another.
pub fn forward<E: Element>(
    shape: &Shape,
    input: &[E],
    packed: &Packed,
    bias: &[f32],
    pooled: &mut [E],
    argmax: &mut [u8],
) {
    let images = input.len() / shape.input_len();
    assert!(shape.can_pool(), "no forward kernel for this shape");
    assert_eq!(input.len(), images * shape.input_len());
    assert_eq!(bias.len(), shape.filters);
    assert_eq!(pooled.len(), images * shape.pooled_len());
    assert_eq!(argmax.len(), pooled.len());
    let arguments = Arguments { input, bias, pooled, argmax };
    match &packed.0 {
        Filters::Floats(packed) => {
            assert_eq!(packed.len(), shape.weights_len());
            E::run(Forward { shape, packed, arguments });
        }
        Filters::Pairs(packed) => {
            assert_eq!(packed.len(), shape.weights_len());
            let result = simd::run_bf16(isa(), Forward { shape, packed, arguments });
            assert!(result.is_ok(), "filters that were packed for another instruction set");
        }
    }
}

/// Slices that [`forward`] is called with.
struct Arguments<'a, E> {
    input: &'a [E],
    bias: &'a [f32],
    pooled: &'a mut [E],
    argmax: &'a mut [u8],
}

struct Forward<'a, E, T> {
    shape: &'a Shape,
    packed: &'a [T],
    arguments: Arguments<'a, E>,
}

impl<E: Element> Task for Forward<'_, E, f32> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        if self.shape.channels == 1 {
            one_channel::<V, E>(self.shape, self.packed, self.arguments);
        } else {
            many_channels::<Floats<V>, E>(self.shape, self.packed, self.arguments);
        }
    }
}

impl<E: Element> Bf16Task for Forward<'_, E, u16> {
    type Output = ();

    #[inline(always)]
    fn run<V: Bf16Vector>(self) {
        many_channels::<Pairs<V>, E>(self.shape, self.packed, self.arguments);
    }
}

#[inline(always)]
fn many_channels<D: Dot, E: Element>(shape: &Shape, packed: &[D::Value], arguments: Arguments<'_, E>) {
    let Arguments { input, bias, pooled, argmax } = arguments;
    let padded_len = shape.padded_height() * shape.padded_width() * shape.channels;
    let is_copied = shape.padding > 0 || D::borrow(input).is_none();
    let mut padded = vec![D::Value::default(); if is_copied { IMAGES * padded_len } else { 0 }];
    let inputs = input.chunks(IMAGES * shape.input_len());
    let outputs = pooled.chunks_mut(IMAGES * shape.pooled_len()).zip(argmax.chunks_mut(IMAGES * shape.pooled_len()));
    for (input, (pooled, argmax)) in inputs.zip(outputs) {
        let input = match D::borrow(input) {
            Some(input) if shape.padding == 0 => input,
            _ => pad::<D, E>(shape, input, &mut padded),
        };
        let mut first = 0;
        for packed in packed.chunks(FILTER_GROUP * TAPS * shape.channels) {
            let group = Group::<D> { shape, input, packed, filters: packed.len() / (TAPS * shape.channels), first };
            // Four sums for each pooled pixel and vector of filters, and a register for each vector of
            // weights and for an input.
            match (D::Vector::REGISTERS, group.filters / D::Vector::LANES) {
                (32, 1) => group.run::<E, 6, 1>(bias, pooled, argmax),
                (32, _) => group.run::<E, 3, 2>(bias, pooled, argmax),
                (16, _) => group.run::<E, 1, 2>(bias, pooled, argmax),
                _ => group.run::<E, 1, 1>(bias, pooled, argmax),
            }
            first += group.filters;
        }
    }
}

/// Copies images into the interior of `padded`, whose border is zero and stays so.
#[inline(always)]
fn pad<'a, D: Dot, E: Element>(shape: &Shape, input: &[E], padded: &'a mut [D::Value]) -> &'a [D::Value] {
    let row = shape.width * shape.channels;
    let images = input.len() / shape.input_len();
    for (index, from) in input.chunks_exact(row).enumerate() {
        let (image, y) = (index / shape.height, index % shape.height);
        let start = (image * shape.padded_height() + y + shape.padding) * shape.padded_width() + shape.padding;
        D::copy(from, &mut padded[start * shape.channels..][..row]);
    }
    &padded[..images * shape.padded_height() * shape.padded_width() * shape.channels]
}

/// Filters that are packed together, and padded images that they are applied to.
struct Group<'a, D: Dot> {
    shape: &'a Shape,
    input: &'a [D::Value],
    packed: &'a [D::Value],
    /// Number of the filters.
    filters: usize,
    /// The first of them.
    first: usize,
}

impl<D: Dot> Group<'_, D> {
    /// Computes `P` pooled pixels and `Q` vectors of filters at once.
    #[inline(always)]
    fn run<E: Element, const P: usize, const Q: usize>(&self, bias: &[f32], pooled: &mut [E], argmax: &mut [u8]) {
        let Shape { filters, channels, .. } = *self.shape;
        let (height, width) = (self.shape.pooled_height(), self.shape.pooled_width());
        let row = self.shape.padded_width() * channels;
        let pixels = pooled.len() / filters;
        let lanes = D::Vector::LANES;
        for vector in (0..self.filters / lanes).step_by(Q) {
            for start in (0..pixels).step_by(P) {
                let mut corners = [0; P];
                for (index, corner) in corners.iter_mut().enumerate() {
                    // An incomplete group repeats the last pixel, and the copies are not stored.
                    let pixel = (start + index).min(pixels - 1);
                    let (image, place) = (pixel / (height * width), pixel % (height * width));
                    let (y, x) = (place / width, place % width);
                    // Start of the 4x4 input pixels of the pooled pixel.
                    *corner = (image * self.shape.padded_height() + 2 * y) * row + 2 * x * channels;
                }
                let sums = self.dot_products::<P, Q>(corners, vector * lanes, row, channels);
                for (index, sums) in sums.iter().enumerate().take(pixels - start) {
                    for (number, sums) in sums.iter().enumerate() {
                        let filter = self.first + (vector + number) * lanes;
                        let at = (start + index) * filters + filter;
                        store_max(*sums, &bias[filter..], &mut pooled[at..][..lanes], &mut argmax[at..][..lanes]);
                    }
                }
            }
        }
    }

    /// Convolves with `Q` vectors of filters, from `filter` of the group on, at the four pixels of each
    /// of `P` pooled pixels; the result is [pooled pixel][vector][pixel].
    #[allow(unsafe_code)]
    #[inline(always)]
    fn dot_products<const P: usize, const Q: usize>(
        &self,
        corners: [usize; P],
        filter: usize,
        row: usize,
        channels: usize,
    ) -> [[[D::Vector; 4]; Q]; P] {
        let lanes = D::Vector::LANES;
        let mut sums = [[[D::Vector::splat(0.0); 4]; Q]; P];
        let reach = KERNEL * row + (KERNEL + 1) * channels;
        for corner in corners {
            assert!(corner + reach <= self.input.len());
        }
        assert!(self.packed.len() == self.filters * TAPS * channels && channels.is_multiple_of(D::WIDTH));
        assert!(filter + Q * lanes <= self.filters);
        // SAFETY: inputs are read up to `row * 3 + channels * 4` from a corner, and weights up to the
        // end of `packed`; both are checked above.
        unsafe {
            let mut weights_at = filter * D::WIDTH;
            for tap_row in 0..KERNEL {
                let mut inputs = [[self.input.as_ptr(); 2]; P];
                for (inputs, corner) in inputs.iter_mut().zip(corners) {
                    for (below, input) in inputs.iter_mut().enumerate() {
                        *input = self.input.as_ptr().add(corner + (tap_row + below) * row);
                    }
                }
                for at in (0..KERNEL * channels).step_by(D::WIDTH) {
                    let weights = self.packed.as_ptr().add(weights_at);
                    let mut vectors = [D::load_weights(weights); Q];
                    for (number, vector) in vectors.iter_mut().enumerate().skip(1) {
                        *vector = D::load_weights(weights.add(number * lanes * D::WIDTH));
                    }
                    weights_at += self.filters * D::WIDTH;
                    for (inputs, sums) in inputs.iter().zip(&mut sums) {
                        for pixel in 0..4 {
                            let input = D::load_input(inputs[pixel / 2].add(at + pixel % 2 * channels));
                            for (sums, weights) in sums.iter_mut().zip(&vectors) {
                                sums[pixel] = D::dot(*weights, input, sums[pixel]);
                            }
                        }
                    }
                }
            }
        }
        sums
    }
}

/// Stores the maximum of four pixels plus `bias`, and its index: the first of equal ones, and the last
/// NaN, as PyTorch's `max_pool2d`. Handles a vector of filters, the first ones of each slice.
#[inline(always)]
pub(crate) fn store_max<V: Vector, E: Element>(four: [V; 4], bias: &[f32], pooled: &mut [E], argmax: &mut [u8]) {
    let (mut best, mut index) = (four[0], V::splat(0.0));
    for (number, other) in [1.0, 2.0, 3.0].into_iter().zip(&four[1..]) {
        let is_max = other.is_greater_or_nan(best);
        best = best.blend(is_max, *other);
        index = index.blend(is_max, V::splat(number));
    }
    E::store(best.add(V::load(bias)), pooled);
    index.store_bytes(argmax);
}

/// Handles one input channel, where the nine weights of a vector of filters stay in registers.
#[inline(always)]
fn one_channel<V: Vector, E: Element>(shape: &Shape, packed: &[f32], arguments: Arguments<'_, E>) {
    let Arguments { input, bias, pooled, argmax } = arguments;
    let (filters, width) = (shape.filters, shape.padded_width());
    let mut unpacked = vec![0.0; shape.padded_height() * width];
    let outputs = pooled.chunks_exact_mut(shape.pooled_len()).zip(argmax.chunks_exact_mut(shape.pooled_len()));
    for (input, (pooled, argmax)) in input.chunks_exact(shape.input_len()).zip(outputs) {
        unpack(shape, 1, input, &mut unpacked);
        for first in (0..filters).step_by(V::LANES) {
            let packed = &packed[first / BLOCK * BLOCK * TAPS + first % BLOCK..];
            let mut weights = [V::splat(0.0); TAPS];
            for (tap, weights) in weights.iter_mut().enumerate() {
                *weights = V::load(&packed[tap * BLOCK..]);
            }
            for y in 0..shape.pooled_height() {
                for x in 0..shape.pooled_width() {
                    let mut four = [V::splat(0.0); 4];
                    for row in 0..=KERNEL {
                        let input = &unpacked[(2 * y + row) * width + 2 * x..][..=KERNEL];
                        for (column, input) in input.iter().enumerate() {
                            let input = V::splat(*input);
                            for (pixel, sum) in four.iter_mut().enumerate() {
                                let (tap_row, tap) = (row.wrapping_sub(pixel / 2), column.wrapping_sub(pixel % 2));
                                if tap_row < KERNEL && tap < KERNEL {
                                    *sum = input.mul_add(weights[tap_row * KERNEL + tap], *sum);
                                }
                            }
                        }
                    }
                    let at = (y * shape.pooled_width() + x) * filters + first;
                    store_max(four, &bias[first..], &mut pooled[at..][..V::LANES], &mut argmax[at..][..V::LANES]);
                }
            }
        }
    }
}
