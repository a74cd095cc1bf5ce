//! What grimace needs of libtorch and the crate `tch` lacks. All C++ is here, and all `unsafe` but that of vector instructions.
//!
//! - [`trace_module`] writes a TorchScript module whose parameters are registered under their names
//!   (tch's `create_by_tracing` bakes them in as constants).
//! - [`open_library`] opens the CUDA half of libtorch while the program runs, so that one binary serves machines with
//!   and without a GPU.
//! - [`autograd`] makes functions that are computed in Rust differentiable, [`memory`] shows them tensors as slices, and
//!   [`parallel`] lends them libtorch's threads.
//! - [`profile`] records how long libtorch's operations and our own take.
//! - [`cpu_capability`] and [`torch_version`] say what libtorch is and which instructions its kernels use.

pub mod autograd;
pub mod memory;
pub mod parallel;
pub mod profile;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use tch::Tensor;
use torch_sys::C_tensor;

type Forward = extern "C" fn(*mut c_void, *mut C_tensor, *mut *mut C_tensor) -> c_int;

unsafe extern "C" {
    fn grimace_free(text: *mut c_char);
    fn grimace_torch_version() -> *const c_char;
    fn grimace_cpu_capability() -> *mut c_char;
    fn grimace_keep_memory();
    fn grimace_profile_start() -> *mut c_char;
    fn grimace_profile_stop(
        context: *mut c_void,
        visit: extern "C" fn(*mut c_void, *const c_char, u64, f64),
    ) -> *mut c_char;
    fn grimace_profile_enter(name: *const c_char) -> bool;
    fn grimace_profile_leave();
    fn grimace_copy_text(text: *const c_char) -> *mut c_char;
    fn grimace_parallel(count: usize, context: *mut c_void, body: extern "C" fn(*mut c_void, usize)) -> *mut c_char;
    fn grimace_set_backward(
        title: *const c_char,
        output: *mut C_tensor,
        inputs: *const *mut C_tensor,
        count: usize,
        context: *mut c_void,
        backward: extern "C" fn(*mut c_void, *mut C_tensor, *mut *mut C_tensor) -> *mut c_char,
        drop: extern "C" fn(*mut c_void),
    ) -> *mut c_char;
    fn grimace_open_library(path: *const c_char) -> *mut c_char;
    fn grimace_trace_module(
        path: *const c_char,
        names: *const *const c_char,
        tensors: *const *mut C_tensor,
        buffers: *const bool,
        count: usize,
        example: *mut C_tensor,
        context: *mut c_void,
        forward: Forward,
        extra_names: *const *const c_char,
        extra_texts: *const *const c_char,
        extra_count: usize,
    ) -> *mut c_char;
}

/// Takes over a text that the shim allocated; `None` for null.
fn take_text(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the shim returns null or a NUL-terminated string of its own, handed over to be freed once.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        grimace_free(text);
        Some(copy)
    }
}

/// The version of the libtorch this was compiled against, as `2.11.0`.
pub fn torch_version() -> &'static str {
    // SAFETY: a string constant of the shim.
    unsafe { CStr::from_ptr(grimace_torch_version()) }.to_str().unwrap_or("unknown")
}

/// The instruction set that libtorch chose for its CPU kernels: `DEFAULT`, `AVX2`, `AVX512`, ...
pub fn cpu_capability() -> String {
    // SAFETY: takes no arguments; the text is handed over.
    take_text(unsafe { grimace_cpu_capability() }).unwrap_or_default()
}

/// Asks the C library to keep freed memory for the next step instead of handing it back to the system.
///
/// A training step frees and asks again for the same tens of megabytes; by default each time the kernel has to map and
/// clear the pages anew. Does nothing where the C library is not glibc.
pub fn keep_memory() {
    // SAFETY: sets tuning parameters of the allocator, which guards them itself.
    unsafe { grimace_keep_memory() };
}

/// Opens a shared library and makes its symbols known to the whole process.
///
/// # Errors
/// The dynamic linker's own message, which names the library that is missing.
pub fn open_library(name: &str) -> Result<()> {
    let name = CString::new(name).context("a library's name holds no NUL byte")?;
    // SAFETY: a NUL-terminated string that outlives the call. Opening runs the library's initialisers, which is the aim.
    match take_text(unsafe { grimace_open_library(name.as_ptr()) }) {
        None => Ok(()),
        Some(reason) => bail!(reason),
    }
}

/// A tensor of a module that is to be written, under its dotted name (`block1.conv.weight`).
#[derive(Debug)]
pub struct NamedTensor<'a> {
    /// Dotted name; every part but the last becomes a submodule.
    pub name: &'a str,
    /// The tensor itself: `forward` must read this very tensor for the trace to find it.
    pub tensor: &'a Tensor,
    /// A buffer (running statistics) rather than a parameter.
    pub buffer: bool,
}

struct Call<'a> {
    forward: &'a dyn Fn(&Tensor) -> Result<Tensor>,
    error: Option<anyhow::Error>,
}

extern "C" fn run_forward(context: *mut c_void, input: *mut C_tensor, output: *mut *mut C_tensor) -> c_int {
    // SAFETY: `context` is the `Call` that `trace_module` passed in and keeps alive; nothing else refers to it meanwhile.
    let call = unsafe { &mut *context.cast::<Call>() };
    // SAFETY: the shim lends a live tensor; this makes a second handle to it.
    let input = unsafe { Tensor::clone_from_ptr(input) };
    match catch_unwind(AssertUnwindSafe(|| (call.forward)(&input))) {
        Ok(Ok(mut result)) => {
            // SAFETY: `output` is a valid place; ownership of the tensor goes to the shim, which deletes it.
            unsafe { *output = result.as_mut_ptr() };
            std::mem::forget(result);
            0
        }
        Ok(Err(error)) => {
            call.error = Some(error);
            1
        }
        Err(_) => {
            call.error = Some(anyhow!("the forward function panicked"));
            1
        }
    }
}

/// Traces `forward` on `example` and saves it at `path` as a TorchScript module.
///
/// `tensors` are registered under their names, parameters as parameters and buffers as buffers, so that
/// `state_dict()` lists them and `.to()` moves them. `forward` must read exactly these tensors; any other tensor it
/// reads becomes a constant of the graph. Gradients are off while it runs. `extra` are named texts stored in the file.
///
/// # Errors
/// When `forward` fails, or libtorch cannot trace or write; the message is libtorch's.
pub fn trace_module(
    path: &Path,
    tensors: &[NamedTensor<'_>],
    example: &Tensor,
    forward: &dyn Fn(&Tensor) -> Result<Tensor>,
    extra: &[(&str, &str)],
) -> Result<()> {
    let c_text = |text: &str| CString::new(text).with_context(|| format!("{text:?} holds a NUL byte"));
    let path = c_text(path.to_str().context("the path is not UTF-8, which TorchScript needs")?)?;
    let names = tensors.iter().map(|t| c_text(t.name)).collect::<Result<Vec<_>>>()?;
    let extra_names = extra.iter().map(|(name, _)| c_text(name)).collect::<Result<Vec<_>>>()?;
    let extra_texts = extra.iter().map(|(_, text)| c_text(text)).collect::<Result<Vec<_>>>()?;
    let pointers = |texts: &[CString]| texts.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
    let (name_pointers, extra_name_pointers, extra_text_pointers) =
        (pointers(&names), pointers(&extra_names), pointers(&extra_texts));
    let tensor_pointers = tensors.iter().map(|t| t.tensor.as_ptr().cast_mut()).collect::<Vec<_>>();
    let buffers = tensors.iter().map(|t| t.buffer).collect::<Vec<_>>();
    let mut call = Call { forward, error: None };
    // SAFETY: every array has the length passed with it and outlives the call; the shim reads tensors, it neither frees
    // nor changes them; `call` is exclusively lent to the callback until the function returns.
    let failure = take_text(unsafe {
        grimace_trace_module(
            path.as_ptr(),
            name_pointers.as_ptr(),
            tensor_pointers.as_ptr(),
            buffers.as_ptr(),
            tensors.len(),
            example.as_ptr().cast_mut(),
            (&raw mut call).cast(),
            run_forward,
            extra_name_pointers.as_ptr(),
            extra_text_pointers.as_ptr(),
            extra.len(),
        )
    });
    match (call.error, failure) {
        (Some(error), _) => Err(error),
        (None, Some(reason)) => Err(anyhow!(reason)),
        (None, None) => Ok(()),
    }
}
