//! Windows of inputs and tiles of gradients in images, and their transforms.
//!
//! Transformed data are [place][blocks of 16 channels][tiles][16], with 16 values more per place,
//! so that the places of a tile are in different sets of the cache.

use std::marker::PhantomData;
use std::ops::Range;

use simd::Vector;

use super::strided::{load_strided, store_strided};
use super::tile::Tile;
use super::{BLOCK, Shape};
use crate::{Element, conv};

/// Where the transformed data of `tiles` tiles are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Tiles, also those that only fill up a group of rows.
    pub(super) tiles: usize,
    /// Values per place.
    pub(super) place: usize,
}

impl Layout {
    pub(super) fn new(tiles: usize, channels: usize) -> Self {
        Self { tiles, place: tiles * channels + BLOCK }
    }

    /// Values of a block of 16 channels, per place.
    pub(super) fn block(self) -> usize {
        self.tiles * BLOCK
    }

    /// Place and channel of a tile.
    #[inline(always)]
    pub(super) fn at(self, tile: usize, channel: usize) -> usize {
        channel / BLOCK * self.block() + tile * BLOCK + channel % BLOCK
    }
}

/// A square of pixels in an image, possibly beyond its edges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Square<const SIDE: usize> {
    /// Start of each row; `None` outside the image.
    rows: [Option<usize>; SIDE],
    /// Start of each column in a row; `None` outside the image.
    columns: [Option<usize>; SIDE],
}

impl<const SIDE: usize> Square<SIDE> {
    /// The square whose upper left pixel is `corner` (row, column), minus `padding`, of an image
    /// [height, width, channels] that starts at `start`.
    #[inline(always)]
    pub(super) fn new(start: usize, [height, width, channels]: [usize; 3], corner: [usize; 2], padding: usize) -> Self {
        let (mut rows, mut columns) = ([None; SIDE], [None; SIDE]);
        for (offset, (to_row, to_column)) in rows.iter_mut().zip(&mut columns).enumerate() {
            // Before the first pixel the difference wraps around, beyond any size.
            let row = (corner[0] + offset).wrapping_sub(padding);
            let column = (corner[1] + offset).wrapping_sub(padding);
            *to_row = if row < height { Some(start + row * width * channels) } else { None };
            *to_column = if column < width { Some(column * channels) } else { None };
        }
        Self { rows, columns }
    }

    /// Start of the first pixel, if all pixels are inside.
    #[inline(always)]
    pub(super) fn interior(&self) -> Option<usize> {
        let last = self.pixel(SIDE - 1, SIDE - 1);
        last.and(self.pixel(0, 0))
    }

    /// Start of the pixel at (row, column); `None` outside the image.
    #[inline(always)]
    pub(super) fn pixel(&self, row: usize, column: usize) -> Option<usize> {
        Some(self.rows[row]? + self.columns[column]?)
    }

    /// Copies the pixels to `to`, [SIDE, SIDE, channels], 0 outside the image.
    #[inline(always)]
    fn copy<E: Element>(&self, from: &[E], channels: usize, to: &mut [E]) {
        for (index, to) in to.chunks_exact_mut(channels).enumerate() {
            match self.pixel(index / SIDE, index % SIDE) {
                Some(pixel) => to.copy_from_slice(&from[pixel..][..channels]),
                None => to.fill(E::default()),
            }
        }
    }
}

/// Image, and row and column of the first output pixel, of a tile. Tiles are numbered over all
/// images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) image: usize,
    pub(super) corner: [usize; 2],
}

impl Place {
    #[inline(always)]
    pub(super) fn new(shape: &Shape, tile: usize) -> Self {
        let (columns, side) = (shape.tiles()[1], shape.tile.side());
        let (image, tile) = (tile / shape.tiles_per_image(), tile % shape.tiles_per_image());
        Self { image, corner: [tile / columns * side, tile % columns * side] }
    }

    /// Moves to the next tile.
    #[inline(always)]
    pub(super) fn advance(&mut self, shape: &Shape) {
        let (side, [height, width]) = (shape.tile.side(), shape.outputs());
        self.corner[1] += side;
        if self.corner[1] >= width {
            self.corner = [self.corner[0] + side, 0];
        }
        if self.corner[0] >= height {
            *self = Self { image: self.image + 1, corner: [0; 2] };
        }
    }
}

/// A one-dimensional transform of `SIDE` values of an image.
trait Transform<const SIDE: usize, const N: usize> {
    fn apply<V: Vector>(x: [V; SIDE]) -> [V; N];
}

/// [`Tile::input`] of `T`.
struct Input<T, const M: usize>(PhantomData<T>);

impl<T: Tile<M, N>, const M: usize, const N: usize> Transform<N, N> for Input<T, M> {
    #[inline(always)]
    fn apply<V: Vector>(x: [V; N]) -> [V; N] {
        T::input(x)
    }
}

/// [`Tile::spread`] of `T`.
struct Spread<T, const M: usize>(PhantomData<T>);

impl<T: Tile<M, N>, const M: usize, const N: usize> Transform<M, N> for Spread<T, M> {
    #[inline(always)]
    fn apply<V: Vector>(x: [V; M]) -> [V; N] {
        T::spread(x)
    }
}

/// Images whose squares are transformed, [N, height, width, channels].
#[derive(Clone, Copy)]
struct Images<'a, E> {
    values: &'a [E],
    sizes: [usize; 3],
    padding: usize,
}

impl<E: Element> Images<'_, E> {
    /// Transforms the square of `SIDE` pixels of each of `tiles`.
    #[inline(always)]
    fn transform<V: Vector, F: Transform<SIDE, N>, const SIDE: usize, const N: usize>(
        self,
        shape: &Shape,
        tiles: Range<usize>,
        layout: Layout,
        to: &mut [f32],
    ) {
        let [height, width, channels] = self.sizes;
        let mut border = vec![E::default(); SIDE * SIDE * channels];
        let mut place = Place::new(shape, tiles.start);
        for index in 0..tiles.len() {
            let start = place.image * height * width * channels;
            let square = Square::<SIDE>::new(start, self.sizes, place.corner, self.padding);
            let (from, row_len) = match square.interior() {
                Some(start) => (&self.values[start..], width * channels),
                None => {
                    square.copy(self.values, channels, &mut border);
                    (&border[..], SIDE * channels)
                }
            };
            for channel in (0..channels).step_by(V::LANES) {
                let mut half = [[V::splat(0.0); SIDE]; N];
                for column in 0..SIDE {
                    let x = F::apply::<V>(load_strided(&from[column * channels + channel..], row_len));
                    for (half, x) in half.iter_mut().zip(x) {
                        half[column] = x;
                    }
                }
                let to = &mut to[layout.at(index, channel)..];
                for (row, half) in half.iter().enumerate() {
                    store_strided(F::apply(*half), &mut to[row * N * layout.place..], layout.place);
                }
            }
            place.advance(shape);
        }
    }
}

/// Transforms the windows of `tiles` of the images `input`.
#[inline(always)]
pub(super) fn transform_input<V: Vector, E: Element, T: Tile<M, N>, const M: usize, const N: usize>(
    shape: &Shape,
    input: &[E],
    tiles: Range<usize>,
    layout: Layout,
    to: &mut [f32],
) {
    let conv::Shape { height, width, channels, padding, .. } = shape.conv;
    let images = Images { values: input, sizes: [height, width, channels], padding };
    images.transform::<V, Input<T, M>, N, N>(shape, tiles, layout, to);
}

/// Spreads the output gradients of `tiles`.
#[inline(always)]
pub(super) fn spread_gradient<V: Vector, E: Element, T: Tile<M, N>, const M: usize, const N: usize>(
    shape: &Shape,
    gradient: &[E],
    tiles: Range<usize>,
    layout: Layout,
    to: &mut [f32],
) {
    let sizes = [shape.conv.conv_height(), shape.conv.conv_width(), shape.conv.filters];
    let images = Images { values: gradient, sizes, padding: 0 };
    images.transform::<V, Spread<T, M>, M, N>(shape, tiles, layout, to);
}
