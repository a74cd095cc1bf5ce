//! Reading faces through affine maps: gather, bilinear interpolation and scaling in one pass from bytes.

use crate::Element;
#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx512, Lanes};
use crate::lanes::{Isa, isa};

/// Numbers of one map: two rows of three.
pub const THETA: usize = 6;

/// Whether [`sample`] can be used on this processor, with such numbers and faces of `side` by `side` pixels.
pub fn has_sample<E: Element>(side: usize) -> bool {
    isa() == Some(Isa::Avx512) && E::has_dot() && side.is_multiple_of(16) && (16..=4096).contains(&side)
}

/// Reads face `rows[i]` of `faces` (each `side` by `side` bytes) through map i of `thetas` into `to`, scaled to 0..1.
///
/// As `grid_sample(face, affine_grid(theta), padding_mode="border", align_corners=False)` (Jaderberg et al. 2015).
///
/// # Panics
/// When [`has_sample`] is false, a slice's length does not fit, or a row is not there.
pub fn sample<E: Element>(faces: &[u8], side: usize, rows: &[i64], thetas: &[f32], to: &mut [E]) {
    let pixels = side * side;
    assert!(has_sample::<E>(side), "this processor or side has no sampling kernel");
    assert_eq!(thetas.len(), rows.len() * THETA);
    assert_eq!(to.len(), rows.len() * pixels);
    // A row below the last and a few bytes: read with weight zero.
    let mut face = vec![0; pixels + side + 4];
    for ((row, theta), to) in rows.iter().zip(thetas.chunks_exact(THETA)).zip(to.chunks_exact_mut(pixels)) {
        let start = usize::try_from(*row).unwrap_or(usize::MAX).saturating_mul(pixels);
        face[..pixels].copy_from_slice(&faces[start..][..pixels]);
        // SAFETY: `has_sample` has found the instructions.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        unsafe {
            if E::STEP == 1 {
                sample_f32(&face, side, theta, to);
            } else {
                sample_bf16(&face, side, theta, to);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn sample_f32<E: Element>(face: &[u8], side: usize, theta: &[f32], to: &mut [E]) {
    one_face(face, side, theta, to);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
fn sample_bf16<E: Element>(face: &[u8], side: usize, theta: &[f32], to: &mut [E]) {
    one_face(face, side, theta, to);
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn one_face<E: Element>(face: &[u8], side: usize, theta: &[f32], to: &mut [E]) {
    let scale = side as f32;
    // From pixel numbers of the result to pixel numbers of the face. The grid runs from -1 to 1 over the outer edges:
    // a pixel's place is (2 n + 1) / side - 1, and the other way n = ((place + 1) side - 1) / 2.
    let map = |row: &[f32]| {
        let (by_x, by_y) = (row[0], row[1]);
        let middle = (1.0 - scale) / 2.0;
        let start = by_x * middle + by_y * middle + row[2] * scale / 2.0 - middle;
        (by_x, by_y, start)
    };
    let (x_by_x, x_by_y, x_start) = map(&theta[..3]);
    let (y_by_x, y_by_y, y_start) = map(&theta[3..]);
    for (y, to) in to.chunks_exact_mut(side).enumerate() {
        for (part, to) in to.chunks_exact_mut(Avx512::COUNT).enumerate() {
            let first = (part * Avx512::COUNT) as f32;
            let columns: [f32; 16] = std::array::from_fn(|lane| first + lane as f32);
            let columns = Avx512::load(&columns);
            let at = |by_x: f32, by_y: f32, start: f32| {
                columns.mul_add(Avx512::splat(by_x), Avx512::splat(by_y * y as f32 + start)).clamp(0.0, scale - 1.0)
            };
            let value = Avx512::bilinear(face, side, at(x_by_x, x_by_y, x_start), at(y_by_x, y_by_y, y_start));
            E::store(value.mul_add(Avx512::splat(1.0 / 255.0), Avx512::splat(0.0)), to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in `f64`.
    fn plain(face: &[u8], side: usize, theta: &[f32], x: usize, y: usize) -> f64 {
        let place = |at: usize| (2 * at + 1) as f64 / side as f64 - 1.0;
        let source = |row: &[f32]| {
            let place = f64::from(row[0]) * place(x) + f64::from(row[1]) * place(y) + f64::from(row[2]);
            (((place + 1.0) * side as f64 - 1.0) / 2.0).clamp(0.0, side as f64 - 1.0)
        };
        let (x, y) = (source(&theta[..3]), source(&theta[3..]));
        let pixel = |x: usize, y: usize| f64::from(face[y.min(side - 1) * side + x.min(side - 1)]);
        let (left, top) = (x.floor() as usize, y.floor() as usize);
        let (right, below) = (x.fract(), y.fract());
        let upper = pixel(left, top) * (1.0 - right) + pixel(left + 1, top) * right;
        let lower = pixel(left, top + 1) * (1.0 - right) + pixel(left + 1, top + 1) * right;
        (upper * (1.0 - below) + lower * below) / 255.0
    }

    #[test]
    fn agrees_with_the_definition() {
        if !has_sample::<f32>(48) {
            println!("skipped: this processor has no AVX-512");
            return;
        }
        let side = 48;
        let faces: Vec<u8> = (0..2 * side * side).map(|i| (i * 7919 % 256) as u8).collect();
        let thetas = [
            [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            [-0.97, -0.17, 0.1, -0.17, 1.05, -0.2],
            [1.1, 0.3, 0.9, -0.3, 0.8, 0.9],
            [0.9, 0.0, -3.0, 0.0, 0.9, 40.0],
        ];
        let rows = [0, 1, 1, 0];
        let mut ours = vec![0.0f32; rows.len() * side * side];
        sample(&faces, side, &rows, &thetas.concat(), &mut ours);
        for (index, ours) in ours.iter().enumerate() {
            let (number, pixel) = (index / (side * side), index % (side * side));
            let face = &faces[rows[number] as usize * side * side..][..side * side];
            let wanted = plain(face, side, &thetas[number], pixel % side, pixel / side);
            assert!((f64::from(*ours) - wanted).abs() < 1e-4, "map {number}, pixel {pixel}: {ours} against {wanted}");
        }
    }
}
