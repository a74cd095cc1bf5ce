//! Affine maps of the plane, from output to input coordinates.

use crate::data::images::SIDE;
use crate::util::rng::Rng;

/// `p_in = matrix p_out + offset`, in pixels from the image's center, x to the right, y down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Rows of the matrix.
    pub matrix: [[f64; 2]; 2],
    /// Pixels.
    pub offset: [f64; 2],
}

impl Affine {
    /// Leaves every point where it is.
    pub const IDENTITY: Self = Self { matrix: [[1.0, 0.0], [0.0, 1.0]], offset: [0.0, 0.0] };

    /// The map that applies `self` and then `next`.
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

    /// The map as PyTorch's `affine_grid(align_corners=False)` takes it: 2 rows of 3, offsets in half edges.
    pub fn theta(&self) -> [f32; 6] {
        let [[a, b], [c, d]] = self.matrix;
        let half_edges = 2.0 / SIDE as f64;
        [a, b, self.offset[0] * half_edges, c, d, self.offset[1] * half_edges].map(|value| value as f32)
    }
}

/// Mirrored in one of two cases when on; Keras' `horizontal_flip`.
pub fn random_flip(on: bool, rng: &mut Rng) -> Affine {
    flip(on && rng.uniform() < 0.5)
}

/// Mirrored, or as it is.
pub fn flip(flipped: bool) -> Affine {
    if flipped { Affine { matrix: [[-1.0, 0.0], [0.0, 1.0]], offset: [0.0, 0.0] } } else { Affine::IDENTITY }
}

/// Factors from U(1 - range, 1 + range) for x and y; Keras' `zoom_range`.
pub fn random_zoom(range: f64, rng: &mut Rng) -> Affine {
    let x = rng.between(1.0 - range, 1.0 + range);
    zoom(x, rng.between(1.0 - range, 1.0 + range))
}

/// The zoom by factors `x` and `y`: above 1 the picture shrinks.
pub fn zoom(x: f64, y: f64) -> Affine {
    Affine { matrix: [[x, 0.0], [0.0, y]], offset: [0.0, 0.0] }
}

/// A shift by U(-fraction, fraction) of the edge, x and y apart; Keras' `width_shift_range` and `height_shift_range`.
pub fn random_shift(fraction: f64, rng: &mut Rng) -> Affine {
    let most = fraction * SIDE as f64;
    let x = rng.between(-most, most);
    shift(x, rng.between(-most, most))
}

/// The shift by `x`, `y` pixels: what is read moves that way, so the picture moves the other way.
pub fn shift(x: f64, y: f64) -> Affine {
    Affine { offset: [x + 0.0, y + 0.0], ..Affine::IDENTITY }
}

/// A rotation by an angle from U(-degrees, degrees); Keras' `rotation_range`.
pub fn random_rotation(degrees: f64, rng: &mut Rng) -> Affine {
    rotation(rng.between(-degrees, degrees))
}

/// The rotation by `degrees`: output points are turned from x towards y, so the picture turns the other way.
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
    fn then_applies_left_first() {
        let shift = Affine { offset: [2.0, 3.0], ..Affine::IDENTITY };
        let turn = Affine { matrix: [[0.0, -1.0], [1.0, 0.0]], offset: [0.0, 0.0] };
        assert_eq!(shift.then(turn).offset, [-3.0, 2.0], "shifted, then turned");
        assert_eq!(turn.then(shift).offset, [2.0, 3.0], "turned, then shifted");
        assert_eq!(shift.theta(), [1.0, 0.0, 2.0 / 24.0, 0.0, 1.0, 3.0 / 24.0]);
    }
}
