//! Random erasing.

use anyhow::Result;
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::{parallel, profile, tensor_slice};

use crate::data::images::{PIXELS, SIDE};
use crate::device;
use crate::util::rng::Rng;

/// Numbers of one image's rectangle: first row, row after the last, first column, column after the last, gray level.
pub const RECTANGLE: usize = 5;

/// Smallest and greatest share of the image that is erased.
const AREA: (f64, f64) = (0.02, 0.33);
/// Smallest and greatest height over width.
const ASPECT: (f64, f64) = (0.3, 3.3);
/// How often a rectangle is drawn before the image is left alone.
const TRIES: usize = 10;

/// The rectangle of one image: with this probability a rectangle of 2% to 33% of the image's area and of a log-uniform aspect from
/// 0.3 to 3.3, in whole pixels, within the image, in one gray level from U(0, 1); else none, all zeros. What does not fit is
/// drawn again, up to ten times.
///
/// Zhong et al. 2020, "Random Erasing Data Augmentation", in the way of torchvision's `RandomErasing`, whose constants these
/// are. (Its rectangle is black or of noise.)
pub fn sample(probability: f64, rng: &mut Rng) -> [f32; RECTANGLE] {
    if rng.uniform() >= probability {
        return [0.0; RECTANGLE];
    }
    let side = SIDE as f64;
    for _ in 0..TRIES {
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

/// Paints over `images` ([B, 1, 48, 48] in 0..1, float32 or bf16) what `rectangles` (float32 [B, 5], see [`draw`]) names. Takes a
/// tensor that nobody else uses. On a CPU it writes the rectangles alone; elsewhere rows and columns are compared.
///
/// # Errors
/// libtorch's.
pub fn apply(images: Tensor, rectangles: &Tensor) -> Result<Tensor> {
    profile::operation("grimace::erase", || match (images.device(), images.f_kind()?) {
        (Device::Cpu, Kind::Float) => on_cpu::<f32>(images, rectangles),
        (Device::Cpu, Kind::BFloat16) => on_cpu::<bf16>(images, rectangles),
        _ => plain(&images, rectangles),
    })
}

fn on_cpu<E: Element + tensor_slice::TensorElement>(mut images: Tensor, rectangles: &Tensor) -> Result<Tensor> {
    let values = tensor_slice::slice_mut::<E>(&mut images)?;
    let each = device::chunk_size(values.len() / PIXELS);
    let work = values
        .chunks_mut(each * PIXELS)
        .zip(tensor_slice::slice::<f32>(rectangles)?.chunks(each * RECTANGLE))
        .collect();
    parallel::for_each(work, |(images, rectangles): (&mut [E], &[f32])| {
        for (image, rectangle) in images.chunks_exact_mut(PIXELS).zip(rectangles.chunks_exact(RECTANGLE)) {
            paint(image, rectangle);
        }
    })?;
    Ok(images)
}

fn paint<E: Element>(image: &mut [E], rectangle: &[f32]) {
    let &[top, bottom, left, right, gray] = rectangle else { return };
    let [top, bottom, left, right] = [top, bottom, left, right].map(|place| place as usize);
    for row in image.chunks_exact_mut(SIDE).take(bottom).skip(top) {
        if let Some(part) = row.get_mut(left..right) {
            part.fill(E::from_f32(gray));
        }
    }
}

/// [`apply`] in libtorch's operations.
fn plain(images: &Tensor, rectangles: &Tensor) -> Result<Tensor> {
    let number = |at: i64| -> Result<Tensor> { Ok(rectangles.f_narrow(1, at, 1)?.f_view([-1, 1, 1, 1])?) };
    let places = Tensor::f_arange(SIDE as i64, (Kind::Float, images.device()))?;
    let (rows, columns) = (places.f_view([1, 1, -1, 1])?, places.f_view([1, 1, 1, -1])?);
    let within = |places: &Tensor, first: i64, after: i64| -> Result<Tensor> {
        Ok(places.f_ge_tensor(&number(first)?)?.f_logical_and(&places.f_lt_tensor(&number(after)?)?)?)
    };
    let erased = within(&rows, 0, 1)?.f_logical_and(&within(&columns, 2, 3)?)?;
    Ok(number(4)?.f_to_dtype(images.f_kind()?, false, false)?.f_where_self(&erased, images)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_have_the_area_and_aspect_and_lie_within() {
        let n = 20_000;
        let drawn: Vec<[f64; 5]> = (0..n).map(|row| sample(0.3, &mut Rng::new(&[row])).map(f64::from)).collect();
        let erased: Vec<_> = drawn.iter().filter(|rectangle| rectangle[1] > 0.0).collect();
        // 6000 of 20000, five standard deviations of 65 either way; a few more where nothing fits.
        assert!(erased.len().abs_diff(6_000) < 330, "{} of {n} erased", erased.len());
        let (mut least, mut most) = ([f64::MAX; 3], [f64::MIN; 3]);
        for [top, bottom, left, right, gray] in erased {
            assert!(0.0 <= *top && top < bottom && *bottom <= 48.0 && 0.0 <= *left && left < right && *right <= 48.0);
            assert!([top, bottom, left, right].iter().all(|place| place.fract() == 0.0), "whole pixels");
            let (height, width) = (bottom - top, right - left);
            for (at, value) in [height * width / 2304.0, height / width, *gray].into_iter().enumerate() {
                (least[at], most[at]) = (least[at].min(value), most[at].max(value));
            }
        }
        // Rounding to whole pixels moves the small ones: 4 by 12 for 3.7 by 12.5.
        assert!(least[0] > 0.017 && least[0] < 0.022 && most[0] < 0.345 && most[0] > 0.32, "{least:?} to {most:?}");
        assert!(least[1] > 0.26 && least[1] < 0.33 && most[1] < 3.8 && most[1] > 3.0, "{least:?} to {most:?}");
        assert!(least[2] >= 0.0 && least[2] < 0.01 && most[2] < 1.0 && most[2] > 0.99, "{least:?} to {most:?}");
        assert!((0..100).all(|row| sample(0.0, &mut Rng::new(&[row])) == [0.0; 5]));
        assert!((0..100).all(|row| sample(1.0, &mut Rng::new(&[row]))[1] > 0.0));
    }

    #[test]
    fn the_rectangle_alone_is_painted_in_every_way() {
        let rectangles = [[0.0f32; 5], [3.0, 10.0, 40.0, 48.0, 0.25], [0.0, 47.0, 5.0, 6.0, 1.0]];
        let rectangles = Tensor::from_slice(rectangles.as_flattened()).view([-1, 5]);
        for kind in [Kind::Float, Kind::BFloat16] {
            let images = || Tensor::full([3, 1, 48, 48], 0.5, (kind, Device::Cpu));
            let wanted = images();
            let _ = wanted.get(1).narrow(1, 3, 7).narrow(2, 40, 8).fill_(0.25);
            let _ = wanted.get(2).narrow(1, 0, 47).narrow(2, 5, 1).fill_(1.0);
            assert!(apply(images(), &rectangles).unwrap().equal(&wanted), "{kind:?}");
            assert!(plain(&images(), &rectangles).unwrap().equal(&wanted), "{kind:?}");
        }
    }
}
