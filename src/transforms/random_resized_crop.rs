//! Random resized crop, as an affine transform.

use super::Affine;
use crate::data::images::SIDE;
use crate::util::rng::Rng;

/// Attempts to sample a window that fits.
const ATTEMPTS: usize = 10;

/// Samples a window of the image, to be resized to 48x48.
///
/// Area from U(1 - crop, 1) of the image, width over height log-uniform from 3/4 to 4/3, in whole
/// pixels inside the image. A window that does not fit is resampled up to ten times; then the whole
/// image is used. Like torchvision's `RandomResizedCrop(48, scale=(1 - crop, 1))`, except that the
/// outermost half pixel interpolates with pixels outside the window instead of repeating its edge.
pub fn sample(crop: f64, rng: &mut Rng) -> Affine {
    if crop == 0.0 {
        return Affine::IDENTITY;
    }
    let side = SIDE as f64;
    let max_log_aspect = (4.0f64 / 3.0).ln();
    for _ in 0..ATTEMPTS {
        let area = side * side * rng.between(1.0 - crop, 1.0);
        let aspect = rng.between(-max_log_aspect, max_log_aspect).exp();
        let width = (area * aspect).sqrt().round_ties_even();
        let height = (area / aspect).sqrt().round_ties_even();
        if (1.0..=side).contains(&width) && (1.0..=side).contains(&height) {
            let top = rng.below((side - height) as u64 + 1) as f64;
            let left = rng.below((side - width) as u64 + 1) as f64;
            return resized_crop(left, top, width, height);
        }
    }
    Affine::IDENTITY
}

/// The transform that resizes a window, given in pixels, to the whole image.
fn resized_crop(left: f64, top: f64, width: f64, height: f64) -> Affine {
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

    /// Left, top, width and height of a window, recovered from its transform.
    fn window(affine: &Affine) -> [f64; 4] {
        let (width, height) = (affine.matrix[0][0] * 48.0, affine.matrix[1][1] * 48.0);
        [affine.offset[0] + 24.0 - width / 2.0, affine.offset[1] + 24.0 - height / 2.0, width, height]
    }

    #[test]
    fn windows_have_the_expected_area_and_aspect_and_are_inside() {
        let (mut min, mut max, mut at_left_edge) = (1.0f64, 0.0f64, 0);
        for row in 0..5_000 {
            let [left, top, width, height] = window(&sample(0.6, &mut Rng::new(&[row])));
            assert!((width - width.round()).abs() < 1e-9 && (left - left.round()).abs() < 1e-9, "whole pixels");
            assert!(left > -1e-9 && top > -1e-9 && left + width < 48.0 + 1e-9 && top + height < 48.0 + 1e-9);
            // Rounding changes a side of at least 26 pixels by half a pixel, and so the aspect by
            // 4%.
            assert!((0.71..1.40).contains(&(width / height)), "{width} by {height}");
            let area = width * height / 2304.0;
            (min, max) = (min.min(area), max.max(area));
            at_left_edge += i32::from(left < 0.5);
        }
        assert!((0.37..0.42).contains(&min) && max > 0.97, "areas from {min} to {max}");
        assert!((50..2500).contains(&at_left_edge), "{at_left_edge} at the left edge");
        assert_eq!(sample(0.0, &mut Rng::new(&[1])), Affine::IDENTITY);
    }

    #[test]
    fn agrees_with_crop_and_bilinear_resize() {
        let pixels: Vec<f32> = golden_image(2).into_iter().map(f32::from).collect();
        let image = Tensor::from_slice(&pixels).view([1, 1, 48, 48]);
        for [left, top, width, height] in [[0, 0, 48, 48], [5, 11, 30, 24], [20, 0, 28, 37]] {
            let affine = resized_crop(left as f64, top as f64, width as f64, height as f64);
            let actual = warp(&image, &Tensor::from_slice(&affine.theta()).view([1, 2, 3])).unwrap();
            let crop = image.narrow(2, top, height).narrow(3, left, width).contiguous();
            let expected = crop.upsample_bilinear2d([48, 48], false, None, None);
            // Without the outermost pixels, where libtorch repeats the window's edge.
            let inner = |all: Tensor| all.narrow(2, 1, 46).narrow(3, 1, 46);
            let worst = (inner(actual) - inner(expected)).abs().max().double_value(&[]);
            assert!(worst < 0.01, "{width} by {height} at {left}, {top}: {worst} gray levels");
        }
    }
}
