//! Brightness, contrast and gamma of faces in one pass over memory.

use crate::Element;
use crate::dispatch::compiled;

/// Numbers of one face's light: brightness factor, contrast factor, gamma exponent.
pub const LIGHT: usize = 3;

/// Sums that run beside one another, so that a sum becomes vector instructions.
const LANES: usize = 16;

/// Changes face i of `faces` (each `pixels` values in 0..1) as row i of `lights` says, in this order:
/// brightness x b, contrast about the face's own mean m: c x + (1 - c) m, gamma x^g, each held to 0..1.
///
/// As `adjust_brightness`, `adjust_contrast` and `adjust_gamma` of torchvision. A factor or exponent of 1 changes nothing.
/// It computes in `f32`, with the same result for every instruction set, and rounds once. Factors must not be negative and exponents must be above 0.
///
/// # Panics
/// When a slice's length does not fit, or `pixels` is not a multiple of 16.
pub fn light<E: Element>(faces: &mut [E], pixels: usize, lights: &[f32]) {
    assert!(pixels > 0 && pixels.is_multiple_of(LANES), "faces of {pixels} pixels");
    assert_eq!(faces.len() * LIGHT, lights.len() * pixels);
    run(faces, pixels, lights);
}

compiled! { fn run<E: Element>(faces: &mut [E], pixels: usize, lights: &[f32]) = body }

#[inline(always)]
fn body<E: Element>(faces: &mut [E], pixels: usize, lights: &[f32]) {
    // One face, which stays in the nearest cache from step to step.
    let mut values = vec![0.0f32; pixels];
    for (face, light) in faces.chunks_exact_mut(pixels).zip(lights.chunks_exact(LIGHT)) {
        let (brightness, contrast, gamma) = (light[0], light[1], light[2]);
        for (value, pixel) in values.iter_mut().zip(&*face) {
            *value = (pixel.to_f32() * brightness).clamp(0.0, 1.0);
        }
        if contrast != 1.0 {
            let rest = (1.0 - contrast) * mean(&values);
            values.iter_mut().for_each(|value| *value = (*value * contrast + rest).clamp(0.0, 1.0));
        }
        if gamma != 1.0 {
            values.iter_mut().for_each(|value| *value = power(*value, gamma));
        }
        for (pixel, value) in face.iter_mut().zip(&values) {
            *pixel = E::from_f32(*value);
        }
    }
}

#[inline(always)]
fn mean(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for part in values.chunks_exact(LANES) {
        for (sum, value) in sums.iter_mut().zip(part) {
            *sum += value;
        }
    }
    sums.iter().sum::<f32>() / values.len() as f32
}

/// 1.5 times 2^23: a small number that is added to it is rounded to a whole one, which then stands in the last bits.
const TO_WHOLE: f32 = 12_582_912.0;

/// `value`^`exponent` for a value in 0..1 and an exponent above 0, to about 1e-6. (`powf` calls a library for each value, which
/// takes ten times as long.)
#[inline(always)]
fn power(value: f32, exponent: f32) -> f32 {
    // value = 2^whole m with m from the root of 1/2 to that of 2. The constant is the root of 1/2 as bits.
    let bits = value.to_bits() as i32;
    let whole = (bits - 0x3f35_04f3) >> 23;
    let m = f32::from_bits((bits - (whole << 23)) as u32);
    // ln m = 2 atanh(s), by its series; the first term that is left out is below 1e-9.
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let ln = 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0)))));
    let log2 = whole as f32 + ln * std::f32::consts::LOG2_E;
    // 2^y = 2^nearest e^t with t from -0.35 to 0.35, by its series; what is left out is below 1e-8.
    let y = (log2 * exponent).max(-126.0);
    let shifted = y + TO_WHOLE;
    let t = (y - (shifted - TO_WHOLE)) * std::f32::consts::LN_2;
    let series = 1.0 / 24.0 + t * (1.0 / 120.0 + t * (1.0 / 720.0 + t * (1.0 / 5040.0)));
    let exp = 1.0 + t * (1.0 + t * (1.0 / 2.0 + t * (1.0 / 6.0 + t * series)));
    let result = exp * f32::from_bits(shifted.to_bits().wrapping_sub(TO_WHOLE.to_bits()).wrapping_add(127) << 23);
    if value > 0.0 { result.min(1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// The definition, in `f64`.
    fn plain(face: &[f64], light: [f64; 3]) -> Vec<f64> {
        let [brightness, contrast, gamma] = light;
        let bright: Vec<f64> = face.iter().map(|value| (value * brightness).clamp(0.0, 1.0)).collect();
        let mean = bright.iter().sum::<f64>() / bright.len() as f64;
        let contrasted = bright.iter().map(|value| (contrast * value + (1.0 - contrast) * mean).clamp(0.0, 1.0));
        contrasted.map(|value| value.powf(gamma)).collect()
    }

    fn compare<E: Element>(tolerance: f64) {
        let lights = [[1.0f32, 1.0, 1.0], [1.6, 0.5, 1.9], [0.3, 1.9, 0.55], [1.0, 1.0, 0.501], [0.0, 1.5, 1.5]];
        let pixels = 48;
        let value = |at: usize| E::from_f32((at * 37 % 101) as f32 / 100.0);
        let mut faces: Vec<E> = (0..lights.len() * pixels).map(value).collect();
        let before: Vec<f64> = faces.iter().map(|value| f64::from(value.to_f32())).collect();
        light(&mut faces, pixels, lights.as_flattened());
        for ((light, before), after) in lights.iter().zip(before.chunks(pixels)).zip(faces.chunks(pixels)) {
            for (wanted, found) in plain(before, light.map(f64::from)).iter().zip(after) {
                let found = f64::from(found.to_f32());
                assert!((wanted - found).abs() < tolerance, "{light:?}: {found}, wanted {wanted}");
            }
        }
        let unchanged = faces.iter().zip(&before).take(pixels);
        assert!(
            unchanged.into_iter().all(|(after, before)| f64::from(after.to_f32()) == *before),
            "ones change nothing"
        );
    }

    #[test]
    fn agrees_with_the_definition() {
        // bf16 has 8 bits: half a step near 1 is 0.002.
        crate::lanes::tests::with_each(|_| {
            compare::<f32>(2e-6);
            compare::<bf16>(2.1e-3);
        });
    }

    #[test]
    fn every_instruction_set_gives_the_same() {
        let before: Vec<f32> = (0..96).map(|at| (at * 37 % 101) as f32 / 100.0).collect();
        let mut results = Vec::new();
        crate::lanes::tests::with_each(|_| {
            let mut faces = before.clone();
            light(&mut faces, 48, &[1.3, 0.7, 1.7, 0.8, 1.4, 0.6]);
            results.push(faces);
        });
        assert!(results.iter().all(|faces| *faces == results[0] && *faces != before));
    }

    #[test]
    fn powers_are_exact_at_the_ends_and_near_between() {
        for exponent in [0.5f32, 0.75, 1.3, 2.0] {
            assert_eq!(power(0.0, exponent), 0.0);
            assert_eq!(power(1.0, exponent), 1.0);
            for value in (1..10_000).map(|n| n as f32 / 10_000.0).chain([1e-30, f32::MIN_POSITIVE, 0.999_999_9]) {
                let wanted = f64::from(value).powf(f64::from(exponent));
                let found = f64::from(power(value, exponent));
                assert!((found - wanted).abs() < 1e-6 && found <= 1.0, "{value}^{exponent}: {found}, wanted {wanted}");
            }
        }
    }
}
