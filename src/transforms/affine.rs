//! Affine transforms of image coordinates.
//!
//! An [`Affine`] maps output coordinates to the input coordinates to sample from, like the `theta`
//! of `torch.nn.functional.affine_grid` and the matrices of Keras' `apply_affine_transform`. The
//! content of the image therefore moves by the inverse.

use crate::data::images::SIDE;
use crate::util::rng::Rng;

/// `p_in = matrix p_out + offset`, in pixels from the image center; x points right, y down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Linear part, row by row.
    pub matrix: [[f64; 2]; 2],
    /// Translation in pixels.
    pub offset: [f64; 2],
}

impl Affine {
    /// The identity.
    pub const IDENTITY: Self = Self { matrix: [[1.0, 0.0], [0.0, 1.0]], offset: [0.0, 0.0] };

    /// The composition that applies `self` first, then `next`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let [[a, b], [c, d]] = next.matrix;
        let [[e, f], [g, h]] = self.matrix;
        let [x, y] = self.offset;
        Self {
            matrix: [[a * e + b * g, a * f + b * h], [c * e + d * g, c * f + d * h]],
            offset: [a * x + b * y + next.offset[0], c * x + d * y + next.offset[1]],
        }
    }

    /// The 2x3 matrix for `affine_grid(align_corners=False)`, row-major. Normalized coordinates: 1
    /// is half an edge.
    pub fn theta(&self) -> [f32; 6] {
        let [[a, b], [c, d]] = self.matrix;
        let scale = 2.0 / SIDE as f64;
        [a, b, self.offset[0] * scale, c, d, self.offset[1] * scale].map(|value| value as f32)
    }
}

/// A horizontal flip, or the identity.
pub fn flip(flipped: bool) -> Affine {
    if flipped { Affine { matrix: [[-1.0, 0.0], [0.0, 1.0]], offset: [0.0, 0.0] } } else { Affine::IDENTITY }
}

/// A zoom by independent factors from U(1 - range, 1 + range) for x and y; Keras' `zoom_range`.
pub fn random_zoom(range: f64, rng: &mut Rng) -> Affine {
    let x = rng.between(1.0 - range, 1.0 + range);
    zoom(x, rng.between(1.0 - range, 1.0 + range))
}

/// A zoom by factors `x` and `y`; factors above 1 shrink the content.
pub fn zoom(x: f64, y: f64) -> Affine {
    Affine { matrix: [[x, 0.0], [0.0, y]], offset: [0.0, 0.0] }
}

/// Independent shifts from U(-fraction, fraction) of the image size; Keras' `width_shift_range` and
/// `height_shift_range`.
pub fn random_shift(fraction: f64, rng: &mut Rng) -> Affine {
    let max = fraction * SIDE as f64;
    let x = rng.between(-max, max);
    shift(x, rng.between(-max, max))
}

/// A shift of the sampling position by `x`, `y` pixels; the content moves by `-x`, `-y`.
pub fn shift(x: f64, y: f64) -> Affine {
    Affine { offset: [x + 0.0, y + 0.0], ..Affine::IDENTITY }
}

/// A rotation by an angle from U(-degrees, degrees); Keras' `rotation_range`.
pub fn random_rotation(degrees: f64, rng: &mut Rng) -> Affine {
    rotation(rng.between(-degrees, degrees))
}

/// A rotation of the sampling position by `degrees` from x towards y (clockwise on screen); the
/// content rotates the other way.
pub fn rotation(degrees: f64) -> Affine {
    if degrees == 0.0 {
        return Affine::IDENTITY;
    }
    let (sin, cos) = degrees.to_radians().sin_cos();
    Affine { matrix: [[cos, -sin], [sin, cos]], offset: [0.0, 0.0] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn then_applies_self_first() {
        let shift = Affine { offset: [2.0, 3.0], ..Affine::IDENTITY };
        let rotation = Affine { matrix: [[0.0, -1.0], [1.0, 0.0]], offset: [0.0, 0.0] };
        assert_eq!(shift.then(rotation).offset, [-3.0, 2.0], "shift, then rotation");
        assert_eq!(rotation.then(shift).offset, [2.0, 3.0], "rotation, then shift");
        assert_eq!(shift.theta(), [1.0, 0.0, 2.0 / 24.0, 0.0, 1.0, 3.0 / 24.0]);
    }
}
