//! `grimace compare`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::ModelArgs;
use super::common::{LabelArgs, RowArgs, check_run_output, print, print_json, read_labeled_images};
use crate::device::DeviceChoice;
use crate::inference::compared_runs::{ComparedRun, ComparedRuns, RunComparison};
use crate::report::Console;
use crate::report::comparison_text::describe;
use crate::report::html::ComparisonReport;
use crate::transforms::tta::Tta;
use crate::util::error::Outcome;
use crate::util::files::{OutputRules, input_name};

/// `grimace compare`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace compare runs/mine runs/other\n  grimace compare runs/mine runs/other --data data/my_emotion_test.csv \\\n      --labels data/my_emotion_test_labels.csv --out comparison.html\n\nDifferences are those of the second run minus the first: give the one in use first. The intervals cover the choice of images, not of seeds; grimace sweep --seeds compares configs over seeds."
)]
#[command(mut_arg("tta", |arg| {
    arg.requires("data").help("Test-time augmentation of both [default: predict.tta of each run; none without --data]")
}))]
pub struct CompareArgs {
    /// Run directory of the first run, such as the model in use
    pub run: PathBuf,
    /// Run directory of the second run, such as its successor
    #[arg(value_name = "RUN")]
    pub other: PathBuf,
    /// Images that neither run was trained on: a CSV with a column emotion or with --labels, or a folder
    /// with a folder of pictures for each class; - reads a CSV from standard input [default: the
    /// runs' validation images, if they are the same]
    #[arg(long, value_name = "DATA")]
    pub data: Option<PathBuf>,
    /// Their labels
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Which of them
    #[command(flatten)]
    pub rows: RowArgs,
    /// How to predict
    #[command(flatten)]
    pub model: ModelArgs,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto", requires = "data")]
    pub device: DeviceChoice,
    /// HTML page to write; - writes it to standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &CompareArgs) -> Result<Outcome> {
    let paths = [args.run.clone(), args.other.clone()];
    let output = match &args.out {
        Some(out) => {
            let inputs: Vec<&Path> =
                [&args.data, &args.labels.labels].into_iter().flatten().map(AsRef::as_ref).collect();
            let rules = OutputRules { inputs: &inputs, force: args.force, json: args.json };
            Some(check_run_output(out, &paths, rules)?)
        }
        None => None,
    };
    // Stored predictions of validation images are without TTA.
    let tta = if args.data.is_some() { args.model.tta } else { Some(Tta::None) };
    let runs = ComparedRuns::open([&args.run, &args.other], tta, args.model.is_calibrated())?;
    let (found, skipped) = compare(args, &runs)?;
    let mut console = Console::default();
    found.warnings.iter().try_for_each(|warning| console.line(&format!("warning: {warning}")))?;
    let images = match &args.data {
        Some(data) => input_name(data).display().to_string(),
        None => "the validation images of both runs".to_owned(),
    };
    if let Some(output) = &output {
        output.write(page(&runs, &found, &images)?.as_bytes())?;
    }
    if args.json {
        print_json(&as_json(&runs, &found, &images, skipped))?;
    } else if let Some(output) = output.as_ref().filter(|output| output.is_standard_output()) {
        console.line(&format!("comparison written to {output}"))?;
    } else {
        let [first, second] = runs.runs();
        let names = [first, second].map(|run| format!("{} ({})", run.path(), describe_run(run)));
        print(&describe(&names, &images, &found.evaluations, &found.paired))?;
        if let Some(output) = &output {
            print(&format!("page written to {output}\n"))?;
        }
    }
    Ok(Outcome::Done)
}

/// The result, and the number of rows that cannot be read.
fn compare(args: &CompareArgs, runs: &ComparedRuns) -> Result<(RunComparison, Option<usize>)> {
    let Some(data) = &args.data else { return Ok((runs.compare_validation()?, None)) };
    if args.labels.label_map.is_empty() {
        runs.check_label_maps()?;
    }
    let (images, labels) = read_labeled_images(data, &args.labels, &args.rows, runs.data())?;
    Ok((runs.compare(&images, &labels, args.device)?, Some(images.skipped.count())))
}

/// Such as `network "mine", seed 42; TTA: none; temperature 1.234`.
fn describe_run(run: &ComparedRun) -> String {
    let temperature =
        if run.temperature() == 1.0 { String::new() } else { format!("; temperature {:.3}", run.temperature()) };
    format!("{}; TTA: {}{temperature}", run.describe(), run.tta().describe())
}

fn page(runs: &ComparedRuns, found: &RunComparison, images: &str) -> Result<String> {
    ComparisonReport {
        runs: runs.runs().each_ref().map(|run| (run.path(), describe_run(run))),
        images,
        evaluations: &found.evaluations,
        paired: &found.paired,
        warnings: &found.warnings,
    }
    .page()
}

fn as_json(runs: &ComparedRuns, found: &RunComparison, images: &str, skipped: Option<usize>) -> Value {
    let [first, second] = runs.runs();
    let [a, b] = &found.evaluations;
    let run = |run: &ComparedRun, evaluation| {
        json!({
            "run": run.path(),
            "description": run.describe(),
            "tta": run.tta(),
            "temperature": run.temperature(),
            "evaluation": evaluation,
        })
    };
    json!({
        "images": images,
        "skipped": skipped,
        "calibrated": runs.is_calibrated(),
        "first": run(first, a),
        "second": run(second, b),
        "difference": found.paired,
        "warnings": found.warnings,
    })
}
