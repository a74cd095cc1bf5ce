//! From the network's output to boxes.

use crate::Face;
use crate::network::{CELL, OUTPUTS, Plane};

/// Boxes in pixels of the network's input, one for each peak of at least `threshold`.
pub(crate) fn decode(output: &Plane, threshold: f32) -> Vec<Face> {
    let (cells, _) = output.data.as_chunks::<OUTPUTS>();
    let logit = |x: usize, y: usize| cells.get(y * output.width + x).map_or(f32::NEG_INFINITY, |cell| cell[0]);
    let min_logit = (threshold / (1.0 - threshold)).ln();
    let mut faces = Vec::new();
    for (at, &[center, height, width, down, right, ..]) in cells.iter().enumerate() {
        let (x, y) = (at % output.width, at / output.width);
        // NaN, which damaged weights can give, is no peak either.
        if center >= min_logit && is_peak(x, y, output, logit) {
            let size = |log: f32| log.clamp(-4.0, 8.0).exp() * CELL as f32;
            let middle = |cell: usize, offset: f32| (cell as f32 + 0.5 + offset.clamp(-4.0, 4.0)) * CELL as f32;
            let (width, height) = (size(width), size(height));
            let (x, y) = (middle(x, right) - width / 2.0, middle(y, down) - height / 2.0);
            faces.push(Face { x, y, width, height, score: 1.0 / (1.0 + (-center).exp()) });
        }
    }
    faces.retain(|face| [face.x, face.y, face.width, face.height].iter().all(|value| value.is_finite()));
    faces
}

/// Whether no cell around (x, y) has a greater logit. Of equal ones the first is the peak.
fn is_peak(x: usize, y: usize, output: &Plane, logit: impl Fn(usize, usize) -> f32) -> bool {
    let here = logit(x, y);
    let rows = y.saturating_sub(1)..(y + 2).min(output.height);
    rows.flat_map(|ny| (x.saturating_sub(1)..(x + 2).min(output.width)).map(move |nx| (nx, ny))).all(|(nx, ny)| {
        let other = logit(nx, ny);
        (nx, ny) == (x, y) || if (ny, nx) < (y, x) { here > other } else { here >= other }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(logits: &[f32], width: usize) -> Plane {
        let mut plane = Plane::zeros(logits.len() / width, width, OUTPUTS);
        for (cell, &logit) in plane.data.chunks_exact_mut(OUTPUTS).zip(logits) {
            cell[0] = logit;
            cell[1] = 5f32.ln();
            cell[2] = 3f32.ln();
            cell[3] = 0.5;
        }
        plane
    }

    #[test]
    fn a_peak_becomes_a_box() {
        let faces = decode(&output(&[-9.0, 0.0, -9.0, -9.0, 2.0, 2.0], 3), 0.4);
        assert_eq!(faces.len(), 1);
        let face = faces[0];
        // Height 5 cells, width 3 cells, center half a cell below the middle of cell (1, 1).
        assert!((face.width - 12.0).abs() < 1e-3 && (face.height - 20.0).abs() < 1e-3);
        assert!((face.x - 0.0).abs() < 1e-3 && (face.y + 2.0).abs() < 1e-3, "{face:?}");
        assert!((face.score - 0.8808).abs() < 1e-3);
    }

    #[test]
    fn extremes_give_no_bad_numbers() {
        let mut plane = output(&[1e30, f32::NAN, -1e30, f32::INFINITY], 2);
        plane.data[1] = f32::INFINITY;
        plane.data[2] = f32::NAN;
        for face in decode(&plane, 0.5) {
            assert!(face.width.is_finite() && face.x.is_finite() && (0.0..=1.0).contains(&face.score));
        }
        assert!(decode(&Plane::zeros(0, 0, OUTPUTS), 0.5).is_empty());
    }
}
