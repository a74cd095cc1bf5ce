//! `grimace doctor`

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::{Value, json};
use tch::Device;

use super::common::{print, print_json};
use crate::device::{self, CudaDevice, DeviceChoice, Placement, Precision};
use crate::report::text_table::{table, thousands};
use crate::train::device_check::{self, Comparison};
use crate::util::error::{Outcome, input};

/// `grimace doctor`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace doctor\n  grimace doctor --device cuda:0\n\nWith --device, exit code 1 if the results are out of tolerance."
)]
pub struct DoctorArgs {
    /// Also train a few steps on this device and on the CPU, and compare results and speed: auto,
    /// cuda:N or mps
    #[arg(long)]
    pub device: Option<DeviceChoice>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DoctorArgs) -> Result<Outcome> {
    let cuda = device::init_cuda();
    let asked = args.device.map(place).transpose()?;
    let placement = device::place(DeviceChoice::Auto, Precision::Auto, 0)?;
    let devices = (0..device::cuda_count()).map(device::describe_cuda).collect::<Result<Vec<_>>>()?;
    if !args.json {
        print(&list(&cuda, &devices, &placement))?;
    }
    let comparison =
        asked.as_ref().map(|asked| device_check::compare(asked.device, has_bf16(asked.device))).transpose()?;
    if args.json {
        print_json(&describe(&cuda, &devices, &placement, comparison.as_deref()))?;
    } else if let (Some(asked), Some(comparison)) = (&asked, &comparison) {
        print(&compared(asked, comparison))?;
    }
    match (&asked, comparison) {
        (Some(asked), Some(comparison)) if comparison.iter().any(|one| !one.ok) => Err(anyhow!(
            "{} does not compute what the CPU computes; update its driver, or use device = \"cpu\"",
            asked.device_name()
        )),
        _ => Ok(Outcome::Done),
    }
}

/// The device to compare with the CPU.
///
/// # Errors
/// An input error if it is not available; `auto` means a GPU here.
fn place(choice: DeviceChoice) -> Result<Placement> {
    if choice == DeviceChoice::Cpu {
        return Err(input("--device cpu: the CPU is what a device is compared with; give a GPU, such as cuda:0"));
    }
    let placement = device::place(choice, Precision::Auto, 0)?;
    match (&choice, &placement.reason) {
        (DeviceChoice::Auto, Some(reason)) => {
            Err(input(format!("--device auto: there is no GPU to compare with the CPU: {reason}")))
        }
        _ => Ok(placement),
    }
}

fn has_bf16(device: Device) -> bool {
    match device {
        Device::Cuda(index) => device::has_cuda_bf16(index),
        _ => false,
    }
}

fn describe(
    cuda: &Result<(), String>,
    devices: &[CudaDevice],
    placement: &Placement,
    comparison: Option<&[Comparison]>,
) -> Value {
    let versions = device::cuda_versions();
    let (driver, runtime) = versions.unzip();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "libtorch": torch_ext::torch_version(),
        "cpu_kernels": torch_ext::cpu_capability(),
        "custom_kernels": device::describe_kernels(),
        "cpu_bf16": device::cpu_has_bf16(),
        "cpu_bf16_fast": device::is_cpu_bf16_fast(),
        "mkldnn": tch::utils::has_mkldnn(),
        "cores": device::cores(),
        "threads": device::threads(),
        "cuda": cuda.is_ok(),
        "cuda_devices": devices,
        "cuda_reason": cuda.as_ref().err(),
        "driver": driver,
        "runtime": runtime,
        "mps": tch::utils::has_mps(),
        "auto_device": placement.device_name(),
        "auto_precision": placement.precision_name(),
        "comparison": comparison,
    })
}

/// What a user needs to see, a line each.
fn list(cuda: &Result<(), String>, devices: &[CudaDevice], placement: &Placement) -> String {
    let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
    let cuda_line = match cuda {
        Ok(()) => "yes".to_owned(),
        Err(reason) => format!("no: {reason}"),
    };
    let cpu_bf16 = match (device::cpu_has_bf16(), device::is_cpu_bf16_fast()) {
        (true, true) => "yes",
        (true, false) => "yes, but no faster than float32",
        (false, _) => "no",
    };
    let mut lines = vec![
        ("grimace".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("libtorch".to_owned(), torch_ext::torch_version().to_owned()),
        ("libtorch's CPU kernels".to_owned(), torch_ext::cpu_capability()),
        ("custom CPU kernels".to_owned(), device::describe_kernels()),
        ("CPU bf16 instructions".to_owned(), cpu_bf16.to_owned()),
        ("oneDNN".to_owned(), yes(tch::utils::has_mkldnn())),
        ("cores, threads".to_owned(), format!("{}, {}", device::cores(), device::threads())),
        ("CUDA".to_owned(), cuda_line),
    ];
    if let Some((driver, runtime)) = device::cuda_versions() {
        lines.push(("CUDA driver, libtorch's".to_owned(), format!("{driver}, {runtime}")));
    }
    for found in devices {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let memory = match (found.memory, found.free_memory) {
            (Some(all), Some(free)) => format!("{:.1} GiB, {:.1} free", gib(all), gib(free)),
            _ => "memory cannot be read".to_owned(),
        };
        let bf16 = if found.bf16 { "bf16" } else { "no bf16" };
        let CudaDevice { device, name, capability, .. } = found;
        lines.push((device.clone(), format!("{name}, compute capability {capability}, {bf16}, {memory}")));
    }
    lines.push(("Apple GPU".to_owned(), yes(tch::utils::has_mps())));
    let reason = placement.reason.as_ref().filter(|_| cuda.is_ok()).map_or(String::new(), |why| format!(" ({why})"));
    let auto = format!("{}, {}{reason}", placement.device_name(), placement.precision_name());
    lines.push(("\"auto\" means".to_owned(), auto));
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    lines.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

fn compared(asked: &Placement, comparison: &[Comparison]) -> String {
    let head = ["precision", "loss difference", "weight difference", "at most", "", "images/s"];
    let row = |one: &Comparison| {
        let verdict = if one.ok { "ok" } else { "DIFFERENT" };
        vec![
            one.precision.to_owned(),
            format!("{:.1e}", one.loss_difference),
            format!("{:.1e}", one.weight_difference),
            format!("{:.0e}", one.tolerance),
            verdict.to_owned(),
            thousands(one.images_per_second as usize),
        ]
    };
    let rows: Vec<Vec<String>> =
        std::iter::once(head.map(str::to_owned).to_vec()).chain(comparison.iter().map(row)).collect();
    format!(
        "\n{} against the CPU in f32, a few steps of the notebook's network:\n\n{}",
        asked.device_name(),
        table(&rows)
    )
}
