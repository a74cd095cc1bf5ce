//! `grimace evaluate`

use crate::device::DeviceChoice;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

use super::common::{print, print_json, read_labeled_images};
use crate::data::split::seen_in;
use crate::inference::trained_run::TrainedRun;
use crate::metrics::Evaluation;
use crate::report::table::{table, thousands};
use crate::transforms::tta::Tta;
use crate::util::error::Outcome;

/// `grimace evaluate`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace evaluate runs/mine --data data/my_emotion_test.csv --labels data/my_emotion_test_labels.csv\n  grimace evaluate runs/mine --data data/fer2013.csv --usage PublicTest --json"
)]
pub struct EvaluateArgs {
    /// Run directory
    pub run: PathBuf,
    /// CSV of images, with a column emotion or with --labels
    #[arg(long, value_name = "CSV")]
    pub data: PathBuf,
    /// CSV of labels: id,emotion
    #[arg(long, value_name = "CSV")]
    pub labels: Option<PathBuf>,
    /// Take only the rows of this Usage
    #[arg(long)]
    pub usage: Option<String>,
    /// Average probabilities over tta of each image: one, flip or ten_crop; default what the run's config says
    #[arg(long)]
    pub tta: Option<Tta>,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &EvaluateArgs) -> Result<Outcome> {
    let run = TrainedRun::open(&args.run)?;
    let tta = run.tta(args.tta)?;
    let classes = &run.data().classes;
    let (images, labels) = read_labeled_images(&args.data, args.labels.as_deref(), args.usage.as_deref(), run.data())?;
    let seen = seen_in(&images.hashes, &run.training_images()?);
    let predictions = run.predictions(&images, args.device, tta)?;
    let evaluation = Evaluation::of(&predictions, &labels, &seen, classes);
    if args.json {
        print_json(&Report { tta, evaluation })?;
    } else {
        print(&describe(&evaluation, tta, classes))?;
    }
    Ok(Outcome::Done)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    tta: Tta,
    #[serde(flatten)]
    evaluation: Evaluation,
}

fn describe(evaluation: &Evaluation, tta: Tta, classes: &[String]) -> String {
    let e = evaluation;
    let without = match e.accuracy_dedup {
        Some(accuracy) => format!("{accuracy:.4}"),
        None => "-".into(),
    };
    let copies = e.rows - e.rows_dedup;
    let mut text = format!(
        "accuracy {:.4} on {} images\n         {without} without the {} images that also stand in the training rows\n\
         macro F1 {:.4}   ECE {:.4}   loss {:.4}\n\
         tta {tta}: {}\n\n",
        e.accuracy,
        thousands(e.rows),
        thousands(copies),
        e.macro_f1,
        e.ece,
        e.loss,
        tta.describe(),
    );
    let header = ["class", "images", "precision", "recall", "F1"].map(String::from).to_vec();
    let line = |c: &crate::metrics::PerClass| {
        let shown = [c.precision, c.recall, c.f1].map(|value| format!("{value:.4}"));
        [vec![c.class.clone(), thousands(c.rows as usize)], shown.to_vec()].concat()
    };
    text += &table(&[vec![header], e.per_class.iter().map(line).collect()].concat());
    text += "\nconfusion: rows are the true class, columns the predicted one\n";
    let mut rows = vec![[vec![String::new()], classes.to_vec()].concat()];
    for (class, counts) in classes.iter().zip(e.confusion.rows()) {
        rows.push([vec![class.clone()], counts.iter().map(ToString::to_string).collect()].concat());
    }
    text + &table(&rows)
}
