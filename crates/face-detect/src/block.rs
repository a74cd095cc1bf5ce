//! The blocks of the way down: inverted residuals.

use std::ops::Range;

use crate::kernels::{Dense, Depthwise, Row, Store, Value};
use crate::network::{Mode, Plane};

/// Bytes of the widened rows at most, so that they stay in the second cache.
const WINDOW: usize = 384 << 10;

/// Pixels that share one pass over the weights, if a row is shorter.
const PIXELS: usize = 96;

/// How a block widens its input.
#[derive(Debug, Clone)]
pub(crate) enum Widen {
    /// The first block: 3x3 convolution with stride 2 of the picture.
    Stem(Dense),
    /// All others: more channels for each pixel.
    Dense(Dense),
}

/// An inverted residual: widen, 3x3 for each channel, narrow.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) widen: Widen,
    pub(crate) depthwise: Depthwise,
    pub(crate) narrow: Dense,
    pub(crate) residual: bool,
}

impl Block {
    /// Multiplications for a plane of outputs.
    pub(crate) fn products(&self, output: &Plane) -> usize {
        let pixels = output.width * output.height;
        let (wide, stride) = (self.narrow.inputs, self.depthwise.stride);
        let widen = match &self.widen {
            Widen::Stem(dense) | Widen::Dense(dense) => dense.inputs,
        };
        pixels * wide * (widen * stride * stride + 9 + self.narrow.outputs)
    }

    /// Computes the block.
    pub(crate) fn run(&self, input: &Plane, mode: Mode) -> Plane {
        if mode.bf16 { self.run_as::<u16>(input, mode) } else { self.run_as::<f32>(input, mode) }
    }

    fn run_as<T: Value>(&self, input: &Plane, mode: Mode) -> Plane {
        let shrink = if matches!(self.widen, Widen::Stem(_)) { 2 } else { 1 };
        let (height, width) = (input.height / shrink, input.width / shrink);
        let stride = self.depthwise.stride;
        let output = Plane::any(height / stride, width / stride, self.narrow.outputs);
        let out_width = output.width;
        // Two columns of each part are computed again for its neighbor.
        let fitting = WINDOW / (3 * self.narrow.inputs * size_of::<f32>() * stride);
        let columns = out_width.div_ceil(out_width.div_ceil(fitting.max(8)).max(1)).max(1);
        output.fill(1, |first, strip| {
            for start in (0..out_width).step_by(columns) {
                let part = Part::<T>::new(self, input, (height, width), start..out_width.min(start + columns), mode);
                part.run(first, strip);
            }
        })
    }
}

/// Some columns of a strip of rows.
struct Part<'a, T> {
    block: &'a Block,
    input: &'a Plane,
    mode: Mode,
    /// Of the widened input.
    height: usize,
    /// Columns of the output.
    columns: Range<usize>,
    /// Columns of the widened input, without those outside.
    inside: Range<usize>,
    /// Columns outside on the left and on the right: 0 or 1.
    outside: [usize; 2],
    /// Rows of the output that are computed together.
    batch: usize,
    /// Widened rows, each at its number modulo their count.
    window: Vec<Vec<f32>>,
    /// The number of the row in each place, plus 1.
    holds: Vec<Option<usize>>,
    middle: Vec<T>,
    /// Inputs that are copied.
    values: Vec<Vec<T>>,
    patches: Vec<f32>,
}

impl<'a, T: Value> Part<'a, T> {
    fn new(
        block: &'a Block,
        input: &'a Plane,
        (height, width): (usize, usize),
        columns: Range<usize>,
        mode: Mode,
    ) -> Self {
        let (stride, wide) = (block.depthwise.stride, block.narrow.inputs);
        let (start, end) = (columns.start * stride, columns.end * stride + 2 - stride);
        // Two rows at least where they share inputs.
        let batch = (PIXELS / columns.len()).clamp(if stride == 1 { 2 } else { 1 }, 4);
        let slots = batch * stride + 3 - stride;
        let row = vec![0.0; (columns.len() * stride + 2) * wide];
        Self {
            block,
            input,
            mode,
            height,
            inside: start.saturating_sub(1)..end.min(width),
            outside: [usize::from(start == 0), usize::from(end > width)],
            batch,
            window: vec![row; slots],
            holds: vec![None; slots],
            middle: vec![T::default(); batch * columns.len() * wide],
            values: vec![Vec::new(); batch * stride + 2],
            patches: Vec::new(),
            columns,
        }
    }

    /// Computes the columns of a strip, whose first row is row `first` of the output.
    fn run(mut self, first: usize, strip: &mut [f32]) {
        let Block { depthwise, narrow, residual, .. } = self.block;
        let (stride, wide, narrow_width) = (depthwise.stride, narrow.inputs, narrow.outputs);
        let length = self.columns.len();
        let store = if *residual { Store::Add } else { Store::Linear };
        let row_length =
            self.input.width / if matches!(self.block.widen, Widen::Stem(_)) { 2 } else { 1 } / stride * narrow_width;
        for (i, rows) in strip.chunks_mut(self.batch * row_length).enumerate() {
            let y = first + i * self.batch;
            let count = rows.len() / row_length;
            self.widen(y * stride..(y + count - 1) * stride + 3);
            let slots = self.window.len();
            let at = |number: usize| &self.window[number % slots][..];
            let middle = &mut self.middle[..count * length * wide];
            for (i, to) in middle.chunks_mut(if stride == 1 { 2 } else { 1 } * length * wide).enumerate() {
                if stride == 1 {
                    let number = y + 2 * i;
                    let rows = [at(number), at(number + 1), at(number + 2), at(number + 3)];
                    depthwise.rows(self.mode.isa, &rows[..2 + to.len() / (length * wide)], to);
                } else {
                    let number = 2 * (y + i);
                    depthwise.rows(self.mode.isa, &[at(number), at(number + 1), at(number + 2)], to);
                }
            }
            let part = self.columns.start * narrow_width..self.columns.end * narrow_width;
            let mut outputs: Vec<_> = rows.chunks_exact_mut(row_length).map(|row| &mut row[part.clone()]).collect();
            if *residual {
                for (i, to) in outputs.iter_mut().enumerate() {
                    to.copy_from_slice(&self.input.row(y + i)[part.clone()]);
                }
            }
            let inputs: Vec<_> = self.middle.chunks_exact(length * wide).map(|row| [row]).collect();
            let mut rows: Vec<_> =
                inputs.iter().zip(outputs).map(|(parts, output)| Row { parts, step: wide, output }).collect();
            T::rows(narrow, self.mode.isa, &mut rows, store);
        }
    }

    /// Computes the widened rows with these numbers plus 1, unless they are there.
    fn widen(&mut self, numbers: Range<usize>) {
        let wide = self.block.narrow.inputs;
        let (slots, height) = (self.window.len(), self.height);
        let mut wanted = vec![None; slots];
        for number in numbers {
            if self.holds[number % slots] != Some(number) {
                wanted[number % slots] = Some(number);
                self.holds[number % slots] = Some(number);
            }
        }
        let mut rows = Vec::new();
        for (row, number) in self.window.iter_mut().zip(wanted) {
            match number {
                None => {}
                Some(number) if number == 0 || number > height => row.fill(0.0),
                Some(number) => {
                    let end = (self.outside[0] + self.inside.len()) * wide;
                    row[..self.outside[0] * wide].fill(0.0);
                    row[end..].fill(0.0);
                    rows.push((number - 1, &mut row[self.outside[0] * wide..end]));
                }
            }
        }
        if rows.is_empty() {
            return;
        }
        match &self.block.widen {
            Widen::Dense(dense) => {
                let part = self.inside.start * dense.inputs..self.inside.end * dense.inputs;
                let isa = self.mode.isa;
                let input = self.input;
                let inputs: Vec<_> = rows
                    .iter()
                    .zip(&mut self.values)
                    .map(|((y, _), space)| [T::convert(isa, &input.row(*y)[part.clone()], space)])
                    .collect();
                let mut rows: Vec<_> = rows
                    .into_iter()
                    .zip(&inputs)
                    .map(|((_, output), parts)| Row { parts, step: dense.inputs, output })
                    .collect();
                T::rows(dense, isa, &mut rows, Store::Relu);
            }
            Widen::Stem(dense) => stem(dense, self.input, &self.inside, self.mode, &mut self.patches, rows),
        }
    }
}

/// The 3x3 convolution with stride 2 of a picture, for some columns of rows.
fn stem(
    dense: &Dense,
    picture: &Plane,
    columns: &Range<usize>,
    mode: Mode,
    space: &mut Vec<f32>,
    rows: Vec<(usize, &mut [f32])>,
) {
    // One column more on the left, which can be outside; the last one cannot, as the width is even.
    let length = (2 * columns.len() + 1) * 3;
    space.resize(3 * length, 0.0);
    for (y, output) in rows {
        for (ky, to) in space.chunks_exact_mut(length).enumerate() {
            match (2 * y + ky).checked_sub(1).filter(|&y| y < picture.height) {
                None => to.fill(0.0),
                Some(y) => {
                    let missing = if columns.start == 0 { 3 } else { 0 };
                    to[..missing].fill(0.0);
                    let from = (6 * columns.start + missing).saturating_sub(3);
                    to[missing..].copy_from_slice(&picture.row(y)[from..][..length - missing]);
                }
            }
        }
        let parts: Vec<_> = space.chunks_exact(length).collect();
        dense.rows(mode.isa, &mut [Row { parts: &parts, step: 6, output }], Store::Relu);
    }
}

#[cfg(test)]
mod tests {
    use simd::Isa;

    use super::*;
    use crate::kernels::tests::values;

    /// The block by definition: widen, 3x3 for each channel, narrow.
    fn expected(input: &Plane, layers: [(&[f32], &[f32]); 3], stride: usize, residual: bool) -> Vec<f32> {
        let [(w1, b1), (w2, b2), (w3, b3)] = layers;
        let (inputs, wide, narrow) = (input.channels, b1.len(), b3.len());
        let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
        let widened: Vec<f32> = input
            .data
            .chunks_exact(inputs)
            .flat_map(|x| (0..wide).map(move |c| (b1[c] + dot(&w1[c * inputs..][..inputs], x)).max(0.0)))
            .collect();
        let mut output = Vec::new();
        for (y, x) in (0..input.height / stride).flat_map(|y| (0..input.width / stride).map(move |x| (y, x))) {
            let mut middle = b2.to_vec();
            for k in 0..9 {
                let (row, column) = (y * stride + k / 3, x * stride + k % 3);
                if (1..=input.height).contains(&row) && (1..=input.width).contains(&column) {
                    let from = &widened[((row - 1) * input.width + column - 1) * wide..][..wide];
                    middle.iter_mut().zip(from).enumerate().for_each(|(c, (sum, x))| *sum += w2[c * 9 + k] * x);
                }
            }
            middle.iter_mut().for_each(|value| *value = value.max(0.0));
            let add = |c: usize| if residual { input.data[(y * input.width + x) * inputs + c] } else { 0.0 };
            output.extend((0..narrow).map(|c| add(c) + b3[c] + dot(&w3[c * wide..][..wide], &middle)));
        }
        output
    }

    #[test]
    fn a_block_equals_its_definition_for_every_size() {
        // Height, width, inputs, wide, stride; the wide ones are computed in several parts.
        for (height, width, inputs, wide, stride) in [
            (1, 1, 4, 16, 1),
            (7, 5, 8, 32, 1),
            (9, 100, 6, 480, 1),
            (6, 8, 2, 16, 2),
            (4, 200, 6, 240, 2),
            (18, 80, 4, 480, 1),
        ] {
            let residual = stride == 1;
            let [w1, w2, w3] = [wide * inputs, wide * 9, inputs * wide].map(|n| values(n, 1));
            let w3: Vec<f32> = w3.iter().map(|w| w / 30.0).collect();
            let [b1, b2, b3] = [wide, wide, inputs].map(|n| values(n, 2));
            let block = Block {
                widen: Widen::Dense(Dense::new(inputs, &b1, |o, i| w1[o * inputs + i])),
                depthwise: Depthwise::new(stride, &w2, &b2),
                narrow: Dense::new(wide, &b3, |o, i| w3[o * wide + i]),
                residual,
            };
            let input = Plane { height, width, channels: inputs, data: values(height * width * inputs, 3) };
            let expected = expected(&input, [(&w1, &b1), (&w2, &b2), (&w3, &b3)], stride, residual);
            let largest = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Some).chain([None]);
            for (isa, bf16) in isas.flat_map(|isa| [(isa, false), (isa, true)]) {
                if bf16 && !simd::has_bf16(isa) {
                    continue;
                }
                let output = block.run(&input, Mode { isa, bf16 });
                let tolerance = if bf16 { 0.02 } else { 1e-5 } * largest;
                assert_eq!(output.data.len(), expected.len());
                for (at, (y, expected)) in output.data.iter().zip(&expected).enumerate() {
                    assert!((y - expected).abs() < tolerance, "{isa:?} {bf16} {width} {at}: {y} {expected}");
                }
            }
        }
    }
}
