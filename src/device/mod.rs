//! Where to compute and in which number format, decided once; every fallback has a reason that is told.

mod config;
mod memory;

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use kernels::Isa;
use tch::{Device, Kind};

use crate::util::error::input;

pub use config::{DeviceChoice, Precision};
pub use memory::memory;

/// The device and number format of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// Where tensors live.
    pub device: Device,
    /// Number format of forward and backward: float32 or bf16.
    pub kind: Kind,
    /// Why it is not a better one; `None` when nothing was given up.
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

    /// `f32` or `bf16`.
    pub fn precision_name(&self) -> &'static str {
        if self.kind == Kind::BFloat16 { "bf16" } else { "f32" }
    }
}

/// Decides where to compute, and sets libtorch's threads (0: one per core). Reading CSV uses every core always.
///
/// # Errors
/// When a device was asked for by name and cannot be had, or GRIMACE_KERNELS is not `auto`, `avx2` or `none`.
pub fn place(choice: DeviceChoice, precision: Precision, threads: usize) -> Result<Placement> {
    kernels::limit_isa(most_kernels(std::env::var("GRIMACE_KERNELS").ok().as_deref())?);
    set_threads(threads);
    let (device, reason) = pick_device(choice)?;
    let kind = match precision {
        Precision::F32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
        Precision::Auto if has_fast_bf16(device) => Kind::BFloat16,
        Precision::Auto => Kind::Float,
    };
    Ok(Placement { device, kind, reason })
}

/// A placement for commands that only run a network: always float32.
///
/// # Errors
/// As [`place`].
pub fn place_for_inference(choice: DeviceChoice, threads: usize) -> Result<Placement> {
    // The machine that trained may have had more cores.
    place(choice, Precision::F32, threads.min(cores()))
}

fn set_threads(threads: usize) {
    let threads = if threads == 0 { cores() } else { threads };
    // libtorch's own default is one per core too, but it heeds OMP_NUM_THREADS first; so do we, unless the config says.
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
}

/// Our own CPU kernels: the best that the processor has, or fewer for a comparison.
fn most_kernels(asked: Option<&str>) -> Result<Option<Isa>> {
    match asked {
        None | Some("" | "auto") => Ok(Some(Isa::Avx512)),
        Some("avx2") => Ok(Some(Isa::Avx2)),
        Some("none") => Ok(None),
        Some(other) => {
            Err(input(format!("the environment variable GRIMACE_KERNELS is {other:?}: expected auto, avx2 or none")))
        }
    }
}

/// Which of our own CPU kernels are used, in words.
pub fn describe_kernels() -> &'static str {
    match kernels::isa() {
        Some(Isa::Avx512) if cpu_has_bf16() => "AVX-512, bf16",
        Some(Isa::Avx512) => "AVX-512",
        Some(Isa::Avx2) => "AVX2",
        None => "none",
    }
}

/// CPU threads that libtorch computes with.
pub fn threads() -> usize {
    tch::get_num_threads().unsigned_abs() as usize
}

/// Chunk size that splits `count` items (images, rows, values) evenly over the CPU threads; at least 1.
pub fn chunk_size(count: usize) -> usize {
    count.div_ceil(threads().max(1)).max(1)
}

/// Cores this process may use; OMP_NUM_THREADS, the customary limit, may make them fewer.
pub fn cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let asked = std::env::var("OMP_NUM_THREADS").ok().and_then(|text| text.parse::<usize>().ok());
    asked.filter(|asked| *asked > 0).map_or(cores, |asked| asked.min(cores))
}

fn pick_device(choice: DeviceChoice) -> Result<(Device, Option<String>)> {
    match choice {
        DeviceChoice::Cpu => Ok((Device::Cpu, None)),
        DeviceChoice::Mps if tch::utils::has_mps() => Ok((Device::Mps, None)),
        DeviceChoice::Mps => Err(input(
            "device = \"mps\": this machine has no Apple GPU that libtorch can use; use device = \"auto\" or \"cpu\"",
        )),
        DeviceChoice::Auto if tch::utils::has_mps() => Ok((Device::Mps, None)),
        DeviceChoice::Auto => Ok(match cuda() {
            Ok(()) => (Device::Cuda(0), None),
            Err(reason) => (Device::Cpu, Some(reason)),
        }),
        DeviceChoice::Cuda(index) => {
            let refused = |reason: String| {
                input(format!("device = \"cuda:{index}\": {reason}; use device = \"auto\" or \"cpu\""))
            };
            cuda().map_err(refused)?;
            let count = tch::Cuda::device_count();
            if index as i64 >= count {
                return Err(refused(format!("there are {count} CUDA devices, numbered from 0")));
            }
            Ok((Device::Cuda(index), None))
        }
    }
}

/// Opens libtorch's CUDA half, once, and says why CUDA cannot be used when it cannot.
///
/// # Errors
/// One line with the reason.
pub fn cuda() -> Result<(), String> {
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    OPENED.get_or_init(open_cuda).clone()
}

fn open_cuda() -> Result<(), String> {
    if std::env::var("CUDA_VISIBLE_DEVICES").is_ok_and(|devices| devices.trim().is_empty() || devices.trim() == "-1") {
        return Err("CUDA_VISIBLE_DEVICES hides every CUDA device".into());
    }
    // Opening the library takes seconds: only where there is a device that it could drive.
    if !["/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"].iter().any(|path| Path::new(path).exists()) {
        return Err("no NVIDIA device on this machine".into());
    }
    torch_ext::open_library("libtorch_cuda.so").map_err(|error| {
        format!("libtorch's CUDA libraries cannot be opened ({error}); `make setup` installs them where an NVIDIA device is present")
    })?;
    if tch::Cuda::is_available() {
        Ok(())
    } else {
        Err("the NVIDIA driver reports no usable device (see nvidia-smi)".into())
    }
}

/// Whether bf16 is computed natively, so that it pays.
fn has_fast_bf16(device: Device) -> bool {
    match device {
        Device::Cuda(_) => true,
        Device::Cpu => cpu_has_bf16(),
        Device::Mps | Device::Vulkan => false,
    }
}

/// Whether the processor multiplies bf16 natively (AVX512-BF16; every processor with AMX has it too).
pub fn cpu_has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// libtorch's errors as a person wants them: without the C++ stack, and with advice where memory ran out.
pub fn explain(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let Some((message, _stack)) = text.split_once("\nException raised from") else { return error };
    if message.contains("out of memory") || message.contains("not enough memory") {
        return anyhow!("{message}")
            .context("the device has too little memory: use a smaller train.batch, or device = \"cpu\"");
    }
    anyhow!("{message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_is_what_was_asked_for() {
        let place = |precision| place(DeviceChoice::Cpu, precision, 1).unwrap();
        assert_eq!(place(Precision::F32).kind, Kind::Float);
        assert_eq!(place(Precision::Bf16).kind, Kind::BFloat16);
        let auto = if cpu_has_bf16() { Kind::BFloat16 } else { Kind::Float };
        assert_eq!(place(Precision::Auto).kind, auto);
        assert_eq!(place(Precision::F32).device_name(), "cpu");
    }

    #[test]
    fn kernels_can_be_limited() {
        let message = most_kernels(Some("sse")).unwrap_err().to_string();
        assert!(message.contains("GRIMACE_KERNELS") && message.contains("avx2"), "{message}");
        let most = |asked| most_kernels(asked).unwrap();
        assert_eq!((most(None), most(Some("auto"))), (Some(Isa::Avx512), Some(Isa::Avx512)));
        assert_eq!((most(Some("avx2")), most(Some("none"))), (Some(Isa::Avx2), None));
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_with_advice() {
        if cuda().is_ok() {
            println!("skipped: this machine has CUDA, so asking for it is no error");
            return;
        }
        let message = place(DeviceChoice::Cuda(3), Precision::Auto, 1).unwrap_err().to_string();
        assert!(message.contains("cuda:3") && message.contains("\"cpu\""), "{message}");
        assert!(place(DeviceChoice::Auto, Precision::Auto, 1).unwrap().reason.is_some(), "auto says why not CUDA");
    }
}
