//! Random resized crop.

use super::Affine;
use crate::data::images::SIDE;
use crate::util::rng::Rng;

/// How often a window is drawn before the whole image is taken.
const TRIES: usize = 10;

/// A window of the image, enlarged to 48x48: its share of the area from U(1 - crop, 1), its width over its height
/// log-uniform from 3/4 to 4/3, in whole pixels, within the image. What does not fit is drawn again, up to ten times; then the
/// whole image is taken.
///
/// As torchvision's `RandomResizedCrop(48, scale=(1 - crop, 1))`, but for the outermost half pixel of the result: there it
/// repeats the window's edge and this reads on in the image.
pub fn sample(crop: f64, rng: &mut Rng) -> Affine {
    if crop == 0.0 {
        return Affine::IDENTITY;
    }
    let side = SIDE as f64;
    let widest = (4.0f64 / 3.0).ln();
    for _ in 0..TRIES {
        let area = side * side * rng.between(1.0 - crop, 1.0);
        let aspect = rng.between(-widest, widest).exp();
        let width = (area * aspect).sqrt().round_ties_even();
        let height = (area / aspect).sqrt().round_ties_even();
        if (1.0..=side).contains(&width) && (1.0..=side).contains(&height) {
            let top = rng.below((side - height) as u64 + 1) as f64;
            let left = rng.below((side - width) as u64 + 1) as f64;
            return to(left, top, width, height);
        }
    }
    Affine::IDENTITY
}

/// The window whose upper left corner is `left`, `top`, in pixels.
pub fn to(left: f64, top: f64, width: f64, height: f64) -> Affine {
    let side = SIDE as f64;
    Affine {
        matrix: [[width / side, 0.0], [0.0, height / side]],
        offset: [left + (width - side) / 2.0, top + (height - side) / 2.0],
    }
}

#[cfg(test)]
mod tests {
    use crate::transforms::warp;
    use tch::Tensor;

    use super::*;
    use crate::testing::golden_image;

    /// Left, top, width and height of a window, read back from its map.
    fn window(map: &Affine) -> [f64; 4] {
        let (width, height) = (map.matrix[0][0] * 48.0, map.matrix[1][1] * 48.0);
        [map.offset[0] + 24.0 - width / 2.0, map.offset[1] + 24.0 - height / 2.0, width, height]
    }

    #[test]
    fn windows_have_the_area_and_aspect_and_lie_within() {
        let (mut least, mut most, mut corners) = (1.0f64, 0.0f64, 0);
        for row in 0..5_000 {
            let [left, top, width, height] = window(&sample(0.6, &mut Rng::new(&[row])));
            assert!((width - width.round()).abs() < 1e-9 && (left - left.round()).abs() < 1e-9, "whole pixels");
            assert!(left > -1e-9 && top > -1e-9 && left + width < 48.0 + 1e-9 && top + height < 48.0 + 1e-9);
            // Rounding moves an edge by half a pixel of 26 or more, and so an aspect by 4%.
            assert!((0.71..1.40).contains(&(width / height)), "{width} by {height}");
            let area = width * height / 2304.0;
            (least, most) = (least.min(area), most.max(area));
            corners += i32::from(left < 0.5);
        }
        assert!((0.37..0.42).contains(&least) && most > 0.97, "areas from {least} to {most}");
        assert!((50..2500).contains(&corners), "{corners} at the left edge");
        assert_eq!(sample(0.0, &mut Rng::new(&[1])), Affine::IDENTITY);
    }

    #[test]
    fn agrees_with_a_crop_that_libtorch_resizes() {
        let pixels: Vec<f32> = golden_image(2).into_iter().map(f32::from).collect();
        let image = Tensor::from_slice(&pixels).view([1, 1, 48, 48]);
        for [left, top, width, height] in [[0, 0, 48, 48], [5, 11, 30, 24], [20, 0, 28, 37]] {
            let map = to(left as f64, top as f64, width as f64, height as f64);
            let ours = warp(&image, &Tensor::from_slice(&map.theta()).view([1, 2, 3])).unwrap();
            let cut = image.narrow(2, top, height).narrow(3, left, width).contiguous();
            let theirs = cut.upsample_bilinear2d([48, 48], false, None, None);
            // Without the outermost pixels of the result, where theirs repeats the window's edge.
            let inner = |all: Tensor| all.narrow(2, 1, 46).narrow(3, 1, 46);
            let worst = (inner(ours) - inner(theirs)).abs().max().double_value(&[]);
            assert!(worst < 0.01, "{width} by {height} at {left}, {top}: {worst} gray levels");
        }
    }
}
