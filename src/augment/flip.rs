//! Mirroring left and right.

use super::Affine;
use crate::rng::Rng;

/// Mirrored in one of two cases when on; Keras' `horizontal_flip`.
pub fn draw(on: bool, rng: &mut Rng) -> Affine {
    by(on && rng.uniform() < 0.5)
}

/// Mirrored, or as it is.
pub fn by(flipped: bool) -> Affine {
    if flipped { Affine { matrix: [[-1.0, 0.0], [0.0, 1.0]], offset: [0.0, 0.0] } } else { Affine::IDENTITY }
}
