//! Color jitter of grayscale images: brightness, contrast and gamma in one pass over memory.

use crate::Element;
use crate::dispatch::multiversion;

/// Parameters per image: brightness factor, contrast factor, gamma exponent.
pub const COLOR_JITTER: usize = 3;

/// Partial sums of a mean, so that the sum vectorizes.
const LANES: usize = 16;

/// Applies row i of `params` ([N, 3]: brightness b, contrast c, gamma g) to image i of `images`
/// ([N, pixels], values in 0..1), in place and in this order:
///
/// 1. brightness, b x
/// 2. contrast about the image's mean m, c x + (1 - c) m
/// 3. gamma, x^g
///
/// Each result is clamped to 0..1. The operations are `adjust_brightness`, `adjust_contrast` and
/// `adjust_gamma` of torchvision; a parameter of 1 leaves the image unchanged. Factors must be at
/// least 0, exponents above 0.
///
/// It computes in `f32` and rounds once; results are equal on every instruction set.
///
/// # Panics
/// If the lengths of the slices disagree, or `pixels` is not a multiple of 16.
pub fn color_jitter<E: Element>(images: &mut [E], pixels: usize, params: &[f32]) {
    assert!(pixels > 0 && pixels.is_multiple_of(LANES), "{pixels} pixels per image; expected a multiple of {LANES}");
    assert_eq!(images.len() * COLOR_JITTER, params.len() * pixels);
    run(images, pixels, params);
}

multiversion! { fn run<E: Element>(images: &mut [E], pixels: usize, params: &[f32]) = body }

#[inline(always)]
fn body<E: Element>(images: &mut [E], pixels: usize, params: &[f32]) {
    // One image in `f32`, which stays in the first-level cache between the steps.
    let mut values = vec![0.0f32; pixels];
    for (image, params) in images.chunks_exact_mut(pixels).zip(params.chunks_exact(COLOR_JITTER)) {
        let (brightness, contrast, gamma) = (params[0], params[1], params[2]);
        for (value, pixel) in values.iter_mut().zip(&*image) {
            *value = (pixel.to_f32() * brightness).clamp(0.0, 1.0);
        }
        if contrast != 1.0 {
            let rest = (1.0 - contrast) * mean(&values);
            values.iter_mut().for_each(|value| *value = (*value * contrast + rest).clamp(0.0, 1.0));
        }
        if gamma != 1.0 {
            values.iter_mut().for_each(|value| *value = power(*value, gamma));
        }
        for (pixel, value) in image.iter_mut().zip(&values) {
            *pixel = E::from_f32(*value);
        }
    }
}

#[inline(always)]
fn mean(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for chunk in values.chunks_exact(LANES) {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    sums.iter().sum::<f32>() / values.len() as f32
}

/// 1.5 times 2^23: adding it to a small number rounds that to an integer, held in the last bits.
const ROUND_TO_INTEGER: f32 = 12_582_912.0;

/// `value`^`exponent` for a value in 0..1 and an exponent above 0, with an error of about 1e-6.
///
/// `powf` calls a scalar library function for each value, which takes ten times as long.
#[inline(always)]
fn power(value: f32, exponent: f32) -> f32 {
    // value = 2^integer m, with m from sqrt(1/2) to sqrt(2). The constant is sqrt(1/2) as bits.
    let bits = value.to_bits() as i32;
    let integer = (bits - 0x3f35_04f3) >> 23;
    let m = f32::from_bits((bits - (integer << 23)) as u32);
    // ln m = 2 atanh(s), by its series; the first omitted term is below 1e-9.
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let ln = 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0)))));
    let log2 = integer as f32 + ln * std::f32::consts::LOG2_E;
    // 2^y = 2^nearest e^t with t from -0.35 to 0.35, by its series; the remainder is below 1e-8.
    let y = (log2 * exponent).max(-126.0);
    let shifted = y + ROUND_TO_INTEGER;
    let t = (y - (shifted - ROUND_TO_INTEGER)) * std::f32::consts::LN_2;
    let series = 1.0 / 24.0 + t * (1.0 / 120.0 + t * (1.0 / 720.0 + t * (1.0 / 5040.0)));
    let exp = 1.0 + t * (1.0 + t * (1.0 / 2.0 + t * (1.0 / 6.0 + t * series)));
    let exponent_bits = shifted.to_bits().wrapping_sub(ROUND_TO_INTEGER.to_bits()).wrapping_add(127) << 23;
    let result = exp * f32::from_bits(exponent_bits);
    if value > 0.0 { result.min(1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::isa::tests::for_each_isa;

    /// Reference implementation in `f64`.
    fn reference(image: &[f64], params: [f64; 3]) -> Vec<f64> {
        let [brightness, contrast, gamma] = params;
        let bright: Vec<f64> = image.iter().map(|value| (value * brightness).clamp(0.0, 1.0)).collect();
        let mean = bright.iter().sum::<f64>() / bright.len() as f64;
        let contrasted = bright.iter().map(|value| (contrast * value + (1.0 - contrast) * mean).clamp(0.0, 1.0));
        contrasted.map(|value| value.powf(gamma)).collect()
    }

    fn compare<E: Element>(tolerance: f64) {
        let params = [[1.0f32, 1.0, 1.0], [1.6, 0.5, 1.9], [0.3, 1.9, 0.55], [1.0, 1.0, 0.501], [0.0, 1.5, 1.5]];
        let pixels = 48;
        let value = |at: usize| E::from_f32((at * 37 % 101) as f32 / 100.0);
        let mut images: Vec<E> = (0..params.len() * pixels).map(value).collect();
        let before: Vec<f64> = images.iter().map(|value| f64::from(value.to_f32())).collect();
        color_jitter(&mut images, pixels, params.as_flattened());
        for ((params, before), after) in params.iter().zip(before.chunks(pixels)).zip(images.chunks(pixels)) {
            for (expected, actual) in reference(before, params.map(f64::from)).iter().zip(after) {
                let actual = f64::from(actual.to_f32());
                assert!((expected - actual).abs() < tolerance, "{params:?}: {actual}, expected {expected}");
            }
        }
        let unchanged = images.iter().zip(&before).take(pixels);
        assert!(
            unchanged.into_iter().all(|(after, before)| f64::from(after.to_f32()) == *before),
            "parameters of 1 leave the image unchanged"
        );
    }

    #[test]
    fn matches_reference() {
        // bf16 has 8 significant bits: half a unit in the last place near 1 is 0.002.
        for_each_isa(|_| {
            compare::<f32>(2e-6);
            compare::<bf16>(2.1e-3);
        });
    }

    #[test]
    fn is_equal_on_every_instruction_set() {
        let before: Vec<f32> = (0..96).map(|at| (at * 37 % 101) as f32 / 100.0).collect();
        let mut results = Vec::new();
        for_each_isa(|_| {
            let mut images = before.clone();
            color_jitter(&mut images, 48, &[1.3, 0.7, 1.7, 0.8, 1.4, 0.6]);
            results.push(images);
        });
        assert!(results.iter().all(|images| *images == results[0] && *images != before));
    }

    #[test]
    fn power_is_exact_at_0_and_1_and_within_1e_6_between() {
        for exponent in [0.5f32, 0.75, 1.3, 2.0] {
            assert_eq!(power(0.0, exponent), 0.0);
            assert_eq!(power(1.0, exponent), 1.0);
            for value in (1..10_000).map(|n| n as f32 / 10_000.0).chain([1e-30, f32::MIN_POSITIVE, 0.999_999_9]) {
                let expected = f64::from(value).powf(f64::from(exponent));
                let actual = f64::from(power(value, exponent));
                assert!(
                    (actual - expected).abs() < 1e-6 && actual <= 1.0,
                    "{value}^{exponent}: {actual}, expected {expected}"
                );
            }
        }
    }
}
