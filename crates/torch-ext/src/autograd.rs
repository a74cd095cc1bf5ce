//! Autograd functions implemented in Rust.

use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};
use tch::Tensor;
use torch_sys::C_tensor;

use crate::{grimace_copy_text, grimace_set_backward, take_text};

/// Computes the gradient of each input from the gradient of the output; `None` for no gradient.
pub type Backward = Box<dyn Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + Send>;

struct Node {
    backward: Backward,
    inputs: usize,
}

/// Records `output`, a new tensor without history, as the result of a function of `inputs`: a
/// backward pass that reaches it calls `backward` with the gradient of the loss with respect to
/// `output`. (PyTorch: `torch.autograd.Function`.)
///
/// `title` is the function's name in profiles. `backward` runs in no-grad mode, on the CPU in the
/// thread that started the pass; its error becomes the error of the pass. Nothing is recorded in
/// no-grad mode or if no input requires a gradient.
///
/// Tensors that `backward` has captured must not be changed in place before it runs: unlike
/// PyTorch's saved tensors they have no version check.
pub fn set_backward(title: &CStr, output: &Tensor, inputs: &[&Tensor], backward: Backward) -> Result<()> {
    let pointers: Vec<*mut C_tensor> = inputs.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect();
    let context = Box::into_raw(Box::new(Node { backward, inputs: inputs.len() }));
    // SAFETY: the tensors outlive the call, which only reads the inputs. The shim takes ownership
    // of `context` and passes it to `drop_node` once.
    let failure = take_text(unsafe {
        grimace_set_backward(
            title.as_ptr(),
            output.as_ptr().cast_mut(),
            pointers.as_ptr(),
            pointers.len(),
            context.cast(),
            run_backward,
            drop_node,
        )
    });
    failure.map_or(Ok(()), |reason| Err(anyhow!(reason)))
}

extern "C" fn drop_node(context: *mut c_void) {
    // SAFETY: created by `set_backward`, passed here once.
    drop(unsafe { Box::from_raw(context.cast::<Node>()) });
}

extern "C" fn run_backward(
    context: *mut c_void,
    gradient: *mut C_tensor,
    gradients: *mut *mut C_tensor,
) -> *mut c_char {
    // SAFETY: the context of `set_backward`, which lives until `drop_node`.
    let node = unsafe { &*context.cast_const().cast::<Node>() };
    // SAFETY: the shim passes a live tensor, and this creates a second handle to it.
    let gradient = unsafe { Tensor::clone_from_ptr(gradient) };
    let outcome = catch_unwind(AssertUnwindSafe(|| tch::no_grad(|| (node.backward)(&gradient))));
    let message = match outcome {
        Ok(Ok(results)) if results.len() == node.inputs => {
            for (index, result) in results.into_iter().enumerate() {
                if let Some(mut tensor) = result {
                    // SAFETY: `gradients` has one element per input; the shim takes ownership of
                    // the tensor.
                    unsafe { *gradients.add(index) = tensor.as_mut_ptr() };
                    std::mem::forget(tensor);
                }
            }
            return std::ptr::null_mut();
        }
        Ok(Ok(results)) => {
            format!("a backward function returned {} gradients for {} inputs", results.len(), node.inputs)
        }
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "a backward function panicked".to_owned(),
    };
    let message = CString::new(message.replace('\0', " ")).unwrap_or_default();
    // SAFETY: a NUL-terminated string that the shim copies.
    unsafe { grimace_copy_text(message.as_ptr()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    fn leaf() -> Tensor {
        Tensor::from_slice(&[1.0f32, -2.0, 3.0]).set_requires_grad(true)
    }

    /// y = x², in Rust.
    fn square(x: &Tensor) -> Tensor {
        let y = tch::no_grad(|| x * x);
        let saved = x.detach();
        set_backward(c"square", &y, &[x], Box::new(move |gradient| Ok(vec![Some(gradient * &saved * 2.0)]))).unwrap();
        y
    }

    #[test]
    fn gradients_flow_through_a_function_in_rust() {
        let x = leaf();
        square(&(square(&x) + 1.0)).sum(tch::Kind::Float).backward();
        // d/dx (x^2 + 1)^2 = 4 x (x^2 + 1)
        assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [8.0, -40.0, 120.0]);
    }

    #[test]
    fn nothing_is_recorded_if_no_gradient_is_required() {
        assert!(!square(&leaf().detach()).requires_grad());
        assert!(!tch::no_grad(|| square(&leaf())).requires_grad());
        assert!(square(&leaf()).requires_grad());
    }

    #[test]
    fn a_second_backward_pass_is_an_error() {
        let x = leaf();
        let y = square(&x).sum(tch::Kind::Float);
        y.backward();
        assert!(y.f_backward().unwrap_err().to_string().contains("second"));
    }

    #[test]
    fn an_error_or_panic_becomes_the_error_of_the_backward_pass() {
        let failing = |backward: Backward| {
            let x = leaf();
            let y = x.detach().copy();
            set_backward(c"failing", &y, &[&x], backward).unwrap();
            y.sum(tch::Kind::Float).f_backward().unwrap_err().to_string()
        };
        assert!(failing(Box::new(|_| bail!("not differentiable"))).contains("not differentiable"));
        assert!(failing(Box::new(|_| panic!("oh"))).contains("panicked"));
        assert!(failing(Box::new(|_| Ok(Vec::new()))).contains("0 gradients for 1 inputs"));
    }
}
