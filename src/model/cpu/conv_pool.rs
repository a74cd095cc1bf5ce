//! Convolution and max-pooling as one function on the CPU, with a sparse gradient.
//!
//! The result is that of `max_pool2d(conv2d(x))` up to rounding. See [`kernels::conv_pool`]; the forward
//! pass is [`kernels::winograd`]'s where that is faster.

use anyhow::{Result, ensure};
use kernels::conv_pool::{self, Gradients, KERNEL, Saved, Shape};
use kernels::winograd::{self as winograd_kernels, Filters, forward_max_pool};
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::{autograd, op_profile, parallel, tensor_slice};

use super::{conv_shape, empty_like, images_of, to_channels_last, winograd};
use crate::device::chunk_size;

/// Returns the sizes for the kernels, from `x` [N, C, H, W] and `weight` [F, C, 3, 3]; `None` if
/// libtorch's operations must run instead.
pub fn shape(x: &Tensor, weight: &Tensor, padding: i64) -> Option<Shape> {
    let shape = conv_shape(x, weight, padding)?;
    let is_supported = matches!(x.kind(), Kind::Float | Kind::BFloat16)
        && shape.can_pool()
        // The kernels have no gradient for one input channel; images require none.
        && (shape.channels > 1 || !x.requires_grad());
    is_supported.then_some(shape)
}

/// Computes `max_pool2d(conv2d(x, weight, bias, padding), 2)`. `x` is float32 or bf16 [N, C, H, W],
/// as is the result; weights are float32.
pub fn forward(shape: Shape, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    forward_with(shape, winograd::pooling_shape(x, shape), x, weight, bias)
}

/// [`forward`] by Winograd's method with the sizes `fast`, or directly.
fn forward_with(
    shape: Shape,
    fast: Option<winograd_kernels::Shape>,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    op_profile::operation("grimace::conv_max_pool", || match x.f_kind()? {
        Kind::BFloat16 => forward_as::<bf16>(shape, fast, x, weight, bias),
        kind => {
            ensure!(kind == Kind::Float, "no convolution with max pooling for {kind:?}");
            forward_as::<f32>(shape, fast, x, weight, bias)
        }
    })
}

fn forward_as<E: Element + tensor_slice::TensorElement>(
    shape: Shape,
    fast: Option<winograd_kernels::Shape>,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    let sizes = [shape.filters, shape.pooled_height(), shape.pooled_width()].map(|size| size as i64);
    let mut pooled = empty_like(x, sizes)?;
    let mut argmax = Tensor::f_empty([pooled.numel() as i64], (Kind::Uint8, Device::Cpu))?;
    let (input, weights) = tch::no_grad(|| -> Result<_> {
        // Winograd's filters are float32 in any precision.
        let kind = if fast.is_some() { Kind::Float } else { E::KIND };
        let weights = to_channels_last(&weight.f_detach()?.f_to_dtype(kind, false, false)?)?;
        let (input, bias) = (to_channels_last(&x.f_detach()?)?, bias.f_detach()?.f_contiguous()?);
        let bias: &[f32] = tensor_slice::slice(&bias)?;
        let chunk = chunk_size(images_of(x));
        let pooled = tensor_slice::channels_last_slice_mut::<E>(&mut pooled)?.chunks_mut(chunk * shape.pooled_len());
        let outputs = pooled.zip(tensor_slice::slice_mut::<u8>(&mut argmax)?.chunks_mut(chunk * shape.pooled_len()));
        let work = tensor_slice::slice::<E>(&input)?.chunks(chunk * shape.input_len()).zip(outputs).collect();
        match fast {
            Some(fast) => {
                let filters = winograd::packed(&fast, Filters::Forward, &weights)?;
                let filters = tensor_slice::slice::<f32>(&filters)?;
                parallel::for_each(work, |(input, (pooled, argmax))| {
                    forward_max_pool(&fast, input, filters, bias, pooled, argmax);
                })?;
            }
            None => {
                let filters = conv_pool::pack_for_forward::<E>(&shape, tensor_slice::slice(&weights)?);
                parallel::for_each(work, |(input, (pooled, argmax))| {
                    conv_pool::forward(&shape, input, &filters, bias, pooled, argmax);
                })?;
            }
        }
        Ok((input, weights))
    })?;
    let requires_input_gradient = x.requires_grad();
    let backward =
        move |gradient: &Tensor| backward::<E>(shape, &input, &weights, &argmax, gradient, requires_input_gradient);
    autograd::set_backward(c"grimace::conv_max_pool backward", &pooled, &[x, weight, bias], Box::new(backward))?;
    Ok(pooled)
}

/// Computes the gradients of input, weight and bias.
fn backward<E: Element + tensor_slice::TensorElement>(
    shape: Shape,
    input: &Tensor,
    weights: &Tensor,
    argmax: &Tensor,
    gradient: &Tensor,
    requires_input_gradient: bool,
) -> Result<Vec<Option<Tensor>>> {
    let images = images_of(gradient);
    let gradient = to_channels_last(gradient)?;
    let weights = weights.f_to_dtype(Kind::Float, false, false)?;
    let packed = if requires_input_gradient {
        conv_pool::pack_for_backward(&shape, tensor_slice::slice(&weights)?)
    } else {
        Vec::new()
    };
    let mut input_gradient =
        Tensor::f_empty(if requires_input_gradient { input.size() } else { vec![0] }, (E::KIND, Device::Cpu))?;

    let chunk = chunk_size(images);
    let chunks = images.div_ceil(chunk);
    let zeros = |width: usize| Tensor::f_zeros([chunks as i64, width as i64], (Kind::Float, Device::Cpu));
    let (mut filter_sums, mut bias_sums) = (zeros(shape.weights_len())?, zeros(shape.filters)?);
    let mut input_chunks = tensor_slice::slice_mut::<E>(&mut input_gradient)?
        .chunks_mut(chunk * shape.input_len())
        .map(Some)
        .collect::<Vec<_>>();
    input_chunks.resize_with(chunks, || None);
    let work = tensor_slice::slice::<E>(input)?
        .chunks(chunk * shape.input_len())
        .zip(tensor_slice::slice::<u8>(argmax)?.chunks(chunk * shape.pooled_len()))
        .zip(tensor_slice::slice::<E>(&gradient)?.chunks(chunk * shape.pooled_len()))
        .map(|((input, argmax), gradient)| Saved { input, argmax, gradient })
        .zip(input_chunks)
        .zip(tensor_slice::slice_mut::<f32>(&mut filter_sums)?.chunks_mut(shape.weights_len()))
        .zip(tensor_slice::slice_mut::<f32>(&mut bias_sums)?.chunks_mut(shape.filters))
        .collect();
    parallel::for_each(work, |(((saved, input), filters), bias)| {
        let input = input.map(|input| (input, &packed[..]));
        conv_pool::backward(&shape, &saved, &mut Gradients { filters, bias, input });
    })?;

    let kernel = KERNEL as i64;
    let sum = |chunks: &Tensor| chunks.f_sum_dim_intlist(0, false, Kind::Float);
    let filters = sum(&filter_sums)?.f_view([shape.filters as i64, kernel, kernel, shape.channels as i64])?;
    Ok(vec![
        if requires_input_gradient { Some(input_gradient.f_permute([0, 3, 1, 2])?) } else { None },
        Some(filters.f_permute([0, 3, 1, 2])?),
        Some(sum(&bias_sums)?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::are_bf16_kernels_fast;
    use crate::testing::noise;
    use kernels::winograd::TileSize;
    use tch::Reduction;

    /// Output, loss, and gradients of weight, bias and input of `block`.
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

    /// Norm of the difference relative to the norm of `expected`.
    fn error(actual: &Tensor, expected: &Tensor) -> f64 {
        assert_eq!(actual.size(), expected.size());
        (actual.to_kind(Kind::Float) - expected).norm().double_value(&[]) / expected.norm().double_value(&[])
    }

    /// Compares the fast paths, direct and by Winograd's method, with libtorch's convolution and pooling
    /// on the same weights, batch and loss.
    #[test]
    fn matches_libtorch() {
        if kernels::isa().is_none() {
            println!("skipped: this processor has no instruction set of the kernels, so there is no fast path");
            return;
        }
        for (size, padding) in [([5, 1, 48, 48], 0), ([3, 32, 23, 21], 0), ([4, 64, 10, 11], 1), ([1, 16, 4, 5], 1)] {
            let tiles = [None, Some(TileSize::Two), Some(TileSize::Four)];
            // One channel is not for Winograd.
            let tiles = if size[1] == 1 { &tiles[..1] } else { &tiles[..] };
            for (tile, channels_last) in tiles.iter().flat_map(|tile| [(*tile, false), (*tile, true)]) {
                let mut x = noise(&size, 4).to_kind(Kind::BFloat16).to_kind(Kind::Float);
                if channels_last {
                    x = x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
                }
                let fast = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
                    let conv = shape(x, weight, padding).expect("supported");
                    let fast = tile.map(|tile| winograd_kernels::Shape { conv, tile, max_pool: true });
                    forward_with(conv, fast, x, weight, bias).unwrap()
                };
                let reference = results(&x, libtorch(Kind::Float, padding));
                for (index, (fast, reference)) in results(&x, fast).iter().zip(&reference).enumerate() {
                    let error = error(fast, reference);
                    assert!(error < 1e-5, "float32 {size:?}, {tile:?}, result {index}: differs by {error}");
                }
                // Rounding to bf16 produces ties, which the paths break differently: both are
                // compared with float32.
                let x = x.to_kind(Kind::BFloat16);
                let both = results(&x, fast).into_iter().zip(results(&x, libtorch(Kind::BFloat16, padding)));
                for (index, ((fast, theirs), reference)) in both.zip(&reference).enumerate() {
                    assert_eq!(fast.kind(), theirs.kind());
                    let (ours, theirs) = (error(&fast, reference), error(&theirs, reference));
                    assert!(ours < 1.2 * theirs + 1e-3, "bf16 {size:?}, {tile:?}, {index}: {ours}, libtorch {theirs}");
                }
            }
        }
    }

    #[test]
    fn winograd_runs_where_it_is_faster() {
        let runs = |x: &Tensor, padding| {
            let weight = noise(&[32, x.size()[1], 3, 3], 1);
            shape(x, &weight, padding).and_then(|conv| winograd::pooling_shape(x, conv)).is_some()
        };
        let has_kernels = kernels::isa().is_some();
        let x = noise(&[3, 32, 23, 21], 4);
        assert_eq!(runs(&x, 0), has_kernels);
        assert_eq!(runs(&x.to_kind(Kind::BFloat16), 0), has_kernels && !are_bf16_kernels_fast(), "bf16");
        assert!(!runs(&noise(&[9, 1, 48, 48], 4), 0), "one channel");
        assert!(!runs(&noise(&[1, 16, 4, 5], 4), 1), "few tiles");
        assert!(!runs(&x, 3), "padding of 3");
    }

    #[test]
    fn unsupported_shapes_have_no_kernel() {
        let weight = |size: [i64; 4]| noise(&size, 5);
        let x = |channels| noise(&[2, channels, 8, 8], 6);
        assert!(shape(&x(24), &weight([32, 24, 3, 3]), 0).is_none(), "24 channels");
        assert!(shape(&x(16), &weight([8, 16, 3, 3]), 0).is_none(), "8 filters");
        assert!(shape(&x(16), &weight([16, 16, 5, 5]), 0).is_none(), "5x5");
        assert!(shape(&x(16).to_kind(Kind::Double), &weight([16, 16, 3, 3]), 0).is_none(), "float64");
        assert!(shape(&x(1).set_requires_grad(true), &weight([16, 1, 3, 3]), 0).is_none(), "gradient of one channel");
    }

    #[test]
    fn results_on_any_number_of_threads_agree_up_to_rounding() {
        if kernels::isa().is_none() {
            return;
        }
        let x = noise(&[7, 16, 12, 12], 7);
        let run = |threads| {
            tch::set_num_threads(threads);
            results(&x, |x, weight, bias| forward(shape(x, weight, 0).expect("supported"), x, weight, bias).unwrap())
        };
        let before = tch::get_num_threads();
        let (one, repeated, three) = (run(1), run(1), run(3));
        tch::set_num_threads(before);
        for ((one, repeated), three) in one.iter().zip(&repeated).zip(&three) {
            assert!(one.equal(repeated), "bit-identical on the same number of threads");
            assert!((one - three).abs().max().double_value(&[]) < 1e-5);
        }
    }
}
