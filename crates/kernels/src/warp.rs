//! Affine warp of uint8 images: gather, affine grid, bilinear sampling and scaling in one pass.

use simd::{Task, Vector};

use crate::Element;

/// Values per affine transform: two rows of three.
pub const THETA: usize = 6;

/// Values that are computed and stored together.
const BLOCK: usize = 16;

/// The numbers of the lanes.
const LANES: [f32; BLOCK] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// Whether [`warp`] supports images of `side` by `side` pixels: a multiple of 16, at most 4096.
pub fn has_warp(side: usize) -> bool {
    side.is_multiple_of(BLOCK) && (BLOCK..=4096).contains(&side)
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
    assert!(has_warp(side), "no warp kernel for this image size");
    assert_eq!(thetas.len(), rows.len() * THETA);
    assert_eq!(output.len(), rows.len() * side * side);
    E::run(Warp { images, side, rows, thetas, output });
}

struct Warp<'a, E> {
    images: &'a [u8],
    side: usize,
    rows: &'a [i64],
    thetas: &'a [f32],
    output: &'a mut [E],
}

impl<E: Element> Task for Warp<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { images, side, rows, thetas, output } = self;
        let pixels = side * side;
        // Bilinear sampling reads a row and a few bytes past the end, with weight zero.
        let mut image = vec![0; pixels + side + 4];
        for ((row, theta), output) in rows.iter().zip(thetas.chunks_exact(THETA)).zip(output.chunks_exact_mut(pixels)) {
            let start = usize::try_from(*row).unwrap_or(usize::MAX).saturating_mul(pixels);
            image[..pixels].copy_from_slice(&images[start..][..pixels]);
            warp_image::<V, E>(&image, side, theta, output);
        }
    }
}

/// The source coordinate of a pixel: an affine function of its column and row.
#[derive(Clone, Copy)]
struct Coordinate {
    by_x: f32,
    by_y: f32,
    start: f32,
}

impl Coordinate {
    /// Converts a row of theta from grid coordinates to pixel indices. The grid runs from -1 to 1 over
    /// the outer edges of the image: pixel n is at (2 n + 1) / side - 1, and grid coordinate p is pixel
    /// ((p + 1) side - 1) / 2.
    fn new(theta: &[f32], side: usize) -> Self {
        let scale = side as f32;
        let (by_x, by_y) = (theta[0], theta[1]);
        let middle = (1.0 - scale) / 2.0;
        Self { by_x, by_y, start: by_x * middle + by_y * middle + theta[2] * scale / 2.0 - middle }
    }

    /// The coordinates of `columns` in row `y`, clamped to the image; NaN becomes 0.
    #[inline(always)]
    fn at<V: Vector>(self, columns: V, y: usize, side: usize) -> V {
        let at = columns.mul_add(V::splat(self.by_x), V::splat(self.by_y * y as f32 + self.start));
        at.max(V::splat(0.0)).min(V::splat(side as f32 - 1.0))
    }
}

#[inline(always)]
fn warp_image<V: Vector, E: Element>(image: &[u8], side: usize, theta: &[f32], output: &mut [E]) {
    let (to_x, to_y) = (Coordinate::new(&theta[..3], side), Coordinate::new(&theta[3..], side));
    for (y, output) in output.chunks_exact_mut(side).enumerate() {
        for (block, output) in output.chunks_exact_mut(V::LANES).enumerate() {
            let columns = V::load(&LANES).add(V::splat((block * V::LANES) as f32));
            let value = bilinear(image, side, to_x.at(columns, y, side), to_y.at(columns, y, side));
            E::store(value.mul_add(V::splat(1.0 / 255.0), V::splat(0.0)), output);
        }
    }
}

/// Samples a uint8 image [side, side] bilinearly at pixel coordinates `x` and `y` in 0..=side - 1.
/// `image` has one more row and four more bytes at the end.
#[allow(unsafe_code)]
#[inline(always)]
fn bilinear<V: Vector>(image: &[u8], side: usize, x: V, y: V) -> V {
    assert!(side <= 4096 && image.len() >= side * side + side + 4);
    let (left, top) = (x.floor(), y.floor());
    let (right, below) = (x.sub(left), y.sub(top));
    // Exact: with sides up to 4096, indices have at most 24 bits.
    let at = top.mul_add(V::splat(side as f32), left);
    // SAFETY: the coordinates are in the image, and after its last pixel are a row and four bytes.
    let (upper, lower) = unsafe { (at.gather_pairs(image.as_ptr()), at.gather_pairs(image.as_ptr().add(side))) };
    let upper = right.mul_add(upper.1.sub(upper.0), upper.0);
    let lower = right.mul_add(lower.1.sub(lower.0), lower.0);
    below.mul_add(lower.sub(upper), upper)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::isa::tests::for_each_isa;

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

    fn compare<E: Element>(tolerance: f64, isa: Option<crate::Isa>) {
        let side = 48;
        let images: Vec<u8> = (0..2 * side * side).map(|i| (i * 7919 % 256) as u8).collect();
        let thetas = [
            [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            [-0.97, -0.17, 0.1, -0.17, 1.05, -0.2],
            [1.1, 0.3, 0.9, -0.3, 0.8, 0.9],
            [0.9, 0.0, -3.0, 0.0, 0.9, 40.0],
        ];
        let rows = [0, 1, 1, 0];
        let mut output = vec![E::from_f32(7.0); rows.len() * side * side];
        warp(&images, side, &rows, &thetas.concat(), &mut output);
        for (index, actual) in output.iter().enumerate() {
            let (number, pixel) = (index / (side * side), index % (side * side));
            let image = &images[rows[number] as usize * side * side..][..side * side];
            let expected = reference(image, side, &thetas[number], pixel % side, pixel / side);
            let actual = f64::from(actual.to_f32());
            assert!(
                (actual - expected).abs() < tolerance,
                "{isa:?}, transform {number}, pixel {pixel}: {actual}, expected {expected}"
            );
        }
    }

    #[test]
    fn matches_reference() {
        // bf16 has 8 significant bits: half a unit in the last place near 1 is 0.002.
        for_each_isa(|isa| {
            compare::<f32>(1e-4, isa);
            compare::<bf16>(2.1e-3, isa);
        });
    }

    #[test]
    fn coordinates_that_are_not_finite_stay_inside_the_image() {
        for_each_isa(|isa| {
            let images = [9u8; 256];
            let mut output = [7.0f32; 3 * 256];
            let thetas = [[f32::NAN; 6], [f32::INFINITY; 6], [f32::MAX; 6]];
            warp(&images, 16, &[0; 3], thetas.as_flattened(), &mut output);
            assert!(output.iter().all(|value| (value - 9.0 / 255.0).abs() < 1e-6), "{isa:?}");
        });
    }
}
