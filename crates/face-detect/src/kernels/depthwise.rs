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
    /// either side.
    pub(crate) fn row<T: Value>(&self, isa: Option<Isa>, rows: [&[f32]; 3], output: &mut [T]) {
        let channels = self.bias.len();
        let pixels = output.len() / channels;
        assert!(channels.is_multiple_of(PANEL) && self.weights.len() == 9 * channels);
        assert!(pixels > 0 && rows.iter().all(|row| row.len() >= ((pixels - 1) * self.stride + 3) * channels));
        let task = RowTask { layer: self, rows, output };
        if size_of::<T>() == 2 { simd::run_with_bf16(isa, task) } else { simd::run(isa, task) }
    }

    #[inline(always)]
    fn body<V: Vector, T: Value, const STRIDE: usize>(&self, rows: [&[f32]; 3], output: &mut [T]) {
        let channels = self.bias.len();
        let mut tiles = output.chunks_exact_mut(TILE * channels);
        let mut x = 0;
        for to in &mut tiles {
            self.tile::<V, T, STRIDE, TILE>(rows, x * STRIDE, to);
            x += TILE;
        }
        for to in tiles.into_remainder().chunks_exact_mut(channels) {
            self.tile::<V, T, STRIDE, 1>(rows, x * STRIDE, to);
            x += 1;
        }
    }

    /// Computes all channels of `P` pixels.
    #[inline(always)]
    fn tile<V: Vector, T: Value, const STRIDE: usize, const P: usize>(
        &self,
        rows: [&[f32]; 3],
        x: usize,
        to: &mut [T],
    ) {
        let channels = self.bias.len();
        for channel in (0..channels).step_by(V::LANES) {
            let weights = channel / PANEL * PANEL * 9 + channel % PANEL;
            // SAFETY: `row` checked that the rows hold every pixel that is read, and `weights` and `bias`
            // nine values and one for each channel.
            unsafe {
                let mut sums = [V::load_from(self.bias.as_ptr().add(channel)); P];
                for ky in 0..3 {
                    let row = rows[ky].as_ptr().add(x * channels + channel);
                    for kx in 0..3 {
                        let weight = V::load_from(self.weights.as_ptr().add(weights + (ky * 3 + kx) * PANEL));
                        for p in 0..P {
                            let value = V::load_from(row.add((p * STRIDE + kx) * channels));
                            sums[p] = weight.mul_add(value, sums[p]);
                        }
                    }
                }
                for p in 0..P {
                    T::store(sums[p].max(V::splat(0.0)), &mut to[p * channels + channel..]);
                }
            }
        }
    }
}

struct RowTask<'a, T> {
    layer: &'a Depthwise,
    rows: [&'a [f32]; 3],
    output: &'a mut [T],
}

impl<T: Value> Task for RowTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { layer, rows, output } = self;
        match layer.stride {
            1 => layer.body::<V, T, 1>(rows, output),
            _ => layer.body::<V, T, 2>(rows, output),
        }
    }
}
