//! `grimace evaluate`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::InferenceArgs;
use super::common::{LabelArgs, print, print_json, read_labeled_images};
use crate::data::duplicates::duplicate_mask;
use crate::inference::trained_run::TrainedRun;
use crate::metrics::Evaluation;
use crate::report::text_table::{table, thousands};
use crate::transforms::tta::Tta;
use crate::util::error::Outcome;

/// `grimace evaluate`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace evaluate runs/mine --data data/my_emotion_test.csv \\\n      --labels data/my_emotion_test_labels.csv\n  grimace evaluate runs/mine --data data/fer2013.csv --usage PublicTest --json"
)]
pub struct EvaluateArgs {
    /// Run directory
    pub run: PathBuf,
    /// CSV of images, with a column emotion or with --labels; - reads standard input
    #[arg(long, value_name = "CSV")]
    pub data: PathBuf,
    /// Their labels
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Which rows, and how to predict
    #[command(flatten)]
    pub inference: InferenceArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &EvaluateArgs) -> Result<Outcome> {
    let run = TrainedRun::open(&args.run)?;
    let tta = run.tta(args.inference.tta)?;
    let classes = &run.data().classes;
    let (images, labels) = read_labeled_images(&args.data, &args.labels, &args.inference.rows, run.data())?;
    let seen = duplicate_mask(&images.hashes, &run.training_images()?);
    let predictions = run.predict(&images, args.inference.device, tta)?;
    let evaluation = Evaluation::new(&predictions, &labels, &seen, classes);
    if args.json {
        print_json(&Report { tta, skipped: images.skipped.count(), evaluation })?;
    } else {
        print(&describe(&evaluation, tta, classes))?;
    }
    Ok(Outcome::Done)
}

/// Output of `--json`.
#[derive(Serialize)]
struct Report {
    tta: Tta,
    /// Rows that cannot be read.
    skipped: usize,
    #[serde(flatten)]
    evaluation: Evaluation,
}

fn describe(evaluation: &Evaluation, tta: Tta, classes: &[String]) -> String {
    let e = evaluation;
    let dedup = e.accuracy_dedup.map_or("-".to_owned(), |accuracy| format!("{accuracy:.4}"));
    let dedup = match e.rows - e.rows_dedup {
        0 => "no duplicates of training images".to_owned(),
        1 => format!("{dedup} without 1 duplicate of a training image"),
        count => format!("{dedup} without the {} duplicates of training images", thousands(count)),
    };
    let mut text = format!(
        "accuracy {:.4} on {} images\n         {dedup}\n\
         macro F1 {:.4}   ECE {:.4}   loss {:.4}\n\
         TTA: {}\n\n",
        e.accuracy,
        thousands(e.rows),
        e.macro_f1,
        e.ece,
        e.loss,
        tta.describe(),
    );
    let header = ["class", "images", "precision", "recall", "F1"].map(String::from).to_vec();
    let line = |c: &crate::metrics::ClassMetrics| {
        let scores = [c.precision, c.recall, c.f1].map(|value| format!("{value:.4}"));
        [vec![c.class.clone(), thousands(c.rows as usize)], scores.to_vec()].concat()
    };
    text += &table(&[vec![header], e.per_class.iter().map(line).collect()].concat());
    text += "\nconfusion matrix: rows are true classes, columns predicted classes\n";
    let mut rows = vec![[vec![String::new()], classes.to_vec()].concat()];
    for (class, counts) in classes.iter().zip(e.confusion.rows()) {
        rows.push([vec![class.clone()], counts.iter().map(ToString::to_string).collect()].concat());
    }
    text + &table(&rows)
}
