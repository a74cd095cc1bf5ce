//! What is found, and the square that a classifier of faces should see.

use crate::Square;

/// Side of the square crop, as a multiple of the mean of the box's width and height.
///
/// Measured on 1,466 PublicTest faces pasted into larger pictures, against the pasted squares: the mean
/// IoU is 0.796 at 1.125, 0.742 at 1.0, 0.775 at 1.2. The squares themselves vary: half of them are
/// 1.045 to 1.21 times the mean. See `examples/measure.rs fit`.
const CROP_SCALE: f32 = 1.125;

/// How far the middle of the crop lies below that of the box, as a multiple of the box's height: the
/// median over the same faces.
const CROP_DOWN: f32 = -0.02;

/// A face in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Face {
    /// Left edge of the box, in pixels of the picture. The box may reach over the border.
    pub x: f32,
    /// Upper edge of the box, in pixels.
    pub y: f32,
    /// Width of the box in pixels, from about ear to ear.
    pub width: f32,
    /// Height of the box in pixels, from about the hairline to the chin.
    pub height: f32,
    /// How sure the network is, from 0 to 1. Not a calibrated probability.
    pub score: f32,
}

impl Face {
    /// The square that agrees best with how FER2013 cuts faces, in pixels. It may reach over the border;
    /// [`Picture::crop_gray`](crate::Picture::crop_gray) fills what lies outside.
    pub fn crop_square(&self) -> Square {
        let side = CROP_SCALE * (self.width + self.height) / 2.0;
        let x = self.x + (self.width - side) / 2.0;
        let y = self.y + (self.height - side) / 2.0 + CROP_DOWN * self.height;
        Square { x, y, side }
    }

    /// Area of the overlap with `other`, as a part of the union and of the smaller box.
    fn overlap(&self, other: &Self) -> (f32, f32) {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        let both = width.max(0.0) * height.max(0.0);
        let (a, b) = (self.width * self.height, other.width * other.height);
        (both / (a + b - both), both / a.min(b))
    }
}

/// Keeps the best of the boxes that show the same face. Returns them with descending scores.
pub(crate) fn best(mut faces: Vec<Face>) -> Vec<Face> {
    // A picture full of faces has a few thousand; the limit keeps the squared cost small for noise.
    const MOST: usize = 10_000;
    faces.sort_by(|a, b| b.score.total_cmp(&a.score));
    faces.truncate(MOST);
    let mut kept: Vec<Face> = Vec::new();
    for face in faces {
        let same = kept.iter().any(|other| {
            let (union, smaller) = face.overlap(other);
            // The second: a part of a large face found again as a small one.
            union > 0.3 || smaller > 0.7
        });
        if !same {
            kept.push(face);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(x: f32, y: f32, side: f32, score: f32) -> Face {
        Face { x, y, width: side, height: side, score }
    }

    #[test]
    fn the_best_of_overlapping_boxes_stays() {
        let found = best(vec![face(1.0, 0.0, 10.0, 0.5), face(0.0, 0.0, 10.0, 0.9), face(30.0, 0.0, 10.0, 0.6)]);
        assert_eq!(found, [face(0.0, 0.0, 10.0, 0.9), face(30.0, 0.0, 10.0, 0.6)]);
        assert_eq!(best(vec![face(0.0, 0.0, 100.0, 0.8), face(40.0, 40.0, 10.0, 0.7)]).len(), 1);
        assert_eq!(best(vec![face(0.0, 0.0, 10.0, 0.8), face(10.0, 0.0, 10.0, 0.7)]).len(), 2);
        assert_eq!(best(Vec::new()), []);
    }

    #[test]
    fn the_crop_is_a_square_around_the_box() {
        let face = Face { x: 100.0, y: 50.0, width: 40.0, height: 60.0, score: 1.0 };
        let square = face.crop_square();
        assert!((square.side - CROP_SCALE * 50.0).abs() < 1e-3);
        assert!((square.x + square.side / 2.0 - 120.0).abs() < 1e-3);
        assert!((square.y + square.side / 2.0 - 80.0 - CROP_DOWN * 60.0).abs() < 1e-3);
    }
}
