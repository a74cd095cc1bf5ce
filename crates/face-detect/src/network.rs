//! The CenterFace network: MobileNetV2 down to 1/32 of the input, then up again to 1/4.
//!
//! Values of a plane lie pixel by pixel, all channels of a pixel together. Planes are computed in
//! strips of rows, in parallel. Inside a strip the wide layers of a block exist only three rows at a
//! time, so that they stay in the processor's cache: that is what makes it fast.

use std::cell::RefCell;

use rayon::prelude::*;
use simd::Isa;

use crate::Error;
use crate::block::{Block, Widen};
use crate::kernels::{Dense, Depthwise, Row, Store};
use crate::onnx::{Layer, Tensor, layers};

/// The input's sides must be multiples of this.
pub(crate) const GRID: usize = 32;

/// Pixels of the input for each cell of the output, in both directions.
pub(crate) const CELL: usize = 4;

/// Values for each cell of the output: logit of a face's center, log of its height and of its width in
/// cells, offset of the center down and to the right in cells, and three that are 0.
pub(crate) const OUTPUTS: usize = 8;

/// The weights call this many channels "up": those of the way back up.
const UP: usize = 24;

/// Stride and output channels of the blocks, and whether the way up branches off behind it.
const BLOCKS: [(usize, usize, bool); 17] = [
    (1, 16, false),
    (2, 24, false),
    (1, 24, true),
    (2, 32, false),
    (1, 32, false),
    (1, 32, true),
    (2, 64, false),
    (1, 64, false),
    (1, 64, false),
    (1, 64, false),
    (1, 96, false),
    (1, 96, false),
    (1, 96, true),
    (2, 160, false),
    (1, 160, false),
    (1, 160, false),
    (1, 320, false),
];

/// How the network is computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    pub(crate) isa: Option<Isa>,
    /// Whether the factors of most products are bfloat16; `isa` must have the instructions.
    pub(crate) bf16: bool,
}

thread_local! {
    /// The data of planes that are no longer needed: new memory costs a tenth of the time.
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Planes of which memory is kept by each thread that searches: those that a block needs at once.
const KEPT: usize = 3;

/// A picture or the output of a layer.
#[derive(Debug, Clone)]
pub(crate) struct Plane {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    /// `[y][x][channel]`.
    pub(crate) data: Vec<f32>,
}

impl Plane {
    /// A plane of any values, which may lie in the memory of an earlier one.
    pub(crate) fn any(height: usize, width: usize, channels: usize) -> Self {
        let length = height * width * channels;
        let mut data = FREE.with_borrow_mut(|free| {
            // The smallest that is large enough, or else the largest, which grows.
            let fitting = (0..free.len()).filter(|&i| free[i].capacity() >= length).min_by_key(|&i| free[i].capacity());
            let place = fitting.or_else(|| (0..free.len()).max_by_key(|&i| free[i].capacity()));
            place.map(|place| free.swap_remove(place)).unwrap_or_default()
        });
        data.resize(length, 0.0);
        Self { height, width, channels, data }
    }

    /// Keeps the memory for another plane of this thread.
    pub(crate) fn recycle(self) {
        FREE.with_borrow_mut(|free| {
            free.push(self.data);
            if free.len() > KEPT {
                let smallest = (0..free.len()).min_by_key(|&i| free[i].capacity()).unwrap_or(0);
                free.swap_remove(smallest);
            }
        });
    }

    pub(crate) fn zeros(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels, data: vec![0.0; height * width * channels] }
    }

    pub(crate) fn row(&self, y: usize) -> &[f32] {
        let length = self.width * self.channels;
        &self.data[y * length..][..length]
    }

    /// Computes strips of rows in parallel: `compute(first row, rows)`.
    pub(crate) fn fill(mut self, multiple: usize, compute: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let threads = rayon::current_num_threads();
        // A strip computes up to two rows of its neighbors again, so it must not be too thin.
        let strips = if threads > 1 && self.height >= 64 * threads { 2 * threads } else { threads };
        let rows = self.height.div_ceil(strips).max(8).next_multiple_of(multiple);
        let length = self.width * self.channels;
        self.data.par_chunks_mut((rows * length).max(1)).enumerate().for_each(|(i, strip)| compute(i * rows, strip));
        self
    }
}

/// A step up: every pixel becomes 2x2, and what branched off on the way down is added.
#[derive(Debug, Clone)]
struct Step {
    /// `[dy][dx][channel]` of the four pixels.
    grow: Dense,
    side: Dense,
}

impl Step {
    fn run(&self, low: &Plane, branch: &Plane, mode: Mode) -> Plane {
        let output = Plane::any(branch.height, branch.width, UP);
        let length = output.width * UP;
        output.fill(2, |first, strip| {
            let mut grown = vec![0.0; low.width * 4 * UP];
            for (i, pair) in strip.chunks_exact_mut(2 * length).enumerate() {
                self.grow.row(mode.isa, low.row(first / 2 + i), &mut grown, Store::Relu);
                for (dy, to) in pair.chunks_exact_mut(length).enumerate() {
                    for (to, from) in to.chunks_exact_mut(2 * UP).zip(grown.chunks_exact(4 * UP)) {
                        to.copy_from_slice(&from[dy * 2 * UP..][..2 * UP]);
                    }
                    self.side.row(mode.isa, branch.row(first + 2 * i + dy), to, Store::ReluAdd);
                }
            }
        })
    }
}

/// The whole network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    blocks: Vec<Block>,
    last: Dense,
    steps: [Step; 3],
    /// 3x3 convolution.
    head: Dense,
    outputs: Dense,
}

impl Network {
    /// Reads the weights from an ONNX file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut layers = Layers(layers(bytes)?.into_iter());
        let mut channels = 3;
        let mut blocks = Vec::new();
        for (number, (stride, narrow, _)) in BLOCKS.into_iter().enumerate() {
            let widen = match number {
                0 => Widen::Stem(layers.convolution(3, 32, 3)?),
                1 => Widen::Dense(layers.convolution(channels, 96, 1)?),
                _ => Widen::Dense(layers.convolution(channels, 6 * channels, 1)?),
            };
            let wide = match &widen {
                Widen::Stem(dense) | Widen::Dense(dense) => dense.outputs,
            };
            let depthwise = layers.depthwise(wide, stride)?;
            let residual = stride == 1 && channels == narrow;
            blocks.push(Block { widen, depthwise, narrow: layers.convolution(wide, narrow, 1)?, residual });
            channels = narrow;
        }
        let last = layers.convolution(channels, UP, 1)?;
        let steps = [layers.step(96)?, layers.step(32)?, layers.step(24)?];
        let head = layers.convolution(UP, UP, 3)?;
        Ok(Self { blocks, last, steps, head, outputs: layers.outputs()? })
    }

    /// Runs the network on an RGB picture, values 0 to 255, whose sides are multiples of [`GRID`].
    /// Returns a plane with [`OUTPUTS`] channels, one pixel for each cell.
    pub(crate) fn run(&self, picture: Plane, mode: Mode) -> Plane {
        self.run_observed(picture, mode, |_, _| ())
    }

    /// Runs the network; `done` gets the name of each layer and its multiplications when it is done.
    pub(crate) fn run_observed(&self, picture: Plane, mode: Mode, mut done: impl FnMut(String, usize)) -> Plane {
        let mut branches = Vec::new();
        let mut plane = picture;
        let mut is_branch = false;
        for (number, (block, (_, _, branch))) in self.blocks.iter().zip(BLOCKS).enumerate() {
            let output = block.run(&plane, mode);
            done(format!("block {number}"), block.products(&output));
            let input = std::mem::replace(&mut plane, output);
            if is_branch {
                branches.push(input);
            } else {
                input.recycle();
            }
            is_branch = branch;
        }
        let narrow = Plane::any(plane.height, plane.width, UP);
        let length = plane.width * UP;
        let mut up = narrow.fill(1, |first, strip| {
            for (i, to) in strip.chunks_exact_mut(length).enumerate() {
                self.last.row(mode.isa, plane.row(first + i), to, Store::Relu);
            }
        });
        done("last".to_owned(), up.width * up.height * self.last.inputs * UP);
        for (step, branch) in self.steps.iter().zip(branches.iter().rev()) {
            let next = step.run(&up, branch, mode);
            std::mem::replace(&mut up, next).recycle();
            done(format!("up to {}", up.width), up.width * up.height * UP * (UP + branch.channels));
        }
        let output = self.outputs(&up, mode);
        done("outputs".to_owned(), up.width * up.height * UP * (9 * UP + OUTPUTS));
        branches.into_iter().chain([plane, up]).for_each(Plane::recycle);
        output
    }

    fn outputs(&self, up: &Plane, mode: Mode) -> Plane {
        let output = Plane::any(up.height, up.width, OUTPUTS);
        let length = up.width * OUTPUTS;
        let padded = (up.width + 2) * UP;
        output.fill(1, |first, strip| {
            // Three rows, each at its number modulo 3, with a column of zeros on either side.
            let mut window = vec![0.0; 3 * padded];
            let fill = |window: &mut [f32], number: usize| {
                let to = &mut window[number % 3 * padded..][..padded];
                match number.checked_sub(1).filter(|&y| y < up.height) {
                    None => to.fill(0.0),
                    Some(y) => to[UP..padded - UP].copy_from_slice(up.row(y)),
                }
            };
            fill(&mut window, first);
            fill(&mut window, first + 1);
            let mut middle = vec![0.0; up.width * UP];
            for (i, to) in strip.chunks_exact_mut(length).enumerate() {
                fill(&mut window, first + i + 2);
                let parts = [0, 1, 2].map(|ky| &window[(first + i + ky) % 3 * padded..][..padded]);
                let row = Row { parts: &parts, step: UP, output: &mut middle };
                self.head.rows(mode.isa, &mut [row], Store::Relu);
                self.outputs.row(mode.isa, &middle, to, Store::Linear);
            }
        })
    }
}

/// The layers of the file, taken one after the other.
struct Layers(std::vec::IntoIter<Layer>);

impl Layers {
    fn next(&mut self, operator: &str, shapes: &[&[usize]]) -> Result<Vec<Tensor>, Error> {
        let layer =
            self.0.next().ok_or_else(|| Error::Weights(format!("the layer {operator} {shapes:?} is missing")))?;
        let found: Vec<_> = layer.constants.iter().map(|tensor| &tensor.shape[..]).collect();
        if layer.operator != operator || found != shapes {
            return Err(Error::Weights(format!("{operator} {shapes:?} expected, {} {found:?} found", layer.operator)));
        }
        Ok(layer.constants)
    }

    fn pair(&mut self, weights: &[usize]) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let outputs = weights.first().copied().unwrap_or(0);
        let mut tensors = self.next("Conv", &[weights, &[outputs]])?.into_iter().map(|tensor| tensor.values);
        Ok((tensors.next().unwrap_or_default(), tensors.next().unwrap_or_default()))
    }

    /// A convolution as a dense layer over patches, `[ky][kx][channel]`.
    fn convolution(&mut self, inputs: usize, outputs: usize, kernel: usize) -> Result<Dense, Error> {
        let (weights, bias) = self.pair(&[outputs, inputs, kernel, kernel])?;
        let area = kernel * kernel;
        let weight = |output, at| weights[(output * inputs + at % inputs) * area + at / inputs];
        Ok(Dense::new(inputs * area, &bias, weight))
    }

    fn depthwise(&mut self, channels: usize, stride: usize) -> Result<Depthwise, Error> {
        let (weights, bias) = self.pair(&[channels, 1, 3, 3])?;
        Ok(Depthwise::new(stride, &weights, &bias))
    }

    /// A transposed convolution, whose batch normalization goes into its weights, and the side branch.
    fn step(&mut self, inputs: usize) -> Result<Step, Error> {
        // The file's epsilon is that of Keras, not PyTorch's default.
        const EPSILON: f32 = 1e-3;
        let weights = self.next("ConvTranspose", &[&[UP, UP, 2, 2]])?;
        let norm = self.next("BatchNormalization", &[&[UP], &[UP], &[UP], &[UP]])?;
        let [gamma, beta, mean, variance] = [0, 1, 2, 3].map(|i| &norm[i].values);
        let scale: Vec<_> =
            gamma.iter().zip(variance).map(|(gamma, variance)| gamma / (variance + EPSILON).sqrt()).collect();
        let bias: Vec<_> = (0..4 * UP).map(|i| beta[i % UP] - mean[i % UP] * scale[i % UP]).collect();
        let grow = Dense::new(UP, &bias, |output, input| {
            weights[0].values[(input * UP + output % UP) * 4 + output / UP] * scale[output % UP]
        });
        Ok(Step { grow, side: self.convolution(inputs, UP, 1)? })
    }

    /// The three heads side by side. A fourth, five points in the face, is not used.
    fn outputs(&mut self) -> Result<Dense, Error> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for outputs in [1, 2, 2] {
            let (w, b) = self.pair(&[outputs, UP, 1, 1])?;
            weights.extend(w);
            bias.extend(b);
        }
        weights.resize(OUTPUTS * UP, 0.0);
        bias.resize(OUTPUTS, 0.0);
        Ok(Dense::new(UP, &bias, |output, input| weights[output * UP + input]))
    }
}
