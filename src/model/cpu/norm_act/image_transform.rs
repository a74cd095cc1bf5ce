//! Affine transform of each image's channels, from their moments.
//!
//! The moments are only [N, C], so libtorch's operations compute the coefficients from them and
//! record a small autograd graph. The backward pass of the layer runs that graph between its own
//! two passes: a backward pass within a backward pass.

use anyhow::{Context, Result};
use kernels::Element;
use kernels::norm_act::{Coefficients, OutputGradient};
use tch::{Device, Kind, Tensor};
use torch_ext::tensor_slice;

use super::Affine;
use super::passes::Passes;

/// Computes factor and offset of `factor (x - center) + offset`, each [N, C], from the moments of
/// x - `center`: its mean and the mean of its square over each image, each float64 [N, C].
pub type FromMoments<'a> = &'a dyn Fn(&Tensor, &Tensor) -> Result<[Tensor; 2]>;

/// An affine transform per channel of each image, followed by a residual add.
pub struct ImageTransform<'a> {
    /// Values close to the means of the input, float32 `[C]`.
    pub center: &'a Tensor,
    /// Operations that autograd records.
    pub from_moments: FromMoments<'a>,
    /// Tensors read by `from_moments` that may require a gradient.
    pub parameters: &'a [&'a Tensor],
    /// Added to the result, [N, C, H, W] of the dtype of the input.
    pub shortcut: Option<&'a Tensor>,
}

/// State saved for the backward pass.
pub struct Saved {
    /// Whether there is a residual add.
    pub has_shortcut: bool,
    /// float32 `[C]`
    center: Tensor,
    /// Moments, float64 [N, C]; leaves of the small graph.
    moments: [Tensor; 2],
    /// Factor and offset, float32 [N, C]; results of the small graph.
    affine: [Tensor; 2],
    /// Further leaves of the small graph.
    parameters: Vec<Tensor>,
}

impl ImageTransform<'_> {
    /// Computes the coefficients [N, C]. The groups of `passes` are images.
    pub fn forward<E: Element>(&self, passes: &Passes<'_, E>, requires_grad: bool) -> Result<(Affine, Saved)> {
        // A copy, because `from_moments` may update running statistics that `center` is a view of.
        let center = self.center.f_detach()?.f_detach_copy()?;
        let mut moments = sums_tensor(passes)?;
        passes.sums(tensor_slice::slice(&center)?, tensor_slice::slice_mut(&mut moments)?)?;
        let moments = moments.f_div_scalar_(passes.group_rows as f64)?;
        let requires_grad = requires_grad || self.parameters.iter().any(|parameter| parameter.requires_grad());
        let leaf =
            |index| Ok::<_, anyhow::Error>(moments.f_get(index)?.f_detach()?.f_set_requires_grad(requires_grad)?);
        let moments = [leaf(0)?, leaf(1)?];
        let [factor, offset] = (self.from_moments)(&moments[0], &moments[1])?;
        let affine = [to_float(&factor)?, to_float(&offset)?];

        let (factor, offset) = tch::no_grad(|| -> Result<_> {
            // factor (x - center) + offset = factor x + (offset - factor center)
            Ok((affine[0].f_detach()?, affine[1].f_sub(&affine[0].f_mul(&center)?)?.f_contiguous()?))
        })?;
        let values = |tensor| Ok::<_, anyhow::Error>(tensor_slice::slice(tensor)?.to_vec());
        let result = Affine { factor: values(&factor)?, offset: values(&offset)? };
        let parameters = self.parameters.iter().map(|parameter| parameter.shallow_clone()).collect();
        Ok((result, Saved { has_shortcut: self.shortcut.is_some(), center, moments, affine, parameters }))
    }
}

impl Saved {
    /// Computes the gradients of input and shortcut to `to_input` and `to_shortcut`, and returns
    /// those of the parameters.
    pub fn backward<E: Element>(
        &self,
        passes: &Passes<'_, E>,
        from: &OutputGradient<'_, E>,
        to_input: &mut [E],
        to_shortcut: Option<&mut [E]>,
    ) -> Result<Vec<Tensor>> {
        let mut sums = sums_tensor(passes)?;
        passes.backward_sums(from, tensor_slice::slice(&self.center)?, tensor_slice::slice_mut(&mut sums)?)?;

        // These are the gradients of offset and factor; the small graph yields those of its leaves.
        let leaves: Vec<&Tensor> = self.moments.iter().chain(&self.parameters).collect();
        let mut gradients = tch::with_grad(|| -> Result<Vec<Tensor>> {
            let sums = to_float(&sums)?;
            let (of_offset, of_factor) = (sums.f_get(0)?, sums.f_get(1)?);
            let total = self.affine[0].f_mul(&of_factor)?.f_add(&self.affine[1].f_mul(&of_offset)?)?;
            Ok(Tensor::f_run_backward(&[total.f_sum(Kind::Float)?], &leaves, false, false)?)
        })?
        .into_iter();
        let (of_mean, of_square) = gradients.next().zip(gradients.next()).context("the moments have gradients")?;

        // The moments are means of x - center and of its square over the rows of an image.
        let rows = passes.group_rows as f64;
        let by_x = of_square.f_mul_scalar(2.0 / rows)?;
        let offset = to_float(&of_mean.f_div_scalar(rows)?.f_sub(&by_x.f_mul(&self.center)?)?)?;
        let (by_x, factor) = (to_float(&by_x)?, self.affine[0].f_detach()?);
        let by = Coefficients::Affine {
            gradient: tensor_slice::slice(&factor)?,
            input: tensor_slice::slice(&by_x)?,
            offset: tensor_slice::slice(&offset)?,
        };
        passes.backward_apply(from, &by, to_input, to_shortcut)?;
        Ok(gradients.collect())
    }
}

/// Creates an uninitialized tensor for sums, float64 [2, groups, C].
fn sums_tensor<E: Element>(passes: &Passes<'_, E>) -> Result<Tensor> {
    Ok(Tensor::f_empty([2, passes.groups() as i64, passes.channels as i64], (Kind::Double, Device::Cpu))?)
}

fn to_float(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_to_dtype(Kind::Float, false, false)?.f_contiguous()?)
}
