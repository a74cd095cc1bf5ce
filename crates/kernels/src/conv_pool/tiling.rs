//! Tiles of images that fit the first-level cache, and their layout in blocks of channels.

use super::{BLOCK, Shape};
use crate::Element;

/// Max bytes per tile and block of channels: it shares a first-level cache of 32 KiB with filters
/// and sums.
const TILE_BYTES: usize = 20 << 10;
/// Max images per tile; more would only make the lists of nonzero gradients longer.
const MAX_TILE_IMAGES: usize = 8;

/// Tile size: several small images, or some rows of a large one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiling {
    /// Images per tile.
    pub images: usize,
    /// Pooled rows per tile.
    pub rows: usize,
}

impl Tiling {
    pub fn new(shape: &Shape) -> Self {
        let row_bytes = shape.padded_width() * BLOCK.min(shape.channels) * size_of::<f32>();
        let image_bytes = row_bytes * shape.padded_height();
        // Two rows of input per pooled row, and two more that the filters overlap.
        let rows = (TILE_BYTES / row_bytes).saturating_sub(2) / 2;
        Self {
            images: (TILE_BYTES / image_bytes).clamp(1, MAX_TILE_IMAGES),
            rows: rows.clamp(1, shape.pooled_height()),
        }
    }
}

/// Converts images [N, H, W, C] to `f32` [channel blocks, N, padded H, padded W, 16], zero-padded.
#[inline(always)]
pub(super) fn unpack<E: Element>(shape: &Shape, images: usize, from: &[E], to: &mut [f32]) {
    let block = shape.channels.min(BLOCK);
    let (rows, columns) = (shape.padded_height(), shape.padded_width());
    if shape.padding > 0 {
        to.fill(0.0);
    }
    for (image, from) in from.chunks_exact(shape.input_len()).take(images).enumerate() {
        for (row, from) in from.chunks_exact(shape.width * shape.channels).enumerate() {
            for b in 0..shape.blocks() {
                let start = ((b * images + image) * rows + row + shape.padding) * columns + shape.padding;
                let to = &mut to[start * block..][..shape.width * block];
                for (to, from) in to.chunks_exact_mut(block).zip(from.chunks_exact(shape.channels)) {
                    for (to, from) in to.iter_mut().zip(&from[b * block..][..block]) {
                        *to = from.to_f32();
                    }
                }
            }
        }
    }
}

/// Reverses [`unpack`]: drops the padding and rounds to `E`.
#[inline(always)]
pub(super) fn repack<E: Element>(shape: &Shape, images: usize, from: &[f32], to: &mut [E]) {
    let (rows, columns) = (shape.padded_height(), shape.padded_width());
    for (image, to) in to.chunks_exact_mut(shape.input_len()).take(images).enumerate() {
        for (row, to) in to.chunks_exact_mut(shape.width * shape.channels).enumerate() {
            for b in 0..shape.blocks() {
                let start = ((b * images + image) * rows + row + shape.padding) * columns + shape.padding;
                let from = &from[start * BLOCK..][..shape.width * BLOCK];
                for (to, from) in to.chunks_exact_mut(shape.channels).zip(from.chunks_exact(BLOCK)) {
                    for (to, from) in to[b * BLOCK..][..BLOCK].iter_mut().zip(from) {
                        *to = E::from_f32(*from);
                    }
                }
            }
        }
    }
}
