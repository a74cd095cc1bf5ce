//! Batch norm, squeeze-and-excitation, stochastic depth, residual add and ReLU in training.

use anyhow::{Context, Result};
use kernels::norm_act::{self as kernel, Factors, Images};
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::{autograd, parallel, profile, tensor_slice};

use super::{empty_like, has_kernels, to_channels_last};
use crate::device::chunk_size;

/// Whether this machine has the kernels for `x` [N, C, H, W].
pub fn is_supported(x: &Tensor) -> bool {
    x.device() == Device::Cpu
        && has_kernels()
        && matches!(x.kind(), Kind::Float | Kind::BFloat16)
        && matches!(x.size()[..], [images, channels, height, width]
            if images > 0 && channels > 0 && channels % 16 == 0 && height * width > 0)
}

/// The factors and offsets of the affine map, each [N, C], from the moments of x - center, each float64 [N, C]: its means
/// and the means of its square. Recorded by autograd.
pub type Map<'a> = &'a dyn Fn(&Tensor, &Tensor) -> Result<[Tensor; 2]>;

/// What is done to `x`.
pub struct NormAct<'a> {
    /// float32 `[C]`: near the mean of `x`.
    pub center: &'a Tensor,
    /// What makes factors of moments.
    pub map: Map<'a>,
    /// All that the map reads and has gradients for.
    pub parameters: &'a [&'a Tensor],
    /// Added, [N, C, H, W] of the dtype of `x`.
    pub shortcut: Option<&'a Tensor>,
    /// Whether ReLU comes last.
    pub relu: bool,
}

/// `relu(factor (x - center) + offset + shortcut)` for `x` [N, C, H, W], float32 or bf16.
///
/// # Errors
/// libtorch's.
pub fn forward(x: &Tensor, by: &NormAct<'_>) -> Result<Tensor> {
    profile::operation("grimace::norm_act", || match x.f_kind()? {
        Kind::BFloat16 => forward_as::<bf16>(x, by),
        _ => forward_as::<f32>(x, by),
    })
}

/// What a backward pass needs of the forward one.
struct Kept {
    /// [N, H, W, C]
    input: Tensor,
    /// The result, where ReLU stopped some of it: [N, H, W, C].
    output: Option<Tensor>,
    /// float32 `[C]`
    center: Tensor,
    /// float64 [N, C], leaves of the small graph.
    moments: [Tensor; 2],
    /// float32 [N, C], its results.
    map: [Tensor; 2],
    /// Leaves of the small graph, too.
    parameters: Vec<Tensor>,
    has_shortcut: bool,
}

fn forward_as<E: Element + tensor_slice::TensorElement>(x: &Tensor, by: &NormAct<'_>) -> Result<Tensor> {
    let NormAct { parameters, shortcut, relu, .. } = *by;
    let [images, channels, rows, columns] = x.size()[..] else { anyhow::bail!("expected [N, C, H, W], not {x:?}") };
    let (pixels, channels) = ((rows * columns) as usize, channels as usize);
    let input = to_channels_last(&x.f_detach()?)?;
    // A copy: the map may move what it is a view of.
    let center = by.center.f_detach()?.f_detach_copy()?;
    let each = chunk_size(images as usize);
    let moments = tch::no_grad(|| -> Result<_> {
        let mut moments = Tensor::f_empty([2, images, channels as i64], (Kind::Double, Device::Cpu))?;
        let (means, squares) = tensor_slice::slice_mut::<f64>(&mut moments)?.split_at_mut(images as usize * channels);
        let parts = means.chunks_mut(each * channels).zip(squares.chunks_mut(each * channels));
        let work = tensor_slice::slice::<E>(&input)?.chunks(each * pixels * channels).zip(parts).collect();
        let center = tensor_slice::slice::<f32>(&center)?;
        parallel::for_each(work, |(values, (means, squares))| {
            kernel::moments(&Images { values, pixels, channels }, center, means, squares);
        })?;
        Ok([moments.f_get(0)?, moments.f_get(1)?])
    })?;
    let records = x.requires_grad() || parameters.iter().any(|parameter| parameter.requires_grad());
    let moments = moments.map(|tensor| tensor.set_requires_grad(records));
    let map = (by.map)(&moments[0], &moments[1])?;
    let map = [to_float(&map[0])?, to_float(&map[1])?];

    let y = empty_like(x, [channels as i64, rows, columns])?;
    tch::no_grad(|| -> Result<()> {
        let (factor, offset) = (map[0].f_detach()?, (&map[1] - &map[0] * &center).f_detach()?.f_contiguous()?);
        let (factor, offset) = (tensor_slice::slice::<f32>(&factor)?, tensor_slice::slice::<f32>(&offset)?);
        let added = shortcut.map(|shortcut| to_channels_last(&shortcut.f_detach()?)).transpose()?;
        let added = added.as_ref().map(tensor_slice::slice::<E>).transpose()?;
        let mut to = to_channels_last(&y)?;
        let factors = factor.chunks(each * channels).zip(offset.chunks(each * channels));
        let size = each * pixels * channels;
        let values =
            tensor_slice::slice::<E>(&input)?.chunks(size).zip(tensor_slice::slice_mut::<E>(&mut to)?.chunks_mut(size));
        let work = values.zip(factors).enumerate().collect();
        parallel::for_each(work, |(part, ((values, to), (factor, offset)))| {
            let added = added.and_then(|added| added.get(part * size..part * size + values.len()));
            kernel::apply(&Images { values, pixels, channels }, factor, offset, added, relu, to);
        })
    })?;

    let inputs: Vec<&Tensor> = [x].into_iter().chain(shortcut).chain(parameters.iter().copied()).collect();
    let kept = Kept {
        input,
        output: if relu { Some(to_channels_last(&y.f_detach()?)?) } else { None },
        center,
        moments,
        map,
        parameters: parameters.iter().map(|parameter| parameter.shallow_clone()).collect(),
        has_shortcut: shortcut.is_some(),
    };
    let backward = move |gradient: &Tensor| backward::<E>(&kept, gradient);
    autograd::set_backward(c"grimace::norm_act backward", &y, &inputs, Box::new(backward))?;
    Ok(y)
}

fn to_float(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_to_dtype(Kind::Float, false, false)?.f_contiguous()?)
}

/// The gradients by x, by the shortcut where there is one, and by the parameters.
fn backward<E: Element + tensor_slice::TensorElement>(kept: &Kept, gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let [images, channels, rows, columns] = gradient.size()[..] else { anyhow::bail!("a gradient of {gradient:?}") };
    let result = empty_like(gradient, [channels, rows, columns])?;
    let by_shortcut = if kept.has_shortcut { Some(empty_like(gradient, [channels, rows, columns])?) } else { None };
    let (pixels, channels) = ((rows * columns) as usize, channels as usize);
    let gradient = to_channels_last(gradient)?;
    let gradient = tensor_slice::slice::<E>(&gradient)?;
    let values = tensor_slice::slice::<E>(&kept.input)?;
    let output = kept.output.as_ref().map(tensor_slice::slice::<E>).transpose()?;
    let center = tensor_slice::slice::<f32>(&kept.center)?;
    let each = chunk_size(images as usize);
    let size = each * pixels * channels;
    let part_of = |part: usize, length: usize| part * size..part * size + length;

    let mut sums = Tensor::f_empty([2, images, channels as i64], (Kind::Double, Device::Cpu))?;
    let (to_sums, to_products) = tensor_slice::slice_mut::<f64>(&mut sums)?.split_at_mut(images as usize * channels);
    let parts = to_sums.chunks_mut(each * channels).zip(to_products.chunks_mut(each * channels));
    let work = values.chunks(size).zip(gradient.chunks(size)).zip(parts).enumerate().collect();
    parallel::for_each(work, |(part, ((values, gradient), (sums, products)))| {
        let output = output.and_then(|output| output.get(part_of(part, values.len())));
        kernel::backward_sums(&Images { values, pixels, channels }, output, gradient, center, sums, products);
    })?;

    // By offset and factor; through the small graph on to the moments and the parameters.
    let [moments, parameters] = [&kept.moments[..], &kept.parameters[..]];
    let leaves: Vec<&Tensor> = moments.iter().chain(parameters).collect();
    let mut gradients = tch::with_grad(|| -> Result<Vec<Tensor>> {
        let sums = to_float(&sums)?;
        let (by_offset, by_factor) = (sums.f_get(0)?, sums.f_get(1)?);
        let total = kept.map[0].f_mul(&by_factor)?.f_add(&kept.map[1].f_mul(&by_offset)?)?.f_sum(Kind::Float)?;
        Ok(Tensor::f_run_backward(&[total], &leaves, false, false)?)
    })?
    .into_iter();
    let (by_mean, by_square) = gradients.next().zip(gradients.next()).context("the moments have gradients")?;

    // The moments are means over the pixels of x - center and its square.
    let by_x = by_square * (2.0 / pixels as f64);
    let offset = to_float(&(by_mean / pixels as f64 - &by_x * &kept.center))?;
    let by_x = to_float(&by_x)?;
    let factor = kept.map[0].f_detach()?;
    let factors = [&factor, &by_x, &offset].map(tensor_slice::slice::<f32>);
    let [Ok(by_gradient), Ok(by_x), Ok(offset)] = factors else { anyhow::bail!("factors are dense float32") };
    let each_factor = each * channels;
    let factors = by_gradient.chunks(each_factor).zip(by_x.chunks(each_factor)).zip(offset.chunks(each_factor));
    let mut to = to_channels_last(&result)?;
    let mut to_shortcut = by_shortcut.as_ref().map(to_channels_last).transpose()?;
    let mut others = match &mut to_shortcut {
        Some(to) => tensor_slice::slice_mut::<E>(to)?.chunks_mut(size).map(Some).collect(),
        None => Vec::new(),
    }
    .into_iter();
    let to = tensor_slice::slice_mut::<E>(&mut to)?.chunks_mut(size).map(|to| (to, others.next().flatten()));
    let work = values.chunks(size).zip(gradient.chunks(size)).zip(to).zip(factors).enumerate().collect();
    parallel::for_each(work, |(part, (((values, gradient), (to, to_shortcut)), ((by_gradient, by_x), offset)))| {
        let output = output.and_then(|output| output.get(part_of(part, values.len())));
        let factors = Factors { gradient: by_gradient, x: by_x, offset };
        kernel::backward_apply(&Images { values, pixels, channels }, output, gradient, &factors, to, to_shortcut);
    })?;
    let by_input = [Some(result)].into_iter().chain(by_shortcut.map(Some));
    Ok(by_input.chain(gradients.map(Some)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_all_close;
    use super::*;
    use crate::testing::noise;

    /// Result and gradients of input, shortcut and parameters, through the kernels or by libtorch: a batch norm whose factors
    /// also hang on each image's means.
    fn results(x: &Tensor, with_shortcut: bool, relu: bool, fast: bool) -> Vec<Tensor> {
        let leaf = |tensor: Tensor| tensor.set_requires_grad(true);
        let channels = x.size()[1];
        let (x, weight) = (leaf(x.copy()), leaf(noise(&[channels], 1) + 1.5));
        let shortcut = with_shortcut.then(|| leaf(noise(&x.size(), 2).to_kind(x.kind())));
        let center = noise(&[channels], 3) * 0.1;
        let map = |means: &Tensor, squares: &Tensor| {
            let mean = means.mean_dim([0i64].as_slice(), false, Kind::Double);
            let variance = squares.mean_dim([0i64].as_slice(), false, Kind::Double) - mean.square();
            let factor = (variance + 1e-3).rsqrt() * &weight * (1.0 + means.tanh());
            let offset = -(&factor * mean);
            Ok([factor, offset])
        };
        let y = if fast {
            assert!(is_supported(&x));
            let shortcut = shortcut.as_ref();
            forward(&x, &NormAct { center: &center, map: &map, parameters: &[&weight], shortcut, relu }).unwrap()
        } else {
            let centerd = x.to_kind(Kind::Double) - center.view([1, -1, 1, 1]);
            let mean = |tensor: &Tensor| tensor.mean_dim([2i64, 3].as_slice(), false, Kind::Double);
            let [factor, offset] = map(&mean(&centerd), &mean(&centerd.square())).unwrap();
            let wide = |tensor: Tensor| tensor.unsqueeze(-1).unsqueeze(-1);
            let mut y = centerd * wide(factor) + wide(offset);
            if let Some(shortcut) = &shortcut {
                y += shortcut;
            }
            (if relu { y.relu() } else { y }).to_kind(x.kind())
        };
        (y.to_kind(Kind::Float) * noise(&y.size(), 5)).sum(Kind::Float).backward();
        let shortcut = shortcut.map(|shortcut| shortcut.grad());
        [y, x.grad(), weight.grad()].into_iter().chain(shortcut).collect()
    }

    #[test]
    fn agrees_with_libtorch() {
        if kernels::isa().is_none() {
            println!("skipped: this processor has neither AVX2 nor AVX-512, so there is no fast path");
            return;
        }
        for (kind, tolerance) in [(Kind::Float, 2e-5), (Kind::BFloat16, 1e-2)] {
            for size in [[4, 32, 23, 23], [7, 16, 3, 5], [1, 48, 7, 2], [2, 16, 1, 1]] {
                for (with_shortcut, relu) in [(false, false), (false, true), (true, false), (true, true)] {
                    let x = ((noise(&size, 6) + 0.2) * 3.0).to_kind(kind);
                    let run = |fast| results(&x, with_shortcut, relu, fast);
                    let case = format!("{kind:?} {size:?} shortcut {with_shortcut} relu {relu}");
                    assert_all_close(&run(true), &run(false), tolerance, &case);
                }
            }
        }
    }

    #[test]
    fn nothing_is_recorded_without_gradients() {
        let x = noise(&[2, 16, 4, 4], 6);
        let center = Tensor::zeros([16], (Kind::Float, Device::Cpu));
        let map = |means: &Tensor, squares: &Tensor| Ok([squares.ones_like(), means.zeros_like()]);
        let by = NormAct { center: &center, map: &map, parameters: &[], shortcut: None, relu: false };
        let y = forward(&x, &by).unwrap();
        assert!(!y.requires_grad());
        assert!((y - x).abs().max().double_value(&[]) < 1e-6);
    }
}
