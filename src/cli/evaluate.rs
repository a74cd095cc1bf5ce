//! `grimace evaluate`

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::InferenceArgs;
use super::common::{LabelArgs, check_run_output, print, print_json, read_labeled_images};
use crate::data::duplicates::duplicate_mask;
use crate::inference::trained_run::TrainedRun;
use crate::metrics::{ClassMetrics, Evaluation, Predictions, accuracy_interval, describe_accuracy, roc_curves};
use crate::report::Console;
use crate::report::plot::{self, Plot};
use crate::report::text_table::{table, thousands};
use crate::run_dir::RunDir;
use crate::transforms::tta::Tta;
use crate::util::error::{Outcome, input};
use crate::util::files::{Output, OutputRules};

/// `grimace evaluate`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace evaluate runs/mine --data data/my_emotion_test.csv \\\n      --labels data/my_emotion_test_labels.csv\n  grimace evaluate runs/mine --data data/fer2013.csv --usage PublicTest --json"
)]
pub struct EvaluateArgs {
    /// Run directory
    pub run: PathBuf,
    /// CSV of images with a column emotion or with --labels, or folder with a folder of pictures for
    /// each class; - reads a CSV from standard input
    #[arg(long, value_name = "DATA")]
    pub data: PathBuf,
    /// Their labels
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Which rows, and how to predict
    #[command(flatten)]
    pub inference: InferenceArgs,
    /// Plot the ROC curves into this file (.svg or .png)
    #[arg(long, value_name = "FILE")]
    pub roc: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long, requires = "roc")]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &EvaluateArgs) -> Result<Outcome> {
    let roc = args.roc.as_deref().map(|path| check_plot(args, path)).transpose()?;
    let run = TrainedRun::open(&args.run)?;
    if let TrainedRun::Net(net) = &run
        && RunDir::is_in_use(&args.run)
    {
        let epoch =
            net.checkpoint.state.best.as_ref().map_or(String::new(), |best| format!(", of epoch {}", best.epoch));
        let shown = args.run.display();
        Console::default().line(&format!("note: {shown} is in training; these are its best weights so far{epoch}"))?;
    }
    let tta = run.tta(args.inference.model.tta)?;
    let classes = &run.data().classes;
    let (images, labels) = read_labeled_images(&args.data, &args.labels, &args.inference.rows, run.data())?;
    let split = run.split_hashes()?;
    let seen = duplicate_mask(&images.hashes, &split.train);
    let validation = duplicate_mask(&images.hashes, &split.validation).into_iter().filter(|found| *found).count();
    let temperature = args.inference.temperature(&run, tta)?;
    let views = run.predict(&images, args.inference.device, tta)?;
    let evaluate = |predictions: &Predictions| Evaluation::new(predictions, &labels, &seen, classes);
    let predictions = views.mean(temperature)?;
    let evaluation = evaluate(&predictions);
    if let Some(output) = &roc {
        let curves = roc_curves(&predictions.probabilities, classes.len(), &labels);
        write_plot(output, &plot::roc(classes, &curves, evaluation.macro_auc)?)?;
    }
    let calibration = if temperature == 1.0 {
        None
    } else {
        let before = evaluate(&views.mean(1.0)?);
        Some(CalibrationReport {
            temperature,
            accuracy_before: before.accuracy,
            ece_before: before.ece,
            loss_before: before.loss,
        })
    };
    if args.json {
        let skipped = images.skipped.count();
        print_json(&Report { tta, skipped, validation_images: validation, calibration, evaluation })?;
    } else {
        if let TrainedRun::Net(net) = &run
            && validation > 0
        {
            let optimistic = if net.config.train.early_stop.monitor.selects() {
                "its epoch and its temperature, so metrics and calibration error are optimistic"
            } else {
                "its temperature, so its calibration error is optimistic"
            };
            let (validation, all) = (thousands(validation), thousands(images.len()));
            Console::default().line(&format!(
                "the run was validated on {validation} of these {all} images, which selected {optimistic}"
            ))?;
        }
        print(&describe(&evaluation, calibration.as_ref(), tta, classes))?;
    }
    Ok(Outcome::Done)
}

/// The file of `--roc`.
fn check_plot(args: &EvaluateArgs, path: &Path) -> Result<Output> {
    let extension = path.extension().map(OsStr::to_ascii_lowercase);
    if !extension.is_some_and(|extension| extension == "svg" || extension == "png") {
        return Err(input(format!("--roc {}: expected a file name that ends in .svg or .png", path.display())));
    }
    let inputs: Vec<&Path> = [Some(args.data.as_path()), args.labels.labels.as_deref()].into_iter().flatten().collect();
    let rules = OutputRules { inputs: &inputs, force: args.force, json: args.json };
    check_run_output(path, std::slice::from_ref(&args.run), rules)
}

fn write_plot(output: &Output, plot: &Plot) -> Result<()> {
    let is_png = output.path().extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    output.write(if is_png { &plot.png } else { plot.svg.as_bytes() })
}

/// Output of `--json`.
#[derive(Serialize)]
struct Report {
    tta: Tta,
    /// Rows that cannot be read.
    skipped: usize,
    /// Exact duplicates of validation images of the run.
    validation_images: usize,
    /// Absent without a temperature.
    calibration: Option<CalibrationReport>,
    #[serde(flatten)]
    evaluation: Evaluation,
}

/// What the temperature changes.
#[derive(Serialize)]
struct CalibrationReport {
    temperature: f64,
    accuracy_before: f64,
    ece_before: f64,
    loss_before: f64,
}

fn describe(evaluation: &Evaluation, calibration: Option<&CalibrationReport>, tta: Tta, classes: &[String]) -> String {
    let e = evaluation;
    let dedup =
        e.accuracy_dedup.map_or("-".to_owned(), |accuracy| describe_accuracy(accuracy, e.accuracy_dedup_interval));
    let dedup = match e.rows - e.rows_dedup {
        0 => "no duplicates of training images".to_owned(),
        1 => format!("{dedup} without 1 duplicate of a training image"),
        count => format!("{dedup} without the {} duplicates of training images", thousands(count)),
    };
    let calibration = calibration.map_or(String::new(), |found| {
        format!(
            "before calibration with temperature {:.3}: accuracy {}   ECE {:.4}   loss {:.4}\n",
            found.temperature,
            describe_accuracy(found.accuracy_before, accuracy_interval(found.accuracy_before, e.rows)),
            found.ece_before,
            found.loss_before
        )
    });
    let top2 = e.top2_accuracy.map_or(String::new(), |accuracy| {
        format!("top-2 accuracy {}\n", describe_accuracy(accuracy, e.top2_accuracy_interval))
    });
    let macro_auc = number(e.macro_auc, 4);
    let mut text = format!(
        "accuracy {} on {} images\n         {dedup}\n\
         {top2}macro F1 {:.4}   macro AUC {macro_auc}   ECE {:.4}   loss {:.4}\n\
         {calibration}\
         TTA: {}\n\n",
        describe_accuracy(e.accuracy, e.accuracy_interval),
        thousands(e.rows),
        e.macro_f1,
        e.ece,
        e.loss,
        tta.describe(),
    );
    let header = ["class", "images", "precision", "recall", "95% CI", "specificity", "F1", "AUC"];
    let rows = e.per_class.iter().map(class_line).collect();
    text += &table(&[vec![header.map(String::from).to_vec()], rows].concat());
    text += "\nconfusion matrix: rows are true classes, columns predicted classes\n";
    let mut rows = vec![[vec![String::new()], classes.to_vec()].concat()];
    for (class, counts) in classes.iter().zip(e.confusion.rows()) {
        rows.push([vec![class.clone()], counts.iter().map(ToString::to_string).collect()].concat());
    }
    text + &table(&rows)
}

fn class_line(c: &ClassMetrics) -> Vec<String> {
    let interval = c.recall_interval.map_or("-".to_owned(), |(low, high)| format!("{low:.2} to {high:.2}"));
    let [precision, recall, specificity, f1] =
        [c.precision, c.recall, c.specificity, c.f1].map(|value| format!("{value:.4}"));
    vec![c.class.clone(), thousands(c.rows as usize), precision, recall, interval, specificity, f1, number(c.auc, 4)]
}

/// A number with this many digits, or `-` if it is not defined.
fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}
