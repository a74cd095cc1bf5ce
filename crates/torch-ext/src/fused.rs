//! Optimizer steps, copies of many tensors and checks of values, each a launch or two on a GPU.

use std::ffi::c_char;

use anyhow::{Result, ensure};
use tch::Tensor;
use torch_sys::C_tensor;

use crate::check;

unsafe extern "C" {
    fn grimace_foreach_copy(targets: *const *mut C_tensor, sources: *const *mut C_tensor, count: usize) -> *mut c_char;
    fn grimace_fused_adam(
        values: *mut C_tensor,
        gradients: *mut C_tensor,
        first: *mut C_tensor,
        second: *mut C_tensor,
        step: *mut C_tensor,
        lr: *mut C_tensor,
        decoupled: bool,
        weight_decay: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
    ) -> *mut c_char;
    fn grimace_fused_sgd(
        values: *mut C_tensor,
        gradients: *mut C_tensor,
        momentum_buffer: *mut C_tensor,
        lr: *mut C_tensor,
        weight_decay: f64,
        momentum: f64,
        nesterov: bool,
    ) -> *mut c_char;
    fn grimace_mark_nonfinite(values: *mut C_tensor, mark: *mut C_tensor, one: *mut C_tensor) -> *mut c_char;
    fn grimace_gradients(
        output: *mut C_tensor,
        seed: *mut C_tensor,
        inputs: *const *mut C_tensor,
        count: usize,
        gradients: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// Copies each of `sources` into the tensor of `targets` at the same position (PyTorch:
/// `torch._foreach_copy_`). A single launch needs targets of one dtype and sources of one dtype.
///
/// # Errors
/// If the numbers differ, or a shape does.
pub fn copy_all(targets: &[&Tensor], sources: &[&Tensor]) -> Result<()> {
    ensure!(targets.len() == sources.len(), "{} targets for {} sources", targets.len(), sources.len());
    if targets.is_empty() {
        return Ok(());
    }
    let pointers = |tensors: &[&Tensor]| tensors.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect::<Vec<_>>();
    let (targets, sources) = (pointers(targets), pointers(sources));
    // SAFETY: both arrays hold as many live tensors as passed.
    check(unsafe { grimace_foreach_copy(targets.as_ptr(), sources.as_ptr(), targets.len()) })
}

/// Coefficients of [`adam`].
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment after bias correction.
    pub epsilon: f64,
    /// Decoupled weight decay, as in AdamW; `None` for Adam without weight decay.
    pub weight_decay: Option<f64>,
}

/// Updates `values` and `moments` in place (PyTorch: `torch.optim.Adam(fused=True)`), all float32
/// of one shape on one device. `step` counts from 1; it and `lr` are float32 `[1]` on that device,
/// so that nothing is read back and a CUDA graph can be replayed with other values.
///
/// # Errors
/// If a dtype, shape or device does not fit.
pub fn adam(
    values: &Tensor,
    gradients: &Tensor,
    moments: [&Tensor; 2],
    step: &Tensor,
    lr: &Tensor,
    adam: Adam,
) -> Result<()> {
    let [values, gradients, first, second, step, lr] =
        [values, gradients, moments[0], moments[1], step, lr].map(|tensor| tensor.as_ptr().cast_mut());
    let (decoupled, decay) = (adam.weight_decay.is_some(), adam.weight_decay.unwrap_or(0.0));
    // SAFETY: live tensors; libtorch checks dtypes, shapes and devices.
    check(unsafe {
        grimace_fused_adam(
            values,
            gradients,
            first,
            second,
            step,
            lr,
            decoupled,
            decay,
            adam.beta1,
            adam.beta2,
            adam.epsilon,
        )
    })
}

/// Coefficients of [`sgd`].
#[derive(Debug, Clone, Copy)]
pub struct Sgd {
    /// L2 penalty.
    pub weight_decay: f64,
    /// Momentum factor.
    pub momentum: f64,
    /// Nesterov momentum.
    pub nesterov: bool,
}

/// Updates `values` and `momentum` in place (PyTorch: `torch.optim.SGD(fused=True)`), all float32
/// of one shape on one device; `lr` is float32 `[1]` on that device.
///
/// # Errors
/// If a dtype, shape or device does not fit.
pub fn sgd(values: &Tensor, gradients: &Tensor, momentum: &Tensor, lr: &Tensor, sgd: Sgd) -> Result<()> {
    let [values, gradients, buffer, lr] = [values, gradients, momentum, lr].map(|tensor| tensor.as_ptr().cast_mut());
    // SAFETY: live tensors; libtorch checks dtypes, shapes and devices.
    check(unsafe { grimace_fused_sgd(values, gradients, buffer, lr, sgd.weight_decay, sgd.momentum, sgd.nesterov) })
}

/// Sets `mark`, float32 `[1]`, to 1 if any of `values`, float32, is NaN or infinite. `one` is
/// float32 `[1]` with value 1. All are on one device. (PyTorch: the check of `torch.amp.GradScaler`.)
///
/// # Errors
/// If a dtype or device does not fit.
pub fn mark_nonfinite(values: &Tensor, mark: &Tensor, one: &Tensor) -> Result<()> {
    let [values, mark, one] = [values, mark, one].map(|tensor| tensor.as_ptr().cast_mut());
    // SAFETY: live tensors; libtorch checks dtypes and devices.
    check(unsafe { grimace_mark_nonfinite(values, mark, one) })
}

/// Gradients of `output`, a scalar, with respect to `inputs`, multiplied by `seed`, a scalar on the
/// same device (PyTorch: `torch.autograd.grad(output, inputs, seed)`).
///
/// # Errors
/// If an input is not part of the graph of `output`.
pub fn gradients(output: &Tensor, seed: &Tensor, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let pointers: Vec<*mut C_tensor> = inputs.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect();
    let mut results = vec![std::ptr::null_mut(); inputs.len()];
    let (output, seed) = (output.as_ptr().cast_mut(), seed.as_ptr().cast_mut());
    // SAFETY: live tensors; both arrays have `inputs.len()` elements.
    check(unsafe { grimace_gradients(output, seed, pointers.as_ptr(), pointers.len(), results.as_mut_ptr()) })?;
    // SAFETY: the shim wrote a new tensor for each input, which is ours.
    Ok(results.into_iter().map(|pointer| unsafe { Tensor::from_ptr(pointer) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn copies_convert_and_keep_memory_formats() {
        let source = Tensor::arange(24, (Kind::BFloat16, tch::Device::Cpu)).view([2, 3, 2, 2]);
        let flat = Tensor::zeros([24], (Kind::Float, tch::Device::Cpu));
        let target = flat.view([2, 2, 2, 3]).permute([0, 3, 1, 2]);
        copy_all(&[&target], &[&source]).unwrap();
        assert!(target.equal(&source.to_kind(Kind::Float)));
        assert!(copy_all(&[&target], &[]).is_err());
    }

    /// The first step of Adam moves each value by the learning rate against the gradient's sign.
    #[test]
    fn first_step_of_adam_and_sgd() {
        let one = |value: f32| Tensor::from_slice(&[value]);
        let (values, gradients) = (Tensor::from_slice(&[1.0f32, 1.0]), Tensor::from_slice(&[2.0f32, -0.5]));
        let (mut first, second) = (values.zeros_like(), values.zeros_like());
        let coefficients = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: None };
        adam(&values, &gradients, [&first, &second], &one(1.0), &one(0.1), coefficients).unwrap();
        assert!((&values - Tensor::from_slice(&[0.9f32, 1.1])).abs().max().double_value(&[]) < 1e-6);
        let coefficients = Sgd { weight_decay: 0.0, momentum: 0.5, nesterov: true };
        sgd(&values, &gradients, &first.zero_(), &one(0.1), coefficients).unwrap();
        // nesterov: lr * (gradient + momentum * gradient)
        assert!((&values - Tensor::from_slice(&[0.6f32, 1.175])).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn gradients_are_seeded_and_nonfinite_values_are_marked() {
        let one = Tensor::from_slice(&[1.0f32]);
        let x = Tensor::from_slice(&[1.0f32, -2.0]).set_requires_grad(true);
        let y = x.square().sum(Kind::Float);
        let found = gradients(&y, &one.squeeze(), &[x.shallow_clone()]).unwrap();
        assert_eq!(Vec::<f32>::try_from(&found[0]).unwrap(), [2.0, -4.0]);
        assert!(gradients(&y, &one.squeeze(), &[one.shallow_clone()]).is_err());
        for (value, expected) in [(1.0f32, 0.0), (f32::NAN, 1.0), (f32::INFINITY, 1.0)] {
            let (values, mark) = (Tensor::from_slice(&[0.5, value]), one.zeros_like());
            mark_nonfinite(&values, &mark, &one).unwrap();
            assert_eq!((mark.double_value(&[0]), values.double_value(&[0])), (expected, 0.5));
        }
    }
}
