//! `grimace monitor`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::InferenceArgs;
use super::common::{
    LabelArgs, check_run_output, check_standard_input, own_command, print, print_json, read_images, read_labeled_images,
};
use crate::data::dataset;
use crate::data::images::Images;
use crate::data::read_options::LabelPolicy;
use crate::inference::drift::{CLASSES, EstimatedAccuracy, Limits, SignalDrift, Signals, compare, estimate_accuracy};
use crate::inference::trained_run::TrainedRun;
use crate::metrics::{Predictions, accuracy, wilson_interval};
use crate::report::html::{Fact, MonitorPage};
use crate::report::plot::Histogram;
use crate::report::text_table::{table, thousands};
use crate::transforms::tta::Tta;
use crate::util::error::{Outcome, input};
use crate::util::files::{OutputRules, input_name};

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

/// Output of `--json`.
#[derive(Serialize)]
struct Report {
    drift: bool,
    limits: Limits,
    reference_images: usize,
    new_images: usize,
    /// New images that cannot be read.
    skipped: usize,
    tta: Tta,
    signals: Vec<SignalDrift>,
    reference_accuracy: Scored,
    /// Absent for fewer than 2 images.
    estimated_accuracy: Option<EstimatedAccuracy>,
    /// Absent without labels.
    accuracy: Option<Scored>,
}

/// An accuracy on labeled images, with its 95% interval (Wilson).
#[derive(Debug, Clone, Copy, Serialize)]
struct Scored {
    accuracy: f64,
    low: f64,
    high: f64,
}

impl Scored {
    fn new(labels: &[u8], predicted: &[u8]) -> Self {
        let accuracy = accuracy(labels, predicted);
        let correct = (accuracy * labels.len() as f64).round() as usize;
        let (low, high) = wilson_interval(correct, labels.len()).unwrap_or((0.0, 1.0));
        Self { accuracy, low, high }
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
    let report = Report {
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
        let (labels, rows) = (LabelArgs::default(), super::RowArgs::default());
        return read_labeled_images(&args.reference, &labels, &rows, run.data());
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

const HEAD: [&str; 7] = ["signal", "reference", "new", "distance", "PSI", "p", "drift"];

const LEGEND: [&str; 4] = [
    "reference and new: the mean over the images. Brightness is the mean pixel (0 to 255), contrast the standard deviation \
     of the pixels, sharpness the strength of edges relative to the contrast, confidence the probability of the predicted \
     class.",
    "distance: how far apart the distributions are, from 0 to 1: Kolmogorov and Smirnov's statistic; for the predicted \
     class, half the sum of the differences of the fractions.",
    "PSI: population stability index; by a rule of thumb, below 0.1 is stable and above 0.25 a shift.",
    "p: probability of such a distance without drift, corrected for the number of signals (Holm).",
];

impl Report {
    /// The result in a sentence.
    fn result(&self) -> String {
        let drifting: Vec<&str> =
            self.signals.iter().filter(|signal| signal.is_drift).map(|signal| signal.signal).collect();
        match drifting.as_slice() {
            [] => "No drift".to_owned(),
            found => format!("Drift in {}", found.join(", ")),
        }
    }

    /// What is known of the accuracy, a name and a value each.
    fn accuracies(&self) -> Vec<Fact> {
        let percent = |accuracy: f64, low: f64, high: f64| {
            format!("{:.1}% ({:.1}% to {:.1}%)", 100.0 * accuracy, 100.0 * low, 100.0 * high)
        };
        let scored = |found: Scored| percent(found.accuracy, found.low, found.high);
        let mut facts = vec![("accuracy on the reference images".to_owned(), scored(self.reference_accuracy))];
        if let Some(found) = self.estimated_accuracy {
            facts.push((
                "estimated accuracy on the new images".to_owned(),
                percent(found.accuracy, found.low, found.high),
            ));
        }
        if let Some(found) = self.accuracy {
            facts.push(("accuracy on the new images, from their labels".to_owned(), scored(found)));
        }
        facts
    }

    fn rows(&self) -> Vec<(Vec<String>, bool)> {
        let row = |signal: &SignalDrift| {
            let mean = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
            let p_value = if signal.p_value < 1e-4 { "<0.0001".to_owned() } else { format!("{:.4}", signal.p_value) };
            let cells = vec![
                signal.signal.to_owned(),
                mean(signal.reference_mean),
                mean(signal.new_mean),
                format!("{:.3}", signal.distance),
                format!("{:.3}", signal.stability_index),
                p_value,
                if signal.is_drift { "yes" } else { "no" }.to_owned(),
            ];
            (cells, signal.is_drift)
        };
        self.signals.iter().map(row).collect()
    }

    fn describe(&self) -> String {
        let head = HEAD.map(String::from).to_vec();
        let rows = self.rows().into_iter().map(|(cells, _)| cells);
        let mut text = format!(
            "{}: {} new images beside {} reference images\n\n",
            self.result(),
            thousands(self.new_images),
            thousands(self.reference_images)
        );
        text += &table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
        text.push('\n');
        for (name, value) in self.accuracies() {
            text += &format!("{name}: {value}\n");
        }
        text
    }

    fn page(&self, args: &MonitorArgs, classes: &[String]) -> Result<String> {
        let mut facts: Vec<Fact> = vec![
            ("reference images".to_owned(), thousands(self.reference_images)),
            ("new images".to_owned(), thousands(self.new_images)),
        ];
        facts.extend(self.accuracies());
        let caveats = [
            "The estimated accuracy assumes that confidence means as much on the new images as on the reference images. \
             Images unlike those the model was trained on can be wrong with high confidence."
                .to_owned(),
            "Brightness, contrast and sharpness do not see everything: label a sample of new images from time to time, \
             and pass it with its labels."
                .to_owned(),
        ];
        let provenance = [
            ("run", args.run.display().to_string()),
            ("data", input_name(&args.data).display().to_string()),
            ("reference", args.reference.display().to_string()),
            ("Grimace", env!("CARGO_PKG_VERSION").to_owned()),
            ("command", own_command()?),
        ];
        let page = MonitorPage {
            result: self.result(),
            caveats: &caveats,
            facts,
            head: HEAD.map(String::from).to_vec(),
            rows: self.rows(),
            histograms: self.signals.iter().map(|signal| histogram(signal, classes)).collect(),
            legend: &LEGEND,
            provenance: provenance.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        };
        page.to_html()
    }
}

fn histogram(signal: &SignalDrift, classes: &[String]) -> Histogram {
    let fractions = |counts: &[u64]| {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        counts.iter().map(|count| *count as f64 / total).collect()
    };
    let bins = signal.bin_ends.iter().map(|end| format!("to {end:.2}"));
    let labels = if signal.signal == CLASSES { classes.to_vec() } else { bins.chain(["above".to_owned()]).collect() };
    Histogram {
        title: signal.signal.to_owned(),
        labels,
        reference: fractions(&signal.reference_counts),
        new: fractions(&signal.new_counts),
    }
}
