//! `grimace export`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args};
use serde_json::json;

use super::ModelArgs;
use super::common::{print, print_json};
use super::export_target::TargetArgs;
use crate::device::{DeviceChoice, place_for_inference};
use crate::export::{ExportedModel, Format, Int8Calibration};
use crate::inference::trained_run::TrainedNet;
use crate::run_dir::RunDir;
use crate::transforms::tta::Tta;
use crate::util::error::{Outcome, input};

/// `grimace export`
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("where").args(["out", "web"]).required(true)),
    after_help = "Example:\n  grimace export runs/mine --out model.pt\n  grimace export runs/mine --out model.onnx\n  grimace export runs/mine --out small.onnx --int8\n  grimace export runs/mine --web page\n\nIn Python:\n  model = torch.jit.load(\"model.pt\")\n  with torch.no_grad():\n      probabilities = model(images)    # uint8 or float32, 0..255, [N, 1, 48, 48]"
)]
pub struct ExportArgs {
    /// Run directory
    pub run: PathBuf,
    /// Where to
    #[command(flatten)]
    pub target: TargetArgs,
    /// Quantize an ONNX model to int8, calibrated on the run's training images; the accuracy on its
    /// validation images is reported
    #[arg(long)]
    pub int8: bool,
    /// Copy of the run's data.train for --int8, if that file has moved
    #[arg(long, value_name = "CSV", requires = "int8")]
    pub calibration_data: Option<PathBuf>,
    /// What the exported module computes
    #[command(flatten)]
    pub model: ModelArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &ExportArgs) -> Result<Outcome> {
    if args.int8 && args.target.format()? != Format::Onnx {
        return Err(input("--int8: only an ONNX model is quantized; pass an --out that ends in .onnx"));
    }
    let inputs: Vec<&Path> = args.calibration_data.iter().map(PathBuf::as_path).collect();
    let target = args.target.check(&inputs, std::slice::from_ref(&args.run))?.context("clap requires a target")?;
    let (model, calibration, tta) = prepare(args)?;
    let mut written = target.write(&model, calibration.as_ref(), args.target.force)?;
    if args.json {
        if let Some(found) = written.json.as_object_mut() {
            found.insert("tta".to_owned(), json!(tta));
        }
        print_json(&written.json)?;
    } else {
        print(&format!("{}\nTTA: {}\n", written.description, tta.describe()))?;
    }
    Ok(Outcome::Done)
}

/// Opens the run, and reads the images that calibrate it.
fn prepare(args: &ExportArgs) -> Result<(ExportedModel, Option<Int8Calibration>, Tta)> {
    let run = TrainedNet::open(RunDir::open(&args.run)?)?;
    place_for_inference(DeviceChoice::Cpu, run.config.threads)?;
    let tta = args.model.tta.unwrap_or(run.config.predict.tta);
    let model = ExportedModel::from_run(&run, tta, args.model.is_calibrated())?;
    let calibration = match model.temperatures.as_slice() {
        [temperature] if args.int8 => {
            Some(Int8Calibration::from_run(&run, args.calibration_data.as_deref(), tta, *temperature)?)
        }
        _ => None,
    };
    Ok((model, calibration, tta))
}
