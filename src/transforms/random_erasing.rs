//! Random erasing: fills a random rectangle with a random gray level.

use anyhow::Result;
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::{op_profile, parallel, tensor_slice};

use crate::data::images::{PIXELS, SIDE};
use crate::device;
use crate::util::rng::Rng;

/// Parameters of a rectangle: top, bottom (exclusive), left, right (exclusive), gray level.
pub const RECTANGLE: usize = 5;

/// Range of the area, as a fraction of the image.
const AREA: (f64, f64) = (0.02, 0.33);
/// Range of height over width.
const ASPECT: (f64, f64) = (0.3, 3.3);
/// Attempts to sample a rectangle that fits.
const ATTEMPTS: usize = 10;

/// Samples the rectangle of one image; all zeros (no rectangle) with probability `1 - probability`.
///
/// Area from U(0.02, 0.33) of the image, aspect ratio log-uniform from 0.3 to 3.3, in whole pixels
/// inside the image, gray level from U(0, 1). A rectangle that does not fit is resampled up to ten
/// times. Zhong et al. 2020, "Random Erasing Data Augmentation"; constants and procedure of
/// torchvision's `RandomErasing`, which fills with black or noise.
pub fn sample(probability: f64, rng: &mut Rng) -> [f32; RECTANGLE] {
    if rng.uniform() >= probability {
        return [0.0; RECTANGLE];
    }
    let side = SIDE as f64;
    for _ in 0..ATTEMPTS {
        let area = side * side * rng.between(AREA.0, AREA.1);
        let aspect = rng.between(ASPECT.0.ln(), ASPECT.1.ln()).exp();
        let height = (area * aspect).sqrt().round_ties_even();
        let width = (area / aspect).sqrt().round_ties_even();
        if height < side && width < side {
            let top = rng.below((side - height) as u64 + 1) as f64;
            let left = rng.below((side - width) as u64 + 1) as f64;
            return [top, top + height, left, left + width, rng.uniform()].map(|value| value as f32);
        }
    }
    [0.0; RECTANGLE]
}

/// Fills `rectangles` (float32 [B, 5], see [`sample`]) in `images` ([B, 1, 48, 48] in 0..1, float32
/// or bf16), which may be modified in place. On the CPU it writes only the rectangles; elsewhere it
/// builds a mask with libtorch operations.
pub fn apply(images: Tensor, rectangles: &Tensor) -> Result<Tensor> {
    op_profile::operation("grimace::random_erasing", || match (images.device(), images.f_kind()?) {
        (Device::Cpu, Kind::Float) => apply_on_cpu::<f32>(images, rectangles),
        (Device::Cpu, Kind::BFloat16) => apply_on_cpu::<bf16>(images, rectangles),
        _ => apply_reference(&images, rectangles),
    })
}

fn apply_on_cpu<E: Element + tensor_slice::TensorElement>(images: Tensor, rectangles: &Tensor) -> Result<Tensor> {
    let mut images = tensor_slice::make_unique(images)?;
    let values = tensor_slice::slice_mut::<E>(&mut images)?;
    let chunk = device::chunk_size(values.len() / PIXELS);
    let rectangles = tensor_slice::slice::<f32>(rectangles)?;
    let work = values.chunks_mut(chunk * PIXELS).zip(rectangles.chunks(chunk * RECTANGLE)).collect();
    parallel::for_each(work, |(images, rectangles): (&mut [E], &[f32])| {
        for (image, rectangle) in images.chunks_exact_mut(PIXELS).zip(rectangles.chunks_exact(RECTANGLE)) {
            fill(image, rectangle);
        }
    })?;
    Ok(images)
}

fn fill<E: Element>(image: &mut [E], rectangle: &[f32]) {
    let &[top, bottom, left, right, gray] = rectangle else { return };
    let [top, bottom, left, right] = [top, bottom, left, right].map(|edge| edge as usize);
    for row in image.chunks_exact_mut(SIDE).take(bottom).skip(top) {
        if let Some(part) = row.get_mut(left..right) {
            part.fill(E::from_f32(gray));
        }
    }
}

/// [`apply`] with libtorch operations.
fn apply_reference(images: &Tensor, rectangles: &Tensor) -> Result<Tensor> {
    let column = |index: i64| -> Result<Tensor> { Ok(rectangles.f_narrow(1, index, 1)?.f_view([-1, 1, 1, 1])?) };
    let range = Tensor::f_arange(SIDE as i64, (Kind::Float, images.device()))?;
    let (y, x) = (range.f_view([1, 1, -1, 1])?, range.f_view([1, 1, 1, -1])?);
    let inside = |coordinates: &Tensor, start: i64, end: i64| -> Result<Tensor> {
        Ok(coordinates.f_ge_tensor(&column(start)?)?.f_logical_and(&coordinates.f_lt_tensor(&column(end)?)?)?)
    };
    let mask = inside(&y, 0, 1)?.f_logical_and(&inside(&x, 2, 3)?)?;
    Ok(column(4)?.f_to_dtype(images.f_kind()?, false, false)?.f_where_self(&mask, images)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_have_the_expected_area_and_aspect_and_are_inside() {
        let n = 20_000;
        let samples: Vec<[f64; 5]> = (0..n).map(|row| sample(0.3, &mut Rng::new(&[row])).map(f64::from)).collect();
        let erased: Vec<_> = samples.iter().filter(|rectangle| rectangle[1] > 0.0).collect();
        // 6000 of 20000. Tolerance: 5 standard deviations of 65, and a few that never fit.
        assert!(erased.len().abs_diff(6_000) < 330, "{} of {n} erased", erased.len());
        let (mut min, mut max) = ([f64::MAX; 3], [f64::MIN; 3]);
        for [top, bottom, left, right, gray] in erased {
            assert!(0.0 <= *top && top < bottom && *bottom <= 48.0 && 0.0 <= *left && left < right && *right <= 48.0);
            assert!([top, bottom, left, right].iter().all(|edge| edge.fract() == 0.0), "whole pixels");
            let (height, width) = (bottom - top, right - left);
            for (index, value) in [height * width / 2304.0, height / width, *gray].into_iter().enumerate() {
                (min[index], max[index]) = (min[index].min(value), max[index].max(value));
            }
        }
        // Rounding to whole pixels changes small rectangles: 4 by 12 for 3.7 by 12.5.
        assert!(min[0] > 0.017 && min[0] < 0.022 && max[0] < 0.345 && max[0] > 0.32, "{min:?} to {max:?}");
        assert!(min[1] > 0.26 && min[1] < 0.33 && max[1] < 3.8 && max[1] > 3.0, "{min:?} to {max:?}");
        assert!(min[2] >= 0.0 && min[2] < 0.01 && max[2] < 1.0 && max[2] > 0.99, "{min:?} to {max:?}");
        assert!((0..100).all(|row| sample(0.0, &mut Rng::new(&[row])) == [0.0; 5]));
        assert!((0..100).all(|row| sample(1.0, &mut Rng::new(&[row]))[1] > 0.0));
    }

    #[test]
    fn both_implementations_fill_only_the_rectangle() {
        let rectangles = [[0.0f32; 5], [3.0, 10.0, 40.0, 48.0, 0.25], [0.0, 47.0, 5.0, 6.0, 1.0]];
        let rectangles = Tensor::from_slice(rectangles.as_flattened()).view([-1, 5]);
        for kind in [Kind::Float, Kind::BFloat16] {
            let images = || Tensor::full([3, 1, 48, 48], 0.5, (kind, Device::Cpu));
            let expected = images();
            let _ = expected.get(1).narrow(1, 3, 7).narrow(2, 40, 8).fill_(0.25);
            let _ = expected.get(2).narrow(1, 0, 47).narrow(2, 5, 1).fill_(1.0);
            assert!(apply(images(), &rectangles).unwrap().equal(&expected), "{kind:?}");
            assert!(apply_reference(&images(), &rectangles).unwrap().equal(&expected), "{kind:?}");
        }
    }
}
