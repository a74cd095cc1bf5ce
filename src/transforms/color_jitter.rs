//! Brightness, contrast and gamma.

use anyhow::Result;
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::{parallel, profile, tensor_slice};

pub use kernels::color_jitter::COLOR_JITTER;

use super::config::AugmentConfig;
use crate::data::images::PIXELS;
use crate::device;
use crate::util::rng::Rng;

/// The light of one image: brightness factor from U(1 - b, 1 + b), contrast factor from U(1 - c, 1 + c), gamma exponent from
/// exp(U(-ln(1 + g), ln(1 + g))), so that darker and lighter are equally likely. Each has a stream in `rng`.
///
/// The first two as torchvision's `ColorJitter`, which applies them in random order; here the order is fixed.
pub fn sample(config: &AugmentConfig, rng: [Rng; COLOR_JITTER]) -> [f32; COLOR_JITTER] {
    let [brightness, contrast, mut gamma] = rng;
    let factor = |most: f64, mut rng: Rng| rng.between(1.0 - most, 1.0 + most);
    let most = config.gamma.ln_1p();
    let values =
        [factor(config.brightness, brightness), factor(config.contrast, contrast), gamma.between(-most, most).exp()];
    values.map(|value| value as f32)
}

/// Changes the light of `images` ([B, 1, 48, 48] in 0..1, float32 or bf16) as `jitter` (float32 [B, 3], see [`draw`]) says:
/// brightness, then contrast about the image's own mean, then gamma, each held to 0..1. Takes a tensor that nobody else uses.
/// On a CPU it is one pass; elsewhere libtorch's operations, one after another, in float32.
///
/// As `adjust_brightness`, `adjust_contrast` and `adjust_gamma` of torchvision.
///
/// # Errors
/// libtorch's.
pub fn apply(images: Tensor, jitter: &Tensor) -> Result<Tensor> {
    profile::operation("grimace::light", || match (images.device(), images.f_kind()?) {
        (Device::Cpu, Kind::Float) => on_cpu::<f32>(images, jitter),
        (Device::Cpu, Kind::BFloat16) => on_cpu::<bf16>(images, jitter),
        _ => plain(&images, jitter),
    })
}

fn on_cpu<E: Element + tensor_slice::TensorElement>(mut images: Tensor, jitter: &Tensor) -> Result<Tensor> {
    let values = tensor_slice::slice_mut::<E>(&mut images)?;
    let each = device::chunk_size(values.len() / PIXELS);
    let work =
        values.chunks_mut(each * PIXELS).zip(tensor_slice::slice::<f32>(jitter)?.chunks(each * COLOR_JITTER)).collect();
    parallel::for_each(work, |(images, jitter)| kernels::color_jitter::color_jitter(images, PIXELS, jitter))?;
    Ok(images)
}

/// [`apply`] in libtorch's operations.
fn plain(images: &Tensor, jitter: &Tensor) -> Result<Tensor> {
    let number = |at: i64| -> Result<Tensor> { Ok(jitter.f_narrow(1, at, 1)?.f_view([-1, 1, 1, 1])?) };
    let (brightness, contrast, gamma) = (number(0)?, number(1)?, number(2)?);
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
    fn one_pass_agrees_with_libtorch() {
        let jitter = [[1.0f32, 1.0, 1.0], [1.7, 0.4, 0.6], [0.4, 1.8, 1.7], [1.0, 1.5, 1.0], [1.2, 1.0, 0.7]];
        let jitter = Tensor::from_slice(jitter.as_flattened()).view([-1, 3]);
        for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 4e-3)] {
            let images = || images(5).to_kind(kind);
            let (ours, theirs) = (apply(images(), &jitter).unwrap(), plain(&images(), &jitter).unwrap());
            assert_eq!((ours.size(), ours.kind()), (theirs.size(), kind));
            let worst = (ours.to_kind(Kind::Float) - theirs.to_kind(Kind::Float)).abs().max().double_value(&[]);
            assert!(worst < tolerance, "{kind:?}: {worst}");
        }
    }

    /// By hand, from the formulas in torchvision's `_functional_tensor.py`.
    #[test]
    fn agrees_with_torchvision_by_hand() {
        let mut image = vec![0.2f32; 2304];
        image[1152..].fill(0.6);
        let changed = |light: [f32; 3]| {
            let image = Tensor::from_slice(&image).view([1, 1, 48, 48]);
            let after = apply(image, &Tensor::from_slice(&light).view([1, 3])).unwrap().view([2304]);
            [after.double_value(&[0]), after.double_value(&[2303])]
        };
        let near = |found: [f64; 2], wanted: [f64; 2]| {
            assert!(found.iter().zip(wanted).all(|(f, w)| (f - w).abs() < 1e-6), "{found:?}, wanted {wanted:?}");
        };
        near(changed([1.5, 1.0, 1.0]), [0.3, 0.9]);
        near(changed([1.9, 1.0, 1.0]), [0.38, 1.0]);
        // The mean is 0.4: 0.5 x + 0.5 * 0.4.
        near(changed([1.0, 0.5, 1.0]), [0.3, 0.5]);
        near(changed([1.0, 1.0, 2.0]), [0.04, 0.36]);
        // Brightness first: 0.3 and 0.9 with mean 0.6, then 1.5 x - 0.3, then the square.
        near(changed([1.5, 1.5, 2.0]), [0.15f64.powi(2), 1.0]);
    }

    #[test]
    fn draws_fill_their_ranges() {
        let config = AugmentConfig { brightness: 0.2, contrast: 0.5, gamma: 0.6, ..AugmentConfig::default() };
        let n = 20_000;
        let drawn: Vec<[f32; 3]> =
            (0..n).map(|row| sample(&config, [5, 6, 7].map(|stream| Rng::new(&[row, stream])))).collect();
        let wanted = [(0.8, 1.2), (0.5, 1.5), (1.0 / 1.6, 1.6)];
        for (at, (low, high)) in wanted.into_iter().enumerate() {
            let values: Vec<f64> = drawn.iter().map(|light| f64::from(light[at])).collect();
            let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(l, m), v| (l.min(*v), m.max(*v)));
            assert!(least > low - 1e-6 && most < high + 1e-6, "{at}: {least} to {most}");
            assert!(least < low + 0.01 && most > high - 0.01, "{at}: {least} to {most} is narrow");
            let middle = if at == 2 { 1.0 } else { f64::midpoint(low, high) };
            let below = values.iter().filter(|value| **value < middle).count();
            // Half of n, five standard deviations of 71 either way.
            assert!(below.abs_diff(10_000) < 355, "{at}: {below} of {n} below {middle}");
        }
        let off = sample(&AugmentConfig::default(), [5, 6, 7].map(|stream| Rng::new(&[1, stream])));
        assert_eq!(off, [1.0; 3]);
    }
}
