//! The gradient of the filters: [`transformed`] in each thread, then [`unpack`] once.

use simd::Vector;

use super::filters::Unpack;
use super::machine::{self, Pass};
use super::product;
use super::tile::Tile;
use super::window::{Layout, spread_gradient, transform_input};
use super::{BLOCK, Shape, TAPS};
use crate::Element;

/// Tiles of a block. With more, the transformed data leave the second-level cache; with fewer, the
/// sums are read and written more often.
const TILES: usize = 24;

/// Computes the gradient of the transformed filters, `sums` of `transformed_len` values, from
/// `input` [N, H, W, C] and `gradient` of the output, [N, H', W', F]. The sums over the tiles are
/// `f32`, in the order of the images.
///
/// # Panics
/// If a length disagrees with `shape` or another, or the shape is not supported or one of max pooling.
pub fn transformed<E: Element>(shape: &Shape, input: &[E], gradient: &[E], sums: &mut [f32]) {
    assert!(!shape.max_pool);
    let images = shape.images(input);
    assert_eq!(gradient.len(), images * shape.conv.conv_len());
    assert_eq!(sums.len(), shape.transformed_len());
    machine::run::<f32>(shape.tile, Transformed { shape, images, input, gradient, sums });
}

struct Transformed<'a, E> {
    shape: &'a Shape,
    images: usize,
    input: &'a [E],
    gradient: &'a [E],
    sums: &'a mut [f32],
}

impl<E: Element> Pass for Transformed<'_, E> {
    #[inline(always)]
    fn run<V: Vector, T: Tile<M, N>, const M: usize, const N: usize>(self) {
        let Self { shape, images, input, gradient, sums } = self;
        let (channels, filters) = (shape.conv.channels, shape.conv.filters);
        let (inputs, gradients) = (Layout::new(TILES, channels), Layout::new(TILES, filters));
        let mut windows = vec![0.0; N * N * inputs.place];
        let mut spread = vec![0.0; N * N * gradients.place];
        sums.fill(0.0);
        let all = images * shape.tiles_per_image();
        for start in (0..all).step_by(TILES) {
            let tiles = start..(start + TILES).min(all);
            if tiles.len() < TILES {
                windows.fill(0.0);
                spread.fill(0.0);
            }
            transform_input::<V, E, T, M, N>(shape, input, tiles.clone(), inputs, &mut windows);
            spread_gradient::<V, E, T, M, N>(shape, gradient, tiles, gradients, &mut spread);
            for (place, sums) in sums.chunks_exact_mut(channels * filters).enumerate() {
                let windows = &windows[place * inputs.place..][..TILES * channels];
                let spread = &spread[place * gradients.place..][..TILES * filters];
                for (spread, sums) in
                    spread.chunks_exact(gradients.block()).zip(sums.chunks_exact_mut(channels * BLOCK))
                {
                    product::accumulate::<V>(windows, inputs, spread, sums);
                }
            }
        }
    }
}

/// Computes the gradient of filters `16 * block` to `16 * block + 15`, `to` ([16, 3, 3, C]), from
/// one or more results of [`transformed`], which are added in their order.
///
/// # Panics
/// If a length disagrees with `shape`, or the shape is not supported.
pub fn unpack(shape: &Shape, sums: &[f32], block: usize, to: &mut [f32]) {
    assert!(shape.is_supported() && block < shape.conv.filters / BLOCK);
    assert!(sums.len().is_multiple_of(shape.transformed_len()));
    assert_eq!(to.len(), BLOCK * TAPS * shape.conv.channels);
    machine::run::<f32>(shape.tile, Unpack { shape, sums, block, to });
}
