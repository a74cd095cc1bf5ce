//! The depthwise convolution.

use simd::{Isa, Task, Vector};

use super::arithmetic::Value;

/// Pixels that are computed at once, because neighbors share inputs.
const TILE: usize = 4;

/// A 3x3 convolution of every channel by itself, followed by ReLU. The channels are a multiple of 16.
#[derive(Debug, Clone)]
pub(crate) struct Depthwise {
    /// Distance between two outputs in pixels of the input, 1 or 2.
    pub(crate) stride: usize,
    /// `[channel / 16][ky][kx][16 channels]`.
    weights: Vec<f32>,
    /// One value for each channel.
    bias: Vec<f32>,
}

/// Channels whose weights lie side by side.
const PANEL: usize = 16;

impl Depthwise {
    /// Packs weights that lie `[channel][ky][kx]`.
    pub(crate) fn new(stride: usize, weights: &[f32], bias: &[f32]) -> Self {
        let at = |i: usize| (i / (9 * PANEL) * PANEL + i % PANEL) * 9 + i / PANEL % 9;
        let packed = (0..9 * bias.len()).map(|i| weights[at(i)]).collect();
        Self { stride, weights: packed, bias: bias.to_vec() }
    }

    /// Computes one row of the output from three rows of the input, which have a column of zeros on
    /// either side; or two rows from four, if the stride is 1, so that inputs are read less often.
    pub(crate) fn rows<T: Value>(&self, isa: Option<Isa>, rows: &[&[f32]], output: &mut [T]) {
        let channels = self.bias.len();
        let pixels = output.len() / channels / (rows.len() - 2);
        assert!(channels.is_multiple_of(PANEL) && self.weights.len() == 9 * channels);
        assert!(rows.len() == 3 || rows.len() == 4 && self.stride == 1);
        assert!(pixels > 0 && rows.iter().all(|row| row.len() >= ((pixels - 1) * self.stride + 3) * channels));
        let task = RowTask { layer: self, rows, output };
        if size_of::<T>() == 2 { simd::run_with_bf16(isa, task) } else { simd::run(isa, task) }
    }

    /// Computes `R` rows.
    #[inline(always)]
    fn body<V: Vector, T: Value, const STRIDE: usize, const R: usize>(&self, rows: &[&[f32]], output: &mut [T]) {
        let pixels = output.len() / self.bias.len() / R;
        let mut x = 0;
        while x + TILE <= pixels {
            self.tile::<V, T, STRIDE, R, TILE>(rows, x, pixels, output);
            x += TILE;
        }
        while x < pixels {
            self.tile::<V, T, STRIDE, R, 1>(rows, x, pixels, output);
            x += 1;
        }
    }

    /// Computes all channels of `P` pixels, from pixel `x` on, of `R` rows of `pixels` each.
    #[inline(always)]
    fn tile<V: Vector, T: Value, const STRIDE: usize, const R: usize, const P: usize>(
        &self,
        rows: &[&[f32]],
        x: usize,
        pixels: usize,
        output: &mut [T],
    ) {
        let channels = self.bias.len();
        assert!(rows.len() == R + 2 && output.len() >= ((R - 1) * pixels + x + P) * channels);
        for channel in (0..channels).step_by(V::LANES) {
            let weights = channel / PANEL * PANEL * 9 + channel % PANEL;
            // SAFETY: `rows` checked that the rows hold every pixel that is read, and `weights` and `bias`
            // nine values and one for each channel.
            unsafe {
                let weight = |k: usize| V::load_from(self.weights.as_ptr().add(weights + k * PANEL));
                let mut sums = [[V::load_from(self.bias.as_ptr().add(channel)); P]; R];
                for y in 0..R + 2 {
                    let row = rows.get_unchecked(y).as_ptr().add(x * STRIDE * channels + channel);
                    for kx in 0..3 {
                        // Of the rows of the output, those to which this row of the input counts.
                        let factors: [V; R] = std::array::from_fn(|r| weight(y.saturating_sub(r).min(2) * 3 + kx));
                        for p in 0..P {
                            let value = V::load_from(row.add((p * STRIDE + kx) * channels));
                            for r in 0..R {
                                if y >= r && y < r + 3 {
                                    sums[r][p] = factors[r].mul_add(value, sums[r][p]);
                                }
                            }
                        }
                    }
                }
                for r in 0..R {
                    for p in 0..P {
                        let at = (r * pixels + x + p) * channels + channel;
                        let to = std::slice::from_raw_parts_mut(output.as_mut_ptr().add(at), V::LANES);
                        T::store(sums[r][p].max(V::splat(0.0)), to);
                    }
                }
            }
        }
    }
}

struct RowTask<'a, T> {
    layer: &'a Depthwise,
    rows: &'a [&'a [f32]],
    output: &'a mut [T],
}

impl<T: Value> Task for RowTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { layer, rows, output } = self;
        match (layer.stride, rows.len()) {
            (1, 4) => layer.body::<V, T, 1, 2>(rows, output),
            (1, _) => layer.body::<V, T, 1, 1>(rows, output),
            _ => layer.body::<V, T, 2, 1>(rows, output),
        }
    }
}
