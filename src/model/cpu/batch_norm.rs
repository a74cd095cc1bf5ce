//! Batch norm in training, with the ReLU before it in the same passes.

use anyhow::Result;
use kernels::batch_norm::{self as kernel, Rows};
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::{autograd, parallel, profile, tensor_slice};

use super::{empty_like, has_kernels, to_channels_last};
use crate::device::chunk_size;

/// The parameters and running statistics of a batch norm, each float32 [C], and its constants.
#[derive(Debug)]
pub struct Norm<'a> {
    /// Scale.
    pub weight: &'a Tensor,
    /// Offset.
    pub bias: &'a Tensor,
    /// Changed: moves towards the batch's mean.
    pub running_mean: &'a Tensor,
    /// Changed: moves towards the batch's biased variance, as Keras'.
    pub running_var: &'a Tensor,
    /// Share of the batch statistics in that.
    pub update: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Whether this machine has the kernels for `x` [N, C, H, W].
pub fn is_supported(x: &Tensor) -> bool {
    x.device() == Device::Cpu
        && has_kernels()
        && matches!(x.kind(), Kind::Float | Kind::BFloat16)
        && matches!(x.size()[..], [images, channels, ..] if images > 0 && channels > 0 && channels % 16 == 0)
        && x.dim() == 4
}

/// `batch_norm(relu(x))`, or without ReLU, for `x` [N, C, H, W] in float32 or bf16, with the batch's statistics.
///
/// # Errors
/// libtorch's.
pub fn forward(norm: &Norm<'_>, x: &Tensor, relu: bool) -> Result<Tensor> {
    profile::operation("grimace::batch_norm", || match x.f_kind()? {
        Kind::BFloat16 => forward_as::<bf16>(norm, x, relu),
        _ => forward_as::<f32>(norm, x, relu),
    })
}

fn forward_as<E: Element + tensor_slice::TensorElement>(norm: &Norm<'_>, x: &Tensor, relu: bool) -> Result<Tensor> {
    let [_, channels, rows, columns] = x.size()[..] else { anyhow::bail!("batch norm wants [N, C, H, W], not {x:?}") };
    let y = empty_like(x, [channels, rows, columns])?;
    let (input, mean, deviation) = tch::no_grad(|| -> Result<_> {
        let input = to_channels_last(&x.f_detach()?)?;
        let channels = channels as usize;
        let values = tensor_slice::slice::<E>(&input)?;
        let count = (values.len() / channels) as f64;

        let mut running_mean = norm.running_mean.shallow_clone();
        let running_mean = tensor_slice::slice_mut::<f32>(&mut running_mean)?;
        // The mean first, then the squares about it: a variance that is small beside the mean keeps its digits.
        let moments = |center: &[f32]| {
            in_parts(channels, values, |(part, _), [sums, squares]| {
                kernel::sums(&Rows { values: part, channels, relu }, center, sums, squares);
            })
        };
        let from = |center: &[f32], sums: &[f64]| -> Vec<f64> {
            sums.iter().zip(center).map(|(sum, center)| sum / count + f64::from(*center)).collect()
        };
        let [sums, _] = moments(running_mean)?;
        let center = from(running_mean, &sums).iter().map(|mean| *mean as f32).collect::<Vec<_>>();
        let [sums, squares] = moments(&center)?;
        let mean = from(&center, &sums);
        let variance: Vec<f64> = (squares.iter().zip(&sums))
            .map(|(square, sum)| (square / count - (sum / count).powi(2)).max(0.0))
            .collect();

        let mut running_var = norm.running_var.shallow_clone();
        let running_var = tensor_slice::slice_mut::<f32>(&mut running_var)?;
        for (running, new) in running_mean.iter_mut().zip(&mean).chain(running_var.iter_mut().zip(&variance)) {
            *running = (f64::from(*running) * (1.0 - norm.update) + new * norm.update) as f32;
        }

        let (weight, bias) = (norm.weight.f_detach()?, norm.bias.f_detach()?);
        let (weight, bias) = (tensor_slice::slice::<f32>(&weight)?, tensor_slice::slice::<f32>(&bias)?);
        let deviation: Vec<f64> = variance.iter().map(|variance| (variance + norm.epsilon).sqrt()).collect();
        let scale: Vec<f32> =
            weight.iter().zip(&deviation).map(|(weight, deviation)| (f64::from(*weight) / deviation) as f32).collect();
        let offset: Vec<f32> = (bias.iter().zip(&mean).zip(&scale))
            .map(|((bias, mean), scale)| (f64::from(*bias) - mean * f64::from(*scale)) as f32)
            .collect();
        let mut y = to_channels_last(&y)?;
        let each = chunk_size(values.len() / channels) * channels;
        let work = values.chunks(each).zip(tensor_slice::slice_mut::<E>(&mut y)?.chunks_mut(each)).collect();
        parallel::for_each(work, |(values, to)| kernel::apply(&Rows { values, channels, relu }, &scale, &offset, to))?;
        Ok((input, mean, deviation))
    })?;
    let weight = norm.weight.f_detach()?;
    let backward = move |gradient: &Tensor| backward::<E>(&input, &weight, &mean, &deviation, relu, gradient);
    autograd::set_backward(c"grimace::batch_norm backward", &y, &[x, norm.weight, norm.bias], Box::new(backward))?;
    Ok(y)
}

/// The gradients by input, weight and bias.
fn backward<E: Element + tensor_slice::TensorElement>(
    input: &Tensor,
    weight: &Tensor,
    mean: &[f64],
    deviation: &[f64],
    relu: bool,
    gradient: &Tensor,
) -> Result<Vec<Option<Tensor>>> {
    let [_, channels, rows, columns] = gradient.size()[..] else { anyhow::bail!("a gradient of {gradient:?}") };
    let result = empty_like(gradient, [channels, rows, columns])?;
    let (channels, gradient) = (channels as usize, to_channels_last(gradient)?);
    let (values, gradient) = (tensor_slice::slice::<E>(input)?, tensor_slice::slice::<E>(&gradient)?);
    let count = (values.len() / channels) as f64;

    let center: Vec<f32> = mean.iter().map(|mean| *mean as f32).collect();
    let [sums, mut products] = in_parts(channels, values, |(part, start), [sums, products]| {
        let gradient = gradient.get(start..start + part.len()).unwrap_or_default();
        kernel::backward_sums(&Rows { values: part, channels, relu }, gradient, &center, sums, products);
    })?;

    // They are about the mean in float32; the rest of its digits follow from the sums.
    for (((product, sum), mean), center) in products.iter_mut().zip(&sums).zip(mean).zip(&center) {
        *product -= (mean - f64::from(*center)) * sum;
    }

    // dx = w/s ((dy - mean(dy)) - (x - m)/s^2 mean(dy (x - m)))
    let (mut scale, mut slope) = (Vec::new(), Vec::new());
    for ((weight, deviation), product) in tensor_slice::slice::<f32>(weight)?.iter().zip(deviation).zip(&products) {
        let by = f64::from(*weight) / deviation;
        scale.push(by as f32);
        slope.push((-by * product / count / (deviation * deviation)) as f32);
    }
    let level: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
    let factors = kernel::Factors { scale: &scale, level: &level, slope: &slope, center: &center };
    let mut to = to_channels_last(&result)?;
    let each = chunk_size(values.len() / channels) * channels;
    let parts = values.chunks(each).zip(gradient.chunks(each));
    let work = parts.zip(tensor_slice::slice_mut::<E>(&mut to)?.chunks_mut(each)).collect();
    parallel::for_each(work, |((values, gradient), to)| {
        kernel::backward_apply(&Rows { values, channels, relu }, gradient, &factors, to);
    })?;

    let by_weight: Vec<f32> =
        products.iter().zip(deviation).map(|(product, deviation)| (product / deviation) as f32).collect();
    let by_bias: Vec<f32> = sums.iter().map(|sum| *sum as f32).collect();
    Ok(vec![Some(result), Some(Tensor::f_from_slice(&by_weight)?), Some(Tensor::f_from_slice(&by_bias)?)])
}

/// Cuts `values` for the threads, lets `add` add up each part (given with where it starts) in two sums for each channel, and
/// adds up the parts in their order.
fn in_parts<E: Element>(
    channels: usize,
    values: &[E],
    add: impl Fn((&[E], usize), [&mut [f64]; 2]) + Sync,
) -> Result<[Vec<f64>; 2]> {
    let each = chunk_size(values.len() / channels) * channels;
    let mut sums = vec![0.0; values.len().div_ceil(each) * 2 * channels];
    let work = values.chunks(each).zip(sums.chunks_mut(2 * channels)).enumerate().collect();
    parallel::for_each(work, |(part, (values, sums))| {
        let (first, second) = sums.split_at_mut(channels);
        add((values, part * each), [first, second]);
    })?;
    let (mut first, mut second) = (vec![0.0; channels], vec![0.0; channels]);
    for part in sums.chunks(2 * channels) {
        for (total, sum) in first.iter_mut().chain(&mut second).zip(part) {
            *total += sum;
        }
    }
    Ok([first, second])
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_all_close;
    use super::*;
    use crate::testing::noise;

    const UPDATE: f64 = 0.01;
    const EPSILON: f64 = 1e-3;

    /// Result, gradients of input, weight and bias, and running statistics, through the kernels or through libtorch.
    fn results(x: &Tensor, relu: bool, fast: bool) -> Vec<Tensor> {
        let channels = x.size()[1];
        let x = x.copy().set_requires_grad(true);
        let leaf = |tensor: Tensor| tensor.set_requires_grad(true);
        let (weight, bias) = (leaf(noise(&[channels], 1) + 1.5), leaf(noise(&[channels], 2)));
        let (mean, var) = (noise(&[channels], 3) * 0.1, noise(&[channels], 4) * 0.1 + 1.0);
        let y = if fast {
            assert!(is_supported(&x));
            let norm = Norm {
                weight: &weight,
                bias: &bias,
                running_mean: &mean,
                running_var: &var,
                update: UPDATE,
                epsilon: EPSILON,
            };
            forward(&norm, &x, relu).unwrap()
        } else {
            let active = if relu { x.relu() } else { x.shallow_clone() };
            // libtorch's running variance is the unbiased one.
            let statistics = active.to_kind(Kind::Float);
            let biased = statistics.var_dim(&[0i64, 2, 3][..], false, false);
            let unused = var.copy();
            let y =
                active.batch_norm(Some(&weight), Some(&bias), Some(&mean), Some(&unused), true, UPDATE, EPSILON, true);
            tch::no_grad(|| {
                let _ = var.shallow_clone().lerp_(&biased, UPDATE);
            });
            y
        };
        (y.to_kind(Kind::Float) * noise(&y.size(), 5)).sum(Kind::Float).backward();
        vec![y, x.grad(), weight.grad(), bias.grad(), mean, var]
    }

    #[test]
    fn agrees_with_libtorch() {
        if kernels::isa().is_none() {
            println!("skipped: this processor has neither AVX2 nor AVX-512, so there is no fast path");
            return;
        }
        for (kind, tolerance) in [(Kind::Float, 2e-5), (Kind::BFloat16, 1e-2)] {
            for size in [[4, 32, 23, 23], [64, 16, 3, 5], [1, 48, 7, 2], [2, 16, 1, 1]] {
                for relu in [false, true] {
                    let x = ((noise(&size, 6) + 0.2) * 3.0).to_kind(kind);
                    let case = format!("{kind:?} {size:?} relu {relu}");
                    assert_all_close(&results(&x, relu, true), &results(&x, relu, false), tolerance, &case);
                }
            }
        }
    }
}
