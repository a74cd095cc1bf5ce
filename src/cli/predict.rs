//! `grimace predict`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::InferenceArgs;
use super::common::{check_run_output, print, print_json, read_images};
use crate::data::csv::columns::LabelColumn;
use crate::inference::submission;
use crate::inference::trained_run::TrainedRun;
use crate::report::Console;
use crate::report::text_table::thousands;
use crate::util::error::Outcome;
use crate::util::files::{OutputRules, input_name};

/// `grimace predict`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  grimace predict runs/mine --data data/my_emotion_test.csv --out submission.csv")]
pub struct PredictArgs {
    /// Run directory
    pub run: PathBuf,
    /// CSV of images; - reads standard input
    #[arg(long, value_name = "CSV")]
    pub data: PathBuf,
    /// CSV to write: id,emotion; - writes to standard output
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
    let rules = OutputRules { inputs: &[&args.data], force: args.force, json: args.json };
    let output = check_run_output(&args.out, std::slice::from_ref(&args.run), rules)?;
    let run = TrainedRun::open(&args.run)?;
    let tta = run.tta(args.inference.tta)?;
    let classes = &run.data().classes;
    let images = read_images(&args.data, run.data(), LabelColumn::Ignored, &args.inference.rows)?;
    images.check_ids(input_name(&args.data))?;
    let predictions = run.predict(&images, args.inference.device, tta)?;
    let named = args.probabilities.then_some(&classes[..]);
    output.write(&submission::to_csv(&images, &predictions, named)?)?;
    let message = format!("{} predictions written to {output}", thousands(images.len()));
    if args.json {
        print_json(&json!({
            "out": args.out.to_string_lossy(),
            "rows": images.len(),
            "skipped": images.skipped.count(),
            "probabilities": args.probabilities,
            "tta": tta,
        }))?;
    } else if output.is_standard_output() {
        Console::default().line(&message)?;
    } else {
        print(&(message + "\n"))?;
    }
    Ok(Outcome::Done)
}
