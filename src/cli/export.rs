//! `grimace export`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::common::{print, print_json};
use crate::export::{check_export_path, export};
use crate::inference::trained_run::TrainedNet;
use crate::run_dir::RunDir;
use crate::transforms::tta::Tta;
use crate::util::error::Outcome;

/// `grimace export`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace export runs/mine --out model.pt\n\nIn Python:\n  model = torch.jit.load(\"model.pt\")\n  with torch.no_grad():\n      probabilities = model(images)    # uint8 or float32, 0..255, [N, 1, 48, 48]"
)]
pub struct ExportArgs {
    /// Run directory
    pub run: PathBuf,
    /// TorchScript file to write; its description goes beside it with the extension .json (model.pt
    /// -> model.json)
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Overwrite existing files; not required for an exported model with its description
    #[arg(long)]
    pub force: bool,
    /// Test-time augmentation inside the module [default: the run's
    /// predict.tta]
    #[arg(long)]
    pub tta: Option<Tta>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &ExportArgs) -> Result<Outcome> {
    let out = check_export_path(&args.out, &[], std::slice::from_ref(&args.run), args.force)?;
    let run = TrainedNet::open(RunDir::open(&args.run)?)?;
    crate::device::place_for_inference(crate::device::DeviceChoice::Cpu, run.config.threads)?;
    let tta = args.tta.unwrap_or(run.config.predict.tta);
    let done = export(&run, tta, &out)?;
    if args.json {
        let (out, description) = (args.out.to_string_lossy(), done.description.to_string_lossy());
        let found = json!({"out": out, "description": description, "tta": tta, "checked_images": done.images, "max_difference": done.difference});
        print_json(&found)?;
    } else {
        print(&format!("{}\nTTA: {}\n", done.describe(&args.out), tta.describe()))?;
    }
    Ok(Outcome::Done)
}
