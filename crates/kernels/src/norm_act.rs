//! What follows a convolution, over images in channels-last order: an affine map of each channel of each image, a shortcut, ReLU.
//!
//! Batch norm, squeeze-and-excitation and stochastic depth are together one such map, whose factors follow from the
//! moments of each image's channels: two passes over memory, and two back, however many of them there are.

use crate::Element;
use crate::batch_norm::activate;
use crate::dispatch::multiversion;

/// Images of `pixels` rows of `channels` values each.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a, E> {
    /// The values, [images, pixels, channels].
    pub values: &'a [E],
    /// Rows of an image.
    pub pixels: usize,
    /// Values of a row.
    pub channels: usize,
}

impl<E> Images<'_, E> {
    /// Values of an image.
    fn size(&self) -> usize {
        self.pixels * self.channels
    }

    fn check(&self, values: &[usize], factors: &[usize]) {
        assert!(self.channels > 0 && self.channels.is_multiple_of(BLOCK), "{} channels", self.channels);
        assert!(self.pixels > 0 && self.values.len().is_multiple_of(self.size()));
        assert!(values.iter().all(|length| *length == self.values.len()), "one value for each of the images'");
        let count = self.values.len() / self.pixels;
        assert!(factors.iter().all(|length| *length == count), "one factor for each channel of each image");
    }
}

/// Channels whose sums stay in registers while rows pass by.
const BLOCK: usize = 16;

/// Rows that are summed in `f32` before the sum goes to `f64`.
const RUN: usize = 16;

/// For each channel of each image: the means of x - `center` and of its square, to `means` and `squares` [images, channels].
/// `center` has one value for each channel.
///
/// # Panics
/// When a slice's length does not fit, or channels are not a multiple of 16.
pub fn moments<E: Element>(images: &Images<'_, E>, center: &[f32], means: &mut [f64], squares: &mut [f64]) {
    images.check(&[], &[means.len(), squares.len()]);
    assert_eq!(center.len(), images.channels);
    run_moments(images, center, means, squares);
}

multiversion! { fn run_moments<E: Element>(images: &Images<'_, E>, center: &[f32], means: &mut [f64], squares: &mut [f64]) = moments_body }

#[inline(always)]
fn moments_body<E: Element>(images: &Images<'_, E>, center: &[f32], means: &mut [f64], squares: &mut [f64]) {
    let (channels, pixels) = (images.channels, images.pixels as f64);
    let sums = means.chunks_exact_mut(channels).zip(squares.chunks_exact_mut(channels));
    for (image, (means, squares)) in images.values.chunks_exact(images.size()).zip(sums) {
        means.fill(0.0);
        squares.fill(0.0);
        for run in image.chunks(RUN * channels) {
            for start in (0..channels).step_by(BLOCK) {
                let center = &center[start..][..BLOCK];
                let (mut sum, mut square) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
                for row in run.chunks_exact(channels) {
                    let row = &row[start..][..BLOCK];
                    for lane in 0..BLOCK {
                        let value = row[lane].to_f32() - center[lane];
                        sum[lane] += value;
                        square[lane] += value * value;
                    }
                }
                for lane in 0..BLOCK {
                    means[start + lane] += f64::from(sum[lane]);
                    squares[start + lane] += f64::from(square[lane]);
                }
            }
        }
        means.iter_mut().chain(squares).for_each(|sum| *sum /= pixels);
    }
}

/// `to` = `factor` x + `offset` (+ `shortcut`), then ReLU where `relu`; factors and offsets [images, channels].
///
/// # Panics
/// As [`moments`].
pub fn apply<E: Element>(
    images: &Images<'_, E>,
    factor: &[f32],
    offset: &[f32],
    shortcut: Option<&[E]>,
    relu: bool,
    to: &mut [E],
) {
    images.check(&[to.len(), shortcut.map_or(to.len(), <[E]>::len)], &[factor.len(), offset.len()]);
    run_apply(images, factor, offset, shortcut, relu, to);
}

multiversion! {
    fn run_apply<E: Element>(
        images: &Images<'_, E>, factor: &[f32], offset: &[f32], shortcut: Option<&[E]>, relu: bool, to: &mut [E],
    ) = apply_body
}

#[inline(always)]
fn apply_body<E: Element>(
    images: &Images<'_, E>,
    factor: &[f32],
    offset: &[f32],
    shortcut: Option<&[E]>,
    relu: bool,
    to: &mut [E],
) {
    let (channels, size) = (images.channels, images.size());
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let factors = factor.chunks_exact(channels).zip(offset.chunks_exact(channels));
    let parts = images.values.chunks_exact(size).zip(to.chunks_exact_mut(size)).zip(factors);
    for (number, ((image, to), (factor, offset))) in parts.enumerate() {
        let rows = image.chunks_exact(channels).zip(to.chunks_exact_mut(channels));
        match shortcut {
            None => {
                for (row, to) in rows {
                    for ((to, x), (factor, offset)) in to.iter_mut().zip(row).zip(factor.iter().zip(offset)) {
                        *to = E::from_f32(activate(x.to_f32() * factor + offset, floor));
                    }
                }
            }
            Some(shortcut) => {
                let added = shortcut[number * size..][..size].chunks_exact(channels);
                for ((row, to), added) in rows.zip(added) {
                    let values = row.iter().zip(added).zip(factor.iter().zip(offset));
                    for (to, ((x, added), (factor, offset))) in to.iter_mut().zip(values) {
                        *to = E::from_f32(activate(x.to_f32() * factor + offset + added.to_f32(), floor));
                    }
                }
            }
        }
    }
}

/// For each channel of each image: the sums of what passes back, g, and of g (x - `center`), to `sums` and `products`
/// [images, channels]. g is the gradient; where there is an `output` of ReLU, only where that is above 0.
///
/// # Panics
/// As [`moments`].
pub fn backward_sums<E: Element>(
    images: &Images<'_, E>,
    output: Option<&[E]>,
    gradient: &[E],
    center: &[f32],
    sums: &mut [f64],
    products: &mut [f64],
) {
    images.check(&[gradient.len(), output.map_or(gradient.len(), <[E]>::len)], &[sums.len(), products.len()]);
    assert_eq!(center.len(), images.channels);
    run_backward_sums(images, output, gradient, center, sums, products);
}

multiversion! {
    fn run_backward_sums<E: Element>(
        images: &Images<'_, E>, output: Option<&[E]>, gradient: &[E], center: &[f32], sums: &mut [f64], products: &mut [f64],
    ) = backward_sums_body
}

#[inline(always)]
fn backward_sums_body<E: Element>(
    images: &Images<'_, E>,
    output: Option<&[E]>,
    gradient: &[E],
    center: &[f32],
    sums: &mut [f64],
    products: &mut [f64],
) {
    let (channels, size) = (images.channels, images.size());
    let parts = sums.chunks_exact_mut(channels).zip(products.chunks_exact_mut(channels));
    for (number, (sums, products)) in parts.enumerate() {
        sums.fill(0.0);
        products.fill(0.0);
        let image = number * size..(number + 1) * size;
        let runs =
            images.values[image.clone()].chunks(RUN * channels).zip(gradient[image.clone()].chunks(RUN * channels));
        let (gate, floor) = gate(output, gradient);
        for ((values, gradients), gate) in runs.zip(gate[image].chunks(RUN * channels)) {
            for start in (0..channels).step_by(BLOCK) {
                let center = &center[start..][..BLOCK];
                let (mut sum, mut product) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
                let rows = values.chunks_exact(channels).zip(gradients.chunks_exact(channels));
                for ((row, gradient), gate) in rows.zip(gate.chunks_exact(channels)) {
                    let (row, gradient) = (&row[start..][..BLOCK], &gradient[start..][..BLOCK]);
                    let gate = &gate[start..][..BLOCK];
                    for lane in 0..BLOCK {
                        let passing = passing(gradient[lane].to_f32(), gate[lane].to_f32(), floor);
                        sum[lane] += passing;
                        product[lane] += passing * (row[lane].to_f32() - center[lane]);
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

/// What the gradient by x is made of, each [images, channels].
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a> {
    /// Factor of what passes back.
    pub gradient: &'a [f32],
    /// Factor of x.
    pub x: &'a [f32],
    /// Added.
    pub offset: &'a [f32],
}

/// The gradient by x, `factors.gradient` g + `factors.x` x + `factors.offset`, to `to`, and that by the shortcut, g, to `to_shortcut`; g as in
/// [`backward_sums`].
///
/// # Panics
/// As [`moments`].
pub fn backward_apply<E: Element>(
    images: &Images<'_, E>,
    output: Option<&[E]>,
    gradient: &[E],
    factors: &Factors<'_>,
    to: &mut [E],
    to_shortcut: Option<&mut [E]>,
) {
    let length = to.len();
    let others = [output.map_or(length, <[E]>::len), to_shortcut.as_ref().map_or(length, |to| to.len())];
    images.check(&[length, gradient.len()], &[factors.gradient.len(), factors.x.len(), factors.offset.len()]);
    images.check(&others, &[]);
    run_backward_apply(images, output, gradient, factors, to, to_shortcut);
}

multiversion! {
    fn run_backward_apply<E: Element>(
        images: &Images<'_, E>, output: Option<&[E]>, gradient: &[E], factors: &Factors<'_>, to: &mut [E], to_shortcut: Option<&mut [E]>,
    ) = backward_apply_body
}

#[inline(always)]
fn backward_apply_body<E: Element>(
    images: &Images<'_, E>,
    output: Option<&[E]>,
    gradient: &[E],
    factors: &Factors<'_>,
    to: &mut [E],
    mut to_shortcut: Option<&mut [E]>,
) {
    let (channels, size) = (images.channels, images.size());
    let (gate, floor) = gate(output, gradient);
    for number in 0..images.values.len() / size {
        let of_image = number * channels..(number + 1) * channels;
        let by_gradient = &factors.gradient[of_image.clone()];
        let (by_x, offset) = (&factors.x[of_image.clone()], &factors.offset[of_image]);
        for row in 0..images.pixels {
            let row = number * size + row * channels..number * size + (row + 1) * channels;
            let (values, gradient, gate) = (&images.values[row.clone()], &gradient[row.clone()], &gate[row.clone()]);
            let to = &mut to[row.clone()];
            let of_channels = by_gradient.iter().zip(by_x).zip(offset);
            let of_values = values.iter().zip(gradient).zip(gate);
            for (to, (((x, gradient), gate), ((by_gradient, by_x), offset))) in
                to.iter_mut().zip(of_values.zip(of_channels))
            {
                let passing = passing(gradient.to_f32(), gate.to_f32(), floor);
                *to = E::from_f32(by_gradient * passing + by_x * x.to_f32() + offset);
            }
            if let Some(to) = &mut to_shortcut {
                for (to, (gradient, gate)) in to[row].iter_mut().zip(gradient.iter().zip(gate)) {
                    *to = E::from_f32(passing(gradient.to_f32(), gate.to_f32(), floor));
                }
            }
        }
    }
}

/// What decides what passes back, and what it must be above. Without ReLU everything passes: the gradient is above minus
/// infinity, whatever it is.
#[inline(always)]
fn gate<'a, E>(output: Option<&'a [E]>, gradient: &'a [E]) -> (&'a [E], f32) {
    output.map_or((gradient, f32::NEG_INFINITY), |output| (output, 0.0))
}

/// What passes back where ReLU gave `gate`: nothing at 0, as in PyTorch; NaN passes.
#[inline(always)]
fn passing(gradient: f32, gate: f32, floor: f32) -> f32 {
    if gate <= floor { 0.0 } else { gradient }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::tests::for_each_isa;

    const CHANNELS: usize = 32;
    const PIXELS: usize = 37;
    const COUNT: usize = 3;

    fn numbers(salt: u32) -> Vec<f32> {
        (0..(COUNT * PIXELS * CHANNELS) as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(salt) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect()
    }

    #[test]
    fn agrees_with_the_definition() {
        let (values, gradient, shortcut) = (numbers(3), numbers(9), numbers(11));
        let some = |salt| -> Vec<f32> { numbers(salt)[..COUNT * CHANNELS].to_vec() };
        let (factor, offset, third) = (some(5), some(6), some(7));
        let center = &third[..CHANNELS];
        for (relu, shortcut) in [(false, None), (true, None), (false, Some(&shortcut[..])), (true, Some(&shortcut[..]))]
        {
            for_each_isa(|isa| {
                let images = Images { values: &values[..], pixels: PIXELS, channels: CHANNELS };
                let close = |ours: f64, wanted: f64| {
                    assert!((ours - wanted).abs() < 1e-5, "{isa:?} relu {relu}: {ours} against {wanted}");
                };
                let zeros = || vec![0.0f64; COUNT * CHANNELS];
                let (mut means, mut squares, mut sums, mut products) = (zeros(), zeros(), zeros(), zeros());
                let blank = || vec![0.0f32; values.len()];
                let (mut applied, mut back, mut back_shortcut) = (blank(), blank(), blank());
                moments(&images, center, &mut means, &mut squares);
                apply(&images, &factor, &offset, shortcut, relu, &mut applied);
                let output = relu.then_some(&applied[..]);
                backward_sums(&images, output, &gradient, center, &mut sums, &mut products);
                let factors = Factors { gradient: &factor, x: &offset, offset: &third };
                backward_apply(&images, output, &gradient, &factors, &mut back, Some(&mut back_shortcut));
                for place in 0..COUNT * CHANNELS {
                    let (image, channel) = (place / CHANNELS, place % CHANNELS);
                    let [a, b, c] = [&factor, &offset, &third].map(|each| f64::from(each[place]));
                    let center = f64::from(center[channel]);
                    let all = (0..PIXELS).map(|pixel| (image * PIXELS + pixel) * CHANNELS + channel);
                    let x = |at: usize| f64::from(values[at]);
                    let affine = |at: usize| a * x(at) + b + shortcut.map_or(0.0, |added| f64::from(added[at]));
                    let passes = |at: usize| if relu && affine(at) <= 0.0 { 0.0 } else { f64::from(gradient[at]) };
                    close(means[place], all.clone().map(|at| x(at) - center).sum::<f64>() / PIXELS as f64);
                    close(squares[place], all.clone().map(|at| (x(at) - center).powi(2)).sum::<f64>() / PIXELS as f64);
                    close(sums[place], all.clone().map(passes).sum());
                    close(products[place], all.clone().map(|at| passes(at) * (x(at) - center)).sum());
                    for at in all {
                        close(f64::from(applied[at]), if relu { affine(at).max(0.0) } else { affine(at) });
                        close(f64::from(back[at]), a * passes(at) + b * x(at) + c);
                        close(f64::from(back_shortcut[at]), passes(at));
                    }
                }
            });
        }
    }
}
