//! `grimace ensemble`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::ModelArgs;
use super::common::{LabelArgs, RowArgs, check_standard_input, print, print_json, read_labeled_images};
use super::export_target::{TargetArgs, Written};
use crate::device::{DeviceChoice, place_for_inference};
use crate::export::ExportedModel;
use crate::inference::ensemble::{Ensemble, Scores};
use crate::metrics::{Evaluation, accuracy_cell};
use crate::report::Console;
use crate::report::text_table::{table, thousands};
use crate::util::error::{Outcome, input};
use crate::util::files::input_name;

/// `grimace ensemble`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace ensemble runs/five/notebook-seed42 runs/five/deep-seed42 \\\n      --data data/my_emotion_test.csv --labels data/my_emotion_test_labels.csv --out model.pt\n  grimace ensemble runs/five/notebook-seed42 runs/five/deep-seed42 --web page\n\nGive --data, one of --out and --web, or both. The networks may differ in everything but their classes. Select models by validation accuracy, not on the images of --data, or the score is optimistic. model.pt is used like that of grimace export."
)]
pub struct EnsembleArgs {
    /// Two or more run directories of networks
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Where to export the ensemble to
    #[command(flatten)]
    pub target: TargetArgs,
    /// Images to evaluate the ensemble and each model on: a CSV with a column emotion or with --labels,
    /// or a folder with a folder of pictures for each class; - reads a CSV from standard input
    #[arg(long, value_name = "DATA")]
    pub data: Option<PathBuf>,
    /// Their labels
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Which of them
    #[command(flatten)]
    pub rows: RowArgs,
    /// How each network predicts
    #[command(flatten)]
    pub model: ModelArgs,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &EnsembleArgs) -> Result<Outcome> {
    let inputs: Vec<&Path> = [&args.data, &args.labels.labels].into_iter().flatten().map(AsRef::as_ref).collect();
    check_standard_input(&inputs)?;
    let target = args.target.check(&inputs, &args.runs)?;
    if target.is_none() && args.data.is_none() {
        return Err(input(
            "nothing to do: give --out FILE or --web FOLDER to export the ensemble, --data DATA to evaluate it, or both",
        ));
    }
    let ensemble = Ensemble::open(&args.runs, args.model.tta, args.model.is_calibrated())?;
    let mut console = Console::default();
    ensemble.warnings()?.iter().try_for_each(|warning| console.line(warning))?;
    if args.data.is_some() && args.labels.label_map.is_empty() {
        ensemble.check_label_maps()?;
    }
    let images = match &args.data {
        Some(data) => Some(read_labeled_images(data, &args.labels, &args.rows, ensemble.data())?),
        None => None,
    };
    // Before the export, which uses the CPU: libtorch looks for CUDA only once. And nothing is written
    // if the device cannot be used.
    let scores = match &images {
        Some((images, labels)) => Some(ensemble.score(images, labels, args.device)?),
        None => None,
    };
    let written = match &target {
        Some(target) => {
            place_for_inference(DeviceChoice::Cpu, 0)?;
            let mut model = ExportedModel::from_ensemble(&ensemble)?;
            if let (Some(data), Some(scores)) = (&args.data, &scores) {
                let name = input_name(data).file_name().unwrap_or_default().to_string_lossy();
                model.card.add_evaluation(&name, &scores.ensemble);
            }
            Some(target.write(&model, None, args.target.force)?)
        }
        None => None,
    };
    if args.json {
        let skipped = images.as_ref().map(|(images, _)| images.skipped.count());
        print_json(&as_json(&ensemble, written, scores.as_ref(), skipped))?;
    } else {
        print(&describe(&ensemble, written.as_ref(), scores.as_ref()))?;
    }
    Ok(Outcome::Done)
}

fn as_json(ensemble: &Ensemble, written: Option<Written>, scores: Option<&Scores>, skipped: Option<usize>) -> Value {
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
    let mut found = json!({
        "tta": ensemble.tta(),
        "models": models,
        "one_split": ensemble.has_one_split(),
        "skipped": skipped,
        "evaluation": scores.map(|scores| &scores.ensemble),
        "out": null,
        "description": null,
        "card": null,
        "checked_images": null,
        "max_difference": null,
    });
    if let (Some(found), Some(Value::Object(written))) = (found.as_object_mut(), written.map(|written| written.json)) {
        found.extend(written);
    }
    found
}

fn describe(ensemble: &Ensemble, written: Option<&Written>, scores: Option<&Scores>) -> String {
    let count = ensemble.models().count();
    let mut text = format!("{count} networks; TTA: {}\n", ensemble.tta().describe());
    let is_selected = ensemble.models().any(|model| model.config.train.early_stop.monitor.selects());
    text += if ensemble.has_one_split() && is_selected {
        "All models share one validation split, which also selected their best epochs; evaluate on other data.\n"
    } else if ensemble.has_one_split() {
        "All models share one validation split, which also fitted their temperatures; evaluate on other data.\n"
    } else {
        "The models have different validation splits: validation images of one may be training images of another.\n"
    };
    match scores {
        Some(scores) => text += &describe_scores(ensemble, scores),
        None => text += "not evaluated; --data DATA evaluates the ensemble and its models\n",
    }
    if let Some(written) = written {
        text += &format!("{}\n", written.description);
    }
    text
}

fn describe_scores(ensemble: &Ensemble, scores: &Scores) -> String {
    let line = |name: String, e: &Evaluation| {
        let accuracy = accuracy_cell(Some(e.accuracy), e.accuracy_interval);
        let dedup = accuracy_cell(e.accuracy_dedup, e.accuracy_dedup_interval);
        vec![name, accuracy, dedup, format!("{:.4}", e.ece), format!("{:.4}", e.loss)]
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
    format!("\n{}\n{} images; {dedup}; in parentheses: 95% intervals\n", table(&rows), thousands(e.rows))
}
