//! A dense layer over pixels: a matrix product with the sums in registers.

use simd::{Bf16Task, Bf16Vector, Isa, Task, Vector};

use super::arithmetic::{Arithmetic, Floats, Pairs};

/// Output channels that are stored side by side in the packed weights.
const PANEL: usize = 16;

/// Inputs that are multiplied before the next pixels: with the 48 outputs of a tile they take at most 30
/// KiB, so that the weights stay in the first cache.
const CHUNK: usize = 160;

/// A dense layer over pixels: the values at every pixel give `outputs` values.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    /// Values for each pixel that go in.
    pub(crate) inputs: usize,
    /// Values for each pixel that come out.
    pub(crate) outputs: usize,
    /// `[panel][input][16 outputs]`, the last panel filled with zeros.
    weights: Vec<f32>,
    /// The same as bfloat16, `[panel][input / 2][16 outputs][2]`; empty for an odd number of inputs.
    pairs: Vec<u16>,
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

/// A row of pixels, the input and the output.
#[derive(Debug)]
pub(crate) struct Row<'a, T> {
    /// The inputs of a pixel come in equal parts from these; three for a 3x3 convolution.
    pub(crate) parts: &'a [&'a [T]],
    /// Distance between the values of two pixels in each part.
    pub(crate) step: usize,
    /// Whole pixels, one after the other.
    pub(crate) output: &'a mut [f32],
}

impl Dense {
    /// Packs weights that `weight(output, input)` gives.
    pub(crate) fn new(inputs: usize, bias: &[f32], weight: impl Fn(usize, usize) -> f32) -> Self {
        let (outputs, panels) = (bias.len(), bias.len().div_ceil(PANEL));
        let mut weights = vec![0.0; panels * inputs * PANEL];
        let mut pairs = vec![0; if inputs.is_multiple_of(2) { weights.len() } else { 0 }];
        for output in 0..outputs {
            let (panel, lane) = (output / PANEL * inputs * PANEL, output % PANEL);
            for input in 0..inputs {
                let value = weight(output, input);
                weights[panel + input * PANEL + lane] = value;
                if let Some(pair) = pairs.get_mut(panel + input / 2 * 2 * PANEL + 2 * lane + input % 2) {
                    *pair = simd::round_to_bf16(value);
                }
            }
        }
        let mut bias = bias.to_vec();
        bias.resize(panels * PANEL, 0.0);
        Self { inputs, outputs, weights, pairs, bias }
    }

    /// Computes one row in float32.
    pub(crate) fn row(&self, isa: Option<Isa>, input: &[f32], output: &mut [f32], store: Store) {
        self.rows(isa, &mut [Row { parts: &[input], step: self.inputs, output }], store);
    }

    /// Computes rows in float32. Several at once read the weights less often.
    pub(crate) fn rows(&self, isa: Option<Isa>, rows: &mut [Row<'_, f32>], store: Store) {
        simd::run(isa, Apply { dense: self, rows, store });
    }

    /// Computes rows with products of bfloat16 values.
    pub(crate) fn rows_of_pairs(&self, isa: Option<Isa>, rows: &mut [Row<'_, u16>], store: Store) {
        if simd::run_bf16(isa, Apply { dense: self, rows, store }).is_err() {
            debug_assert!(false, "the caller checks for the instructions");
        }
    }

    /// Goes through a few vectors of outputs at a time, and a few inputs at a time, so that their weights
    /// stay in the first cache.
    #[inline(always)]
    fn body<A: Arithmetic, const P: usize, const N: usize>(
        &self,
        weights: &[A::Value],
        rows: &mut [Row<'_, A::Value>],
        store: Store,
    ) {
        let parts = rows.first().map_or(1, |row| row.parts.len());
        let part = self.inputs / parts;
        let relu = matches!(store, Store::Relu | Store::ReluAdd);
        let chunks = if parts > 1 || store == Store::ReluAdd { 1 } else { self.inputs.div_ceil(CHUNK * A::WIDTH) };
        let chunk = part.div_ceil(chunks).next_multiple_of(A::WIDTH);
        assert!(part.is_multiple_of(A::WIDTH) && weights.len() == self.bias.len() * self.inputs);
        for row in &*rows {
            let pixels = row.output.len() / self.outputs;
            let length = (pixels.max(1) - 1) * row.step + part;
            assert!(row.parts.len() == parts && row.parts.iter().all(|values| pixels == 0 || values.len() >= length));
        }
        let lanes = A::Vector::LANES;
        let mut first = 0;
        while first < self.outputs {
            let vectors = (self.outputs - first).div_ceil(lanes).min(N);
            for start in (0..part).step_by(chunk) {
                let length = chunk.min(part - start);
                let is_last = start + length == part;
                let block = Block::<A> {
                    weights: std::array::from_fn(|n| {
                        let output = first + n.min(vectors - 1) * lanes;
                        let at = output / PANEL * self.inputs * PANEL + output % PANEL * A::WIDTH + start * PANEL;
                        weights[at..].as_ptr()
                    }),
                    length: length / A::WIDTH,
                    bias: self.bias[first..].as_ptr(),
                    outputs: self.outputs,
                    last_lanes: (self.outputs - first).min(vectors * lanes) - (vectors - 1) * lanes,
                    with_bias: start == 0,
                    before: start > 0 || store == Store::Add,
                    after: store == Store::ReluAdd,
                    floor: A::Vector::splat(if relu && is_last { 0.0 } else { f32::NEG_INFINITY }),
                };
                for row in rows.iter_mut() {
                    match vectors {
                        3 if N >= 3 => block.row::<P, 3>(row, first, start),
                        2 if N >= 2 => block.row::<P, 2>(row, first, start),
                        _ => block.row::<P, 1>(row, first, start),
                    }
                }
            }
            first += vectors * lanes;
        }
    }
}

/// Some outputs of all pixels, from some of their inputs.
struct Block<A: Arithmetic> {
    weights: [*const A::Value; 3],
    /// Steps of `WIDTH` inputs in each part.
    length: usize,
    bias: *const f32,
    /// Distance between two pixels of the output.
    outputs: usize,
    /// Lanes of the last vector that are outputs.
    last_lanes: usize,
    /// Whether the sums start with the bias.
    with_bias: bool,
    /// Whether the output is added to the sums from the start.
    before: bool,
    /// Whether it is added at the end.
    after: bool,
    /// Smaller sums become this.
    floor: A::Vector,
}

impl<A: Arithmetic> Block<A> {
    /// Computes `N` vectors of outputs, from output `first` on, of a row: `P` pixels at a time.
    #[inline(always)]
    fn row<const P: usize, const N: usize>(&self, row: &mut Row<'_, A::Value>, first: usize, start: usize) {
        let pixels = row.output.len() / self.outputs;
        let output = row.output.as_mut_ptr();
        let mut pixel = 0;
        while pixel < pixels {
            // SAFETY: `body` checked the lengths of all slices for all pixels of the row.
            unsafe {
                let to = output.add(pixel * self.outputs + first);
                let from = pixel * row.step + start;
                pixel += match pixels - pixel {
                    // Two tiles of 4 instead of one of 6 and two of 1.
                    n if n >= P && (n != 8 || P == 8) => self.tile::<P, N>(row.parts, from, row.step, to),
                    n if n >= 4 => self.tile::<4, N>(row.parts, from, row.step, to),
                    _ => self.tile::<1, N>(row.parts, from, row.step, to),
                };
            }
        }
    }

    /// Computes `P` pixels, and returns `P`.
    ///
    /// # Safety
    /// The weights, the bias, the inputs of `P` pixels and their outputs must be in the slices.
    #[inline(always)]
    unsafe fn tile<const P: usize, const N: usize>(
        &self,
        parts: &[&[A::Value]],
        from: usize,
        step: usize,
        to: *mut f32,
    ) -> usize {
        let lanes = A::Vector::LANES;
        let mut sums = [[A::Vector::splat(0.0); N]; P];
        // SAFETY: as promised.
        unsafe {
            if self.with_bias {
                for sum in &mut sums {
                    for n in 0..N {
                        sum[n] = A::Vector::load_from(self.bias.add(n * lanes));
                    }
                }
            }
            if self.before {
                for p in 0..P {
                    for n in 0..N {
                        sums[p][n] = sums[p][n].add(self.load_output::<N>(to, p, n));
                    }
                }
            }
            let mut weights = self.weights;
            for values in parts {
                let mut input = values.as_ptr().add(from);
                for _ in 0..self.length {
                    let mut factors = [A::load(weights[0]); N];
                    for n in 1..N {
                        factors[n] = A::load(weights[n]);
                    }
                    for p in 0..P {
                        let value = A::splat(input.add(p * step));
                        for n in 0..N {
                            sums[p][n] = A::dot(factors[n], value, sums[p][n]);
                        }
                    }
                    input = input.add(A::WIDTH);
                    for weights in &mut weights {
                        *weights = weights.wrapping_add(PANEL * A::WIDTH);
                    }
                }
            }
            for p in 0..P {
                for n in 0..N {
                    let mut sum = sums[p][n].max(self.floor);
                    if self.after {
                        sum = sum.add(self.load_output::<N>(to, p, n));
                    }
                    let to = to.add(p * self.outputs + n * lanes);
                    sum.store_first(to, if n == N - 1 { self.last_lanes } else { lanes });
                }
            }
        }
        P
    }

    /// # Safety
    /// As for `tile`.
    #[inline(always)]
    unsafe fn load_output<const N: usize>(&self, to: *const f32, p: usize, n: usize) -> A::Vector {
        let lanes = if n == N - 1 { self.last_lanes } else { A::Vector::LANES };
        // SAFETY: as promised.
        unsafe { A::Vector::load_first(to.add(p * self.outputs + n * A::Vector::LANES), lanes) }
    }
}

struct Apply<'a, 'b, T> {
    dense: &'a Dense,
    rows: &'a mut [Row<'b, T>],
    store: Store,
}

impl Task for Apply<'_, '_, f32> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { dense, rows, store } = self;
        match V::REGISTERS {
            32 => dense.body::<Floats<V>, 8, 3>(&dense.weights, rows, store),
            // With 4 by 3, the compiler keeps a sum in memory, which takes twice the time.
            16 => dense.body::<Floats<V>, 6, 2>(&dense.weights, rows, store),
            _ => dense.body::<Floats<V>, 2, 1>(&dense.weights, rows, store),
        }
    }
}

impl Bf16Task for Apply<'_, '_, u16> {
    type Output = ();

    #[inline(always)]
    fn run<V: Bf16Vector>(self) {
        let Self { dense, rows, store } = self;
        dense.body::<Pairs<V>, 8, 3>(&dense.pairs, rows, store);
    }
}
