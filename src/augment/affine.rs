//! Affine maps of the plane, from output to input coordinates.

use crate::config::SIDE;

/// `p_in = matrix p_out + offset`, in pixels from the image's centre, x to the right, y down.
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
