//! Batch norm over images in channels-last order (Ioffe and Szegedy 2015), with the ReLU before it in the same pass.
//!
//! A pass over part of the rows leaves sums, which the caller adds up over its threads.

use crate::Element;
use crate::dispatch::multiversion;

/// Rows of `channels` values each, and whether ReLU comes before the normalisation.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, E> {
    /// The values before ReLU.
    pub values: &'a [E],
    /// Channels: values of a row.
    pub channels: usize,
    /// Whether `max(x, 0)` is normalised rather than `x`.
    pub relu: bool,
}

/// Channels whose sums stay in registers while rows pass by.
const BLOCK: usize = 16;

/// For each channel: adds the sum of (x - `center`) to `sums` and that of (x - `center`)^2 to `squares`.
///
/// # Panics
/// When a slice's length does not fit, or channels are not a multiple of 16.
pub fn sums<E: Element>(rows: &Rows<'_, E>, center: &[f32], sums: &mut [f64], squares: &mut [f64]) {
    check(rows, &[center.len(), sums.len(), squares.len()]);
    run_sums(rows, center, sums, squares);
}

multiversion! { fn run_sums<E: Element>(rows: &Rows<'_, E>, center: &[f32], sums: &mut [f64], squares: &mut [f64]) = sums_body }

/// Rows that are summed in `f32` before the sum goes to `f64`; few, because the gradient of a first layer is a small difference
/// of large sums.
const RUN: usize = 16;

#[inline(always)]
fn sums_body<E: Element>(rows: &Rows<'_, E>, center: &[f32], sums: &mut [f64], squares: &mut [f64]) {
    let floor = if rows.relu { 0.0 } else { f32::NEG_INFINITY };
    for run in rows.values.chunks(RUN * rows.channels) {
        for start in (0..rows.channels).step_by(BLOCK) {
            let center = &center[start..][..BLOCK];
            let (mut sum, mut square) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
            for row in run.chunks_exact(rows.channels) {
                let row = &row[start..][..BLOCK];
                for lane in 0..BLOCK {
                    let value = activate(row[lane].to_f32(), floor) - center[lane];
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

/// `to` = `scale` x + `offset`, for each channel.
///
/// # Panics
/// As [`sums`].
pub fn apply<E: Element>(rows: &Rows<'_, E>, scale: &[f32], offset: &[f32], to: &mut [E]) {
    check(rows, &[scale.len(), offset.len()]);
    assert_eq!(to.len(), rows.values.len());
    run_apply(rows, scale, offset, to);
}

multiversion! { fn run_apply<E: Element>(rows: &Rows<'_, E>, scale: &[f32], offset: &[f32], to: &mut [E]) = apply_body }

#[inline(always)]
fn apply_body<E: Element>(rows: &Rows<'_, E>, scale: &[f32], offset: &[f32], to: &mut [E]) {
    let floor = if rows.relu { 0.0 } else { f32::NEG_INFINITY };
    for (from, to) in rows.values.chunks_exact(rows.channels).zip(to.chunks_exact_mut(rows.channels)) {
        for ((to, from), (scale, offset)) in to.iter_mut().zip(from).zip(scale.iter().zip(offset)) {
            *to = E::from_f32(activate(from.to_f32(), floor) * scale + offset);
        }
    }
}

/// For each channel: adds the sum of the gradients to `sums`, and of gradient times (x - `center`) to `products`.
///
/// # Panics
/// As [`sums`].
pub fn backward_sums<E: Element>(
    rows: &Rows<'_, E>,
    gradient: &[E],
    center: &[f32],
    sums: &mut [f64],
    products: &mut [f64],
) {
    check(rows, &[center.len(), sums.len(), products.len()]);
    assert_eq!(gradient.len(), rows.values.len());
    run_backward_sums(rows, gradient, center, sums, products);
}

multiversion! {
    fn run_backward_sums<E: Element>(
        rows: &Rows<'_, E>, gradient: &[E], center: &[f32], sums: &mut [f64], products: &mut [f64],
    ) = backward_sums_body
}

#[inline(always)]
fn backward_sums_body<E: Element>(
    rows: &Rows<'_, E>,
    gradient: &[E],
    center: &[f32],
    sums: &mut [f64],
    products: &mut [f64],
) {
    let floor = if rows.relu { 0.0 } else { f32::NEG_INFINITY };
    let runs = rows.values.chunks(RUN * rows.channels).zip(gradient.chunks(RUN * rows.channels));
    for (values, gradients) in runs {
        for start in (0..rows.channels).step_by(BLOCK) {
            let center = &center[start..][..BLOCK];
            let (mut sum, mut product) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
            for (row, gradient) in values.chunks_exact(rows.channels).zip(gradients.chunks_exact(rows.channels)) {
                let (row, gradient) = (&row[start..][..BLOCK], &gradient[start..][..BLOCK]);
                for lane in 0..BLOCK {
                    let gradient = gradient[lane].to_f32();
                    sum[lane] += gradient;
                    product[lane] += gradient * (activate(row[lane].to_f32(), floor) - center[lane]);
                }
            }
            for lane in 0..BLOCK {
                sums[start + lane] += f64::from(sum[lane]);
                products[start + lane] += f64::from(product[lane]);
            }
        }
    }
}

/// What the gradient by x is made of; one number for each channel.
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a> {
    /// Factor of the gradient.
    pub scale: &'a [f32],
    /// Taken from the gradient before.
    pub level: &'a [f32],
    /// Factor of x.
    pub slope: &'a [f32],
    /// Taken from x before.
    pub center: &'a [f32],
}

/// `to` = `scale` (gradient - `level`) + `slope` (x - `center`) for each channel, and 0 where ReLU let nothing through: the
/// gradient by x.
///
/// # Panics
/// As [`sums`].
pub fn backward_apply<E: Element>(rows: &Rows<'_, E>, gradient: &[E], factors: &Factors<'_>, to: &mut [E]) {
    check(rows, &[factors.scale.len(), factors.level.len(), factors.slope.len(), factors.center.len()]);
    assert_eq!(gradient.len(), rows.values.len());
    assert_eq!(to.len(), rows.values.len());
    run_backward_apply(rows, gradient, factors, to);
}

multiversion! {
    fn run_backward_apply<E: Element>(rows: &Rows<'_, E>, gradient: &[E], factors: &Factors<'_>, to: &mut [E]) =
        backward_apply_body
}

#[inline(always)]
fn backward_apply_body<E: Element>(rows: &Rows<'_, E>, gradient: &[E], factors: &Factors<'_>, to: &mut [E]) {
    let floor = if rows.relu { 0.0 } else { f32::NEG_INFINITY };
    let channels = rows.channels;
    let rows = rows.values.chunks_exact(channels).zip(gradient.chunks_exact(channels));
    for ((from, gradient), to) in rows.zip(to.chunks_exact_mut(channels)) {
        for start in (0..channels).step_by(BLOCK) {
            let block = start..start + BLOCK;
            let (scale, level) = (&factors.scale[block.clone()], &factors.level[block.clone()]);
            let (slope, center) = (&factors.slope[block.clone()], &factors.center[block.clone()]);
            let (from, gradient, to) = (&from[block.clone()], &gradient[block.clone()], &mut to[block]);
            for lane in 0..BLOCK {
                let x = from[lane].to_f32();
                let value = scale[lane] * (gradient[lane].to_f32() - level[lane])
                    + slope[lane] * (activate(x, floor) - center[lane]);
                // As PyTorch's ReLU: nothing passes at 0, and NaN passes.
                to[lane] = E::from_f32(if x <= floor { 0.0 } else { value });
            }
        }
    }
}

/// ReLU where `floor` is 0, nothing where it is minus infinity; NaN stays.
#[inline(always)]
pub(crate) fn activate(value: f32, floor: f32) -> f32 {
    if value < floor { floor } else { value }
}

fn check<E>(rows: &Rows<'_, E>, lengths: &[usize]) {
    assert!(rows.channels > 0 && rows.channels.is_multiple_of(BLOCK), "{} channels", rows.channels);
    assert!(rows.values.len().is_multiple_of(rows.channels));
    assert!(lengths.iter().all(|length| *length == rows.channels), "one value for each channel");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::tests::for_each_isa;

    const CHANNELS: usize = 32;
    const COUNT: usize = 37;

    fn numbers(salt: u32) -> Vec<f32> {
        (0..(COUNT * CHANNELS) as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(salt) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect()
    }

    #[test]
    fn agrees_with_the_definition() {
        let (values, gradient) = (numbers(3), numbers(9));
        let each: Vec<f32> = numbers(5)[..CHANNELS].to_vec();
        let other: Vec<f32> = numbers(6)[..CHANNELS].to_vec();
        for relu in [false, true] {
            let x = |at: usize| f64::from(if relu { values[at].max(0.0) } else { values[at] });
            let column = |channel: usize| (0..COUNT).map(move |row| row * CHANNELS + channel);
            for_each_isa(|isa| {
                let rows = Rows { values: &values[..], channels: CHANNELS, relu };
                let close = |ours: f64, wanted: f64| {
                    assert!((ours - wanted).abs() < 1e-5, "{isa:?} relu {relu}: {ours} against {wanted}");
                };
                let (mut sum, mut square) = (vec![1.0; CHANNELS], vec![0.0; CHANNELS]);
                sums(&rows, &each, &mut sum, &mut square);
                let (mut total, mut product) = (vec![0.0; CHANNELS], vec![0.0; CHANNELS]);
                backward_sums(&rows, &gradient, &each, &mut total, &mut product);
                let (mut applied, mut back) = (vec![0.0f32; values.len()], vec![0.0f32; values.len()]);
                apply(&rows, &each, &other, &mut applied);
                let factors = Factors { scale: &each, level: &other, slope: &other, center: &each };
                backward_apply(&rows, &gradient, &factors, &mut back);
                for channel in 0..CHANNELS {
                    let (a, b) = (f64::from(each[channel]), f64::from(other[channel]));
                    close(sum[channel], 1.0 + column(channel).map(|at| x(at) - a).sum::<f64>());
                    close(square[channel], column(channel).map(|at| (x(at) - a).powi(2)).sum());
                    close(total[channel], column(channel).map(|at| f64::from(gradient[at])).sum());
                    close(product[channel], column(channel).map(|at| f64::from(gradient[at]) * (x(at) - a)).sum());
                    for at in column(channel) {
                        close(f64::from(applied[at]), a * x(at) + b);
                        let wanted = a * (f64::from(gradient[at]) - b) + b * (x(at) - a);
                        close(f64::from(back[at]), if relu && values[at] <= 0.0 { 0.0 } else { wanted });
                    }
                }
            });
        }
    }
}
