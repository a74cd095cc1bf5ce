//! Differentiable functions that are computed in Rust.

use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};
use tch::Tensor;
use torch_sys::C_tensor;

use crate::{grimace_copy_text, grimace_set_backward, take_text};

/// Computes the gradients by each input from the gradient by the output; `None`: there is none.
pub type Backward = Box<dyn Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + Send>;

struct Node {
    backward: Backward,
    inputs: usize,
}

/// Makes `output`, a fresh tensor without history, the result of a function of `inputs` for autograd: a backward pass that
/// reaches it calls `backward` with the loss's gradient by `output`. (PyTorch: `torch.autograd.Function`.)
///
/// `title` is what profiles call it. `backward` runs without recording, in the thread that asked for the pass on the CPU. Nothing is attached when gradients are
/// off or no input requires one. What `backward` keeps must not be changed in place before it has run: unlike PyTorch's
/// saved tensors, no version is checked.
///
/// # Errors
/// libtorch's. An error of `backward` becomes that of the backward pass.
pub fn set_backward(title: &CStr, output: &Tensor, inputs: &[&Tensor], backward: Backward) -> Result<()> {
    let pointers: Vec<*mut C_tensor> = inputs.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect();
    let context = Box::into_raw(Box::new(Node { backward, inputs: inputs.len() }));
    // SAFETY: the tensors outlive the call, which only reads the inputs; `context` is handed over to be given back once, to
    // `drop_node`.
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
    // SAFETY: made by `set_backward`, given back once.
    drop(unsafe { Box::from_raw(context.cast::<Node>()) });
}

extern "C" fn run_backward(
    context: *mut c_void,
    gradient: *mut C_tensor,
    gradients: *mut *mut C_tensor,
) -> *mut c_char {
    // SAFETY: the shim passes the context of `set_backward`, which lives until `drop_node`.
    let node = unsafe { &*context.cast_const().cast::<Node>() };
    // SAFETY: the shim lends a live tensor; this makes a second handle to it.
    let gradient = unsafe { Tensor::clone_from_ptr(gradient) };
    let outcome = catch_unwind(AssertUnwindSafe(|| tch::no_grad(|| (node.backward)(&gradient))));
    let message = match outcome {
        Ok(Ok(results)) if results.len() == node.inputs => {
            for (place, result) in results.into_iter().enumerate() {
                if let Some(mut tensor) = result {
                    // SAFETY: `gradients` has a place for each input; ownership of the tensor goes to the shim.
                    unsafe { *gradients.add(place) = tensor.as_mut_ptr() };
                    std::mem::forget(tensor);
                }
            }
            return std::ptr::null_mut();
        }
        Ok(Ok(results)) => format!("a backward function gave {} gradients for {} inputs", results.len(), node.inputs),
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

    /// y = x squared, in Rust.
    fn square(x: &Tensor) -> Tensor {
        let y = tch::no_grad(|| x * x);
        let kept = x.detach();
        set_backward(c"square", &y, &[x], Box::new(move |gradient| Ok(vec![Some(gradient * &kept * 2.0)]))).unwrap();
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
    fn nothing_is_attached_where_no_gradient_is_asked_for() {
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
    fn an_error_or_a_panic_is_that_of_the_backward_pass() {
        let failing = |backward: Backward| {
            let x = leaf();
            let y = x.detach().copy();
            set_backward(c"failing", &y, &[&x], backward).unwrap();
            y.sum(tch::Kind::Float).f_backward().unwrap_err().to_string()
        };
        assert!(failing(Box::new(|_| bail!("no way back"))).contains("no way back"));
        assert!(failing(Box::new(|_| panic!("oh"))).contains("panicked"));
        assert!(failing(Box::new(|_| Ok(Vec::new()))).contains("0 gradients for 1 inputs"));
    }
}
