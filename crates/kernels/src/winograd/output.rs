//! Outputs of the forward pass: the pixels of the convolution, or the maxima of 2x2 of them.

use std::ops::Range;

use simd::Vector;

use super::Shape;
use super::strided::{load_strided, store_strided};
use super::tile::Tile;
use super::window::{Layout, Place, Square};
use crate::Element;
use crate::conv_pool::store_max;

/// Where the outputs of tiles go.
pub(super) trait Output {
    /// Transforms the products of a tile, and stores the outputs that are inside the image.
    /// Implementations are `#[inline(always)]`.
    fn store<V: Vector, T: Tile<M, N>, const M: usize, const N: usize>(
        &mut self,
        shape: &Shape,
        products: Products<'_>,
    );
}

/// The products of a tile: number `index` of a block.
#[derive(Clone, Copy)]
pub(super) struct Products<'a> {
    block: &'a [f32],
    layout: Layout,
    index: usize,
    place: Place,
}

impl Products<'_> {
    /// Transforms the columns, for the vector of filters from `filter` on.
    #[inline(always)]
    fn columns<V: Vector, T: Tile<M, N>, const M: usize, const N: usize>(&self, filter: usize) -> [[V; N]; M] {
        let from = &self.block[self.layout.at(self.index, filter)..];
        let mut half = [[V::splat(0.0); N]; M];
        for column in 0..N {
            let x: [V; N] = load_strided(&from[column * self.layout.place..], N * self.layout.place);
            for (half, x) in half.iter_mut().zip(T::output(x)) {
                half[column] = x;
            }
        }
        half
    }
}

/// Transforms the products of `tiles`, a block, to `output`.
#[inline(always)]
pub(super) fn transform_output<V: Vector, T: Tile<M, N>, O: Output, const M: usize, const N: usize>(
    shape: &Shape,
    block: &[f32],
    layout: Layout,
    tiles: Range<usize>,
    output: &mut O,
) {
    let mut place = Place::new(shape, tiles.start);
    for index in 0..tiles.len() {
        output.store::<V, T, M, N>(shape, Products { block, layout, index, place });
        place.advance(shape);
    }
}

/// The pixels, [N, H', W', F], plus a bias if there is one.
pub(super) struct Pixels<'a, E> {
    pub(super) bias: Option<&'a [f32]>,
    pub(super) values: &'a mut [E],
}

impl<E: Element> Output for Pixels<'_, E> {
    #[inline(always)]
    fn store<V: Vector, T: Tile<M, N>, const M: usize, const N: usize>(
        &mut self,
        shape: &Shape,
        products: Products<'_>,
    ) {
        let conv = &shape.conv;
        let sizes = [conv.conv_height(), conv.conv_width(), conv.filters];
        let square = Square::<M>::new(products.place.image * conv.conv_len(), sizes, products.place.corner, 0);
        let interior = square.interior();
        for filter in (0..conv.filters).step_by(V::LANES) {
            let half = products.columns::<V, T, M, N>(filter);
            let bias = match self.bias {
                Some(bias) => V::load(&bias[filter..]),
                None => V::splat(0.0),
            };
            for (row, half) in half.iter().enumerate() {
                let mut values = T::output(*half);
                for value in &mut values {
                    *value = value.add(bias);
                }
                if let Some(start) = interior {
                    let row = start + row * conv.conv_width() * conv.filters;
                    store_strided(values, &mut self.values[row + filter..], conv.filters);
                    continue;
                }
                for (column, value) in values.iter().enumerate() {
                    if let Some(pixel) = square.pixel(row, column) {
                        E::store(*value, &mut self.values[pixel + filter..]);
                    }
                }
            }
        }
    }
}

/// The maxima plus a bias, and which of the four pixels they are, both [N, H' / 2, W' / 2, F]; as
/// [`conv_pool::forward`](crate::conv_pool::forward) writes them.
pub(super) struct Pooled<'a, E> {
    pub(super) bias: &'a [f32],
    pub(super) values: &'a mut [E],
    pub(super) argmax: &'a mut [u8],
}

impl<E: Element> Output for Pooled<'_, E> {
    #[inline(always)]
    fn store<V: Vector, T: Tile<M, N>, const M: usize, const N: usize>(
        &mut self,
        shape: &Shape,
        products: Products<'_>,
    ) {
        let conv = &shape.conv;
        let (rows, columns) = (conv.pooled_height(), conv.pooled_width());
        // A tile starts at an even pixel.
        let [first_row, first_column] = products.place.corner.map(|corner| corner / 2);
        let image = products.place.image * conv.pooled_len();
        for filter in (0..conv.filters).step_by(V::LANES) {
            let half = products.columns::<V, T, M, N>(filter);
            for row in 0..M / 2 {
                let (upper, lower) = (T::output(half[2 * row]), T::output(half[2 * row + 1]));
                for column in 0..M / 2 {
                    let (y, x) = (first_row + row, first_column + column);
                    if y < rows && x < columns {
                        let at = image + (y * columns + x) * conv.filters + filter;
                        let four = [upper[2 * column], upper[2 * column + 1], lower[2 * column], lower[2 * column + 1]];
                        let (values, argmax) = (&mut self.values[at..], &mut self.argmax[at..]);
                        store_max(four, &self.bias[filter..], &mut values[..V::LANES], &mut argmax[..V::LANES]);
                    }
                }
            }
        }
    }
}
