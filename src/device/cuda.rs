//! CUDA devices: opening libtorch's CUDA library, and why a device cannot be used.

use std::path::Path;
use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};
use torch_ext::cuda::{self, INSUFFICIENT_DRIVER, NO_DEVICE, Properties, RuntimeError, Versions};

use super::is_out_of_memory;

/// Environment variable with the CUDA library to open, a name or path, instead of libtorch's own.
/// It is opened without looking for a GPU first, for simulated devices and unusual installations.
const CUDA_LIBRARY: &str = "GRIMACE_CUDA_LIBRARY";

/// The lowest compute capability with bfloat16 instructions (Ampere). PyTorch emulates it below.
const BF16_CAPABILITY: (i32, i32) = (8, 0);
/// The lowest compute capability that libtorch's builds for CUDA 13 have kernels for (Turing).
const MIN_CAPABILITY: (i32, i32) = (7, 5);

/// Device nodes of NVIDIA's drivers on Linux and in WSL.
const DEVICE_NODES: [&str; 3] = ["/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"];

/// Loads libtorch's CUDA libraries on the first call.
///
/// libtorch looks for CUDA only once in a process, at the first backward pass or seeding at the
/// latest, so a process that may use CUDA calls this before.
///
/// # Errors
/// Why CUDA is not available, in one line.
pub fn init_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(open_cuda).clone()
}

/// Number of CUDA devices; 0 if CUDA is not available.
pub fn cuda_count() -> usize {
    match init_cuda() {
        Ok(()) => usize::try_from(tch::Cuda::device_count()).unwrap_or(0),
        Err(_) => 0,
    }
}

fn open_cuda() -> Result<(), String> {
    if std::env::var("CUDA_VISIBLE_DEVICES").is_ok_and(|devices| devices.trim().is_empty() || devices.trim() == "-1") {
        return Err("CUDA_VISIBLE_DEVICES hides every CUDA device".into());
    }
    let library = std::env::var(CUDA_LIBRARY).ok().filter(|path| !path.is_empty());
    // Loading the libraries takes seconds: skipped without a device node.
    if library.is_none() && !DEVICE_NODES.iter().any(|path| Path::new(path).exists()) {
        return Err("no NVIDIA device on this machine".into());
    }
    cuda::open(library.as_deref().unwrap_or("libtorch_cuda.so")).map_err(|error| match &library {
        Some(path) => format!("{CUDA_LIBRARY}={path} cannot be opened ({error}); unset it to use libtorch's own"),
        None => format!(
            "libtorch's CUDA libraries cannot be loaded ({error}); run `make setup` on a machine with an NVIDIA device"
        ),
    })?;
    let versions = || cuda::versions().unwrap_or(Versions { driver: 0, runtime: 0 });
    let named = |error: anyhow::Error| match &library {
        Some(path) => format!("{CUDA_LIBRARY}={path} is not libtorch's CUDA library ({error:#}); unset it"),
        None => format!("{error:#}"),
    };
    match cuda::device_count().map_err(named)? {
        Err(error) => {
            // Now, because libtorch warns when it first looks for devices, and the reason is known.
            cuda::look_silently().map_err(|error| format!("{error:#}"))?;
            return Err(describe_runtime_error(&error, versions()));
        }
        Ok(0) => return Err("the NVIDIA driver reports no device (see nvidia-smi)".into()),
        Ok(_) => {}
    }
    if !tch::Cuda::is_available() {
        return Err("libtorch was used before its CUDA library was opened; please report this".into());
    }
    cuda::set_exact().map_err(|error| format!("{error:#}"))
}

/// `13.0` for CUDA's 13000.
fn describe_version(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// Why the CUDA runtime cannot use the driver, and what to do.
fn describe_runtime_error(error: &RuntimeError, Versions { driver, runtime }: Versions) -> String {
    match error.code {
        INSUFFICIENT_DRIVER if driver == 0 => "no NVIDIA driver is installed".into(),
        INSUFFICIENT_DRIVER => {
            // Of NVIDIA's table of CUDA releases and drivers.
            let needed = if runtime >= 13000 { 580 } else { 525 };
            format!(
                "the NVIDIA driver supports CUDA {} and this libtorch needs {}: update the driver to {needed} or newer, \
                 or set LIBTORCH to a libtorch {} built for CUDA 12.6",
                describe_version(driver),
                describe_version(runtime),
                torch_ext::torch_version()
            )
        }
        NO_DEVICE => "the NVIDIA driver reports no device (see nvidia-smi)".into(),
        code => format!(
            "CUDA error {code}, {}: after an update of the driver, restart the machine; otherwise see nvidia-smi",
            error.text
        ),
    }
}

/// Whether the CUDA device `index` computes with this libtorch: runs a kernel on it.
///
/// # Errors
/// Why not, in one line.
pub fn probe_cuda(index: usize) -> Result<(), String> {
    let run = || Tensor::f_ones([1], (Kind::Float, Device::Cuda(index)))?.f_add_scalar(1.0)?.f_to_device(Device::Cpu);
    let Err(error) = run() else { return Ok(()) };
    let text = error.to_string();
    if text.contains("no kernel image") {
        return Err(describe_missing_kernels(index, cuda::properties(index).ok()));
    }
    if is_out_of_memory(&text) {
        return Err(format!("cuda:{index} has no free memory: end other programs on it (see nvidia-smi)"));
    }
    Err(format!("cuda:{index} does not compute: {}", text.lines().next().unwrap_or_default()))
}

/// Why this libtorch has no kernels for a device, and what to do.
fn describe_missing_kernels(index: usize, properties: Option<Properties>) -> String {
    let libtorch = format!("libtorch {}", torch_ext::torch_version());
    let Some(Properties { name, capability: (major, minor) }) = properties else {
        return format!(
            "this libtorch has no kernels for cuda:{index}: set LIBTORCH to a build of {libtorch} that has"
        );
    };
    let named = format!("{name}, of compute capability {major}.{minor},");
    if (major, minor) >= MIN_CAPABILITY {
        return format!(
            "{named} is not among the GPUs that this libtorch was built for: set LIBTORCH to a build of {libtorch} for it"
        );
    }
    let (major, minor) = MIN_CAPABILITY;
    format!(
        "{named} is too old for this libtorch, which needs {major}.{minor}: set LIBTORCH to a {libtorch} built for CUDA 12.6"
    )
}

/// Whether the CUDA device `index` has bfloat16 instructions, and with them TF32.
pub fn has_cuda_bf16(index: usize) -> bool {
    cuda::properties(index).is_ok_and(|found| found.capability >= BF16_CAPABILITY)
}

/// A CUDA device, for reports.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CudaDevice {
    /// Such as `cuda:0`.
    pub device: String,
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability, such as `9.0`.
    pub capability: String,
    /// Memory in bytes; `None` if it cannot be read, because other programs have all of it, say.
    pub memory: Option<u64>,
    /// Free memory in bytes.
    pub free_memory: Option<u64>,
    /// Whether it has bfloat16 instructions.
    pub bf16: bool,
}

/// Describes the CUDA device `index`.
///
/// # Errors
/// If CUDA is not available, or there is no such device.
pub fn describe_cuda(index: usize) -> anyhow::Result<CudaDevice> {
    let (properties, memory) = (cuda::properties(index)?, cuda::memory(index).ok());
    let (major, minor) = properties.capability;
    Ok(CudaDevice {
        device: format!("cuda:{index}"),
        name: properties.name,
        capability: format!("{major}.{minor}"),
        memory: memory.map(|memory| memory.total),
        free_memory: memory.map(|memory| memory.free),
        bf16: has_cuda_bf16(index),
    })
}

/// CUDA versions of driver and runtime, such as `("13.0", "13.0")`; `None` if CUDA was not opened.
pub fn cuda_versions() -> Option<(String, String)> {
    let versions = cuda::versions().ok()?;
    Some((describe_version(versions.driver), describe_version(versions.runtime)))
}

/// Total memory of the CUDA device `index` in bytes, if it can be read.
pub fn cuda_memory(index: usize) -> Option<u64> {
    cuda::memory(index).ok().map(|memory| memory.total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_runtime_say_what_to_do() {
        let describe = |code, driver| {
            let error = RuntimeError { code, text: "unknown error".into() };
            describe_runtime_error(&error, Versions { driver, runtime: 13000 })
        };
        let old = describe(INSUFFICIENT_DRIVER, 12040);
        assert!(old.contains("supports CUDA 12.4 and this libtorch needs 13.0"), "{old}");
        assert!(old.contains("580 or newer") && old.contains("LIBTORCH") && old.contains("2.11.0"), "{old}");
        assert_eq!(describe(INSUFFICIENT_DRIVER, 0), "no NVIDIA driver is installed");
        assert!(describe(NO_DEVICE, 13000).contains("reports no device"));
        let unknown = describe(999, 13000);
        assert!(unknown.contains("CUDA error 999, unknown error") && unknown.contains("restart"), "{unknown}");
    }

    #[test]
    fn a_gpu_without_kernels_is_too_old_or_unknown() {
        let describe = |capability| describe_missing_kernels(1, Some(Properties { name: "RTX".into(), capability }));
        let old = describe((6, 1));
        assert!(old.starts_with("RTX, of compute capability 6.1, is too old") && old.contains("CUDA 12.6"), "{old}");
        let new = describe((12, 1));
        assert!(new.contains("is not among the GPUs") && !new.contains("12.6"), "{new}");
        assert!(describe_missing_kernels(1, None).contains("no kernels for cuda:1"));
    }
}
