//! Functions of libtorch that the crate `tch` lacks. All C++ of the program is here, and all
//! `unsafe` except for vector instructions.
//!
//! - [`trace_module`] writes a TorchScript module whose parameters are registered under their names
//!   (tch's `create_by_tracing` makes them constants).
//! - [`cuda`] opens the CUDA library at run time, so that one binary runs on machines with and
//!   without a GPU, and has CUDA graphs; [`fused`] has optimizer steps of one launch.
//! - [`autograd`] makes functions implemented in Rust differentiable, [`tensor_slice`] gives them
//!   the values of tensors as slices, and [`parallel`] runs them on libtorch's thread pool.
//! - [`op_profile`] measures the time of libtorch's operations and of custom ones.
//! - [`cpu_capability`] and [`torch_version`] return the instruction set and the version of
//!   libtorch.

pub mod autograd;
pub mod cuda;
pub mod fused;
pub mod op_profile;
pub mod parallel;
pub mod tensor_slice;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use tch::Tensor;
use torch_sys::C_tensor;

type Forward = extern "C" fn(*mut c_void, *mut C_tensor, *mut *mut C_tensor) -> c_int;

unsafe extern "C" {
    fn grimace_free(text: *mut c_char);
    fn grimace_torch_version() -> *const c_char;
    fn grimace_cpu_capability() -> *mut c_char;
    fn grimace_keep_memory();
    fn grimace_is_unique(tensor: *const C_tensor) -> bool;
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

/// Takes ownership of a string allocated by the shim; `None` for null.
fn take_text(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the shim returns null or a NUL-terminated string that is the caller's to free, once.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        grimace_free(text);
        Some(copy)
    }
}

/// The error in a message of the shim, if there is one.
fn check(failure: *mut c_char) -> Result<()> {
    take_text(failure).map_or(Ok(()), |reason| Err(anyhow!(reason)))
}

/// Returns the version of libtorch that this was compiled against, such as `2.11.0`.
pub fn torch_version() -> &'static str {
    // SAFETY: a string constant of the shim.
    unsafe { CStr::from_ptr(grimace_torch_version()) }.to_str().unwrap_or("unknown")
}

/// Returns the instruction set of libtorch's CPU kernels: `DEFAULT`, `AVX2`, `AVX512`, ...
pub fn cpu_capability() -> String {
    // SAFETY: takes no arguments; the string is the caller's to free.
    take_text(unsafe { grimace_cpu_capability() }).unwrap_or_default()
}

/// Configures glibc's allocator to keep freed memory instead of returning it to the system.
///
/// Each training step allocates and frees the same tens of megabytes; by default the operating
/// system maps and clears those pages each time. Does nothing with another C library.
pub fn keep_memory() {
    // SAFETY: sets tuning parameters of the allocator, which synchronizes access to them.
    unsafe { grimace_keep_memory() };
}

/// A tensor of a traced module with its dotted name (`block1.conv.weight`).
#[derive(Debug)]
pub struct NamedTensor<'a> {
    /// Dotted name; every component but the last becomes a submodule.
    pub name: &'a str,
    /// The tensor, which `forward` must read through a handle to the same data.
    pub tensor: &'a Tensor,
    /// Whether it is a buffer (running statistics) rather than a parameter.
    pub buffer: bool,
}

struct Call<'a> {
    forward: &'a dyn Fn(&Tensor) -> Result<Tensor>,
    error: Option<anyhow::Error>,
}

extern "C" fn run_forward(context: *mut c_void, input: *mut C_tensor, output: *mut *mut C_tensor) -> c_int {
    // SAFETY: `context` is the `Call` that `trace_module` keeps alive and does not access
    // meanwhile.
    let call = unsafe { &mut *context.cast::<Call>() };
    // SAFETY: the shim passes a live tensor, and this creates a second handle to it.
    let input = unsafe { Tensor::clone_from_ptr(input) };
    match catch_unwind(AssertUnwindSafe(|| (call.forward)(&input))) {
        Ok(Ok(mut result)) => {
            // SAFETY: `output` is valid for writes; the shim takes ownership of the tensor.
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
/// `tensors` are registered under their names as parameters or buffers, so that `state_dict()`
/// lists them and `.to()` moves them. Any other tensor that `forward` reads becomes a constant of
/// the graph. `forward` runs in no-grad mode. `extra` are named strings stored in the file.
///
/// # Errors
/// If `forward` fails, or libtorch cannot trace or write.
pub fn trace_module(
    path: &Path,
    tensors: &[NamedTensor<'_>],
    example: &Tensor,
    forward: &dyn Fn(&Tensor) -> Result<Tensor>,
    extra: &[(&str, &str)],
) -> Result<()> {
    let c_text = |text: &str| CString::new(text).with_context(|| format!("{text:?} contains a NUL byte"));
    let path = c_text(path.to_str().context("the path is not UTF-8, which TorchScript requires")?)?;
    let names = tensors.iter().map(|t| c_text(t.name)).collect::<Result<Vec<_>>>()?;
    let extra_names = extra.iter().map(|(name, _)| c_text(name)).collect::<Result<Vec<_>>>()?;
    let extra_texts = extra.iter().map(|(_, text)| c_text(text)).collect::<Result<Vec<_>>>()?;
    let pointers = |texts: &[CString]| texts.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
    let (name_pointers, extra_name_pointers, extra_text_pointers) =
        (pointers(&names), pointers(&extra_names), pointers(&extra_texts));
    let tensor_pointers = tensors.iter().map(|t| t.tensor.as_ptr().cast_mut()).collect::<Vec<_>>();
    let buffers = tensors.iter().map(|t| t.buffer).collect::<Vec<_>>();
    let mut call = Call { forward, error: None };
    // SAFETY: every array has the length passed with it and outlives the call. The shim only reads
    // the tensors. `call` is accessed only by the callback until the function returns.
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
