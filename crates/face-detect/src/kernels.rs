//! The two kernels of the network: convolution of one pixel (a matrix product) and depthwise convolution.

use simd::{Isa, Task, Vector};

/// Output channels that are stored side by side in the packed weights.
const PANEL: usize = 16;

/// A dense layer over pixels: every pixel's `inputs` values give `outputs` values.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    /// Values for each pixel that go in.
    pub(crate) inputs: usize,
    /// Values for each pixel that come out.
    pub(crate) outputs: usize,
    /// `[panel][input][16 outputs]`, the last panel filled with zeros.
    weights: Vec<f32>,
    /// One value for each output, filled with zeros to whole panels.
    bias: Vec<f32>,
}

/// What happens to a sum before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Stored as it is.
    Linear,
    /// Negative sums become 0.
    Relu,
    /// Added to what is there.
    Add,
    /// Negative sums become 0; then added to what is there.
    ReluAdd,
}

impl Dense {
    /// Packs weights that `weight(output, input)` gives.
    pub(crate) fn new(inputs: usize, bias: &[f32], weight: impl Fn(usize, usize) -> f32) -> Self {
        let (outputs, panels) = (bias.len(), bias.len().div_ceil(PANEL));
        let mut weights = vec![0.0; panels * inputs * PANEL];
        for output in 0..outputs {
            for input in 0..inputs {
                weights[((output / PANEL) * inputs + input) * PANEL + output % PANEL] = weight(output, input);
            }
        }
        let mut bias = bias.to_vec();
        bias.resize(panels * PANEL, 0.0);
        Self { inputs, outputs, weights, bias }
    }

    /// Computes the pixels of `input` into `output`; both hold whole pixels, one after the other.
    pub(crate) fn apply(&self, input: &[f32], output: &mut [f32], store: Store) {
        self.apply_with(Isa::detect(), input, output, store);
    }

    fn apply_with(&self, isa: Option<Isa>, input: &[f32], output: &mut [f32], store: Store) {
        assert_eq!(input.len() / self.inputs, output.len() / self.outputs);
        simd::run(isa, Apply { dense: self, input, output, store });
    }

    /// Goes through the panels one or two at a time, so that their weights stay in the first cache,
    /// and through the pixels `P` at a time, so that the sums stay in registers.
    #[inline(always)]
    fn body<V: Vector, const P: usize>(&self, input: &[f32], output: &mut [f32], store: Store) {
        let mut first = 0;
        while first < self.outputs {
            let left = self.outputs - first;
            let vectors = if left > V::LANES { 2 } else { 1 };
            let mut pixel = 0;
            let pixels = output.len() / self.outputs;
            while pixel < pixels {
                let (x, y) = (&input[pixel * self.inputs..], &mut output[pixel * self.outputs..]);
                pixel += match (pixels - pixel, vectors) {
                    (n, 2) if n >= P => self.tile::<V, P, 2>(x, y, first, store),
                    (n, _) if n >= P => self.tile::<V, P, 1>(x, y, first, store),
                    (n, 2) if n >= 4 => self.tile::<V, 4, 2>(x, y, first, store),
                    (n, _) if n >= 4 => self.tile::<V, 4, 1>(x, y, first, store),
                    (_, 2) => self.tile::<V, 1, 2>(x, y, first, store),
                    _ => self.tile::<V, 1, 1>(x, y, first, store),
                };
            }
            first += vectors * V::LANES;
        }
    }

    /// Computes `N` vectors of outputs, from output `first` on, of the first `P` pixels. Returns `P`.
    #[inline(always)]
    fn tile<V: Vector, const P: usize, const N: usize>(
        &self,
        input: &[f32],
        output: &mut [f32],
        first: usize,
        store: Store,
    ) -> usize {
        let at = |vector: usize| {
            let output = first + vector * V::LANES;
            (output / PANEL) * self.inputs * PANEL + output % PANEL
        };
        assert!(input.len() >= P * self.inputs);
        assert!(self.weights.len() >= at(N - 1) + (self.inputs - 1) * PANEL + V::LANES);
        assert!(self.bias.len() >= first + N * V::LANES);
        let mut sums = [[V::splat(0.0); N]; P];
        for sum in &mut sums {
            for (n, sum) in sum.iter_mut().enumerate() {
                // SAFETY: inside `bias`, as asserted.
                *sum = unsafe { V::load_from(self.bias.as_ptr().add(first + n * V::LANES)) };
            }
        }
        for k in 0..self.inputs {
            let mut weights = [V::splat(0.0); N];
            for (n, weight) in weights.iter_mut().enumerate() {
                // SAFETY: inside `weights`, as asserted for the last vector and the last input.
                *weight = unsafe { V::load_from(self.weights.as_ptr().add(at(n) + k * PANEL)) };
            }
            for (p, sum) in sums.iter_mut().enumerate() {
                // SAFETY: inside `input`, as asserted.
                let value = V::splat(unsafe { *input.get_unchecked(p * self.inputs + k) });
                for (sum, weight) in sum.iter_mut().zip(weights) {
                    *sum = weight.mul_add(value, *sum);
                }
            }
        }
        for (sum, to) in sums.iter().zip(output.chunks_exact_mut(self.outputs)) {
            for (n, sum) in sum.iter().enumerate() {
                let from = first + n * V::LANES;
                write(*sum, &mut to[from..self.outputs.min(from + V::LANES)], store);
            }
        }
        P
    }
}

/// Replaces negative lanes by 0.
#[inline(always)]
fn relu<V: Vector>(values: V) -> V {
    values.max(V::splat(0.0))
}

struct Apply<'a> {
    dense: &'a Dense,
    input: &'a [f32],
    output: &'a mut [f32],
    store: Store,
}

impl Task for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { dense, input, output, store } = self;
        match V::REGISTERS {
            32 => dense.body::<V, 12>(input, output, store),
            16 => dense.body::<V, 6>(input, output, store),
            _ => dense.body::<V, 2>(input, output, store),
        }
    }
}

/// Stores the first `to.len()` lanes.
#[inline(always)]
fn write<V: Vector>(sum: V, to: &mut [f32], store: Store) {
    let sum = if matches!(store, Store::Relu | Store::ReluAdd) { relu(sum) } else { sum };
    let add = matches!(store, Store::Add | Store::ReluAdd);
    if to.len() == V::LANES {
        // SAFETY: `to` has as many values as the vector.
        let sum = if add { sum.add(unsafe { V::load_from(to.as_ptr()) }) } else { sum };
        return sum.store(to);
    }
    let mut lanes = [0.0; PANEL];
    sum.store(&mut lanes);
    for (to, lane) in to.iter_mut().zip(lanes) {
        *to = if add { *to + lane } else { lane };
    }
}

/// A 3x3 convolution of every channel by itself, followed by ReLU. The channels are a multiple of 16.
#[derive(Debug, Clone)]
pub(crate) struct Depthwise {
    /// Distance between two outputs in pixels of the input, 1 or 2.
    pub(crate) stride: usize,
    /// `[ky][kx][channel]`.
    weights: Vec<f32>,
    /// One value for each channel.
    bias: Vec<f32>,
}

impl Depthwise {
    /// Packs weights that lie `[channel][ky][kx]`.
    pub(crate) fn new(stride: usize, weights: &[f32], bias: &[f32]) -> Self {
        let channels = bias.len();
        let packed = (0..9 * channels).map(|i| weights[(i % channels) * 9 + i / channels]).collect();
        Self { stride, weights: packed, bias: bias.to_vec() }
    }

    /// Computes one row of the output from three rows of the input, which have a column of zeros on
    /// either side.
    pub(crate) fn row(&self, rows: [&[f32]; 3], output: &mut [f32]) {
        self.row_with(Isa::detect(), rows, output);
    }

    fn row_with(&self, isa: Option<Isa>, rows: [&[f32]; 3], output: &mut [f32]) {
        simd::run(isa, Row { layer: self, rows, output });
    }

    #[inline(always)]
    fn body<V: Vector>(&self, rows: [&[f32]; 3], output: &mut [f32]) {
        let channels = self.bias.len();
        let pixels = output.len() / channels;
        assert!(channels.is_multiple_of(V::LANES) && self.weights.len() == 9 * channels);
        assert!(pixels > 0 && rows.iter().all(|row| row.len() >= ((pixels - 1) * self.stride + 3) * channels));
        for channel in (0..channels).step_by(V::LANES) {
            let mut weights = [V::splat(0.0); 9];
            for (k, weight) in weights.iter_mut().enumerate() {
                // SAFETY: inside `weights`, which has nine values for each channel.
                *weight = unsafe { V::load_from(self.weights.as_ptr().add(k * channels + channel)) };
            }
            // SAFETY: inside `bias`, which has one value for each channel.
            let bias = unsafe { V::load_from(self.bias.as_ptr().add(channel)) };
            for (x, to) in output.chunks_exact_mut(channels).enumerate() {
                let mut sum = bias;
                for (k, weight) in weights.iter().enumerate() {
                    let at = (x * self.stride + k % 3) * channels + channel;
                    // SAFETY: inside the row, which was asserted to hold every pixel that is read.
                    sum = weight.mul_add(unsafe { V::load_from(rows[k / 3].as_ptr().add(at)) }, sum);
                }
                relu(sum).store(&mut to[channel..]);
            }
        }
    }
}

struct Row<'a> {
    layer: &'a Depthwise,
    rows: [&'a [f32]; 3],
    output: &'a mut [f32],
}

impl Task for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        self.layer.body::<V>(self.rows, self.output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Option<Isa>> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Some).chain([None]).collect()
    }

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn dense_equals_the_definition_for_every_instruction_set_and_shape() {
        for (inputs, outputs, pixels) in [(1, 1, 1), (27, 32, 31), (24, 5, 13), (16, 96, 12), (3, 24, 17), (5, 40, 3)] {
            let (w, bias, x) = (values(inputs * outputs, 1), values(outputs, 2), values(inputs * pixels, 3));
            let dense = Dense::new(inputs, &bias, |o, i| w[o * inputs + i]);
            for store in [Store::Linear, Store::Relu, Store::Add, Store::ReluAdd] {
                for isa in all() {
                    let before = values(outputs * pixels, 4);
                    let mut y = before.clone();
                    dense.apply_with(isa, &x, &mut y, store);
                    for (at, y) in y.iter().enumerate() {
                        let (p, o) = (at / outputs, at % outputs);
                        let mut sum: f32 =
                            bias[o] + (0..inputs).map(|i| x[p * inputs + i] * w[o * inputs + i]).sum::<f32>();
                        if matches!(store, Store::Relu | Store::ReluAdd) {
                            sum = sum.max(0.0);
                        }
                        if matches!(store, Store::Add | Store::ReluAdd) {
                            sum += before[at];
                        }
                        assert!((sum - y).abs() < 1e-4, "{isa:?} {store:?} {inputs} {outputs} {at}: {sum} {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn depthwise_equals_the_definition_for_every_instruction_set() {
        for (channels, pixels, stride) in [(16, 1, 1), (32, 9, 1), (48, 5, 2)] {
            let width = (pixels - 1) * stride + 3;
            let (w, bias) = (values(9 * channels, 1), values(channels, 2));
            let rows: Vec<_> = (0..3).map(|r| values(width * channels, 3 + r)).collect();
            let layer = Depthwise::new(stride, &w, &bias);
            for isa in all() {
                let mut y = vec![0.0; pixels * channels];
                layer.row_with(isa, [&rows[0], &rows[1], &rows[2]], &mut y);
                for (at, y) in y.iter().enumerate() {
                    let (p, c) = (at / channels, at % channels);
                    let sum: f32 =
                        (0..9).map(|k| rows[k / 3][(p * stride + k % 3) * channels + c] * w[c * 9 + k]).sum();
                    assert!(((sum + bias[c]).max(0.0) - y).abs() < 1e-4, "{isa:?} {at}");
                }
            }
        }
    }
}
