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
use crate::report::text_table::thousands;
use crate::util::error::Outcome;
use crate::util::files::check_output_beside;

/// `grimace predict`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  grimace predict runs/mine --data data/my_emotion_test.csv --out submission.csv")]
pub struct PredictArgs {
    /// Run directory
    pub run: PathBuf,
    /// CSV of images
    #[arg(long, value_name = "CSV")]
    pub data: PathBuf,
    /// CSV to write: id,emotion
    #[arg(long, value_name = "CSV")]
    pub out: PathBuf,
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
    check_output_beside(&args.out, &[&args.data])?;
    let run = TrainedRun::open(&args.run)?;
    run.dir().check_not_owned(&args.out)?;
    let tta = run.tta(args.inference.tta)?;
    let classes = &run.data().classes;
    let images = read_images(&args.data, run.data(), LabelColumn::Ignored, args.inference.usage.as_deref())?;
    images.check_ids(&args.data)?;
    let predictions = run.predict(&images, args.inference.device, tta)?;
    submission::write(&args.out, &images, &predictions, args.probabilities.then_some(&classes[..]))?;
    if args.json {
        print_json(
            &json!({"out": args.out.to_string_lossy(), "rows": images.len(), "probabilities": args.probabilities, "tta": tta}),
        )?;
    } else {
        print(&format!("{} predictions written to {}\n", thousands(images.len()), args.out.display()))?;
    }
    Ok(Outcome::Done)
}
