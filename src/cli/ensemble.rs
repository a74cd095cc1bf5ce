//! `grimace ensemble`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::common::{LabelArgs, RowArgs, check_standard_input, print, print_json, read_labeled_images};
use crate::device::{DeviceChoice, place_for_inference};
use crate::export::{Exported, check_export_path, export_ensemble};
use crate::inference::ensemble::{Ensemble, Scores};
use crate::metrics::Evaluation;
use crate::report::Console;
use crate::report::text_table::{table, thousands};
use crate::transforms::tta::Tta;
use crate::util::error::{Outcome, input};

/// `grimace ensemble`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace ensemble runs/five/notebook-seed42 runs/five/deep-seed42 \\\n      --data data/my_emotion_test.csv --labels data/my_emotion_test_labels.csv --out model.pt\n\nGive --data, --out or both. The networks may differ in everything but their classes. Select models by validation accuracy, not on the images of --data, or the score is optimistic. model.pt is used like that of grimace export."
)]
pub struct EnsembleArgs {
    /// Two or more run directories of networks
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// TorchScript file to write; its description goes beside it with the extension .json (model.pt
    /// -> model.json)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Overwrite existing files; not required for an exported model with its description
    #[arg(long, requires = "out")]
    pub force: bool,
    /// CSV of images to evaluate the ensemble and each model on, with a column emotion or with
    /// --labels; - reads standard input
    #[arg(long, value_name = "CSV")]
    pub data: Option<PathBuf>,
    /// Their labels
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Which of them
    #[command(flatten)]
    pub rows: RowArgs,
    /// Test-time augmentation [default: the runs' predict.tta, if they
    /// agree]
    #[arg(long)]
    pub tta: Option<Tta>,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &EnsembleArgs) -> Result<Outcome> {
    if args.out.is_none() && args.data.is_none() {
        return Err(input("nothing to do: give --out FILE to export the ensemble, --data CSV to evaluate it, or both"));
    }
    let inputs: Vec<&Path> = [&args.data, &args.labels.labels].into_iter().flatten().map(AsRef::as_ref).collect();
    check_standard_input(&inputs)?;
    let export_path = match &args.out {
        Some(out) => Some(check_export_path(out, &inputs, &args.runs, args.force)?),
        None => None,
    };
    let ensemble = Ensemble::open(&args.runs, args.tta)?;
    let mut console = Console::default();
    ensemble.warnings()?.iter().try_for_each(|warning| console.line(warning))?;
    if args.data.is_some() && args.labels.label_map.is_empty() {
        ensemble.check_label_maps()?;
    }
    let images = match &args.data {
        Some(data) => Some(read_labeled_images(data, &args.labels, &args.rows, ensemble.data())?),
        None => None,
    };
    let exported = match &export_path {
        Some(out) => {
            place_for_inference(DeviceChoice::Cpu, 0)?;
            Some((out.model.path(), export_ensemble(&ensemble, out)?))
        }
        None => None,
    };
    let scores = match &images {
        Some((images, labels)) => Some(ensemble.score(images, labels, args.device)?),
        None => None,
    };
    if args.json {
        let skipped = images.as_ref().map(|(images, _)| images.skipped.count());
        print_json(&as_json(&ensemble, exported.as_ref(), scores.as_ref(), skipped))?;
    } else {
        print(&describe(&ensemble, exported.as_ref(), scores.as_ref()))?;
    }
    Ok(Outcome::Done)
}

fn as_json(
    ensemble: &Ensemble,
    exported: Option<&(&Path, Exported)>,
    scores: Option<&Scores>,
    skipped: Option<usize>,
) -> Value {
    let mut alone = scores.map(|scores| scores.models.iter()).into_iter().flatten();
    let models: Vec<Value> = ensemble
        .models()
        .map(|run| {
            json!({
                "run": run.dir.path().to_string_lossy(),
                "name": run.config.name,
                "seed": run.config.seed,
                "evaluation": alone.next(),
            })
        })
        .collect();
    json!({
        "tta": ensemble.tta(),
        "models": models,
        "one_split": ensemble.has_one_split(),
        "skipped": skipped,
        "evaluation": scores.map(|scores| &scores.ensemble),
        "out": exported.map(|(out, _)| out.to_string_lossy()),
        "description": exported.map(|(_, done)| done.description.to_string_lossy()),
        "checked_images": exported.map(|(_, done)| done.images),
        "max_difference": exported.map(|(_, done)| done.difference),
    })
}

fn describe(ensemble: &Ensemble, exported: Option<&(&Path, Exported)>, scores: Option<&Scores>) -> String {
    let count = ensemble.models().count();
    let mut text = format!("{count} networks; TTA: {}\n", ensemble.tta().describe());
    text += if ensemble.has_one_split() {
        "All models share one validation split, which also selected their best epochs; evaluate on other data.\n"
    } else {
        "The models have different validation splits: validation images of one may be training images of another.\n"
    };
    match scores {
        Some(scores) => text += &describe_scores(ensemble, scores),
        None => text += "not evaluated; --data CSV evaluates the ensemble and its models\n",
    }
    if let Some((out, done)) = exported {
        text += &format!("{}\n", done.describe(out));
    }
    text
}

fn describe_scores(ensemble: &Ensemble, scores: &Scores) -> String {
    let line = |name: String, e: &Evaluation| {
        let dedup = e.accuracy_dedup.map_or("-".to_owned(), |accuracy| format!("{accuracy:.4}"));
        vec![name, format!("{:.4}", e.accuracy), dedup, format!("{:.4}", e.ece), format!("{:.4}", e.loss)]
    };
    let mut rows = vec![["", "accuracy", "deduplicated", "ECE", "loss"].map(String::from).to_vec()];
    rows.push(line("ensemble".to_owned(), &scores.ensemble));
    for (run, evaluation) in ensemble.models().zip(&scores.models) {
        rows.push(line(run.dir.path().display().to_string(), evaluation));
    }
    let e = &scores.ensemble;
    let dedup = match e.rows - e.rows_dedup {
        0 => "no duplicates of a model's training images".to_owned(),
        1 => "deduplicated: without 1 duplicate of the models' training images".to_owned(),
        count => format!("deduplicated: without the {} duplicates of a model's training images", thousands(count)),
    };
    format!("\n{}\n{} images; {dedup}\n", table(&rows), thousands(e.rows))
}
