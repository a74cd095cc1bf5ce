//! Shift along both axes.

use super::Affine;
use crate::config::SIDE;
use crate::rng::Rng;

/// A shift by U(-fraction, fraction) of the edge, x and y apart; Keras' `width_shift_range` and `height_shift_range`.
pub fn draw(fraction: f64, rng: &mut Rng) -> Affine {
    let most = fraction * SIDE as f64;
    let x = rng.between(-most, most);
    by(x, rng.between(-most, most))
}

/// The shift by `x`, `y` pixels: what is read moves that way, so the picture moves the other way.
pub fn by(x: f64, y: f64) -> Affine {
    Affine { offset: [x + 0.0, y + 0.0], ..Affine::IDENTITY }
}
