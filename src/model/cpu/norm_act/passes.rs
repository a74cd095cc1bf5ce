//! Passes of [`kernels::norm_act`] over a tensor, on libtorch's thread pool.

use anyhow::Result;
use kernels::Element;
use kernels::norm_act::{self as kernel, Coefficients, Groups, OutputGradient, Relu};
use torch_ext::parallel;

use super::Affine;
use crate::device::chunk_size;

/// Input of the layer, in groups of rows; see [`Groups`]. Each thread gets a chunk of the groups.
pub struct Passes<'a, E> {
    /// Values, [N, H, W, C].
    input: &'a [E],
    /// Rows per group.
    pub group_rows: usize,
    /// Channels.
    pub channels: usize,
    relu: Relu,
    /// Groups per chunk.
    chunk_groups: usize,
}

impl<'a, E: Element> Passes<'a, E> {
    /// Splits `input`, [N, H, W, C], into groups of `group_rows` rows and chunks of groups.
    pub fn new(input: &'a [E], group_rows: usize, channels: usize, relu: Relu) -> Self {
        let groups = (input.len() / channels).div_ceil(group_rows);
        Self { input, group_rows, channels, relu, chunk_groups: chunk_size(groups) }
    }

    /// Rows (pixels of all images).
    pub fn rows(&self) -> usize {
        self.input.len() / self.channels
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.rows().div_ceil(self.group_rows)
    }

    /// Computes the sums of x - `center` and of its square, to `sums` [2, groups, C].
    pub fn sums(&self, center: &[f32], sums: &mut [f64]) -> Result<()> {
        let (first, second) = sums.split_at_mut(self.groups() * self.channels);
        let to = first.chunks_mut(self.chunk_sums()).zip(second.chunks_mut(self.chunk_sums()));
        parallel::for_each(self.input.chunks(self.chunk_values()).zip(to).collect(), |(input, (sums, squares))| {
            with_local_sums(sums, squares, |sums, squares| {
                kernel::sums(&self.chunk(input), center, sums, squares);
            });
        })
    }

    /// Computes the output from the affine transform and the shortcut ([N, H, W, C]).
    pub fn apply(&self, affine: &Affine, shortcut: Option<&[E]>, output: &mut [E]) -> Result<()> {
        let work = self.input.chunks(self.chunk_values()).zip(output.chunks_mut(self.chunk_values()));
        parallel::for_each(work.enumerate().collect(), |(chunk, (input, output))| {
            let [factor, offset] = [&affine.factor, &affine.offset].map(|all| self.coefficients(all, chunk));
            let shortcut = shortcut.map(|all| self.values(all, chunk));
            kernel::apply(&self.chunk(input), factor, offset, shortcut, output);
        })
    }

    /// Computes the sums of g and of g (x - `center`), to `sums` [2, groups, C].
    pub fn backward_sums(&self, from: &OutputGradient<'_, E>, center: &[f32], sums: &mut [f64]) -> Result<()> {
        let (first, second) = sums.split_at_mut(self.groups() * self.channels);
        let to = first.chunks_mut(self.chunk_sums()).zip(second.chunks_mut(self.chunk_sums()));
        let work = self.input.chunks(self.chunk_values()).zip(to).enumerate().collect();
        parallel::for_each(work, |(chunk, (input, (sums, products)))| {
            with_local_sums(sums, products, |sums, products| {
                kernel::backward_sums(&self.chunk(input), &self.output_gradient(from, chunk), center, sums, products);
            });
        })
    }

    /// Computes the gradients of input and shortcut, [N, H, W, C].
    pub fn backward_apply(
        &self,
        from: &OutputGradient<'_, E>,
        by: &Coefficients<'_>,
        to_input: &mut [E],
        to_shortcut: Option<&mut [E]>,
    ) -> Result<()> {
        let mut to_shortcut = to_shortcut.map(|to| to.chunks_mut(self.chunk_values()));
        let to_input = to_input.chunks_mut(self.chunk_values());
        let to = to_input.map(|to| (to, to_shortcut.as_mut().and_then(Iterator::next)));
        let work = self.input.chunks(self.chunk_values()).zip(to).enumerate().collect();
        parallel::for_each(work, |(chunk, (input, (to_input, to_shortcut)))| {
            let part = |all| self.coefficients(all, chunk);
            let by = match *by {
                Coefficients::Centered { gradient, gradient_mean, input, center } => Coefficients::Centered {
                    gradient: part(gradient),
                    gradient_mean: part(gradient_mean),
                    input: part(input),
                    center: part(center),
                },
                Coefficients::Affine { gradient, input, offset } => {
                    Coefficients::Affine { gradient: part(gradient), input: part(input), offset: part(offset) }
                }
            };
            let from = self.output_gradient(from, chunk);
            kernel::backward_apply(&self.chunk(input), &from, &by, to_input, to_shortcut);
        })
    }

    /// Sums per chunk: groups times channels.
    fn chunk_sums(&self) -> usize {
        self.chunk_groups * self.channels
    }

    /// Values per chunk.
    fn chunk_values(&self) -> usize {
        self.chunk_sums() * self.group_rows
    }

    fn chunk<'c>(&self, input: &'c [E]) -> Groups<'c, E> {
        Groups { input, rows: self.group_rows, channels: self.channels, relu: self.relu }
    }

    /// Returns a chunk of values in the shape of the input.
    fn values<'c>(&self, all: &'c [E], chunk: usize) -> &'c [E] {
        all.chunks(self.chunk_values()).nth(chunk).unwrap_or_default()
    }

    /// Returns the coefficients of a chunk from all, [groups, C], or [C] for all groups.
    fn coefficients<'c>(&self, all: &'c [f32], chunk: usize) -> &'c [f32] {
        if all.len() == self.channels { all } else { all.chunks(self.chunk_sums()).nth(chunk).unwrap_or_default() }
    }

    fn output_gradient<'c>(&self, all: &OutputGradient<'c, E>, chunk: usize) -> OutputGradient<'c, E> {
        OutputGradient { gradient: self.values(all.gradient, chunk), output: self.values(all.output, chunk) }
    }
}

/// Accumulates two sums in memory of this thread's own. Next to another thread's sums they would
/// share cache lines with them, which slows a pass down.
fn with_local_sums(first: &mut [f64], second: &mut [f64], accumulate: impl FnOnce(&mut [f64], &mut [f64])) {
    let mut local = [vec![0.0; first.len()], vec![0.0; second.len()]];
    let [a, b] = &mut local;
    accumulate(a, b);
    first.copy_from_slice(a);
    second.copy_from_slice(b);
}
