//! Device and precision of a run, selected once; a fallback comes with its reason.

mod config;
mod cpu_bf16;
mod cuda;
mod custom_kernels;
mod memory;
mod process_group;

use anyhow::{Result, anyhow};
use tch::{Device, Kind};

use crate::util::error::{input, is_input};

pub use config::{DeviceChoice, Precision};
pub use cpu_bf16::{are_bf16_kernels_fast, cpu_has_bf16, is_cpu_bf16_fast};
pub use cuda::{
    CudaDevice, cuda_count, cuda_memory, cuda_versions, describe_cuda, has_cuda_bf16, init_cuda, probe_cuda,
};
pub use custom_kernels::{describe_kernels, without_kernels};
pub use memory::total_memory;
pub use process_group::{Agreed, EndedElsewhere, Launch, ProcessGroup};

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
    /// Number of processes that train together, each on a device.
    pub processes: usize,
}

impl Placement {
    /// `cpu`, `cuda:0` or `mps`; of several processes such as `2 x cuda`.
    pub fn device_name(&self) -> String {
        if self.processes > 1 {
            let kind = if self.device.is_cuda() { "cuda" } else { "cpu" };
            return format!("{} x {kind}", self.processes);
        }
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
/// GRIMACE_KERNELS has an unknown value.
pub fn place(choice: DeviceChoice, precision: Precision, threads: usize) -> Result<Placement> {
    custom_kernels::Limits::parse(std::env::var("GRIMACE_KERNELS").ok().as_deref())?.apply();
    set_threads(threads);
    let (device, reason) = select_device(choice)?;
    let kind = match precision {
        Precision::F32 | Precision::Tf32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
        Precision::Auto if has_fast_bf16(device) => Kind::BFloat16,
        Precision::Auto => Kind::Float,
    };
    let tf32 = precision == Precision::Tf32;
    let placement = Placement { device, kind, tf32, reason, processes: 1 };
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

/// Whether a device is there and computes.
pub fn is_usable(choice: DeviceChoice) -> bool {
    check_usable(choice).is_ok()
}

/// Checks that a device is there and computes.
///
/// # Errors
/// An input error that says why not, and what to do.
pub fn check_usable(choice: DeviceChoice) -> Result<()> {
    select_device(choice).map(drop)
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

/// Whether the device computes faster in bfloat16 than in float32.
fn has_fast_bf16(device: Device) -> bool {
    match device {
        Device::Cuda(index) => has_cuda_bf16(index),
        Device::Cpu => is_cpu_bf16_fast(),
        Device::Mps | Device::Vulkan => false,
    }
}

/// What needs less memory, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryAdvice {
    /// Training: a smaller batch.
    Training,
    /// Running a network: another device.
    Inference,
}

/// Removes the C++ stack trace from an error of libtorch, and adds advice when memory ran out. An
/// input error stays one, and any other error stays as it is.
pub fn simplify_torch_error(error: anyhow::Error, advice: MemoryAdvice) -> anyhow::Error {
    let text = format!("{error:#}");
    let (message, has_stack) = match text.split_once("\nException raised from") {
        Some((message, _stack)) => (message, true),
        None => (text.as_str(), false),
    };
    if is_input(&error) {
        return if has_stack { input(message) } else { error };
    }
    if is_out_of_memory(message) && !message.starts_with(TOO_LITTLE_MEMORY) {
        let advice = match advice {
            MemoryAdvice::Training => "use a smaller train.batch, train.cuda_graph = false, or device = \"cpu\"",
            MemoryAdvice::Inference => "end other programs on it, or use --device cpu",
        };
        return anyhow!("{}", first_sentences(message)).context(format!("{TOO_LITTLE_MEMORY}: {advice}"));
    }
    // CUDA's errors end with lines of advice about debugging.
    if has_stack { anyhow!("{}", message.lines().next().unwrap_or_default()) } else { error }
}

/// Begins the message of an error that has advice.
const TOO_LITTLE_MEMORY: &str = "the device has too little memory";

/// An out-of-memory error of libtorch without its advice on PyTorch.
fn first_sentences(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default();
    let advice = [" Including ", " Process ", " Of the allocated ", " If reserved ", " See documentation"];
    let end = advice.iter().filter_map(|text| line.find(text)).min().unwrap_or(line.len());
    line.get(..end).unwrap_or(line)
}

/// Begins the message of tch's panic: when an operation with a scalar fails, tch 0.24 reads the error
/// while it frees the scalar, where it can only panic.
const TCH_PANIC: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"";

/// Whether a panic is an error of libtorch that tch could not return.
pub fn is_torch_panic(payload: &(dyn std::any::Any + Send)) -> bool {
    payload.downcast_ref::<String>().is_some_and(|text| text.starts_with(TCH_PANIC))
}

/// Runs `body`, and returns an error of libtorch that tch could not return as one.
///
/// # Errors
/// Those of `body`.
///
/// # Panics
/// Other panics continue.
pub fn catch_torch_panics<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // Tensors that were not computed do not exist; nothing else can be half done.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        match payload.downcast_ref::<String>().and_then(|text| text.strip_prefix(TCH_PANIC)) {
            Some(message) => Err(anyhow!("{}", message.replace("\\n", "\n"))),
            None => std::panic::resume_unwind(payload),
        }
    })
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
        let auto = if is_cpu_bf16_fast() { Kind::BFloat16 } else { Kind::Float };
        assert_eq!(place(Precision::Auto).kind, auto);
        assert_eq!(place(Precision::F32).device_name(), "cpu");
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
        let simplified =
            |error: anyhow::Error| simplify_torch_error(error.context("while training"), MemoryAdvice::Training);
        let error = simplified(anyhow!(text("bad shape")));
        assert_eq!((format!("{error:#}").as_str(), is_input(&error)), ("while training: bad shape", false));
        let error = simplified(input(text("bad file")));
        assert_eq!((format!("{error:#}").as_str(), is_input(&error)), ("while training: bad file", true));
        let memory = format!("{:#}", simplified(anyhow!(text("CUDA out of memory"))));
        assert!(memory.contains("smaller train.batch") && !memory.contains("frame"), "{memory}");
        let long = "CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has 3 MiB free. Of the allocated memory 1 KiB \
                    is PyTorch's. See documentation for more\nmore";
        let error = simplify_torch_error(anyhow!(long), MemoryAdvice::Inference);
        let expected = "the device has too little memory: end other programs on it, or use --device cpu: CUDA out of \
                        memory. Tried to allocate 2.00 MiB. GPU 0 has 3 MiB free.";
        assert_eq!(format!("{error:#}"), expected, "without a stack trace too");
        assert_eq!(
            format!("{:#}", simplify_torch_error(error, MemoryAdvice::Training)),
            expected,
            "advice is given once"
        );
        let error = simplified(input("no stack"));
        assert!(is_input(&error) && error.chain().count() == 2, "it is unchanged");
    }

    #[test]
    fn errors_that_tch_panics_with_are_errors() {
        let tensor = tch::Tensor::from_slice(&[1.0f32]);
        let message = |error: anyhow::Error| format!("{:#}", simplify_torch_error(error, MemoryAdvice::Training));
        let failed = catch_torch_panics(|| Ok(tensor.f_transpose(0, 7)?.f_mul_scalar(2.0)?));
        assert!(message(failed.unwrap_err()).contains("Dimension out of range"));
        let fail = || Err(tch::TchError::Torch("CUDA out of memory. Tried\nException raised from x".into()));
        let panicked = catch_torch_panics(|| -> Result<()> {
            // As in tch.
            fail().unwrap()
        });
        let text = message(panicked.unwrap_err());
        assert!(text.ends_with("or device = \"cpu\": CUDA out of memory. Tried"), "{text}");
        assert_eq!(catch_torch_panics(|| Ok(3)).unwrap(), 3);
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
