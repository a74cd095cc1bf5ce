//! Zoom about the image's centre, x and y apart.

use super::Affine;
use crate::rng::Rng;

/// Factors from U(1 - range, 1 + range) for x and y; Keras' `zoom_range`.
pub fn draw(range: f64, rng: &mut Rng) -> Affine {
    let x = rng.between(1.0 - range, 1.0 + range);
    by(x, rng.between(1.0 - range, 1.0 + range))
}

/// The zoom by factors `x` and `y`: above 1 the picture shrinks.
pub fn by(x: f64, y: f64) -> Affine {
    Affine { matrix: [[x, 0.0], [0.0, y]], offset: [0.0, 0.0] }
}
