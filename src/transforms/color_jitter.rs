//! Color jitter: brightness, contrast and gamma.

use anyhow::Result;
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::{op_profile, parallel, tensor_slice};

pub use kernels::color_jitter::COLOR_JITTER;

use super::config::AugmentConfig;
use crate::data::images::PIXELS;
use crate::device;
use crate::util::rng::Rng;

/// Samples the parameters of one image: brightness factor from U(1 - b, 1 + b), contrast factor
/// from U(1 - c, 1 + c), gamma from exp(U(-ln(1 + g), ln(1 + g))), so that darker and lighter are
/// equally likely. `rng` has one stream per parameter.
///
/// Brightness and contrast as in torchvision's `ColorJitter`, but in fixed instead of random order.
pub fn sample(config: &AugmentConfig, rng: [Rng; COLOR_JITTER]) -> [f32; COLOR_JITTER] {
    let [brightness, contrast, mut gamma] = rng;
    let factor = |max: f64, mut rng: Rng| rng.between(1.0 - max, 1.0 + max);
    let max = config.gamma.ln_1p();
    let values =
        [factor(config.brightness, brightness), factor(config.contrast, contrast), gamma.between(-max, max).exp()];
    values.map(|value| value as f32)
}

/// Applies brightness, then contrast around the image mean, then gamma, clamping each to 0..1, like
/// torchvision's `adjust_brightness`, `adjust_contrast` and `adjust_gamma`.
///
/// `images` is [B, 1, 48, 48] in 0..1, float32 or bf16, and may be modified in place; `jitter` is
/// float32 [B, 3], see [`sample`]. Runs a fused kernel on the CPU, libtorch operations in float32
/// elsewhere.
pub fn apply(images: Tensor, jitter: &Tensor) -> Result<Tensor> {
    op_profile::operation("grimace::color_jitter", || match (images.device(), images.f_kind()?) {
        (Device::Cpu, Kind::Float) => apply_fused::<f32>(images, jitter),
        (Device::Cpu, Kind::BFloat16) => apply_fused::<bf16>(images, jitter),
        _ => apply_reference(&images, jitter),
    })
}

fn apply_fused<E: Element + tensor_slice::TensorElement>(images: Tensor, jitter: &Tensor) -> Result<Tensor> {
    let mut images = tensor_slice::make_unique(images)?;
    let values = tensor_slice::slice_mut::<E>(&mut images)?;
    let chunk = device::chunk_size(values.len() / PIXELS);
    let jitter = tensor_slice::slice::<f32>(jitter)?;
    let work = values.chunks_mut(chunk * PIXELS).zip(jitter.chunks(chunk * COLOR_JITTER)).collect();
    parallel::for_each(work, |(images, jitter)| kernels::color_jitter::color_jitter(images, PIXELS, jitter))?;
    Ok(images)
}

/// [`apply`] with libtorch operations.
fn apply_reference(images: &Tensor, jitter: &Tensor) -> Result<Tensor> {
    let column = |index: i64| -> Result<Tensor> { Ok(jitter.f_narrow(1, index, 1)?.f_view([-1, 1, 1, 1])?) };
    let (brightness, contrast, gamma) = (column(0)?, column(1)?, column(2)?);
    let bright = images.f_to_dtype(Kind::Float, false, false)?.f_mul(&brightness)?.f_clamp_(0.0, 1.0)?;
    let mean = bright.f_mean_dim(&[1i64, 2, 3][..], true, Kind::Float)?;
    let rest = mean.f_mul(&contrast.f_neg()?.f_add_scalar(1.0)?)?;
    let contrasted = bright.f_mul(&contrast)?.f_add_(&rest)?.f_clamp_(0.0, 1.0)?;
    Ok(contrasted.f_pow(&gamma)?.f_to_dtype(images.f_kind()?, false, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_image;

    fn images(count: u64) -> Tensor {
        let pixels: Vec<f32> = (0..count).flat_map(golden_image).map(|pixel| f32::from(pixel) / 255.0).collect();
        Tensor::from_slice(&pixels).view([-1, 1, 48, 48])
    }

    #[test]
    fn fused_kernel_agrees_with_reference() {
        let jitter = [[1.0f32, 1.0, 1.0], [1.7, 0.4, 0.6], [0.4, 1.8, 1.7], [1.0, 1.5, 1.0], [1.2, 1.0, 0.7]];
        let jitter = Tensor::from_slice(jitter.as_flattened()).view([-1, 3]);
        for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 4e-3)] {
            let images = || images(5).to_kind(kind);
            let (fused, reference) = (apply(images(), &jitter).unwrap(), apply_reference(&images(), &jitter).unwrap());
            assert_eq!((fused.size(), fused.kind()), (reference.size(), kind));
            let worst = (fused.to_kind(Kind::Float) - reference.to_kind(Kind::Float)).abs().max().double_value(&[]);
            assert!(worst < tolerance, "{kind:?}: {worst}");
        }
    }

    /// Expected values by hand, from the formulas in torchvision's `_functional_tensor.py`.
    #[test]
    fn agrees_with_torchvisions_formulas() {
        let mut image = vec![0.2f32; 2304];
        image[1152..].fill(0.6);
        let jittered = |jitter: [f32; 3]| {
            let image = Tensor::from_slice(&image).view([1, 1, 48, 48]);
            let after = apply(image, &Tensor::from_slice(&jitter).view([1, 3])).unwrap().view([2304]);
            [after.double_value(&[0]), after.double_value(&[2303])]
        };
        let near = |actual: [f64; 2], expected: [f64; 2]| {
            let near = actual.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-6);
            assert!(near, "{actual:?}, expected {expected:?}");
        };
        near(jittered([1.5, 1.0, 1.0]), [0.3, 0.9]);
        near(jittered([1.9, 1.0, 1.0]), [0.38, 1.0]);
        // The mean is 0.4: 0.5 x + 0.5 * 0.4.
        near(jittered([1.0, 0.5, 1.0]), [0.3, 0.5]);
        near(jittered([1.0, 1.0, 2.0]), [0.04, 0.36]);
        // Brightness first: 0.3 and 0.9 with mean 0.6, then 1.5 x - 0.3, then the square.
        near(jittered([1.5, 1.5, 2.0]), [0.15f64.powi(2), 1.0]);
    }

    #[test]
    fn samples_cover_their_ranges() {
        let config = AugmentConfig { brightness: 0.2, contrast: 0.5, gamma: 0.6, ..AugmentConfig::default() };
        let n = 20_000;
        let samples: Vec<[f32; 3]> =
            (0..n).map(|row| sample(&config, [5, 6, 7].map(|stream| Rng::new(&[row, stream])))).collect();
        let ranges = [(0.8, 1.2), (0.5, 1.5), (1.0 / 1.6, 1.6)];
        for (index, (low, high)) in ranges.into_iter().enumerate() {
            let values: Vec<f64> = samples.iter().map(|jitter| f64::from(jitter[index])).collect();
            let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
            assert!(min > low - 1e-6 && max < high + 1e-6, "{index}: {min} to {max}");
            assert!(min < low + 0.01 && max > high - 0.01, "{index}: {min} to {max} is too narrow");
            let middle = if index == 2 { 1.0 } else { f64::midpoint(low, high) };
            let below = values.iter().filter(|value| **value < middle).count();
            // Half of n. Tolerance: 5 standard deviations of 71.
            assert!(below.abs_diff(10_000) < 355, "{index}: {below} of {n} below {middle}");
        }
        let off = sample(&AugmentConfig::default(), [5, 6, 7].map(|stream| Rng::new(&[1, stream])));
        assert_eq!(off, [1.0; 3]);
    }
}
