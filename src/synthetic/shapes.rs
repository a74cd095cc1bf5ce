//! Shapes as signed distance functions: negative inside, positive outside, in local units.

/// Bounding box of a shape in local coordinates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    /// The box with the center (`center_x`, `center_y`) and the half sides `x` and `y`.
    pub(super) fn around(center_x: f64, center_y: f64, x: f64, y: f64) -> Area {
        Area { left: center_x - x, top: center_y - y, right: center_x + x, bottom: center_y + y }
    }
}

/// Line segments of a flattened [`Stroke`]; at 48 pixels more are not visible.
const STROKE_SEGMENTS: usize = 5;

/// A quadratic Bezier curve drawn with a round brush; each control point is x, y and the brush's
/// radius.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke(pub(super) [[f64; 3]; 3]);

impl Stroke {
    /// The curve as a polyline.
    pub(super) fn flatten(&self) -> [[f64; 3]; STROKE_SEGMENTS + 1] {
        let mut step = 0;
        [(); STROKE_SEGMENTS + 1].map(|()| {
            let t = f64::from(step) / STROKE_SEGMENTS as f64;
            step += 1;
            let [a, b, c] = self.0;
            [0, 1, 2].map(|i| (1.0 - t) * (1.0 - t) * a[i] + 2.0 * t * (1.0 - t) * b[i] + t * t * c[i])
        })
    }

    /// Bounding box: the curve lies in the convex hull of its control points.
    pub(super) fn area(&self) -> Area {
        let reach = |i: usize, sign: f64| {
            self.0.iter().fold(f64::NEG_INFINITY, |max, point| max.max(sign * point[i] + point[2]))
        };
        Area { left: -reach(0, -1.0), top: -reach(1, -1.0), right: reach(0, 1.0), bottom: reach(1, 1.0) }
    }
}

/// Signed distance to a segment drawn with a round brush whose radius changes linearly along it.
pub(super) fn capsule(x: f64, y: f64, from: [f64; 3], to: [f64; 3]) -> f64 {
    let (px, py) = (x - from[0], y - from[1]);
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let t = ((px * dx + py * dy) / (dx * dx + dy * dy).max(1e-9)).clamp(0.0, 1.0);
    let (ex, ey) = (px - t * dx, py - t * dy);
    (ex * ex + ey * ey).sqrt() - (from[2] + t * (to[2] - from[2]))
}

/// Signed distance to an ellipse around the origin: exact on its edge, a first-order approximation
/// near it.
pub(super) fn ellipse(x: f64, y: f64, radius_x: f64, radius_y: f64) -> f64 {
    let (u, v) = (x / radius_x, y / radius_y);
    let level = (u * u + v * v).sqrt();
    let (gx, gy) = (u / radius_x, v / radius_y);
    let slope = (gx * gx + gy * gy).sqrt();
    if slope > 1e-9 { level * (level - 1.0) / slope } else { -radius_x.min(radius_y) }
}

/// Signed distance to a box with rounded corners around the origin.
pub(super) fn rounded_box(x: f64, y: f64, half: [f64; 2], radius: f64) -> f64 {
    let (dx, dy) = (x.abs() - half[0] + radius, y.abs() - half[1] + radius);
    let (ox, oy) = (dx.max(0.0), dy.max(0.0));
    (ox * ox + oy * oy).sqrt() + dx.max(dy).min(0.0) - radius
}

/// An area between two arcs over a bent middle line: the opening of an eye or a mouth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Almond {
    /// Half of the width.
    pub(super) half_width: f64,
    /// Height of the upper edge above the middle line at the center.
    pub(super) up: f64,
    /// Depth of the lower edge below the middle line at the center.
    pub(super) down: f64,
    /// Rise of both ends of the middle line against its middle.
    pub(super) bend: f64,
    /// Depth of the right end below the center, and height of the left end above it.
    pub(super) tilt: f64,
    /// Roundness of the ends, 0 (pointed) to 1 (round).
    pub(super) full: f64,
}

impl Almond {
    /// y of the middle line at `x`.
    pub(super) fn middle(&self, x: f64) -> f64 {
        let t = x / self.half_width;
        self.bend * (0.5 - t * t) + self.tilt * t
    }

    /// y of the upper edge at `x`.
    pub(super) fn top(&self, x: f64) -> f64 {
        self.middle(x) - self.up * self.profile(x)
    }

    /// y of the lower edge at `x`.
    pub(super) fn bottom(&self, x: f64) -> f64 {
        self.middle(x) + self.down * self.profile(x)
    }

    /// Signed distance: a first-order approximation near the edge.
    pub(super) fn distance(&self, x: f64, y: f64) -> f64 {
        let steep = 2.0 * (self.up.max(self.down) + self.bend.abs()) * x / (self.half_width * self.half_width);
        let vertical = (self.top(x) - y).max(y - self.bottom(x)) / (1.0 + steep * steep).sqrt();
        vertical.max(x.abs() - self.half_width)
    }

    /// The almond enlarged by `x` at each end, `up` above and `down` below.
    pub(super) fn grown(&self, x: f64, up: f64, down: f64) -> Almond {
        Almond { half_width: self.half_width + x, up: self.up + up, down: self.down + down, ..*self }
    }

    /// Bounding box.
    pub(super) fn area(&self) -> Area {
        let slack = self.bend.abs() + self.tilt.abs();
        Area {
            left: -self.half_width,
            top: -self.up.max(0.0) - slack,
            right: self.half_width,
            bottom: self.down.max(0.0) + slack,
        }
    }

    fn profile(&self, x: f64) -> f64 {
        let t = x / self.half_width;
        (1.0 - t * t).max(0.0) * (1.0 + self.full * t * t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_zero_on_edges_and_negative_inside() {
        for (distance, inside) in [
            (ellipse(3.0, 0.0, 3.0, 2.0), ellipse(0.0, 0.0, 3.0, 2.0)),
            (ellipse(0.0, -2.0, 3.0, 2.0), ellipse(1.0, 1.0, 3.0, 2.0)),
            (rounded_box(0.0, 4.0, [5.0, 4.0], 2.0), rounded_box(0.0, 0.0, [5.0, 4.0], 2.0)),
            (capsule(2.0, 1.5, [0.0, 0.0, 1.0], [4.0, 0.0, 2.0]), capsule(0.0, 0.5, [0.0, 0.0, 1.0], [4.0, 0.0, 2.0])),
        ] {
            assert!(distance.abs() < 1e-12 && inside < 0.0, "{distance} on the edge, {inside} inside");
        }
        assert!(rounded_box(5.0, 4.0, [5.0, 4.0], 2.0) > 0.5, "corners are cut");
    }

    #[test]
    fn almond_lies_between_its_edges() {
        let almond = Almond { half_width: 6.0, up: 1.0, down: 3.0, bend: 2.0, tilt: 0.5, full: 0.0 };
        assert_eq!((almond.top(0.0), almond.bottom(0.0)), (0.0, 4.0));
        assert_eq!((almond.top(6.0), almond.bottom(6.0)), (-0.5, -0.5));
        assert!(almond.distance(0.0, 2.0) < -1.0);
        assert!(almond.distance(0.0, 5.0) > 0.9 && almond.distance(7.0, 0.0) > 0.9);
        assert!(almond.grown(0.0, 1.0, 1.5).distance(0.0, 5.0) < 0.0);
    }

    #[test]
    fn stroke_stays_in_its_bounding_box() {
        let stroke = Stroke([[-3.0, 0.0, 0.5], [0.0, -6.0, 1.0], [4.0, 1.0, 0.2]]);
        let area = stroke.area();
        for [x, y, radius] in stroke.flatten() {
            assert!(area.left <= x - radius && x + radius <= area.right, "{x} leaves {area:?}");
            assert!(area.top <= y - radius && y + radius <= area.bottom, "{y} leaves {area:?}");
        }
    }
}
