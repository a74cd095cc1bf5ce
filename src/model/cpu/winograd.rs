//! 3x3 convolutions on the CPU by Winograd's minimal filtering.
//!
//! The result is that of `conv2d(x)` up to rounding, see [`kernels::winograd`]. Whether it runs, and
//! with which tiles, depends on sizes, threads and processor, never on a measurement: a resumed run
//! must compute what an uninterrupted one does.

use anyhow::{Result, ensure};
use kernels::conv;
use kernels::winograd::{self, BLOCK, Filters, KERNEL, Shape, TileSize, weight_gradient};
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::tensor_slice::{self, TensorElement};
use torch_ext::{autograd, op_profile, parallel};

use super::{conv_shape, empty_like, images_of, to_channels_last};
use crate::device::{are_bf16_kernels_fast, chunk_size, is_cpu_bf16_fast, threads};

/// Fewest tiles of a batch for which transforming the filters pays: twice the number at which it
/// took as long as libtorch's convolution.
const MIN_TILES: usize = 32;

const TILES: [TileSize; 3] = [TileSize::Two, TileSize::Three, TileSize::Four];

/// Returns the sizes for the kernels, from `x` [N, C, H, W] and `weight` [F, C, 3, 3]; `None` if
/// libtorch's convolution must run, or is faster: in bf16 where the processor multiplies that faster
/// than float32, and with fewer images than threads, which it shares an image among.
pub fn shape(x: &Tensor, weight: &Tensor, padding: i64) -> Option<Shape> {
    if !winograd::is_enabled() {
        return None;
    }
    let conv = conv_shape(x, weight, padding)?;
    let is_faster = has_fast_dtype(x, is_cpu_bf16_fast()) && images_of(x) >= threads();
    fastest(Shape { conv, tile: TileSize::Two, max_pool: false }, x).filter(|_| is_faster)
}

/// Returns the sizes for [`winograd::forward_max_pool`], of a convolution that
/// [`kernels::conv_pool::forward`] supports; `None` if Winograd is disabled or does not support it, or
/// that is faster: in bf16 where the kernels multiply that faster than float32.
pub(super) fn pooling_shape(x: &Tensor, conv: conv::Shape) -> Option<Shape> {
    if !winograd::is_enabled() {
        return None;
    }
    let is_faster = has_fast_dtype(x, are_bf16_kernels_fast());
    fastest(Shape { conv, tile: TileSize::Two, max_pool: true }, x).filter(|_| is_faster)
}

/// Whether `x` is float32, or bf16 where a direct convolution is not faster in that.
fn has_fast_dtype(x: &Tensor, is_bf16_fast: bool) -> bool {
    match x.kind() {
        Kind::Float => true,
        Kind::BFloat16 => !is_bf16_fast,
        _ => false,
    }
}

/// Chooses the tiles with the fewest multiplications, the smaller ones if there are several: the
/// order of the measured times without pooling. `None` if they are not supported, or a direct convolution
/// is faster: with few tiles in the batch, because the filters are transformed in every pass, or with one
/// pixel per image, a matrix product.
fn fastest(shape: Shape, x: &Tensor) -> Option<Shape> {
    let tiles = TILES.into_iter().map(|tile| Shape { tile, ..shape }).filter(Shape::is_supported);
    let best = tiles.min_by_key(Shape::multiplications)?;
    let has_many_pixels = best.conv.conv_height() > 1 && best.conv.conv_width() > 1;
    (has_many_pixels && images_of(x) * best.tiles_per_image() >= MIN_TILES).then_some(best)
}

/// Computes `conv2d(x, weight, bias, padding)`. `x` is float32 or bf16, as is the result; weights are
/// float32.
pub fn forward(shape: &Shape, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    op_profile::operation("grimace::winograd", || match x.f_kind()? {
        Kind::BFloat16 => forward_as::<bf16>(shape, x, weight, bias),
        kind => {
            ensure!(kind == Kind::Float, "no Winograd convolution for {kind:?}");
            forward_as::<f32>(shape, x, weight, bias)
        }
    })
}

fn forward_as<E: Element + TensorElement>(
    shape: &Shape,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (input, weights, output) = tch::no_grad(|| -> Result<_> {
        let input = to_channels_last(&x.f_detach()?)?;
        let weights = to_channels_last(&weight.f_detach()?)?;
        let bias = bias.map(|bias| bias.f_detach()?.f_contiguous()).transpose()?;
        let output = convolve::<E>(shape, &input, &packed(shape, Filters::Forward, &weights)?, bias.as_ref())?;
        Ok((input, weights, output))
    })?;
    let (shape, has_bias, requires_input_gradient) = (*shape, bias.is_some(), x.requires_grad());
    let backward = move |gradient: &Tensor| {
        let gradient = to_channels_last(gradient)?;
        let mut gradients = vec![None, Some(filter_gradient::<E>(&shape, &input, &gradient)?)];
        if let (true, Some(first)) = (requires_input_gradient, gradients.first_mut()) {
            let packed = packed(&shape, Filters::Flipped, &weights)?;
            *first = Some(convolve::<E>(&shape.transposed(), &gradient, &packed, None)?);
        }
        if has_bias {
            gradients.push(Some(gradient.f_sum_dim_intlist([0i64, 1, 2].as_slice(), false, Kind::Float)?));
        }
        Ok(gradients)
    };
    let inputs: Vec<&Tensor> = [x, weight].into_iter().chain(bias).collect();
    autograd::set_backward(c"grimace::winograd backward", &output, &inputs, Box::new(backward))?;
    Ok(output)
}

/// Transforms `weights` [F, 3, 3, C] for a pass of the convolution `shape`.
pub(super) fn packed(shape: &Shape, direction: Filters, weights: &Tensor) -> Result<Tensor> {
    let inputs = match direction {
        Filters::Forward => shape.conv.channels,
        Filters::Flipped => shape.conv.filters,
    };
    let mut packed = empty([shape.transformed_len()])?;
    let weights = tensor_slice::slice::<f32>(weights)?;
    let blocks = tensor_slice::slice_mut::<f32>(&mut packed)?.chunks_mut(shape.tile.places() * inputs * BLOCK);
    parallel::for_each(blocks.enumerate().collect(), |(block, to): (usize, &mut [f32])| {
        winograd::pack(shape, direction, weights, block, to);
    })?;
    Ok(packed)
}

/// Convolves `input` [N, H, W, C] with filters from [`packed`] to [N, F, H', W'].
fn convolve<E: Element + TensorElement>(
    shape: &Shape,
    input: &Tensor,
    packed: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let sizes = [shape.conv.filters, shape.conv.conv_height(), shape.conv.conv_width()].map(|size| size as i64);
    let mut output = empty_like(input, sizes)?;
    let chunk = chunk_size(images_of(input));
    let bias = bias.map(tensor_slice::slice::<f32>).transpose()?;
    let packed = tensor_slice::slice::<f32>(packed)?;
    let inputs = tensor_slice::slice::<E>(input)?.chunks(chunk * shape.conv.input_len());
    let outputs = tensor_slice::channels_last_slice_mut::<E>(&mut output)?.chunks_mut(chunk * shape.conv.conv_len());
    parallel::for_each(inputs.zip(outputs).collect(), |(input, output): (&[E], &mut [E])| {
        winograd::forward(shape, input, packed, bias, output);
    })?;
    Ok(output)
}

/// Computes the gradient of the filters, [F, C, 3, 3], from `input` [N, H, W, C] and `gradient`
/// [N, H', W', F]. The sums of the threads are added in the order of the images.
fn filter_gradient<E: Element + TensorElement>(shape: &Shape, input: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let images = images_of(input);
    let chunk = chunk_size(images);
    let mut sums = empty([images.div_ceil(chunk), shape.transformed_len()])?;
    let work = tensor_slice::slice::<E>(input)?
        .chunks(chunk * shape.conv.input_len())
        .zip(tensor_slice::slice::<E>(gradient)?.chunks(chunk * shape.conv.conv_len()))
        .zip(tensor_slice::slice_mut::<f32>(&mut sums)?.chunks_mut(shape.transformed_len()))
        .collect();
    parallel::for_each(work, |((input, gradient), sums)| {
        weight_gradient::transformed(shape, input, gradient, sums);
    })?;
    let mut filters = empty([shape.conv.filters, KERNEL, KERNEL, shape.conv.channels])?;
    let sums = tensor_slice::slice::<f32>(&sums)?;
    let blocks = tensor_slice::slice_mut::<f32>(&mut filters)?
        .chunks_mut(BLOCK * KERNEL * KERNEL * shape.conv.channels)
        .enumerate();
    parallel::for_each(blocks.collect(), |(block, to): (usize, &mut [f32])| {
        weight_gradient::unpack(shape, sums, block, to);
    })?;
    Ok(filters.f_permute([0, 3, 1, 2])?)
}

fn empty<const DIMS: usize>(sizes: [usize; DIMS]) -> Result<Tensor> {
    Ok(Tensor::f_empty(sizes.map(|size| size as i64), (Kind::Float, Device::Cpu))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cpu::tests::{assert_all_close, without_kernels};
    use crate::testing::noise;

    /// Sizes for an input and filters [F, C, 3, 3], whatever is fastest.
    fn sizes(x: &Tensor, filters: usize, padding: usize, tile: TileSize) -> Shape {
        let [channels, height, width] = [1, 2, 3].map(|dim| x.size()[dim] as usize);
        Shape { conv: conv::Shape { height, width, channels, filters, padding }, tile, max_pool: false }
    }

    /// Output, and gradients of weight, input and bias, by the kernels, or by libtorch without
    /// `tile`.
    fn results(x: &Tensor, filters: usize, padding: usize, has_bias: bool, tile: Option<TileSize>) -> Vec<Tensor> {
        let x = x.copy().set_requires_grad(true);
        let weight = (noise(&[filters as i64, x.size()[1], 3, 3], 1) * 0.2).set_requires_grad(true);
        let bias = has_bias.then(|| noise(&[filters as i64], 2).set_requires_grad(true));
        let y = match tile {
            Some(tile) => forward(&sizes(&x, filters, padding, tile), &x, &weight, bias.as_ref()).unwrap(),
            None => x.conv2d(&weight, bias.as_ref(), 1, padding as i64, 1, 1),
        };
        (&y * noise(&y.size(), 3)).sum(Kind::Float).backward();
        [y.detach(), weight.grad(), x.grad()].into_iter().chain(bias.map(|bias| bias.grad())).collect()
    }

    #[test]
    fn matches_libtorch() {
        if kernels::isa().is_none() {
            println!("skipped: this processor has no instruction set of the kernels, so there is no fast path");
            return;
        }
        // Layers of the networks, odd sizes, no padding, one pixel, one image.
        for (size, filters, padding) in [
            ([5, 32, 24, 24], 16, 1),
            ([17, 16, 6, 6], 48, 1),
            ([1, 16, 13, 17], 32, 0),
            ([9, 32, 11, 9], 16, 1),
            ([3, 16, 1, 1], 16, 1),
        ] {
            for (tile, channels_last) in
                TILES.into_iter().flat_map(|tile| [false, true].map(|channels_last| (tile, channels_last)))
            {
                let mut x = noise(&size, 4);
                if channels_last {
                    x = x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
                }
                let [fast, reference] =
                    [Some(tile), None].map(|tile| results(&x, filters, padding, !channels_last, tile));
                assert_all_close(&fast, &reference, 5e-6, &format!("{size:?}, {tile:?}"));
            }
        }
    }

    #[test]
    fn bf16_is_rounded_once() {
        if kernels::isa().is_none() {
            println!("skipped: this processor has no instruction set of the kernels, so there is no fast path");
            return;
        }
        let run = |x: &Tensor, padding, tile| {
            let x = x.detach().set_requires_grad(true);
            let weight = (noise(&[16, 32, 3, 3], 1) * 0.2).set_requires_grad(true);
            let bias = noise(&[16], 2).set_requires_grad(true);
            let y = forward(&sizes(&x, 16, padding, tile), &x, &weight, Some(&bias)).unwrap();
            let gradient = noise(&y.size(), 3).to_kind(Kind::BFloat16).to_kind(y.kind());
            (&y * gradient).sum(Kind::Float).backward();
            ([y.detach(), x.grad()], [weight.grad(), bias.grad()])
        };
        let x = noise(&[9, 32, 11, 9], 4).to_kind(Kind::BFloat16);
        let channels_last = x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        for (x, padding, tile) in
            TILES.into_iter().flat_map(|tile| [(&x, 1, tile), (&channels_last, 0, tile), (&channels_last, 2, tile)])
        {
            let (images, weights) = run(x, padding, tile);
            let (float_images, float_weights) = run(&x.to_kind(Kind::Float), padding, tile);
            for (image, float) in images.iter().zip(&float_images) {
                assert!(image.equal(&float.to_kind(Kind::BFloat16)), "{tile:?}, padding {padding}");
            }
            for (weight, float) in weights.iter().zip(&float_weights) {
                assert!(weight.kind() == Kind::Float && weight.equal(float), "{tile:?}, padding {padding}");
            }
        }
        // A gradient that is one value, expanded.
        let x = x.set_requires_grad(true);
        let weight = noise(&[16, 32, 3, 3], 1).set_requires_grad(true);
        forward(&sizes(&x, 16, 1, TileSize::Four), &x, &weight, None).unwrap().sum(Kind::BFloat16).backward();
        assert!(weight.grad().isfinite().all().int64_value(&[]) == 1 && x.grad().kind() == Kind::BFloat16);
    }

    #[test]
    fn tiles_follow_from_the_sizes() {
        let tiles = |images, side, padding, max_pool| {
            let conv = conv::Shape { height: side, width: side, channels: 16, filters: 16, padding };
            let x = Tensor::empty([images, 1, 1, 1], (Kind::Float, Device::Cpu));
            fastest(Shape { conv, tile: TileSize::Two, max_pool }, &x).map(|shape| shape.tile)
        };
        let tile = |images, side, padding| tiles(images, side, padding, false);
        // The maps of the networks, at 48 and at 32 pixels.
        for side in [4, 8, 12, 16, 24, 48] {
            assert_eq!(tile(4096, side, 1), Some(TileSize::Four), "{side}");
        }
        assert_eq!([6, 3].map(|side| tile(4096, side, 1)), [Some(TileSize::Three); 2]);
        assert_eq!(tile(4096, 2, 1), Some(TileSize::Two));
        assert_eq!((tile(4096, 1, 1), tile(4096, 3, 0)), (None, None), "one pixel");
        assert_eq!((tile(0, 24, 1), tile(7, 6, 1)), (None, None), "few tiles");
        assert_eq!(tile(8, 6, 1), Some(TileSize::Three), "32 tiles");
        // With pooling, maps of 46, 21, 8 and 6 pixels. F(2x2) and F(4x4) need 144 multiplications for 6x6.
        let sizes = [48, 23, 10, 8].map(|side| tiles(4096, side, 0, true));
        assert_eq!(sizes, [Some(TileSize::Four), Some(TileSize::Four), Some(TileSize::Four), Some(TileSize::Two)]);
    }

    #[test]
    fn other_convolutions_have_no_kernel() {
        let x = noise(&[512, 16, 8, 8], 5);
        let weight = |size: [i64; 4]| noise(&size, 6);
        assert!(shape(&x, &weight([8, 16, 3, 3]), 1).is_none(), "8 filters");
        assert!(shape(&x, &weight([16, 16, 1, 1]), 0).is_none(), "1x1");
        assert!(shape(&x, &weight([16, 16, 3, 3]), 3).is_none(), "padding");
        let bf16 = shape(&x.to_kind(Kind::BFloat16), &weight([16, 16, 3, 3]), 1);
        assert_eq!(bf16.is_some(), kernels::isa().is_some() && !is_cpu_bf16_fast(), "bf16");
        assert!(shape(&x.to_kind(Kind::Half), &weight([16, 16, 3, 3]), 1).is_none(), "float16");
        let few = noise(&[threads() as i64 - 1, 16, 48, 48], 5);
        assert!(shape(&few, &weight([16, 16, 3, 3]), 1).is_none(), "fewer images than threads");
        assert!(without_kernels(|| shape(&x, &weight([16, 16, 3, 3]), 1)).is_none(), "no kernels");
        assert_eq!(shape(&x, &weight([16, 16, 3, 3]), 1).is_some(), kernels::isa().is_some());
    }

    #[test]
    fn results_repeat_and_threads_change_the_filter_gradient_only_by_rounding() {
        if kernels::isa().is_none() {
            return;
        }
        let x = noise(&[23, 16, 12, 12], 7);
        let run = |threads| {
            tch::set_num_threads(threads);
            results(&x, 32, 1, true, Some(TileSize::Four))
        };
        let before = tch::get_num_threads();
        let (one, repeated, three) = (run(1), run(1), run(3));
        tch::set_num_threads(before);
        for (one, repeated) in one.iter().zip(&repeated) {
            assert!(one.equal(repeated), "bit-identical on the same number of threads");
        }
        assert!(one[0].equal(&three[0]) && one[2].equal(&three[2]), "output and input gradient on any number");
        assert_all_close(&one, &three, 1e-5, "threads");
    }

    #[test]
    fn inputs_without_gradient_get_none() {
        if kernels::isa().is_none() {
            return;
        }
        let (x, weight) = (noise(&[16, 16, 8, 8], 8), noise(&[16, 16, 3, 3], 9).set_requires_grad(true));
        let run = || forward(&sizes(&x, 16, 1, TileSize::Three), &x, &weight, None).unwrap();
        run().sum(Kind::Float).backward();
        assert!(weight.grad().defined() && !x.grad().defined());
        assert!(!tch::no_grad(run).requires_grad());
    }
}
