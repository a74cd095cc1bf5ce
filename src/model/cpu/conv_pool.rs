//! Convolution and max-pooling as one function on the CPU, whose gradient visits only what pooling lets through.
//!
//! The kernels are in the crate `kernels`; here tensors are handed to them, on libtorch's threads. The result is that of
//! `max_pool2d(conv2d(x))` but for rounding.

use anyhow::Result;
use kernels::conv_pool::{self, Gradients, KERNEL, Saved, Shape};
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::{autograd, memory, parallel, profile};

use super::{dense, empty_like, has_kernels};
use crate::device::share;

/// The sizes of `x` [N, C, H, W] on its way, when this machine and these sizes have the kernels; `None`: use libtorch's own.
pub fn shape(x: &Tensor, weight: &Tensor, padding: i64) -> Option<Shape> {
    let [_, channels, height, width] = x.size()[..] else { return None };
    let [filters, inputs, rows, columns] = weight.size()[..] else { return None };
    let size = |size: i64| usize::try_from(size).unwrap_or(0);
    let shape = Shape {
        height: size(height),
        width: size(width),
        channels: size(channels),
        filters: size(filters),
        padding: size(padding),
    };
    let fits = x.device() == Device::Cpu
        && matches!(x.kind(), Kind::Float | Kind::BFloat16)
        && (size(rows), size(columns), inputs) == (KERNEL, KERNEL, channels)
        && (weight.device(), weight.kind()) == (Device::Cpu, Kind::Float)
        && has_kernels()
        && shape.is_supported()
        // The kernels have no gradient for an input of one channel: those are the faces, which need none.
        && (channels > 1 || !x.requires_grad());
    fits.then_some(shape)
}

/// `max_pool2d(conv2d(x, weight, bias, padding), 2)` for `x` [N, C, H, W] in float32 or bf16, with weights in float32.
///
/// # Errors
/// libtorch's.
pub fn forward(shape: Shape, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    profile::operation("grimace::conv_max_pool", || match x.f_kind()? {
        Kind::BFloat16 => forward_as::<bf16>(shape, x, weight, bias),
        _ => forward_as::<f32>(shape, x, weight, bias),
    })
}

fn forward_as<E: Element + memory::Number>(shape: Shape, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let sizes = [shape.filters, shape.pooled_height(), shape.pooled_width()].map(|size| size as i64);
    let pooled = empty_like(x, sizes)?;
    let mut winners = Tensor::f_empty(dense(&pooled)?.size(), (Kind::Uint8, Device::Cpu))?;
    let (input, weights) = tch::no_grad(|| -> Result<_> {
        let weights = weight.f_detach()?.f_to_dtype(E::KIND, false, false)?;
        let (input, bias) = (dense(&x.f_detach()?)?, bias.f_detach()?.f_contiguous()?);
        let bias: &[f32] = memory::slice(&bias)?;
        let each = share(images_of(x));
        let mut pooled = dense(&pooled)?;
        let pooled = memory::slice_mut::<E>(&mut pooled)?.chunks_mut(each * shape.pooled_len());
        let outputs = pooled.zip(memory::slice_mut::<u8>(&mut winners)?.chunks_mut(each * shape.pooled_len()));
        if conv_pool::has_forward::<E>(&shape) {
            let packed = conv_pool::pack_for_forward::<E>(&shape, memory::slice(&dense(&weights)?)?);
            let work = memory::slice::<E>(&input)?.chunks(each * shape.input_len()).zip(outputs).collect();
            parallel::for_each(work, |(input, (pooled, winners))| {
                conv_pool::forward(&shape, input, &packed, bias, pooled, winners);
            })?;
        } else {
            let channels_first = input.f_permute([0, 3, 1, 2])?;
            let conv = dense(&channels_first.f_conv2d(&weights, None::<Tensor>, 1, shape.padding as i64, 1, 1)?)?;
            let work = memory::slice::<E>(&conv)?.chunks(each * shape.conv_len()).zip(outputs).collect();
            parallel::for_each(work, |(conv, (pooled, winners))| {
                conv_pool::pool(&shape, conv, bias, pooled, winners);
            })?;
        }
        Ok((input, weights))
    })?;
    let wants_input = x.requires_grad();
    let backward = move |gradient: &Tensor| backward::<E>(shape, &input, &weights, &winners, gradient, wants_input);
    autograd::set_backward(c"grimace::conv_max_pool backward", &pooled, &[x, weight, bias], Box::new(backward))?;
    Ok(pooled)
}

/// The gradients by input, weight and bias.
fn backward<E: Element + memory::Number>(
    shape: Shape,
    input: &Tensor,
    weights: &Tensor,
    winners: &Tensor,
    gradient: &Tensor,
    wants_input: bool,
) -> Result<Vec<Option<Tensor>>> {
    let images = images_of(gradient);
    let gradient = dense(gradient)?;
    let weights = dense(weights)?.f_to_dtype(Kind::Float, false, false)?;
    let packed = if wants_input { conv_pool::pack_filters(&shape, memory::slice(&weights)?) } else { Vec::new() };
    let mut input_gradient = Tensor::f_empty(if wants_input { input.size() } else { vec![0] }, (E::KIND, Device::Cpu))?;

    let each = share(images);
    let parts = images.div_ceil(each);
    let zeros = |width: usize| Tensor::f_zeros([parts as i64, width as i64], (Kind::Float, Device::Cpu));
    let (mut filter_sums, mut bias_sums) = (zeros(shape.weights_len())?, zeros(shape.filters)?);
    let mut input_parts =
        memory::slice_mut::<E>(&mut input_gradient)?.chunks_mut(each * shape.input_len()).map(Some).collect::<Vec<_>>();
    input_parts.resize_with(parts, || None);
    let work = memory::slice::<E>(input)?
        .chunks(each * shape.input_len())
        .zip(memory::slice::<u8>(winners)?.chunks(each * shape.pooled_len()))
        .zip(memory::slice::<E>(&gradient)?.chunks(each * shape.pooled_len()))
        .map(|((input, winners), gradient)| Saved { input, winners, gradient })
        .zip(input_parts)
        .zip(memory::slice_mut::<f32>(&mut filter_sums)?.chunks_mut(shape.weights_len()))
        .zip(memory::slice_mut::<f32>(&mut bias_sums)?.chunks_mut(shape.filters))
        .collect();
    parallel::for_each(work, |(((saved, input), filters), bias)| {
        let input = input.map(|input| (input, &packed[..]));
        conv_pool::backward(&shape, &saved, &mut Gradients { filters, bias, input });
    })?;

    let kernel = KERNEL as i64;
    let sum = |parts: &Tensor| parts.f_sum_dim_intlist(0, false, Kind::Float);
    let filters = sum(&filter_sums)?.f_view([shape.filters as i64, kernel, kernel, shape.channels as i64])?;
    Ok(vec![
        if wants_input { Some(input_gradient.f_permute([0, 3, 1, 2])?) } else { None },
        Some(filters.f_permute([0, 3, 1, 2])?),
        Some(sum(&bias_sums)?),
    ])
}

fn images_of(x: &Tensor) -> usize {
    x.size().first().map_or(0, |images| images.unsigned_abs() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;
    use tch::Reduction;

    /// Loss and gradients of weight, bias and input through `block`.
    fn results(x: &Tensor, block: impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor) -> Vec<Tensor> {
        let channels = x.size()[1];
        let leaf = |tensor: Tensor| tensor.set_requires_grad(true);
        let x = x.copy().set_requires_grad(channels > 1);
        let (weight, bias) = (leaf(noise(&[32, channels, 3, 3], 1) * 0.2), leaf(noise(&[32], 2)));
        let y = block(&x, &weight, &bias).relu();
        let target = noise(&y.size(), 3).to_kind(y.kind());
        let loss = y.to_kind(Kind::Float).mse_loss(&target.to_kind(Kind::Float), Reduction::Mean);
        loss.backward();
        let mut all = vec![y, loss, weight.grad(), bias.grad()];
        if channels > 1 {
            all.push(x.grad());
        }
        all
    }

    fn libtorch(kind: Kind, padding: i64) -> impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor {
        move |x, weight, bias| {
            let (weight, bias) = (weight.to_kind(kind), bias.to_kind(kind));
            x.conv2d(&weight, Some(bias), 1, padding, 1, 1).max_pool2d(2, 2, 0, 1, false)
        }
    }

    /// The norm of the difference, as a share of the norm.
    fn error(found: &Tensor, wanted: &Tensor) -> f64 {
        assert_eq!(found.size(), wanted.size());
        (found.to_kind(Kind::Float) - wanted).norm().double_value(&[]) / wanted.norm().double_value(&[])
    }

    /// The fast path against libtorch's convolution and pooling: same weights, batch, loss and gradients.
    #[test]
    fn agrees_with_libtorch() {
        if kernels::isa().is_none() {
            println!("skipped: this processor has neither AVX2 nor AVX-512, so there is no fast path");
            return;
        }
        for (size, padding) in [([5, 1, 48, 48], 0), ([3, 32, 23, 21], 0), ([4, 64, 10, 11], 1), ([1, 16, 4, 5], 1)] {
            for channels_last in [false, true] {
                let mut x = noise(&size, 4).to_kind(Kind::BFloat16).to_kind(Kind::Float);
                if channels_last {
                    x = x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
                }
                let fast = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
                    forward(shape(x, weight, padding).expect("supported"), x, weight, bias).unwrap()
                };
                let plain = results(&x, libtorch(Kind::Float, padding));
                for (index, (fast, plain)) in results(&x, fast).iter().zip(&plain).enumerate() {
                    let error = error(fast, plain);
                    assert!(error < 1e-5, "float32 {size:?}, result {index}: differs by {error}");
                }
                // Rounding to bf16 makes ties, and each path breaks its own: both are held against float32.
                let x = x.to_kind(Kind::BFloat16);
                let both = results(&x, fast).into_iter().zip(results(&x, libtorch(Kind::BFloat16, padding)));
                for (index, ((fast, theirs), plain)) in both.zip(&plain).enumerate() {
                    assert_eq!(fast.kind(), theirs.kind());
                    let (ours, theirs) = (error(&fast, plain), error(&theirs, plain));
                    assert!(ours < 1.2 * theirs + 1e-3, "bf16 {size:?}, result {index}: {ours} against {theirs}");
                }
            }
        }
    }

    #[test]
    fn what_the_kernels_cannot_do_is_left_to_libtorch() {
        let weight = |size: [i64; 4]| noise(&size, 5);
        let x = |channels| noise(&[2, channels, 8, 8], 6);
        assert!(shape(&x(24), &weight([32, 24, 3, 3]), 0).is_none(), "24 channels");
        assert!(shape(&x(16), &weight([8, 16, 3, 3]), 0).is_none(), "8 filters");
        assert!(shape(&x(16), &weight([16, 16, 5, 5]), 0).is_none(), "5x5");
        assert!(shape(&x(16).to_kind(Kind::Double), &weight([16, 16, 3, 3]), 0).is_none(), "float64");
        assert!(shape(&x(1).set_requires_grad(true), &weight([16, 1, 3, 3]), 0).is_none(), "gradient of the faces");
    }

    #[test]
    fn any_number_of_threads_gives_the_same_result_but_for_rounding() {
        let x = noise(&[7, 16, 12, 12], 7);
        let run = |threads| {
            tch::set_num_threads(threads);
            results(&x, |x, weight, bias| forward(shape(x, weight, 0).expect("supported"), x, weight, bias).unwrap())
        };
        let before = tch::get_num_threads();
        let (one, again, three) = (run(1), run(1), run(3));
        tch::set_num_threads(before);
        for ((one, again), three) in one.iter().zip(&again).zip(&three) {
            assert!(one.equal(again), "bit for bit at one number of threads");
            assert!((one - three).abs().max().double_value(&[]) < 1e-5);
        }
    }
}
