//! The forward passes.

use super::relu::{relu_after, relu_before};
use super::{BLOCK, Groups, RUN, Relu, with_relu};
use crate::Element;
use crate::dispatch::multiversion;

/// Writes the sums of x - `center` to `sums` and those of (x - `center`)² to `squares`, both
/// [groups, C]; x is the input, after ReLU if that comes before. `center` is `[C]`.
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
                        let value = relu_before::<AFTER>(row[lane].to_f32(), threshold) - center[lane];
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

/// Writes `factor` x + `offset` (+ `shortcut`) to `output`, after ReLU if that comes after; x is
/// the input, after ReLU if that comes before. `factor` and `offset` are [groups, C].
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
                        let value = relu_before::<AFTER>(x.to_f32(), threshold) * factor + offset;
                        *output = E::from_f32(relu_after::<AFTER>(value));
                    }
                }
            }
            Some(shortcut) => {
                let shortcut = shortcut[group * group_len..][..input.len()].chunks_exact(channels);
                for ((row, output), shortcut) in rows.zip(shortcut) {
                    let values = row.iter().zip(shortcut).zip(factor.iter().zip(offset));
                    for (output, ((x, shortcut), (factor, offset))) in output.iter_mut().zip(values) {
                        let value = relu_before::<AFTER>(x.to_f32(), threshold) * factor + offset + shortcut.to_f32();
                        *output = E::from_f32(relu_after::<AFTER>(value));
                    }
                }
            }
        }
    }
}
