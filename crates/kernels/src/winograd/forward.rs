//! The forward pass.

use std::ops::Range;

use simd::Vector;

use super::machine::{self, Pass};
use super::output::{Output, Pixels, Pooled, transform_output};
use super::product::{multiply, row_group};
use super::tile::Tile;
use super::window::{Layout, transform_input};
use super::{BLOCK, Shape};
use crate::Element;

/// Bytes of transformed inputs and products of a block of tiles, so that it stays in the
/// second-level cache.
const BLOCK_BYTES: usize = 512 << 10;
/// Groups of rows that a block has at least, so that the filters are not read too often.
const MIN_GROUPS: usize = 4;

/// Convolves `input` ([N, H, W, C]) with filters from [`pack`](super::pack), adds `bias` (`[F]`) if
/// there is one, and writes `output` ([N, H', W', F]). Each output is computed in the same way
/// whatever the number of images. Outputs in bf16 are float32 sums that are rounded once; AVX-512 BF16
/// rounds subnormal numbers to 0.
///
/// # Panics
/// If the lengths of the slices disagree with `shape` or with one another, or the shape is not
/// supported.
pub fn forward<E: Element>(shape: &Shape, input: &[E], packed: &[f32], bias: Option<&[f32]>, output: &mut [E]) {
    assert!(!shape.max_pool);
    assert_eq!(output.len(), shape.images(input) * shape.conv.conv_len());
    assert!(bias.is_none_or(|bias| bias.len() == shape.conv.filters));
    run(shape, input, packed, Pixels { bias, values: output });
}

/// Convolves as [`forward`] does, pools 2x2 with stride 2, adds `bias`, and writes `pooled` and `argmax`,
/// which are those of [`conv_pool::forward`](crate::conv_pool::forward) up to rounding: of outputs that
/// are equal by definition, any may be the argmax. An infinite or NaN value makes all outputs of its
/// windows NaN.
///
/// # Panics
/// As [`forward`].
pub fn forward_max_pool<E: Element>(
    shape: &Shape,
    input: &[E],
    packed: &[f32],
    bias: &[f32],
    pooled: &mut [E],
    argmax: &mut [u8],
) {
    assert!(shape.max_pool && bias.len() == shape.conv.filters);
    assert_eq!(pooled.len(), shape.images(input) * shape.conv.pooled_len());
    assert_eq!(argmax.len(), pooled.len());
    run(shape, input, packed, Pooled { bias, values: pooled, argmax });
}

fn run<E: Element>(shape: &Shape, input: &[E], packed: &[f32], output: impl Output) {
    let images = shape.images(input);
    assert_eq!(packed.len(), shape.transformed_len());
    machine::run::<E>(shape.tile, Forward { shape, images, input, packed, output });
}

struct Forward<'a, E, O> {
    shape: &'a Shape,
    images: usize,
    input: &'a [E],
    packed: &'a [f32],
    output: O,
}

impl<E: Element, O: Output> Pass for Forward<'_, E, O> {
    #[inline(always)]
    fn run<V: Vector, T: Tile<M, N>, const M: usize, const N: usize>(self) {
        let Self { shape, images, input, packed, mut output } = self;
        let (channels, filters, places) = (shape.conv.channels, shape.conv.filters, N * N);
        let all = images * shape.tiles_per_image();
        let group = row_group::<V>();
        let bytes = (channels + filters) * places * size_of::<f32>();
        let tiles = (BLOCK_BYTES / bytes / group).max(MIN_GROUPS).min(all.div_ceil(group)) * group;
        let (inputs, products) = (Layout::new(tiles, channels), Layout::new(tiles, filters));
        let mut transformed = vec![0.0; places * inputs.place];
        let mut multiplied = vec![0.0; places * products.place];
        for start in (0..all).step_by(tiles.max(1)) {
            let block: Range<usize> = start..(start + tiles).min(all);
            transform_input::<V, E, T, M, N>(shape, input, block.clone(), inputs, &mut transformed);
            for place in 0..places {
                let from = &transformed[place * inputs.place..][..tiles * channels];
                let to = &mut multiplied[place * products.place..][..tiles * filters];
                let weights = &packed[place * channels * BLOCK..];
                multiply::<V>(from, inputs, channels, weights, places * channels * BLOCK, to);
            }
            transform_output::<V, T, O, M, N>(shape, &multiplied, products, block, &mut output);
        }
    }
}
