//! `grimace predict`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::InferenceArgs;
use super::common::{print, print_json, read_images};
use crate::data::csv::columns::LabelColumn;
use crate::inference::submission;
use crate::inference::trained_run::TrainedRun;
use crate::report::Console;
use crate::report::text_table::thousands;
use crate::run_dir::RunDir;
use crate::util::error::Outcome;
use crate::util::files::{check_json_output, check_output_beside, check_overwrite, is_standard_stream, write_output};

/// `grimace predict`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  grimace predict runs/mine --data data/my_emotion_test.csv --out submission.csv")]
pub struct PredictArgs {
    /// Run directory
    pub run: PathBuf,
    /// CSV of images; - for standard input
    #[arg(long, value_name = "CSV")]
    pub data: PathBuf,
    /// CSV to write: id,emotion; - for standard output
    #[arg(long, value_name = "CSV")]
    pub out: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    /// Add a column of probabilities for each class
    #[arg(long)]
    pub probabilities: bool,
    /// Which rows, and how to predict
    #[command(flatten)]
    pub inference: InferenceArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &PredictArgs) -> Result<Outcome> {
    check_json_output(&args.out, args.json)?;
    check_output_beside(&args.out, &[&args.data])?;
    if !is_standard_stream(&args.out) {
        RunDir::open(&args.run)?.check_not_owned(&args.out)?;
    }
    check_overwrite(&args.out, args.force)?;
    let run = TrainedRun::open(&args.run)?;
    let tta = run.tta(args.inference.tta)?;
    let classes = &run.data().classes;
    let images = read_images(&args.data, run.data(), LabelColumn::Ignored, args.inference.usage.as_deref())?;
    images.check_ids(&args.data)?;
    let predictions = run.predict(&images, args.inference.device, tta)?;
    let named = args.probabilities.then_some(&classes[..]);
    write_output(&args.out, &submission::to_csv(&images, &predictions, named)?)?;
    let counts = format!("{} predictions written to", thousands(images.len()));
    if args.json {
        print_json(
            &json!({"out": args.out.to_string_lossy(), "rows": images.len(), "probabilities": args.probabilities, "tta": tta}),
        )?;
    } else if is_standard_stream(&args.out) {
        Console::default().line(&format!("{counts} standard output"))?;
    } else {
        print(&format!("{counts} {}\n", args.out.display()))?;
    }
    Ok(Outcome::Done)
}
