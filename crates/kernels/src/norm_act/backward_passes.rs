//! The backward passes.

use super::relu::{relu_after_gradient, relu_before, relu_before_gradient};
use super::{BLOCK, Groups, RUN, Relu, with_relu};
use crate::Element;
use crate::dispatch::multiversion;

/// Gradient of the output, in the shape of the input, and what its ReLU needs.
///
/// The gradient before that ReLU is called g: 0 if the output is at most 0, else the gradient.
#[derive(Debug, Clone, Copy)]
pub struct OutputGradient<'a, E> {
    /// Gradient of the loss with respect to the output.
    pub gradient: &'a [E],
    /// Output of [`apply`](super::apply); read only if ReLU comes after, else of any
    /// length.
    pub output: &'a [E],
}

impl<'a, E> OutputGradient<'a, E> {
    /// Returns the output if ReLU comes after, else the gradient in its place, which is not read.
    fn gate(&self, relu: Relu) -> &'a [E] {
        if relu == Relu::After { self.output } else { self.gradient }
    }
}

/// Writes the sums of g to `sums` and those of g (x - `center`) to `products`, both [groups, C]; g
/// as in [`OutputGradient`], x and `center` as in [`sums()`](super::sums).
///
/// # Panics
/// As for [`sums()`](super::sums).
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
                        let g = relu_after_gradient::<AFTER>(gradient[lane].to_f32(), gate[lane].to_f32());
                        sum[lane] += g;
                        product[lane] += g * (relu_before::<AFTER>(row[lane].to_f32(), threshold) - center[lane]);
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

/// Formula of the input's gradient from g and x, as in [`OutputGradient`] and
/// [`sums()`](super::sums).
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
/// that of the shortcut, g, to `shortcut_gradient`. The former is 0 if a ReLU before is
/// inactive.
///
/// # Panics
/// As for [`sums()`](super::sums), and for a shortcut with centered coefficients, which is not
/// implemented.
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
                    let g = relu_after_gradient::<AFTER>(gradient[lane].to_f32(), gate[lane].to_f32());
                    let x = input[lane].to_f32();
                    let value = by_g[lane] * (g - mean[lane])
                        + by_x[lane] * (relu_before::<AFTER>(x, threshold) - center[lane]);
                    to[lane] = E::from_f32(relu_before_gradient::<AFTER>(value, x, threshold));
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
                let g = relu_after_gradient::<AFTER>(gradient.to_f32(), gate.to_f32());
                let x = x.to_f32();
                let value = by_g * g + by_x * relu_before::<AFTER>(x, threshold) + offset;
                *to = E::from_f32(relu_before_gradient::<AFTER>(value, x, threshold));
            }
            if let Some(to) = &mut to_shortcut {
                for (to, (gradient, gate)) in to[row].iter_mut().zip(gradient.iter().zip(gate)) {
                    *to = E::from_f32(relu_after_gradient::<AFTER>(gradient.to_f32(), gate.to_f32()));
                }
            }
        }
    }
}
