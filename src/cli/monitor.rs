//! `grimace monitor`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::InferenceArgs;
use super::common::{
    LabelArgs, check_run_output, check_standard_input, print, print_json, read_images, read_labeled_images,
};
use super::monitor_report::{Report, Scored};
use crate::data::dataset;
use crate::data::duplicates::duplicate_mask;
use crate::data::images::Images;
use crate::data::read_options::LabelPolicy;
use crate::inference::drift::{Limits, Signals, compare, detectable_distance, estimate_accuracy};
use crate::inference::trained_run::TrainedRun;
use crate::metrics::Predictions;
use crate::report::Console;
use crate::report::text_table::thousands;
use crate::util::error::{Outcome, input};
use crate::util::files::OutputRules;

/// The reference images of `--reference` by default: those that the run was validated on.
const VALIDATION: &str = "validation";

/// `grimace monitor`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace monitor runs/mine --data new.csv\n  grimace monitor runs/mine --data photos --reference last-month.csv --out drift.html\n\nExit codes: 0 no drift, 3 drift, 1 failed, 2 bad arguments or data."
)]
pub struct MonitorArgs {
    /// Run directory
    pub run: PathBuf,
    /// New images: CSV or folder of pictures; - reads a CSV from standard input
    #[arg(long, value_name = "DATA")]
    pub data: PathBuf,
    /// Reference images, labeled: CSV or folder, or validation: the images that the run was validated
    /// on, read from its data.train
    #[arg(long, value_name = "DATA", default_value = VALIDATION)]
    pub reference: PathBuf,
    /// Labels of the new images, if they are known
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Which rows of the new images, and how to predict
    #[command(flatten)]
    pub inference: InferenceArgs,
    /// Max rate of false alarms, corrected for the number of signals
    #[arg(long, value_name = "RATE", default_value_t = 0.05, value_parser = rate)]
    pub alpha: f64,
    /// Min distance of two distributions, 0 to 1, that counts as drift
    #[arg(long, value_name = "DISTANCE", default_value_t = 0.1, value_parser = rate)]
    pub min_distance: f64,
    /// Page to write, HTML; - writes to standard output
    #[arg(long, value_name = "HTML")]
    pub out: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err("expected a number above 0 and below 1".to_owned()),
    }
}

pub fn run(args: &MonitorArgs) -> Result<Outcome> {
    check_standard_input(&[args.data.as_path(), args.reference.as_path()])?;
    let own_reference = (args.reference.as_os_str() != VALIDATION).then_some(args.reference.as_path());
    let inputs: Vec<&Path> =
        [Some(args.data.as_path()), own_reference, args.labels.labels.as_deref()].into_iter().flatten().collect();
    let rules = OutputRules { inputs: &inputs, force: args.force, json: args.json };
    let output =
        args.out.as_deref().map(|out| check_run_output(out, std::slice::from_ref(&args.run), rules)).transpose()?;
    let run = TrainedRun::open(&args.run)?;
    let tta = run.tta(args.inference.model.tta)?;
    let temperature = args.inference.temperature(&run, tta)?;
    let (images, labels) = new_images(args, &run)?;
    let (reference, reference_labels) = reference_images(args, &run)?;
    let predict =
        |images: &Images| -> Result<Predictions> { run.predict(images, args.inference.device, tta)?.mean(temperature) };
    let (predicted, expected) = (predict(&images)?, predict(&reference)?);
    let (new, before) = (Signals::new(&images, &predicted)?, Signals::new(&reference, &expected)?);
    let limits = Limits { alpha: args.alpha, min_distance: args.min_distance };
    let signals = compare(&before, &new, run.data().classes.len(), limits);
    let is_right = reference_labels.iter().zip(&before.predicted).map(|(label, predicted)| label == predicted);
    let calibrated: Vec<(f64, bool)> = before.confidence.iter().copied().zip(is_right).collect();
    let mut report = Report {
        detectable_distance: detectable_distance(reference.len(), images.len(), signals.len(), limits),
        warnings: warnings(args, &run, &reference, &images),
        drift: signals.iter().any(|signal| signal.is_drift),
        limits,
        reference_images: reference.len(),
        new_images: images.len(),
        skipped: images.skipped.count(),
        tta,
        signals,
        reference_accuracy: Scored::new(&reference_labels, &before.predicted),
        estimated_accuracy: estimate_accuracy(&calibrated, &new.confidence),
        accuracy: labels.map(|labels| Scored::new(&labels, &new.predicted)),
    };
    let own = report.own_warnings();
    report.warnings.extend(own);
    report.warnings.iter().try_for_each(|warning| Console::default().line(&format!("warning: {warning}")))?;
    if let Some(output) = &output {
        output.write(report.page(args, run.data().classes.as_slice())?.as_bytes())?;
    }
    if args.json {
        print_json(&report)?;
    } else if output.as_ref().is_none_or(|output| !output.is_standard_output()) {
        let written = output.map(|output| format!("page written to {output}\n")).unwrap_or_default();
        print(&(report.describe() + &written))?;
    }
    Ok(if report.drift { Outcome::Alarm } else { Outcome::Done })
}

/// The new images, and their labels if they have some.
fn new_images(args: &MonitorArgs, run: &TrainedRun) -> Result<(Images, Option<Vec<u8>>)> {
    let (rows, data) = (&args.inference.rows, run.data());
    if args.labels.labels.is_some() {
        let (images, labels) = read_labeled_images(&args.data, &args.labels, rows, data)?;
        return Ok((images, Some(labels)));
    }
    let images = read_images(&args.data, data, LabelPolicy::Optional, rows)?;
    let labels = images.labels.clone();
    Ok((images, labels))
}

/// The reference images and their labels.
///
/// # Errors
/// An input error if the validation images of the run are no longer those it was validated on.
fn reference_images(args: &MonitorArgs, run: &TrainedRun) -> Result<(Images, Vec<u8>)> {
    if args.reference.as_os_str() != VALIDATION {
        let images = read_images(&args.reference, run.data(), LabelPolicy::Optional, &super::RowArgs::default())?;
        return match &images.labels {
            Some(labels) => Ok((images.clone(), labels.clone())),
            None => Err(input(format!(
                "--reference {}: has no labels; expected a CSV with a column emotion, or a folder of class folders. --labels is \
                 for the new images",
                args.reference.display()
            ))),
        };
    }
    let (seed, data_hash) = match run {
        TrainedRun::Net(run) => (run.config.seed, &run.checkpoint.state.data_hash),
        TrainedRun::Forest(run) => (run.config.seed, &run.origin.data_hash),
    };
    let data = run.data();
    if !data.train.exists() {
        return Err(input(format!(
            "{}: no such file; it has the images that {} was validated on. Give labeled reference images with --reference",
            data.train.display(),
            args.run.display()
        )));
    }
    let dataset = dataset::load(data, seed)?;
    if dataset.data_hash != *data_hash {
        return Err(input(format!(
            "{}: has changed since {} was trained on it; give labeled reference images with --reference",
            data.train.display(),
            args.run.display()
        )));
    }
    let labels = dataset.validation_labels().to_vec();
    Ok((dataset.validation, labels))
}

/// The part of the images above which a warning says that the run has seen them. The copies of images
/// in FER2013 are below it.
const MAX_SEEN: f64 = 0.05;

/// Warnings of images that the run was trained on.
fn warnings(args: &MonitorArgs, run: &TrainedRun, reference: &Images, new: &Images) -> Vec<String> {
    let trained = match run.split_hashes() {
        Ok(split) => split.train,
        // Only for a warning: not a reason to fail.
        Err(error) => return vec![format!("cannot tell whether the run has seen these images: {error:#}")],
    };
    let is_many = |seen: usize, all: usize| seen as f64 > MAX_SEEN * all as f64;
    let mut warnings = Vec::new();
    let shown = args.run.display();
    let give = "use labeled images that no training has seen as --reference";
    for (name, images, effect) in [
        ("reference", reference, format!("so its accuracy on them, and with it the estimate, is too high; {give}")),
        ("new", new, "so its confidence in them is too high".to_owned()),
    ] {
        let seen = duplicate_mask(&images.hashes, &trained).into_iter().filter(|seen| *seen).count();
        if is_many(seen, images.len()) {
            let (seen, all) = (thousands(seen), thousands(images.len()));
            warnings.push(format!("{shown} was trained on {seen} of the {all} {name} images, {effect}"));
        }
    }
    let init = match run {
        TrainedRun::Net(run) if args.reference.as_os_str() == VALIDATION => run.checkpoint.state.init.as_ref(),
        _ => None,
    };
    if let Some((init, seen)) = init.and_then(|init| Some((init, init.seen_validation_images?)))
        && is_many(seen, init.validation_images)
    {
        let (path, seen, all) = (&init.path, thousands(seen), thousands(init.validation_images));
        warnings.push(format!(
            "the initial weights of {shown} ({path}) were trained on {seen} of its {all} validation images, so its accuracy \
             on them, and with it the estimate, is too high; {give}"
        ));
    }
    warnings
}
