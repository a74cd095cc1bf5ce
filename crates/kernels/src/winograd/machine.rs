//! Runs a pass for the tile size of a shape, compiled for the instruction set of this processor.

use simd::{Task, Vector};

use super::TileSize;
use super::tile::{Four, Three, Tile, Two};
use crate::Element;

/// A pass, generic over vectors and tile.
pub(super) trait Pass {
    /// Runs it. Implementations are `#[inline(always)]`.
    fn run<V: Vector, T: Tile<M, N>, const M: usize, const N: usize>(self);
}

/// Runs `pass`, which stores values of dtype `E`, whatever it loads: only stores need instructions for
/// bf16.
pub(super) fn run<E: Element>(tile: TileSize, pass: impl Pass) {
    E::run(WithTile { tile, pass });
}

struct WithTile<P> {
    tile: TileSize,
    pass: P,
}

impl<P: Pass> Task for WithTile<P> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match self.tile {
            TileSize::Two => self.pass.run::<V, Two, 2, 4>(),
            TileSize::Three => self.pass.run::<V, Three, 3, 5>(),
            TileSize::Four => self.pass.run::<V, Four, 4, 6>(),
        }
    }
}
