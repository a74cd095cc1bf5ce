//! Batch norm with the operations around it, for images in channels-last order: ReLU before or
//! after, squeeze-and-excitation, stochastic depth, residual add.
//!
//! Batch norm (Ioffe and Szegedy 2015), squeeze-and-excitation and stochastic depth amount to one
//! affine transform per channel, or per channel of each image, whose coefficients depend on sums
//! over the input. So there are two passes over memory forward and two backward, whichever of them
//! are used:
//!
//! | pass | computes |
//! | --- | --- |
//! | [`sums`] | sums of the input and of its square |
//! | [`apply`] | output = factor x + offset (+ shortcut) |
//! | [`backward_sums`] | sums of the gradient and of its product with the input |
//! | [`backward_apply`] | gradients of input and shortcut |
//!
//! Rows are summed in groups, with one sum per group and channel. A group is an image where the
//! affine transform is per image, and all rows of a thread where it is per channel. Sums run in
//! `f32` over 16 rows and then in `f64`, in the order of the rows: the gradient of a first layer is
//! a small difference of large sums.

use crate::Element;
use crate::dispatch::multiversion;

/// Channels per block: their sums stay in registers.
const BLOCK: usize = 16;

/// Rows that are summed in `f32` before the sum is added in `f64`.
const RUN: usize = 16;

/// Position of the ReLU in the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relu {
    /// No ReLU.
    None,
    /// On the input: the layer normalizes `relu(x)`, as in Keras' order of layers.
    Before,
    /// On the output, after the residual add.
    After,
}

impl Relu {
    /// Returns the threshold of a ReLU before: 0, or NaN where there is none, since comparisons
    /// with NaN are false. A constant generic in its place prevents vectorization of some loops.
    #[inline(always)]
    fn threshold_before(self) -> f32 {
        if self == Self::Before { 0.0 } else { f32::NAN }
    }
}

/// Calls a function compiled for `AFTER`, whether ReLU comes after.
macro_rules! with_relu {
    ($relu:expr, $name:ident($($argument:expr),*)) => {
        if $relu == Relu::After { $name::<E, true>($($argument),*) } else { $name::<E, false>($($argument),*) }
    };
}

/// Input of the layer, in groups of rows.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a, E> {
    /// Values, [groups, rows, channels]; the last group may have fewer rows.
    pub input: &'a [E],
    /// Rows (pixels) per group.
    pub rows: usize,
    /// Channels, a multiple of 16.
    pub channels: usize,
    /// Position of the ReLU.
    pub relu: Relu,
}

impl<E> Groups<'_, E> {
    /// Number of groups.
    fn count(&self) -> usize {
        self.input.len().div_ceil(self.group_len())
    }

    /// Values per group.
    fn group_len(&self) -> usize {
        self.rows * self.channels
    }

    /// Checks the lengths of slices with one element per value, per group and channel, and per
    /// channel.
    fn check(&self, values: &[usize], groups: &[usize], channels: &[usize]) {
        assert!(self.channels > 0 && self.channels.is_multiple_of(BLOCK), "{} channels", self.channels);
        assert!(self.rows > 0 && self.input.len().is_multiple_of(self.channels), "incomplete rows");
        assert!(values.iter().all(|length| *length == self.input.len()), "expected one element per value");
        let count = self.count() * self.channels;
        assert!(groups.iter().all(|length| *length == count), "expected one element per group and channel");
        assert!(channels.iter().all(|length| *length == self.channels), "expected one element per channel");
    }
}

/// Writes the sums of x - `center` to `sums` and those of (x - `center`)² to `squares`, both
/// [groups, C]; x is the input, after ReLU where that comes before. `center` is [C].
///
/// # Panics
/// If the lengths of the slices disagree, or `channels` is not a multiple of 16.
pub fn sums<E: Element>(groups: &Groups<'_, E>, center: &[f32], sums: &mut [f64], squares: &mut [f64]) {
    groups.check(&[], &[sums.len(), squares.len()], &[center.len()]);
    run_sums(groups, center, sums, squares);
}

multiversion! {
    fn run_sums<E: Element>(groups: &Groups<'_, E>, center: &[f32], sums: &mut [f64], squares: &mut [f64]) = sums_body
}

#[inline(always)]
fn sums_body<E: Element>(groups: &Groups<'_, E>, center: &[f32], sums: &mut [f64], squares: &mut [f64]) {
    with_relu!(groups.relu, sums_with(groups, center, sums, squares));
}

#[inline(always)]
fn sums_with<E: Element, const AFTER: bool>(
    groups: &Groups<'_, E>,
    center: &[f32],
    sums: &mut [f64],
    squares: &mut [f64],
) {
    let (channels, threshold) = (groups.channels, groups.relu.threshold_before());
    let to = sums.chunks_exact_mut(channels).zip(squares.chunks_exact_mut(channels));
    for (input, (sums, squares)) in groups.input.chunks(groups.group_len()).zip(to) {
        sums.fill(0.0);
        squares.fill(0.0);
        for run in input.chunks(RUN * channels) {
            for start in (0..channels).step_by(BLOCK) {
                let center = &center[start..][..BLOCK];
                let (mut sum, mut square) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
                for row in run.chunks_exact(channels) {
                    let row = &row[start..][..BLOCK];
                    for lane in 0..BLOCK {
                        let value = before::<AFTER>(row[lane].to_f32(), threshold) - center[lane];
                        sum[lane] += value;
                        square[lane] += value * value;
                    }
                }
                for lane in 0..BLOCK {
                    sums[start + lane] += f64::from(sum[lane]);
                    squares[start + lane] += f64::from(square[lane]);
                }
            }
        }
    }
}

/// Writes `factor` x + `offset` (+ `shortcut`) to `output`, after ReLU where that comes after; x is
/// the input, after ReLU where that comes before. `factor` and `offset` are [groups, C].
///
/// # Panics
/// As for [`sums()`].
pub fn apply<E: Element>(
    groups: &Groups<'_, E>,
    factor: &[f32],
    offset: &[f32],
    shortcut: Option<&[E]>,
    output: &mut [E],
) {
    let values = [output.len(), shortcut.map_or(output.len(), <[E]>::len)];
    groups.check(&values, &[factor.len(), offset.len()], &[]);
    run_apply(groups, factor, offset, shortcut, output);
}

multiversion! {
    fn run_apply<E: Element>(
        groups: &Groups<'_, E>, factor: &[f32], offset: &[f32], shortcut: Option<&[E]>, output: &mut [E],
    ) = apply_body
}

#[inline(always)]
fn apply_body<E: Element>(
    groups: &Groups<'_, E>,
    factor: &[f32],
    offset: &[f32],
    shortcut: Option<&[E]>,
    output: &mut [E],
) {
    with_relu!(groups.relu, apply_with(groups, factor, offset, shortcut, output));
}

#[inline(always)]
fn apply_with<E: Element, const AFTER: bool>(
    groups: &Groups<'_, E>,
    factor: &[f32],
    offset: &[f32],
    shortcut: Option<&[E]>,
    output: &mut [E],
) {
    let (channels, group_len, threshold) = (groups.channels, groups.group_len(), groups.relu.threshold_before());
    let coefficients = factor.chunks_exact(channels).zip(offset.chunks_exact(channels));
    let all = groups.input.chunks(group_len).zip(output.chunks_mut(group_len)).zip(coefficients);
    for (group, ((input, output), (factor, offset))) in all.enumerate() {
        let rows = input.chunks_exact(channels).zip(output.chunks_exact_mut(channels));
        match shortcut {
            None => {
                for (row, output) in rows {
                    for ((output, x), (factor, offset)) in output.iter_mut().zip(row).zip(factor.iter().zip(offset)) {
                        let value = before::<AFTER>(x.to_f32(), threshold) * factor + offset;
                        *output = E::from_f32(after::<AFTER>(value));
                    }
                }
            }
            Some(shortcut) => {
                let shortcut = shortcut[group * group_len..][..input.len()].chunks_exact(channels);
                for ((row, output), shortcut) in rows.zip(shortcut) {
                    let values = row.iter().zip(shortcut).zip(factor.iter().zip(offset));
                    for (output, ((x, shortcut), (factor, offset))) in output.iter_mut().zip(values) {
                        let value = before::<AFTER>(x.to_f32(), threshold) * factor + offset + shortcut.to_f32();
                        *output = E::from_f32(after::<AFTER>(value));
                    }
                }
            }
        }
    }
}

/// Gradient of the output, in the shape of the input, and what its ReLU needs.
///
/// The gradient before that ReLU is called g: 0 where the output is at most 0, else the gradient.
#[derive(Debug, Clone, Copy)]
pub struct OutputGradient<'a, E> {
    /// Gradient of the loss with respect to the output.
    pub gradient: &'a [E],
    /// Output of [`apply`]; read only where ReLU comes after, and of any length elsewhere.
    pub output: &'a [E],
}

impl<'a, E> OutputGradient<'a, E> {
    /// Returns the output where ReLU comes after, else the gradient in its place, which is not
    /// read.
    fn gate(&self, relu: Relu) -> &'a [E] {
        if relu == Relu::After { self.output } else { self.gradient }
    }
}

/// Writes the sums of g to `sums` and those of g (x - `center`) to `products`, both [groups, C]; g
/// as in [`OutputGradient`], x and `center` as in [`sums()`].
///
/// # Panics
/// As for [`sums()`].
pub fn backward_sums<E: Element>(
    groups: &Groups<'_, E>,
    from: &OutputGradient<'_, E>,
    center: &[f32],
    sums: &mut [f64],
    products: &mut [f64],
) {
    let values = [from.gradient.len(), from.gate(groups.relu).len()];
    groups.check(&values, &[sums.len(), products.len()], &[center.len()]);
    run_backward_sums(groups, from, center, sums, products);
}

multiversion! {
    fn run_backward_sums<E: Element>(
        groups: &Groups<'_, E>, from: &OutputGradient<'_, E>, center: &[f32], sums: &mut [f64], products: &mut [f64],
    ) = backward_sums_body
}

#[inline(always)]
fn backward_sums_body<E: Element>(
    groups: &Groups<'_, E>,
    from: &OutputGradient<'_, E>,
    center: &[f32],
    sums: &mut [f64],
    products: &mut [f64],
) {
    with_relu!(groups.relu, backward_sums_with(groups, from, center, sums, products));
}

#[inline(always)]
fn backward_sums_with<E: Element, const AFTER: bool>(
    groups: &Groups<'_, E>,
    from: &OutputGradient<'_, E>,
    center: &[f32],
    sums: &mut [f64],
    products: &mut [f64],
) {
    let (channels, group_len, threshold) = (groups.channels, groups.group_len(), groups.relu.threshold_before());
    let gate = from.gate(groups.relu);
    let all = groups.input.chunks(group_len).zip(from.gradient.chunks(group_len)).zip(gate.chunks(group_len));
    let to = sums.chunks_exact_mut(channels).zip(products.chunks_exact_mut(channels));
    for (((input, gradient), gate), (sums, products)) in all.zip(to) {
        sums.fill(0.0);
        products.fill(0.0);
        let run_len = RUN * channels;
        let runs = input.chunks(run_len).zip(gradient.chunks(run_len)).zip(gate.chunks(run_len));
        for ((inputs, gradients), gates) in runs {
            for start in (0..channels).step_by(BLOCK) {
                let center = &center[start..][..BLOCK];
                let (mut sum, mut product) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
                let rows = inputs.chunks_exact(channels).zip(gradients.chunks_exact(channels));
                for ((row, gradient), gate) in rows.zip(gates.chunks_exact(channels)) {
                    let (row, gradient) = (&row[start..][..BLOCK], &gradient[start..][..BLOCK]);
                    let gate = &gate[start..][..BLOCK];
                    for lane in 0..BLOCK {
                        let g = after_gradient::<AFTER>(gradient[lane].to_f32(), gate[lane].to_f32());
                        sum[lane] += g;
                        product[lane] += g * (before::<AFTER>(row[lane].to_f32(), threshold) - center[lane]);
                    }
                }
                for lane in 0..BLOCK {
                    sums[start + lane] += f64::from(sum[lane]);
                    products[start + lane] += f64::from(product[lane]);
                }
            }
        }
    }
}

/// Formula of the input's gradient from g and x, as in [`OutputGradient`] and [`sums()`].
///
/// The formulas differ in rounding: the centered one subtracts means before it multiplies.
#[derive(Debug, Clone, Copy)]
pub enum Coefficients<'a> {
    /// `gradient` (g - `gradient_mean`) + `input` (x - `center`)
    Centered {
        /// Factor of the gradient, [groups, C].
        gradient: &'a [f32],
        /// Mean of the gradient, [groups, C].
        gradient_mean: &'a [f32],
        /// Factor of the input, [groups, C].
        input: &'a [f32],
        /// Mean of the input, [groups, C].
        center: &'a [f32],
    },
    /// `gradient` g + `input` x + `offset`
    Affine {
        /// Factor of the gradient, [groups, C].
        gradient: &'a [f32],
        /// Factor of the input, [groups, C].
        input: &'a [f32],
        /// Added, [groups, C].
        offset: &'a [f32],
    },
}

/// Writes the gradient of the input, by the formula of [`Coefficients`], to `input_gradient`, and
/// that of the shortcut, g, to `shortcut_gradient`. The former is 0 where a ReLU before is
/// inactive.
///
/// # Panics
/// As for [`sums()`], and for a shortcut with centered coefficients, which is not implemented.
pub fn backward_apply<E: Element>(
    groups: &Groups<'_, E>,
    from: &OutputGradient<'_, E>,
    by: &Coefficients<'_>,
    input_gradient: &mut [E],
    shortcut_gradient: Option<&mut [E]>,
) {
    let length = input_gradient.len();
    let shortcut = shortcut_gradient.as_ref().map_or(length, |gradient| gradient.len());
    assert!(shortcut_gradient.is_none() || matches!(by, Coefficients::Affine { .. }), "not implemented");
    let lengths = match *by {
        Coefficients::Centered { gradient, gradient_mean, input, center } => {
            [gradient.len(), input.len(), gradient_mean.len(), center.len()]
        }
        Coefficients::Affine { gradient, input, offset } => [gradient.len(), input.len(), offset.len(), offset.len()],
    };
    groups.check(&[length, from.gradient.len(), from.gate(groups.relu).len(), shortcut], &lengths, &[]);
    run_backward_apply(groups, from, by, input_gradient, shortcut_gradient);
}

multiversion! {
    fn run_backward_apply<E: Element>(
        groups: &Groups<'_, E>, from: &OutputGradient<'_, E>, by: &Coefficients<'_>, input_gradient: &mut [E],
        shortcut_gradient: Option<&mut [E]>,
    ) = backward_apply_body
}

#[inline(always)]
fn backward_apply_body<E: Element>(
    groups: &Groups<'_, E>,
    from: &OutputGradient<'_, E>,
    by: &Coefficients<'_>,
    input_gradient: &mut [E],
    shortcut_gradient: Option<&mut [E]>,
) {
    with_relu!(groups.relu, backward_apply_with(groups, from, by, input_gradient, shortcut_gradient));
}

#[inline(always)]
fn backward_apply_with<E: Element, const AFTER: bool>(
    groups: &Groups<'_, E>,
    from: &OutputGradient<'_, E>,
    by: &Coefficients<'_>,
    input_gradient: &mut [E],
    mut shortcut_gradient: Option<&mut [E]>,
) {
    let (channels, group_len) = (groups.channels, groups.group_len());
    let gate = from.gate(groups.relu);
    for (group, start) in (0..groups.input.len()).step_by(group_len).enumerate() {
        let group = group * channels..(group + 1) * channels;
        let values = start..groups.input.len().min(start + group_len);
        let rows = Rows {
            input: &groups.input[values.clone()],
            gradient: &from.gradient[values.clone()],
            gate: &gate[values.clone()],
            channels,
            threshold: groups.relu.threshold_before(),
        };
        let to = &mut input_gradient[values.clone()];
        match *by {
            Coefficients::Centered { gradient, gradient_mean, input, center } => {
                let [by_g, mean, by_x, center] =
                    [gradient, gradient_mean, input, center].map(|all| &all[group.clone()]);
                rows.centered::<AFTER>(by_g, mean, by_x, center, to);
            }
            Coefficients::Affine { gradient, input, offset } => {
                let [by_g, by_x, offset] = [gradient, input, offset].map(|all| &all[group.clone()]);
                let to_shortcut = shortcut_gradient.as_deref_mut().map(|to| &mut to[values]);
                rows.affine::<AFTER>(by_g, by_x, offset, to, to_shortcut);
            }
        }
    }
}

/// Rows of one group in [`backward_apply`].
struct Rows<'a, E> {
    input: &'a [E],
    gradient: &'a [E],
    gate: &'a [E],
    channels: usize,
    threshold: f32,
}

impl<E: Element> Rows<'_, E> {
    /// Computes the input's gradient by [`Coefficients::Centered`] with the coefficients of the
    /// group.
    #[inline(always)]
    fn centered<const AFTER: bool>(&self, by_g: &[f32], mean: &[f32], by_x: &[f32], center: &[f32], to: &mut [E]) {
        let (channels, threshold) = (self.channels, self.threshold);
        let rows = self.input.chunks_exact(channels).zip(self.gradient.chunks_exact(channels));
        let rows = rows.zip(self.gate.chunks_exact(channels)).zip(to.chunks_exact_mut(channels));
        for (((input, gradient), gate), to) in rows {
            for start in (0..channels).step_by(BLOCK) {
                let block = start..start + BLOCK;
                let (by_g, mean) = (&by_g[block.clone()], &mean[block.clone()]);
                let (by_x, center) = (&by_x[block.clone()], &center[block.clone()]);
                let (input, gradient) = (&input[block.clone()], &gradient[block.clone()]);
                let (gate, to) = (&gate[block.clone()], &mut to[block]);
                for lane in 0..BLOCK {
                    let g = after_gradient::<AFTER>(gradient[lane].to_f32(), gate[lane].to_f32());
                    let x = input[lane].to_f32();
                    let value =
                        by_g[lane] * (g - mean[lane]) + by_x[lane] * (before::<AFTER>(x, threshold) - center[lane]);
                    to[lane] = E::from_f32(before_gradient::<AFTER>(value, x, threshold));
                }
            }
        }
    }

    /// Computes the gradients of input and shortcut by [`Coefficients::Affine`].
    #[inline(always)]
    fn affine<const AFTER: bool>(
        &self,
        by_g: &[f32],
        by_x: &[f32],
        offset: &[f32],
        to: &mut [E],
        mut to_shortcut: Option<&mut [E]>,
    ) {
        let (channels, threshold) = (self.channels, self.threshold);
        for start in (0..self.input.len()).step_by(channels) {
            let row = start..start + channels;
            let (input, gradient) = (&self.input[row.clone()], &self.gradient[row.clone()]);
            let (gate, to) = (&self.gate[row.clone()], &mut to[row.clone()]);
            let coefficients = by_g.iter().zip(by_x).zip(offset);
            let values = input.iter().zip(gradient).zip(gate).zip(coefficients);
            for (to, (((x, gradient), gate), ((by_g, by_x), offset))) in to.iter_mut().zip(values) {
                let g = after_gradient::<AFTER>(gradient.to_f32(), gate.to_f32());
                let x = x.to_f32();
                let value = by_g * g + by_x * before::<AFTER>(x, threshold) + offset;
                *to = E::from_f32(before_gradient::<AFTER>(value, x, threshold));
            }
            if let Some(to) = &mut to_shortcut {
                for (to, (gradient, gate)) in to[row].iter_mut().zip(gradient.iter().zip(gate)) {
                    *to = E::from_f32(after_gradient::<AFTER>(gradient.to_f32(), gate.to_f32()));
                }
            }
        }
    }
}

/// Computes max(`value`, `threshold`); NaN stays NaN, and a NaN threshold leaves the value
/// unchanged.
#[inline(always)]
fn relu(value: f32, threshold: f32) -> f32 {
    if value < threshold { threshold } else { value }
}

/// Computes the gradient of [`relu`] where its input or output is `gate`: 0 where that is at most
/// the threshold, as in PyTorch. Gradients pass where it is NaN.
#[inline(always)]
fn relu_gradient(gradient: f32, gate: f32, threshold: f32) -> f32 {
    if gate <= threshold { 0.0 } else { gradient }
}

/// Applies a ReLU before, which excludes one after.
#[inline(always)]
fn before<const AFTER: bool>(value: f32, threshold: f32) -> f32 {
    if AFTER { value } else { relu(value, threshold) }
}

/// Applies the gradient of a ReLU before.
#[inline(always)]
fn before_gradient<const AFTER: bool>(gradient: f32, input: f32, threshold: f32) -> f32 {
    if AFTER { gradient } else { relu_gradient(gradient, input, threshold) }
}

/// Applies a ReLU after.
#[inline(always)]
fn after<const AFTER: bool>(value: f32) -> f32 {
    if AFTER { relu(value, 0.0) } else { value }
}

/// Applies the gradient of a ReLU after.
#[inline(always)]
fn after_gradient<const AFTER: bool>(gradient: f32, output: f32) -> f32 {
    if AFTER { relu_gradient(gradient, output, 0.0) } else { gradient }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::tests::for_each_isa;

    const CHANNELS: usize = 32;
    /// Rows per group.
    const ROWS: usize = 37;
    /// Three groups, the last of 17 rows.
    const ALL_ROWS: usize = 2 * ROWS + 17;
    const GROUPS: usize = 3;

    /// Pseudorandom values in -1..1.
    fn numbers(count: usize, salt: u32) -> Vec<f32> {
        (0..count as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(salt) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect()
    }

    /// Compares all passes with a reference implementation in `f64`.
    fn compare(relu: Relu, with_shortcut: bool, centered: bool) {
        let count = ALL_ROWS * CHANNELS;
        let (input, gradient, shortcut) = (numbers(count, 3), numbers(count, 9), numbers(count, 11));
        let [a, b, c, d] = [5, 6, 7, 8].map(|salt| numbers(GROUPS * CHANNELS, salt));
        let center = numbers(CHANNELS, 4);
        let groups = Groups { input: &input[..], rows: ROWS, channels: CHANNELS, relu };
        let zeros = || vec![1.0f64; GROUPS * CHANNELS];
        let (mut sum, mut square, mut gradient_sum, mut product) = (zeros(), zeros(), zeros(), zeros());
        let blank = || vec![7.0f32; count];
        let (mut output, mut input_gradient, mut shortcut_gradient) = (blank(), blank(), blank());
        sums(&groups, &center, &mut sum, &mut square);
        apply(&groups, &a, &b, with_shortcut.then_some(&shortcut[..]), &mut output);
        let from = OutputGradient { gradient: &gradient, output: &output };
        backward_sums(&groups, &from, &center, &mut gradient_sum, &mut product);
        let by = if centered {
            Coefficients::Centered { gradient: &a, gradient_mean: &b, input: &c, center: &d }
        } else {
            Coefficients::Affine { gradient: &a, input: &b, offset: &c }
        };
        let to_shortcut = (with_shortcut && !centered).then_some(&mut shortcut_gradient[..]);
        backward_apply(&groups, &from, &by, &mut input_gradient, to_shortcut);

        let close = |actual: f64, expected: f64, what: &str| {
            assert!((actual - expected).abs() < 1e-5, "{relu:?}, {what}: {actual}, expected {expected}");
        };
        for group in 0..GROUPS {
            for channel in 0..CHANNELS {
                let place = group * CHANNELS + channel;
                let rows = group * ROWS..ALL_ROWS.min((group + 1) * ROWS);
                let all = || rows.clone().map(|row| row * CHANNELS + channel);
                let [a, b, c, d] = [&a, &b, &c, &d].map(|each| f64::from(each[place]));
                let center = f64::from(center[channel]);
                let x = |at: usize| f64::from(input[at].max(if relu == Relu::Before { 0.0 } else { f32::MIN }));
                let linear = |at: usize| a * x(at) + b + if with_shortcut { f64::from(shortcut[at]) } else { 0.0 };
                let passes = |at: usize| relu != Relu::After || output[at] > 0.0;
                let g = |at: usize| if passes(at) { f64::from(gradient[at]) } else { 0.0 };
                close(sum[place], all().map(|at| x(at) - center).sum(), "sum");
                close(square[place], all().map(|at| (x(at) - center).powi(2)).sum(), "square");
                close(gradient_sum[place], all().map(g).sum(), "sum of gradients");
                close(product[place], all().map(|at| g(at) * (x(at) - center)).sum(), "product");
                for at in all() {
                    let expected = if relu == Relu::After { linear(at).max(0.0) } else { linear(at) };
                    close(f64::from(output[at]), expected, "output");
                    let expected = if centered { a * (g(at) - b) + c * (x(at) - d) } else { a * g(at) + b * x(at) + c };
                    let is_active = relu != Relu::Before || input[at] > 0.0;
                    close(f64::from(input_gradient[at]), if is_active { expected } else { 0.0 }, "input gradient");
                    if with_shortcut && !centered {
                        close(f64::from(shortcut_gradient[at]), g(at), "shortcut gradient");
                    }
                }
            }
        }
    }

    #[test]
    fn matches_reference() {
        for_each_isa(|_| {
            for relu in [Relu::None, Relu::Before, Relu::After] {
                for with_shortcut in [false, true] {
                    [false, true].into_iter().for_each(|centered| compare(relu, with_shortcut, centered));
                }
            }
        });
    }

    #[test]
    fn relu_and_its_gradient_follow_pytorch_at_zero_and_nan() {
        let input = [f32::NAN; 16].iter().enumerate().map(|(at, nan)| if at == 0 { *nan } else { 0.0 });
        let input: Vec<f32> = input.collect();
        let (one, zero) = ([1.0; 16], [0.0; 16]);
        let groups = Groups { input: &input[..], rows: 1, channels: 16, relu: Relu::Before };
        let (mut output, mut to) = ([0.0; 16], [9.0; 16]);
        apply(&groups, &one, &zero, None, &mut output);
        assert!(output[0].is_nan() && output[1] == 0.0);
        let from = OutputGradient { gradient: &one[..], output: &[] };
        let by = Coefficients::Affine { gradient: &one, input: &zero, offset: &zero };
        backward_apply(&groups, &from, &by, &mut to, None);
        assert!(to[0].is_nan() && to[1] == 0.0, "no gradient passes at 0, and NaN is not hidden");
    }
}
