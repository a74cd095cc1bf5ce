//! Device and precision of a run, selected once; a fallback comes with its reason.

mod config;
mod cuda;
mod memory;

use anyhow::{Result, anyhow};
use kernels::Isa;
use tch::{Device, Kind};

use crate::util::error::{input, is_input};

pub use config::{DeviceChoice, Precision};
pub use cuda::{
    CudaDevice, cuda_count, cuda_memory, cuda_versions, describe_cuda, has_cuda_bf16, init_cuda, probe_cuda,
};
pub use memory::total_memory;

/// Device and dtype of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// Device of all tensors.
    pub device: Device,
    /// dtype of the forward and backward pass: float32 or bfloat16.
    pub kind: Kind,
    /// Whether training may compute float32 convolutions and matrix products in TF32. Inference
    /// never does.
    pub tf32: bool,
    /// Why `auto` did not select CUDA; `None` when it did or was not asked to.
    pub reason: Option<String>,
}

impl Placement {
    /// `cpu`, `cuda:0` or `mps`.
    pub fn device_name(&self) -> String {
        match self.device {
            Device::Cpu => "cpu".into(),
            Device::Cuda(index) => format!("cuda:{index}"),
            Device::Mps => "mps".into(),
            Device::Vulkan => "vulkan".into(),
        }
    }

    /// `f32`, `tf32` or `bf16`.
    pub fn precision_name(&self) -> &'static str {
        match self.kind {
            Kind::BFloat16 => "bf16",
            _ if self.tf32 => "tf32",
            _ => "f32",
        }
    }
}

/// Selects device and dtype, and sets libtorch's thread count (0: one per core). CSV files are
/// always read on every core.
///
/// # Errors
/// When the requested device is not available or has no TF32 if that is requested, or
/// GRIMACE_KERNELS is not `auto`, `avx2` or `none`.
pub fn place(choice: DeviceChoice, precision: Precision, threads: usize) -> Result<Placement> {
    kernels::limit_isa(max_isa(std::env::var("GRIMACE_KERNELS").ok().as_deref())?);
    set_threads(threads);
    let (device, reason) = select_device(choice)?;
    let kind = match precision {
        Precision::F32 | Precision::Tf32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
        Precision::Auto if has_fast_bf16(device) => Kind::BFloat16,
        Precision::Auto => Kind::Float,
    };
    let tf32 = precision == Precision::Tf32;
    let placement = Placement { device, kind, tf32, reason };
    if tf32 && !matches!(device, Device::Cuda(index) if has_cuda_bf16(index)) {
        return Err(input(format!(
            "precision = \"tf32\": {} has no TF32, which needs an NVIDIA GPU of compute capability 8.0 or higher; start a \
             new run with precision = \"f32\" or \"auto\"",
            placement.device_name()
        )));
    }
    Ok(placement)
}

/// Like [`place`] for commands that only run a network: always float32, and at most one thread per
/// core.
///
/// # Errors
/// As [`place`].
pub fn place_for_inference(choice: DeviceChoice, threads: usize) -> Result<Placement> {
    // The training machine may have had more cores.
    place(choice, Precision::F32, threads.min(cores()))
}

fn set_threads(threads: usize) {
    let threads = if threads == 0 { cores() } else { threads };
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
}

/// The highest instruction set that the custom CPU kernels may use; `None` turns them off.
fn max_isa(variable: Option<&str>) -> Result<Option<Isa>> {
    match variable {
        None | Some("" | "auto") => Ok(Some(Isa::Avx512)),
        Some("avx2") => Ok(Some(Isa::Avx2)),
        Some("none") => Ok(None),
        Some(other) => {
            Err(input(format!("the environment variable GRIMACE_KERNELS is {other:?}: expected auto, avx2 or none")))
        }
    }
}

/// Runs `body` with libtorch's operations instead of the custom CPU kernels.
pub fn without_kernels<T>(body: impl FnOnce() -> T) -> T {
    let before = kernels::isa();
    kernels::limit_isa(None);
    let result = body();
    kernels::limit_isa(before);
    result
}

/// The instruction set of the custom CPU kernels, for reports.
pub fn describe_kernels() -> &'static str {
    match kernels::isa() {
        Some(Isa::Avx512) if cpu_has_bf16() => "AVX-512, bf16",
        Some(Isa::Avx512) => "AVX-512",
        Some(Isa::Avx2) => "AVX2",
        None => "none",
    }
}

/// Number of CPU threads of libtorch.
pub fn threads() -> usize {
    tch::get_num_threads().unsigned_abs() as usize
}

/// Chunk size that splits `count` items (images, rows, values) evenly over the CPU threads; at
/// least 1.
pub fn chunk_size(count: usize) -> usize {
    count.div_ceil(threads().max(1)).max(1)
}

/// Cores that this process may use, at most OMP_NUM_THREADS if that is set (as in libtorch).
pub fn cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let limit = std::env::var("OMP_NUM_THREADS").ok().and_then(|text| text.parse::<usize>().ok());
    limit.filter(|limit| *limit > 0).map_or(cores, |limit| limit.min(cores))
}

/// A warning if the config asks for more threads than [`cores`]; 0 is one thread per core.
pub fn excess_threads(threads: usize, cores: usize) -> Option<String> {
    let shown = if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
    (threads > cores).then(|| {
        format!(
            "threads = {threads} is more than the {shown} that this process may use (at most OMP_NUM_THREADS, if that \
             is set): training is slower; use threads = {cores}, or 0 for one per core"
        )
    })
}

fn select_device(choice: DeviceChoice) -> Result<(Device, Option<String>)> {
    match choice {
        DeviceChoice::Cpu => Ok((Device::Cpu, None)),
        DeviceChoice::Mps if tch::utils::has_mps() => Ok((Device::Mps, None)),
        DeviceChoice::Mps => Err(input(
            "device = \"mps\": this machine has no Apple GPU that libtorch can use; use device = \"auto\" or \"cpu\"",
        )),
        DeviceChoice::Auto if tch::utils::has_mps() => Ok((Device::Mps, None)),
        DeviceChoice::Auto => Ok(match init_cuda().and_then(|()| probe_cuda(0)) {
            Ok(()) => (Device::Cuda(0), None),
            Err(reason) => (Device::Cpu, Some(reason)),
        }),
        DeviceChoice::Cuda(index) => {
            let unavailable = |reason: String| {
                input(format!("device = \"cuda:{index}\": {reason}; use device = \"auto\" or \"cpu\""))
            };
            init_cuda().map_err(unavailable)?;
            let count = cuda_count();
            if index >= count {
                let devices = if count == 1 {
                    "1 CUDA device, cuda:0".to_owned()
                } else {
                    format!("{count} CUDA devices, numbered from 0")
                };
                return Err(unavailable(format!("this machine has {devices}")));
            }
            probe_cuda(index).map_err(unavailable)?;
            Ok((Device::Cuda(index), None))
        }
    }
}

/// Whether the device computes bfloat16 natively, which makes it faster than float32.
fn has_fast_bf16(device: Device) -> bool {
    match device {
        Device::Cuda(index) => has_cuda_bf16(index),
        Device::Cpu => cpu_has_bf16(),
        Device::Mps | Device::Vulkan => false,
    }
}

/// Whether the CPU multiplies bfloat16 natively: AVX512-BF16, which every CPU with AMX also has.
pub fn cpu_has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Removes the C++ stack trace from an error of libtorch, and adds advice when memory ran out. An
/// input error stays one, and so does an error without a stack trace.
pub fn simplify_torch_error(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let Some((message, _stack)) = text.split_once("\nException raised from") else { return error };
    if is_input(&error) {
        return input(message);
    }
    // CUDA's errors end with lines of advice about debugging.
    let message = message.lines().next().unwrap_or_default();
    if is_out_of_memory(message) {
        return anyhow!("{message}")
            .context("the device has too little memory: use a smaller train.batch, or device = \"cpu\"");
    }
    anyhow!("{message}")
}

/// Whether an error of libtorch says that memory ran out.
pub fn is_out_of_memory(message: &str) -> bool {
    message.contains("out of memory") || message.contains("not enough memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_follows_the_config() {
        let place = |precision| place(DeviceChoice::Cpu, precision, 1).unwrap();
        assert_eq!(place(Precision::F32).kind, Kind::Float);
        assert_eq!(place(Precision::Bf16).kind, Kind::BFloat16);
        let auto = if cpu_has_bf16() { Kind::BFloat16 } else { Kind::Float };
        assert_eq!(place(Precision::Auto).kind, auto);
        assert_eq!(place(Precision::F32).device_name(), "cpu");
    }

    #[test]
    fn environment_variable_limits_the_kernels() {
        let message = max_isa(Some("sse")).unwrap_err().to_string();
        assert!(message.contains("GRIMACE_KERNELS") && message.contains("avx2"), "{message}");
        let isa = |variable| max_isa(variable).unwrap();
        assert_eq!((isa(None), isa(Some("auto"))), (Some(Isa::Avx512), Some(Isa::Avx512)));
        assert_eq!((isa(Some("avx2")), isa(Some("none"))), (Some(Isa::Avx2), None));
    }

    #[test]
    fn more_threads_than_cores_are_a_warning() {
        assert_eq!((excess_threads(0, 4), excess_threads(4, 4)), (None, None));
        let found = excess_threads(5, 4).unwrap();
        assert!(
            found.contains("threads = 5 is more than the 4 cores") && found.contains("training is slower"),
            "{found}"
        );
        assert!(excess_threads(2, 1).unwrap().contains("the 1 core that"));
    }

    #[test]
    fn stack_traces_are_removed_and_input_errors_stay_input_errors() {
        let text = |message: &str| format!("{message}\nException raised from f at x.cpp:1\nframe #0: g()\n");
        let simplified = |error: anyhow::Error| simplify_torch_error(error.context("while training"));
        let error = simplified(anyhow!(text("bad shape")));
        assert_eq!((format!("{error:#}").as_str(), is_input(&error)), ("while training: bad shape", false));
        let error = simplified(input(text("bad file")));
        assert_eq!((format!("{error:#}").as_str(), is_input(&error)), ("while training: bad file", true));
        let memory = format!("{:#}", simplified(anyhow!(text("CUDA out of memory"))));
        assert!(memory.contains("smaller train.batch") && !memory.contains("frame"), "{memory}");
        let error = simplified(input("no stack"));
        assert!(is_input(&error) && error.chain().count() == 2, "it is unchanged");
    }

    #[test]
    fn missing_device_is_an_error_with_advice() {
        if init_cuda().is_ok() {
            println!("skipped: this machine has CUDA");
            return;
        }
        let message = place(DeviceChoice::Cuda(3), Precision::Auto, 1).unwrap_err().to_string();
        assert!(message.contains("cuda:3") && message.contains("\"cpu\""), "{message}");
        let auto = place(DeviceChoice::Auto, Precision::Auto, 1).unwrap();
        assert!(auto.reason.is_some() || auto.device == Device::Mps, "auto reports why not CUDA");
    }
}
