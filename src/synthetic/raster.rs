//! A small anti-aliased rasterizer of signed distance functions in affine frames.
//!
//! It uses only `+ - * /` and `sqrt`, whose rounding IEEE 754 defines, so that a face has the same
//! bytes on every platform.

use super::shapes::{Area, Stroke, capsule};

/// Width and height of an image in pixels.
pub(super) const SIDE: usize = 48;
/// Pixels of an image.
pub(super) const AREA: usize = SIDE * SIDE;

/// An affine transform from local coordinates to image coordinates (pixels, y down).
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    origin: [f64; 2],
    x_axis: [f64; 2],
    y_axis: [f64; 2],
}

impl Frame {
    /// Image coordinates with the origin at (`x`, `y`).
    pub(super) fn new(x: f64, y: f64) -> Frame {
        Frame { origin: [x, y], x_axis: [1.0, 0.0], y_axis: [0.0, 1.0] }
    }

    /// The frame with its origin moved to the local point (`x`, `y`).
    pub(super) fn moved(self, x: f64, y: f64) -> Frame {
        Frame { origin: self.to_image(x, y), ..self }
    }

    /// The frame with scaled axes; a negative factor mirrors.
    pub(super) fn scaled(self, x: f64, y: f64) -> Frame {
        Frame { x_axis: self.x_axis.map(|v| v * x), y_axis: self.y_axis.map(|v| v * y), ..self }
    }

    /// The frame rotated from its x axis toward its y axis; the argument is the tangent of half the
    /// angle.
    pub(super) fn rotated(self, half_tangent: f64) -> Frame {
        let square = half_tangent * half_tangent;
        let (cos, sin) = ((1.0 - square) / (1.0 + square), 2.0 * half_tangent / (1.0 + square));
        let (x, y) = (self.x_axis, self.y_axis);
        Frame {
            x_axis: [cos * x[0] + sin * y[0], cos * x[1] + sin * y[1]],
            y_axis: [cos * y[0] - sin * x[0], cos * y[1] - sin * x[1]],
            ..self
        }
    }

    fn to_image(self, x: f64, y: f64) -> [f64; 2] {
        [0, 1].map(|i| self.origin[i] + x * self.x_axis[i] + y * self.y_axis[i])
    }

    fn determinant(self) -> f64 {
        self.x_axis[0] * self.y_axis[1] - self.x_axis[1] * self.y_axis[0]
    }

    /// Pixels per local unit, averaged over directions.
    fn pixels_per_unit(self) -> f64 {
        self.determinant().abs().sqrt()
    }

    /// Columns and rows of the pixels that a local box can cover.
    pub(super) fn pixels(self, area: Area) -> [std::ops::Range<usize>; 2] {
        let corners =
            [(area.left, area.top), (area.right, area.top), (area.left, area.bottom), (area.right, area.bottom)]
                .map(|(x, y)| self.to_image(x, y));
        [0, 1].map(|i| {
            let low = corners.iter().fold(f64::INFINITY, |low, corner| low.min(corner[i]));
            let high = corners.iter().fold(f64::NEG_INFINITY, |high, corner| high.max(corner[i]));
            let side = SIDE as f64;
            (low - 1.0).clamp(0.0, side) as usize..(high + 2.0).clamp(0.0, side) as usize
        })
    }
}

/// Tone, opacity and softness of a shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ink {
    /// Tone, 0 (black) to 1 (white).
    pub(super) tone: f64,
    /// Opacity, 0 to 1.
    pub(super) opacity: f64,
    /// Width of the edge's fade in pixels.
    pub(super) soft: f64,
}

impl Ink {
    /// An opaque tone with a one-pixel edge.
    pub(super) fn solid(tone: f64) -> Ink {
        Ink { tone, opacity: 1.0, soft: 1.0 }
    }

    /// A translucent tone with a one-pixel edge.
    pub(super) fn glaze(tone: f64, opacity: f64) -> Ink {
        Ink { tone, opacity, soft: 1.0 }
    }
}

/// A 48x48 image, row-major; [`Canvas::bytes`] clips its tones to 0 to 1.
#[derive(Clone, Debug)]
pub(super) struct Canvas {
    tones: [f64; AREA],
}

impl Canvas {
    /// A canvas of one tone.
    pub(super) fn new(tone: f64) -> Canvas {
        Canvas { tones: [tone; AREA] }
    }

    /// Replaces the tone of each pixel in `area` by `change(tone, x, y)` at the pixel's center in
    /// `frame`.
    pub(super) fn map(&mut self, frame: Frame, area: Area, change: impl Fn(f64, f64, f64) -> f64) {
        let [columns, rows] = frame.pixels(area);
        let scale = 1.0 / frame.determinant();
        let (x_axis, y_axis) = (frame.x_axis, frame.y_axis);
        for row in rows {
            let dy = row as f64 + 0.5 - frame.origin[1];
            let line = &mut self.tones[row * SIDE..(row + 1) * SIDE];
            for (column, tone) in line.iter_mut().enumerate().take(columns.end).skip(columns.start) {
                let dx = column as f64 + 0.5 - frame.origin[0];
                let x = (dx * y_axis[1] - dy * y_axis[0]) * scale;
                let y = (dy * x_axis[0] - dx * x_axis[1]) * scale;
                *tone = change(*tone, x, y);
            }
        }
    }

    /// [`Canvas::map`] over the whole image, with coordinates -1 to 1.
    pub(super) fn map_all(&mut self, change: impl Fn(f64, f64, f64) -> f64) {
        let half = SIDE as f64 / 2.0;
        self.map(Frame::new(half, half).scaled(half, half), Area::around(0.0, 0.0, 1.0, 1.0), change);
    }

    /// Fills the shape of a signed distance function in local units (negative inside).
    pub(super) fn fill(&mut self, frame: Frame, area: Area, ink: Ink, distance: impl Fn(f64, f64) -> f64) {
        self.fill_shaded(frame, area, ink, distance, |_, _| 1.0);
    }

    /// [`Canvas::fill`] with the ink's tone multiplied by `shade` at each point.
    pub(super) fn fill_shaded(
        &mut self,
        frame: Frame,
        area: Area,
        ink: Ink,
        distance: impl Fn(f64, f64) -> f64,
        shade: impl Fn(f64, f64) -> f64,
    ) {
        let ramp = frame.pixels_per_unit() / ink.soft;
        self.map(frame, area, |tone, x, y| {
            let cover = (0.5 - distance(x, y) * ramp).clamp(0.0, 1.0) * ink.opacity;
            if cover > 0.0 { tone + cover * (ink.tone * shade(x, y) - tone) } else { tone }
        });
    }

    /// Brightens (`gain` > 0) or darkens (`gain` < 0) a soft elliptic spot, by the factor 1 +
    /// `gain` at its center.
    pub(super) fn spot(&mut self, frame: Frame, center: [f64; 2], radii: [f64; 2], gain: f64) {
        self.map(frame, Area::around(center[0], center[1], radii[0], radii[1]), |tone, x, y| {
            let (dx, dy) = ((x - center[0]) / radii[0], (y - center[1]) / radii[1]);
            let rest = (1.0 - dx * dx - dy * dy).max(0.0);
            tone * (1.0 + gain * rest * rest)
        });
    }

    /// Draws a stroke.
    pub(super) fn stroke(&mut self, frame: Frame, ink: Ink, stroke: &Stroke) {
        let segments = stroke.flatten();
        self.fill(frame, stroke.area(), ink, |x, y| {
            segments.windows(2).fold(f64::INFINITY, |min, pair| min.min(capsule(x, y, pair[0], pair[1])))
        });
    }

    /// Blurs with a separable 3-tap kernel; `weight` (0 to 1/3) is that of each neighbor.
    pub(super) fn blur(&mut self, weight: f64) {
        let last = SIDE - 1;
        for (step, across) in [(1, SIDE), (SIDE, 1)] {
            let source = self.tones;
            for line in 0..SIDE {
                for i in 0..SIDE {
                    let at = |i: usize| source[line * across + i * step];
                    let sides = at(i.saturating_sub(1)) + at((i + 1).min(last));
                    self.tones[line * across + i * step] = at(i) * (1.0 - 2.0 * weight) + weight * sides;
                }
            }
        }
    }

    /// Adds `noise()` to every pixel, row by row.
    pub(super) fn add(&mut self, mut noise: impl FnMut() -> f64) {
        for tone in &mut self.tones {
            *tone += noise();
        }
    }

    /// The image as bytes: tone 0 is 0, tone 1 is 255, everything beyond is clipped.
    pub(super) fn bytes(&self) -> [u8; AREA] {
        self.tones.map(|tone| (tone * 255.0).clamp(0.0, 255.0).round() as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::shapes::ellipse;

    fn sum(canvas: &Canvas) -> f64 {
        canvas.tones.iter().sum()
    }

    #[test]
    fn a_filled_disc_has_its_area_in_any_frame() {
        for frame in [
            Frame::new(24.3, 23.1),
            Frame::new(20.0, 25.0).rotated(0.1).scaled(-2.0, 0.5),
            Frame::new(24.0, 24.0).scaled(1.3, 1.3).moved(2.0, -1.0).rotated(-0.4),
        ] {
            let mut canvas = Canvas::new(0.0);
            canvas.fill(frame, Area::around(0.0, 0.0, 7.0, 7.0), Ink::solid(1.0), |x, y| ellipse(x, y, 7.0, 7.0));
            let expected = std::f64::consts::PI * 49.0 * frame.determinant().abs();
            let error = sum(&canvas) / expected - 1.0;
            assert!(error.abs() < 0.03, "area off by {error} in {frame:?}");
        }
    }

    #[test]
    fn rotation_goes_from_the_x_axis_to_the_y_axis() {
        let [x, y] = Frame::new(10.0, 20.0).rotated(1.0).to_image(3.0, 0.0);
        assert!((x - 10.0).abs() < 1e-12 && (y - 23.0).abs() < 1e-12, "a quarter turn gave ({x}, {y})");
    }

    #[test]
    fn shapes_outside_the_image_change_nothing() {
        let mut canvas = Canvas::new(0.5);
        canvas.fill(Frame::new(-90.0, 300.0), Area::around(0.0, 0.0, 9.0, 9.0), Ink::solid(1.0), |_, _| -1.0);
        canvas.spot(Frame::new(99.0, 24.0), [0.0, 0.0], [20.0, 20.0], 1.0);
        assert_eq!(canvas.bytes(), [128; AREA]);
    }

    #[test]
    fn blur_spreads_and_keeps_the_sum() {
        let mut canvas = Canvas::new(0.0);
        canvas.tones[20 * SIDE + 20] = 1.0;
        canvas.blur(0.2);
        assert!((sum(&canvas) - 1.0).abs() < 1e-12, "the sum is {}", sum(&canvas));
        assert!((canvas.tones[20 * SIDE + 20] - 0.36).abs() < 1e-12);
        assert!((canvas.tones[21 * SIDE + 19] - 0.04).abs() < 1e-12);
    }

    #[test]
    fn bytes_are_rounded_and_clipped() {
        let mut tones = [-3.0, 0.0, 0.5, 1.0, 7.0].into_iter();
        let mut canvas = Canvas::new(0.0);
        canvas.add(|| tones.next().unwrap_or(0.0));
        assert_eq!(canvas.bytes()[..5], [0, 0, 128, 255, 255]);
    }
}
