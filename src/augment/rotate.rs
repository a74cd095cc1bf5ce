//! Rotation about the image's centre.

use super::Affine;
use crate::rng::Rng;

/// A rotation by an angle from U(-degrees, degrees); Keras' `rotation_range`.
pub fn draw(degrees: f64, rng: &mut Rng) -> Affine {
    by(rng.between(-degrees, degrees))
}

/// The rotation by `degrees`: output points are turned from x towards y, so the picture turns the other way.
pub fn by(degrees: f64) -> Affine {
    if degrees == 0.0 {
        return Affine::IDENTITY;
    }
    let (sin, cos) = degrees.to_radians().sin_cos();
    Affine { matrix: [[cos, -sin], [sin, cos]], offset: [0.0, 0.0] }
}
