//! Functions of libtorch that the crate `tch` lacks. All C++ of the program is here, and all
//! `unsafe` except for vector instructions.
//!
//! - [`trace_module`] writes a TorchScript module whose parameters are registered under their names
//!   (tch's `create_by_tracing` makes them constants); [`trace_operations`] returns the operations of
//!   the same trace, for exports to other formats.
//! - [`cuda`] opens the CUDA library at run time, so that one binary runs on machines with and
//!   without a GPU, and has CUDA graphs; [`fused`] has optimizer steps of one launch.
//! - [`autograd`] makes functions implemented in Rust differentiable, [`tensor_slice`] gives them
//!   the values of tensors as slices, and [`parallel`] runs them on libtorch's thread pool.
//! - [`group`] sums tensors over several processes.
//! - [`op_profile`] measures the time of libtorch's operations and of custom ones.
//! - [`spinning`] bounds how long OpenMP's idle threads spin.
//! - [`cpu_capability`] and [`torch_version`] return the instruction set and the version of
//!   libtorch.

pub mod autograd;
pub mod cuda;
pub mod fused;
pub mod group;
pub mod op_profile;
pub mod parallel;
pub mod spinning;
pub mod tensor_slice;
mod trace;

use std::ffi::{CStr, c_char, c_void};

use anyhow::{Result, anyhow};
use torch_sys::C_tensor;

pub use trace::{NamedTensor, Operand, Operation, trace_module, trace_operations};

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
