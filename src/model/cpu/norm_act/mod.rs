//! Batch norm in training with the operations around it: ReLU before or after,
//! squeeze-and-excitation, stochastic depth, residual add.
//!
//! Normalization, squeeze-and-excitation and stochastic depth are one affine transform, whose
//! coefficients follow from sums over the input: two passes over memory forward, two backward. See
//! [`kernels::norm_act`]. There are two kinds of transform:
//!
//! | | [`BatchNorm`] | [`ImageTransform`] |
//! | --- | --- | --- |
//! | coefficients | per channel | per channel of each image |
//! | computed from the sums | in closed form, in `f64` | by libtorch, with its own backward pass |
//! | used by | `cnn` | `vgg`, `resnet` |

mod batch_norm;
mod image_transform;
mod passes;
#[cfg(test)]
mod tests;

use anyhow::Result;
use kernels::norm_act::OutputGradient;
use kernels::{Element, bf16};
use tch::{Device, Kind, Tensor};
use torch_ext::{autograd, op_profile, tensor_slice};

pub use batch_norm::BatchNorm;
pub use image_transform::ImageTransform;
pub use kernels::norm_act::Relu;

use self::passes::Passes;
use super::{empty_like, has_kernels, to_channels_last};
use crate::device::chunk_size;

/// Affine transform of each channel, with what it is computed from.
pub enum Transform<'a> {
    /// Batch norm.
    Batch(BatchNorm<'a>),
    /// Batch norm and operations per image, such as squeeze-and-excitation.
    Image(ImageTransform<'a>),
}

/// Whether the kernels support `x` [N, C, H, W] on this machine.
pub fn is_supported(x: &Tensor) -> bool {
    x.device() == Device::Cpu
        && has_kernels()
        && matches!(x.kind(), Kind::Float | Kind::BFloat16)
        && matches!(x.size()[..], [images, channels, height, width]
            if images > 0 && channels > 0 && channels % 16 == 0 && height * width > 0)
}

/// Computes `relu(transform(x) + shortcut)`, or `transform(relu(x))` with ReLU before, for `x`
/// [N, C, H, W] in float32 or bf16.
pub fn forward(x: &Tensor, transform: &Transform<'_>, relu: Relu) -> Result<Tensor> {
    op_profile::operation("grimace::norm_act", || match x.f_kind()? {
        Kind::BFloat16 => forward_as::<bf16>(x, transform, relu),
        _ => forward_as::<f32>(x, transform, relu),
    })
}

/// State saved for the backward pass.
struct Saved {
    /// Input, [N, H, W, C].
    input: Tensor,
    /// Output, [N, H, W, C], if ReLU comes after.
    output: Option<Tensor>,
    group_rows: usize,
    relu: Relu,
    transform: SavedTransform,
}

enum SavedTransform {
    Batch(batch_norm::Saved),
    Image(image_transform::Saved),
}

/// Coefficients of the affine transform: `factor` x + `offset`, each [groups, C], or [C] for all
/// groups.
pub struct Affine {
    factor: Vec<f32>,
    offset: Vec<f32>,
}

fn forward_as<E: Element + tensor_slice::TensorElement>(
    x: &Tensor,
    transform: &Transform<'_>,
    relu: Relu,
) -> Result<Tensor> {
    let [images, channels, height, width] = x.size()[..] else {
        anyhow::bail!("batch norm requires a tensor [N, C, H, W], not {x:?}")
    };
    let mut y = empty_like(x, [channels, height, width])?;
    let input = to_channels_last(&x.f_detach()?)?;
    let group_rows = match transform {
        Transform::Batch(_) => chunk_size((images * height * width) as usize),
        Transform::Image(_) => (height * width) as usize,
    };
    let input_values = tensor_slice::slice::<E>(&input)?;
    let passes = Passes::new(input_values, group_rows, channels as usize, relu);
    let (affine, saved, parameters, shortcut) = match transform {
        Transform::Batch(norm) => {
            let (affine, saved) = norm.forward(&passes)?;
            (affine, SavedTransform::Batch(saved), vec![norm.weight, norm.bias], None)
        }
        Transform::Image(image) => {
            let (affine, saved) = image.forward(&passes, x.requires_grad())?;
            (affine, SavedTransform::Image(saved), image.parameters.to_vec(), image.shortcut)
        }
    };
    let added = shortcut.map(|shortcut| to_channels_last(&shortcut.f_detach()?)).transpose()?;
    let added = added.as_ref().map(tensor_slice::slice).transpose()?;
    passes.apply(&affine, added, tensor_slice::channels_last_slice_mut(&mut y)?)?;

    let inputs: Vec<&Tensor> = [x].into_iter().chain(shortcut).chain(parameters).collect();
    let output = if relu == Relu::After { Some(to_channels_last(&y.f_detach()?)?) } else { None };
    let saved = Saved { input, output, group_rows, relu, transform: saved };
    let backward = move |gradient: &Tensor| backward::<E>(&saved, gradient);
    autograd::set_backward(c"grimace::norm_act backward", &y, &inputs, Box::new(backward))?;
    Ok(y)
}

/// Computes the gradients of input, shortcut if there is one, and parameters.
fn backward<E: Element + tensor_slice::TensorElement>(saved: &Saved, gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let [_, channels, height, width] = gradient.size()[..] else { anyhow::bail!("a gradient of {gradient:?}") };
    let empty = || empty_like(gradient, [channels, height, width]);
    let (mut input_gradient, gradient) = (empty()?, to_channels_last(gradient)?);
    let input = tensor_slice::slice::<E>(&saved.input)?;
    let passes = Passes::new(input, saved.group_rows, channels as usize, saved.relu);
    let output = saved.output.as_ref().map(tensor_slice::slice).transpose()?;
    let from = OutputGradient { gradient: tensor_slice::slice(&gradient)?, output: output.unwrap_or_default() };
    let to_input = tensor_slice::channels_last_slice_mut(&mut input_gradient)?;
    let (shortcut_gradient, parameter_gradients) = match &saved.transform {
        SavedTransform::Batch(saved) => (None, saved.backward(&passes, &from, to_input)?),
        SavedTransform::Image(saved) => {
            let mut shortcut_gradient = if saved.has_shortcut { Some(empty()?) } else { None };
            let to_shortcut = shortcut_gradient.as_mut().map(tensor_slice::channels_last_slice_mut::<E>).transpose()?;
            let parameter_gradients = saved.backward(&passes, &from, to_input, to_shortcut)?;
            (shortcut_gradient, parameter_gradients)
        }
    };
    let gradients = [input_gradient].into_iter().chain(shortcut_gradient).chain(parameter_gradients);
    Ok(gradients.map(Some).collect())
}
