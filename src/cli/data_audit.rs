//! `grimace data audit`

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::json;

use super::common::{ClassArgs, check_run_output, check_standard_input, merge_label_maps, print, print_json};
use super::data_audit_report::{describe, page, warnings};
use crate::data::advice::Advice;
use crate::data::config::{DataConfig, OnBadRow};
use crate::data::images::Images;
use crate::data::label_map::LabelNames;
use crate::data::near_duplicates::MIN_CORRELATION;
use crate::data::photos::open_detector;
use crate::data::read;
use crate::data::read_options::{LabelPolicy, ReadOptions};
use crate::device::DeviceChoice;
use crate::inference::audit::{AuditOptions, MIN_CONTRAST, Probabilities, audit, review_csv};
use crate::inference::out_of_fold::OutOfFold;
use crate::inference::trained_run::TrainedRun;
use crate::report::Console;
use crate::util::error::{Outcome, input};
use crate::util::files::{Output, OutputRules, exists, input_name};

/// `grimace data audit`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data audit data/my_emotion_train.csv data/my_emotion_test.csv --faces --out audit\n  grimace train configs/notebook.toml --set data.split=stratified --set data.group_duplicates=true --folds 5 --out runs/folds\n  grimace data audit data/my_emotion_train.csv --folds runs/folds --out audit-labels\n  grimace train configs/notebook.toml --set data.exclude=audit/review.csv\n\nWrites report.html and review.csv to --out: file,row,id,label,suggested,reason,score,group,exclude. Rows with a 1 in exclude are proposals; edit them, and pass the file as data.exclude."
)]
pub struct DataAuditArgs {
    /// CSV files, folders of images and packed files; training images first
    #[arg(required = true, value_name = "DATA")]
    pub data: Vec<PathBuf>,
    /// Check labels with the out-of-fold predictions in this directory, of grimace train --folds on this data
    #[arg(long, value_name = "DIR")]
    pub folds: Option<PathBuf>,
    /// Check labels with the predictions of this run, for images that it was not trained on
    #[arg(long, value_name = "RUN", conflicts_with = "folds")]
    pub run: Option<PathBuf>,
    /// Folder to write report.html and review.csv to; created if it does not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Overwrite existing files
    #[arg(long)]
    pub force: bool,
    /// Classes and labels [default: those of --folds or --run]
    #[command(flatten)]
    pub classes: ClassArgs,
    /// Correlation from which two images are near duplicates
    #[arg(long, value_name = "R", default_value_t = MIN_CORRELATION, value_parser = correlation)]
    pub min_correlation: f32,
    /// Standard deviation of the pixels, 0 to 255, below which an image has low contrast
    #[arg(long, value_name = "GRAY", default_value_t = MIN_CONTRAST, value_parser = contrast)]
    pub min_contrast: f64,
    /// Look for images without a face, with the detector of grimace predict --faces detect
    #[arg(long)]
    pub faces: bool,
    /// Propose to leave out probable label errors too
    #[arg(long)]
    pub propose_labels: bool,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn correlation(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.5..1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0.5, below 1".to_owned()),
    }
}

fn contrast(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=128.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 128".to_owned()),
    }
}

/// Where predictions come from.
enum Source {
    Folds(Box<OutOfFold>, PathBuf),
    Run(Box<TrainedRun>),
}

impl Source {
    fn open(args: &DataAuditArgs) -> Result<Option<Self>> {
        Ok(match (&args.folds, &args.run) {
            (Some(path), _) => Some(Self::Folds(Box::new(OutOfFold::open(path)?), path.clone())),
            (None, Some(path)) => Some(Self::Run(Box::new(TrainedRun::open(path)?))),
            (None, None) => None,
        })
    }

    fn data(&self) -> Option<&DataConfig> {
        match self {
            Self::Folds(found, _) => found.folds.first().map(|fold| &fold.run.config.data),
            Self::Run(run) => Some(run.data()),
        }
    }
}

pub fn run(args: &DataAuditArgs) -> Result<Outcome> {
    let paths: Vec<&Path> = args.data.iter().map(AsRef::as_ref).collect();
    check_standard_input(&paths)?;
    if exists(&args.out) {
        check_outputs(args, &paths)?;
    }
    let detector = args.faces.then(open_detector).transpose()?;
    let source = Source::open(args)?;
    let (classes, label_names) = classes(args, source.as_ref(), &paths)?;
    let files = read_files(args, &classes, &label_names)?;
    // Not before, so that a mistake in an input leaves no empty folder.
    fs_err::create_dir_all(&args.out)?;
    let [page_out, review_out] = check_outputs(args, &paths)?;
    let start = Instant::now();
    let probabilities = match &source {
        Some(Source::Folds(found, path)) => Some(Probabilities::of_folds(found, classes.len(), &files, path)?),
        Some(Source::Run(run)) => Some(Probabilities::of_run(run, &files, args.device)?),
        None => None,
    };
    let options = AuditOptions {
        detector: detector.as_ref(),
        min_correlation: args.min_correlation,
        min_contrast: args.min_contrast,
        propose_labels: args.propose_labels,
    };
    let found = audit(&files, probabilities.as_ref(), options)?;
    let seconds = start.elapsed().as_secs_f64();
    warnings(&found).iter().try_for_each(|warning| Console::default().line(&format!("warning: {warning}")))?;
    review_out.write(&review_csv(&files, &found.findings, &classes)?)?;
    page_out.write(page(args, &files, &found, &classes)?.as_bytes())?;
    if args.json {
        print_json(&json!({"audit": found, "seconds": seconds, "out": args.out.to_string_lossy()}))?;
    } else {
        let written = format!("\nreport: {page_out}\nto review: {review_out}\n");
        print(&(describe(&found, &classes) + &written))?;
    }
    Ok(Outcome::Done)
}

/// Checks the two files in the folder `--out`.
fn check_outputs(args: &DataAuditArgs, inputs: &[&Path]) -> Result<[Output; 2]> {
    let out = &args.out;
    if exists(out) && !out.is_dir() {
        return Err(anyhow!("{}: is not a folder; expected an output folder", out.display()));
    }
    let rules = OutputRules { inputs, force: args.force, ..OutputRules::default() };
    let runs: Vec<PathBuf> = args.run.iter().cloned().collect();
    let check = |name: &str| check_run_output(&out.join(name), &runs, rules);
    Ok([check("report.html")?, check("review.csv")?])
}

fn classes(args: &DataAuditArgs, source: Option<&Source>, paths: &[&Path]) -> Result<(Vec<String>, LabelNames)> {
    let Some(data) = source.and_then(Source::data) else { return args.classes.resolve(paths) };
    if args.classes.classes.is_some() {
        return Err(input("--classes: the classes are those of --folds or --run; omit it, or use --label-map"));
    }
    Ok((data.classes.clone(), merge_label_maps(&data.labels, &args.classes.label_map, &data.classes)?))
}

fn read_files(args: &DataAuditArgs, classes: &[String], names: &LabelNames) -> Result<Vec<(PathBuf, Images)>> {
    let options = ReadOptions {
        label_names: names,
        on_bad_row: OnBadRow::Skip,
        advice: Advice::CommandLine,
        ..ReadOptions::new(classes, LabelPolicy::Optional)
    };
    let read_file = |path: &PathBuf| {
        let images = read::read(path, options)?;
        if let Some(skipped) = images.skipped.describe() {
            Console::default().line(&format!("{}: {skipped}", input_name(path).display()))?;
        }
        Ok((path.clone(), images))
    };
    args.data.iter().map(read_file).collect()
}
