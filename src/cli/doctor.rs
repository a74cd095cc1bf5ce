//! `grimace doctor`

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::common::{print, print_json};
use crate::device::{self, DeviceChoice, Precision};
use crate::util::error::Outcome;

/// `grimace doctor`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  grimace doctor --json")]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DoctorArgs) -> Result<Outcome> {
    let cuda = device::init_cuda();
    let placement = device::place(DeviceChoice::Auto, Precision::Auto, 0)?;
    let count = if cuda.is_ok() { tch::Cuda::device_count() } else { 0 };
    let found = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "libtorch": torch_ext::torch_version(),
        "cpu_kernels": torch_ext::cpu_capability(),
        "custom_kernels": device::describe_kernels(),
        "cpu_bf16": device::cpu_has_bf16(),
        "mkldnn": tch::utils::has_mkldnn(),
        "cores": device::cores(),
        "threads": device::threads(),
        "cuda": cuda.is_ok(),
        "cuda_devices": count,
        "cuda_reason": cuda.as_ref().err(),
        "mps": tch::utils::has_mps(),
        "auto_device": placement.device_name(),
        "auto_precision": placement.precision_name(),
    });
    if args.json {
        print_json(&found)?;
        return Ok(Outcome::Done);
    }
    let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
    let cuda_line = match &cuda {
        Ok(()) => format!("yes, {count} device(s)"),
        Err(reason) => format!("no: {reason}"),
    };
    let auto = format!("{}, {}", placement.device_name(), placement.precision_name());
    let lines = [
        ("grimace", env!("CARGO_PKG_VERSION").to_owned()),
        ("libtorch", torch_ext::torch_version().to_owned()),
        ("libtorch's CPU kernels", torch_ext::cpu_capability()),
        ("custom CPU kernels", device::describe_kernels().to_owned()),
        ("CPU bf16 instructions", yes(device::cpu_has_bf16())),
        ("oneDNN", yes(tch::utils::has_mkldnn())),
        ("cores, threads", format!("{}, {}", device::cores(), device::threads())),
        ("CUDA", cuda_line),
        ("Apple GPU", yes(tch::utils::has_mps())),
        ("\"auto\" means", auto),
    ];
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let text: String = lines.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect();
    print(&text)?;
    Ok(Outcome::Done)
}
