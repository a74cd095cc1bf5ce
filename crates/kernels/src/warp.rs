//! Affine warp of uint8 images: gather, affine grid, bilinear sampling and scaling in one pass.

use crate::Element;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx512, F32Vector};
use crate::simd::{Isa, isa};

/// Values per affine transform: two rows of three.
pub const THETA: usize = 6;

/// Whether [`warp`] supports this processor, this output dtype and images of `side` by `side`
/// pixels: AVX-512 (for bf16 with its bf16 instructions), and a side that is a multiple of 16.
pub fn has_warp<E: Element>(side: usize) -> bool {
    isa() == Some(Isa::Avx512) && E::has_dot() && side.is_multiple_of(16) && (16..=4096).contains(&side)
}

/// Samples image `rows[i]` of `images` (uint8 [images, side, side]) through affine transform i of
/// `thetas` (float32 [N, 2, 3]) into image i of `output` ([N, side, side]), scaled to 0..1.
///
/// The result is that of PyTorch's `grid_sample(image, affine_grid(theta), mode="bilinear",
/// padding_mode="border", align_corners=False) / 255` (Jaderberg et al. 2015).
///
/// # Panics
/// If [`has_warp`] is false, the lengths of the slices disagree, or a row is out of range.
pub fn warp<E: Element>(images: &[u8], side: usize, rows: &[i64], thetas: &[f32], output: &mut [E]) {
    let pixels = side * side;
    assert!(has_warp::<E>(side), "no warp kernel for this processor, dtype or image size");
    assert_eq!(thetas.len(), rows.len() * THETA);
    assert_eq!(output.len(), rows.len() * pixels);
    // Bilinear sampling reads a row and a few bytes past the end, with weight zero.
    let mut image = vec![0; pixels + side + 4];
    for ((row, theta), output) in rows.iter().zip(thetas.chunks_exact(THETA)).zip(output.chunks_exact_mut(pixels)) {
        let start = usize::try_from(*row).unwrap_or(usize::MAX).saturating_mul(pixels);
        image[..pixels].copy_from_slice(&images[start..][..pixels]);
        // SAFETY: `has_warp` checked the instruction sets.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        unsafe {
            if E::DOT_WIDTH == 1 {
                warp_f32(&image, side, theta, output);
            } else {
                warp_bf16(&image, side, theta, output);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn warp_f32<E: Element>(image: &[u8], side: usize, theta: &[f32], output: &mut [E]) {
    warp_image(image, side, theta, output);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
fn warp_bf16<E: Element>(image: &[u8], side: usize, theta: &[f32], output: &mut [E]) {
    warp_image(image, side, theta, output);
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn warp_image<E: Element>(image: &[u8], side: usize, theta: &[f32], output: &mut [E]) {
    let scale = side as f32;
    // Converts a row of theta from grid coordinates to pixel indices. The grid runs from -1 to 1
    // over the outer edges of the image: pixel n is at (2 n + 1) / side - 1, and grid coordinate p
    // is pixel ((p + 1) side - 1) / 2.
    let to_pixels = |row: &[f32]| {
        let (by_x, by_y) = (row[0], row[1]);
        let middle = (1.0 - scale) / 2.0;
        let start = by_x * middle + by_y * middle + row[2] * scale / 2.0 - middle;
        (by_x, by_y, start)
    };
    let (x_by_x, x_by_y, x_start) = to_pixels(&theta[..3]);
    let (y_by_x, y_by_y, y_start) = to_pixels(&theta[3..]);
    for (y, output) in output.chunks_exact_mut(side).enumerate() {
        for (block, output) in output.chunks_exact_mut(Avx512::LANES).enumerate() {
            let first = (block * Avx512::LANES) as f32;
            let columns: [f32; 16] = std::array::from_fn(|lane| first + lane as f32);
            let columns = Avx512::load(&columns);
            let at = |by_x: f32, by_y: f32, start: f32| {
                columns.mul_add(Avx512::splat(by_x), Avx512::splat(by_y * y as f32 + start)).clamp(0.0, scale - 1.0)
            };
            let value = Avx512::bilinear(image, side, at(x_by_x, x_by_y, x_start), at(y_by_x, y_by_y, y_start));
            E::store(value.mul_add(Avx512::splat(1.0 / 255.0), Avx512::splat(0.0)), output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference implementation in `f64`.
    fn reference(image: &[u8], side: usize, theta: &[f32], x: usize, y: usize) -> f64 {
        let grid = |at: usize| (2 * at + 1) as f64 / side as f64 - 1.0;
        let source = |row: &[f32]| {
            let grid = f64::from(row[0]) * grid(x) + f64::from(row[1]) * grid(y) + f64::from(row[2]);
            (((grid + 1.0) * side as f64 - 1.0) / 2.0).clamp(0.0, side as f64 - 1.0)
        };
        let (x, y) = (source(&theta[..3]), source(&theta[3..]));
        let pixel = |x: usize, y: usize| f64::from(image[y.min(side - 1) * side + x.min(side - 1)]);
        let (left, top) = (x.floor() as usize, y.floor() as usize);
        let (right, below) = (x.fract(), y.fract());
        let upper = pixel(left, top) * (1.0 - right) + pixel(left + 1, top) * right;
        let lower = pixel(left, top + 1) * (1.0 - right) + pixel(left + 1, top + 1) * right;
        (upper * (1.0 - below) + lower * below) / 255.0
    }

    #[test]
    fn matches_reference() {
        if !has_warp::<f32>(48) {
            println!("skipped: this processor has no AVX-512");
            return;
        }
        let side = 48;
        let images: Vec<u8> = (0..2 * side * side).map(|i| (i * 7919 % 256) as u8).collect();
        let thetas = [
            [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            [-0.97, -0.17, 0.1, -0.17, 1.05, -0.2],
            [1.1, 0.3, 0.9, -0.3, 0.8, 0.9],
            [0.9, 0.0, -3.0, 0.0, 0.9, 40.0],
        ];
        let rows = [0, 1, 1, 0];
        let mut output = vec![0.0f32; rows.len() * side * side];
        warp(&images, side, &rows, &thetas.concat(), &mut output);
        for (index, actual) in output.iter().enumerate() {
            let (number, pixel) = (index / (side * side), index % (side * side));
            let image = &images[rows[number] as usize * side * side..][..side * side];
            let expected = reference(image, side, &thetas[number], pixel % side, pixel / side);
            assert!(
                (f64::from(*actual) - expected).abs() < 1e-4,
                "transform {number}, pixel {pixel}: {actual}, expected {expected}"
            );
        }
    }
}
