//! CUDA without linking to it: the library is opened at run time, so that one binary runs on
//! machines with and without a GPU.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, anyhow, bail};

use crate::{check, take_text};

unsafe extern "C" {
    fn grimace_cuda_open(path: *const c_char) -> *mut c_char;
    fn grimace_cuda_device_count(count: *mut c_int, code: *mut c_int) -> *mut c_char;
    fn grimace_cuda_look_silently() -> *mut c_char;
    fn grimace_cuda_error_text(code: c_int, text: *mut *mut c_char) -> *mut c_char;
    fn grimace_cuda_versions(driver: *mut c_int, runtime: *mut c_int) -> *mut c_char;
    fn grimace_cuda_properties(
        device: c_int,
        name: *mut *mut c_char,
        major: *mut c_int,
        minor: *mut c_int,
    ) -> *mut c_char;
    fn grimace_cuda_memory(device: c_int, available: *mut usize, total: *mut usize) -> *mut c_char;
    fn grimace_cudnn_settings(tf32: bool, deterministic: bool) -> *mut c_char;
    fn grimace_cuda_set_device(device: c_int) -> *mut c_char;
    fn grimace_cuda_synchronize(device: c_int) -> *mut c_char;
    fn grimace_stream_enter(device: c_int, before: *mut i64) -> *mut c_char;
    fn grimace_stream_leave(before: *const i64) -> *mut c_char;
    fn grimace_graph_capture(
        context: *mut c_void,
        body: extern "C" fn(*mut c_void) -> c_int,
        graph: *mut *mut c_void,
    ) -> *mut c_char;
    fn grimace_graph_replay(graph: *mut c_void) -> *mut c_char;
    fn grimace_graph_free(graph: *mut c_void);
}

/// Opens libtorch's CUDA library, a name or path, and makes its symbols available to the whole
/// process.
///
/// libtorch looks for CUDA only once: before any backward pass and any seeding of the process, or
/// CUDA stays unavailable.
///
/// # Errors
/// The message of the dynamic linker, which names the missing library.
pub fn open(path: &str) -> Result<()> {
    let path = CString::new(path).context("the path of the CUDA library contains a NUL byte")?;
    // SAFETY: a NUL-terminated string that outlives the call. Opening runs the library's
    // initializers, as intended.
    check(unsafe { grimace_cuda_open(path.as_ptr()) })
}

/// An error of the CUDA runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeError {
    /// `cudaError_t`, such as 35 for a driver that is too old.
    pub code: i32,
    /// The runtime's text.
    pub text: String,
}

/// The driver is older than the runtime (`cudaErrorInsufficientDriver`).
pub const INSUFFICIENT_DRIVER: i32 = 35;
/// There is no device (`cudaErrorNoDevice`).
pub const NO_DEVICE: i32 = 100;

/// Number of CUDA devices (`cudaGetDeviceCount`).
///
/// # Errors
/// Inside, the runtime's error if it cannot use the driver; outside, if the library is not open.
pub fn device_count() -> Result<Result<usize, RuntimeError>> {
    let (mut count, mut code) = (0, 0);
    // SAFETY: both are valid for writes.
    check(unsafe { grimace_cuda_device_count(&raw mut count, &raw mut code) })?;
    if code == 0 {
        return Ok(Ok(usize::try_from(count).unwrap_or(0)));
    }
    let mut text = std::ptr::null_mut();
    // SAFETY: valid for writes; the string is the caller's to free, which `take_text` does.
    check(unsafe { grimace_cuda_error_text(code, &raw mut text) })?;
    Ok(Err(RuntimeError { code, text: take_text(text).unwrap_or_default() }))
}

/// Lets libtorch look for devices without its warning, which it writes to stderr the first time if
/// there is none.
///
/// # Errors
/// Those of libtorch.
pub fn look_silently() -> Result<()> {
    // SAFETY: takes and leaves nothing.
    check(unsafe { grimace_cuda_look_silently() })
}

/// CUDA versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Newest version that the driver supports, 1000 * major + 10 * minor; 0 without a driver.
    pub driver: i32,
    /// Version of the runtime that libtorch uses.
    pub runtime: i32,
}

/// CUDA versions of driver and runtime.
///
/// # Errors
/// If the library is not open.
pub fn versions() -> Result<Versions> {
    let mut versions = Versions { driver: 0, runtime: 0 };
    // SAFETY: both are valid for writes.
    check(unsafe { grimace_cuda_versions(&raw mut versions.driver, &raw mut versions.runtime) })?;
    Ok(versions)
}

/// A CUDA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability: major and minor version.
    pub capability: (i32, i32),
}

/// Name and compute capability of a device.
///
/// # Errors
/// If there is no such device, or the library is not open.
pub fn properties(device: usize) -> Result<Properties> {
    let (mut name, mut capability) = (std::ptr::null_mut(), (0, 0));
    // SAFETY: all are valid for writes; the string is the caller's to free.
    check(unsafe {
        grimace_cuda_properties(c_int::try_from(device)?, &raw mut name, &raw mut capability.0, &raw mut capability.1)
    })?;
    Ok(Properties { name: take_text(name).unwrap_or_default(), capability })
}

/// Memory of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that no process has allocated.
    pub free: u64,
    /// All bytes.
    pub total: u64,
}

/// Memory of a device (`cudaMemGetInfo`).
///
/// # Errors
/// If it cannot be read, or the library is not open.
pub fn memory(device: usize) -> Result<Memory> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: both are valid for writes.
    check(unsafe { grimace_cuda_memory(c_int::try_from(device)?, &raw mut free, &raw mut total) })?;
    Ok(Memory { free: free as u64, total: total as u64 })
}

/// Makes a device the current one of this thread.
///
/// # Errors
/// If there is no such device.
pub fn set_device(device: usize) -> Result<()> {
    // SAFETY: takes a number, which libtorch checks.
    check(unsafe { grimace_cuda_set_device(c_int::try_from(device)?) })
}

/// Waits for a device.
///
/// # Errors
/// Those of earlier work on it.
pub fn synchronize(device: usize) -> Result<()> {
    // SAFETY: takes a number.
    check(unsafe { grimace_cuda_synchronize(c_int::try_from(device)?) })
}

/// Makes cuDNN use deterministic algorithms, selected without measuring, and float32 exact: no TF32
/// in convolutions and matrix products. For the whole process.
///
/// # Errors
/// If libtorch's settings contradict each other.
pub fn set_exact() -> Result<()> {
    // SAFETY: sets fields of libtorch's global context.
    check(unsafe { grimace_cudnn_settings(false, true) })
}

/// While this exists, convolutions and matrix products of float32 on CUDA devices read their inputs
/// with 10 bits of mantissa, in the whole process.
#[derive(Debug)]
pub struct Tf32(());

impl Tf32 {
    /// Allows TF32.
    ///
    /// # Errors
    /// If libtorch's settings contradict each other.
    pub fn allow() -> Result<Self> {
        // SAFETY: sets fields of libtorch's global context.
        check(unsafe { grimace_cudnn_settings(true, true) })?;
        Ok(Self(()))
    }
}

impl Drop for Tf32 {
    fn drop(&mut self) {
        // It has been set before without an error.
        drop(set_exact());
    }
}

/// A device and a stream of it other than the default one are current in this thread while this
/// exists. CUDA graphs can only be captured from such a stream.
#[derive(Debug)]
pub struct SideStream {
    before: [i64; 4],
    /// The stream is current in one thread only.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl SideStream {
    /// Waits for the device, and makes another stream of it current.
    ///
    /// # Errors
    /// If libtorch reports one.
    pub fn enter(device: usize) -> Result<Self> {
        let mut before = [0; 4];
        // SAFETY: an array of four, valid for writes.
        check(unsafe { grimace_stream_enter(c_int::try_from(device)?, before.as_mut_ptr()) })?;
        Ok(Self { before, _not_send: std::marker::PhantomData })
    }
}

impl Drop for SideStream {
    fn drop(&mut self) {
        // SAFETY: an array of four. A device that fails now has failed before, or fails again.
        drop(take_text(unsafe { grimace_stream_leave(self.before.as_ptr()) }));
    }
}

/// A CUDA graph: work that was recorded once and is launched as a whole (PyTorch:
/// `torch.cuda.CUDAGraph`). It reads and writes the memory that it was captured with.
#[derive(Debug)]
pub struct Graph {
    graph: *mut c_void,
}

type Body<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

struct Capture<'a> {
    body: Cell<Option<Body<'a>>>,
    error: Option<anyhow::Error>,
}

extern "C" fn run_body(context: *mut c_void) -> c_int {
    // SAFETY: the `Capture` that `Graph::capture` keeps alive and does not access meanwhile.
    let capture = unsafe { &mut *context.cast::<Capture>() };
    let Some(body) = capture.body.take() else { return 1 };
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => capture.error = Some(error),
        Err(_) => capture.error = Some(anyhow!("the captured function panicked")),
    }
    1
}

impl Graph {
    /// Records what `body` launches on the current stream, which must be a [`SideStream`]. Nothing
    /// is computed: tensors that `body` creates have no values before the first
    /// [`replay`](Self::replay), and in-place updates do not happen.
    ///
    /// The same work must have run outside a capture before, because libraries allocate at their
    /// first use.
    ///
    /// # Errors
    /// Those of `body`; those of CUDA, for example if `body` waits for the device. After an error,
    /// nothing more can be captured in this process.
    pub fn capture<'a>(body: impl FnOnce() -> Result<()> + 'a) -> Result<Self> {
        let mut capture = Capture { body: Cell::new(Some(Box::new(body))), error: None };
        let mut graph = std::ptr::null_mut();
        // SAFETY: `capture` outlives the call and is accessed only by the callback meanwhile;
        // `graph` is valid for writes.
        let failure = take_text(unsafe { grimace_graph_capture((&raw mut capture).cast(), run_body, &raw mut graph) });
        match (capture.error, failure) {
            (Some(error), _) => Err(error),
            (None, Some(reason)) => Err(anyhow!(reason)),
            (None, None) if graph.is_null() => bail!("the CUDA graph was not created"),
            (None, None) => Ok(Self { graph }),
        }
    }

    /// Launches the recorded work on the current stream, with random numbers from the current seed.
    ///
    /// # Errors
    /// Those of CUDA.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: a graph from `capture`, not yet freed.
        check(unsafe { grimace_graph_replay(self.graph) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: a graph from `capture`, freed once.
        unsafe { grimace_graph_free(self.graph) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_everything_is_an_error() {
        assert!(open("/nonexistent/libtorch_cuda.so").unwrap_err().to_string().contains("nonexistent"));
        assert!(device_count().unwrap_err().to_string().contains("cudaGetDeviceCount"));
        assert!(versions().is_err() && properties(0).is_err());
        assert!(Graph::capture(|| Ok(())).is_err());
    }
}
