//! What `grimace monitor` reports: text, JSON and page.

use anyhow::Result;
use serde::Serialize;

use super::common::own_command;
use super::monitor::MonitorArgs;
use crate::inference::drift::{CLASSES, EstimatedAccuracy, Limits, SignalDrift};
use crate::metrics::{accuracy, accuracy_interval};
use crate::report::html::{Fact, MonitorPage};
use crate::report::plot::Histogram;
use crate::report::text_table::{table, thousands};
use crate::transforms::tta::Tta;
use crate::util::files::input_name;

/// A shift that a monitor should notice. If a shift of this distance is not significant, because there
/// are too few images, that none was found says nothing.
const LARGE_SHIFT: f64 = 0.3;

/// Output of `--json`.
#[derive(Serialize)]
pub struct Report {
    /// Whether a signal drifts.
    pub drift: bool,
    /// What counts as drift.
    pub limits: Limits,
    /// The distance from which on a signal that alone differs is significant with these numbers of images.
    pub detectable_distance: f64,
    /// Number of reference images.
    pub reference_images: usize,
    /// Number of new images.
    pub new_images: usize,
    /// New images that cannot be read.
    pub skipped: usize,
    /// How they were predicted.
    pub tta: Tta,
    /// Each signal.
    pub signals: Vec<SignalDrift>,
    /// Accuracy on the reference images.
    pub reference_accuracy: Scored,
    /// Absent for fewer than 2 images.
    pub estimated_accuracy: Option<EstimatedAccuracy>,
    /// Absent without labels.
    pub accuracy: Option<Scored>,
    /// What makes the result mean less.
    pub warnings: Vec<String>,
}

/// An accuracy on labeled images, with its 95% interval (Wilson).
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Scored {
    /// The accuracy.
    pub accuracy: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Scored {
    /// Scores predictions.
    pub fn new(labels: &[u8], predicted: &[u8]) -> Self {
        let accuracy = accuracy(labels, predicted);
        let (low, high) = accuracy_interval(accuracy, labels.len()).unwrap_or((0.0, 1.0));
        Self { accuracy, low, high }
    }
}

const HEAD: [&str; 7] = ["signal", "reference", "new", "distance", "PSI", "p", "drift"];

const LEGEND: [&str; 4] = [
    "reference and new: the mean over the images. Brightness is the mean pixel (0 to 255), contrast the standard deviation \
     of the pixels, sharpness the strength of edges relative to the contrast, confidence the calibrated probability of the \
     predicted class.",
    "distance: how far apart the distributions are, from 0 to 1: Kolmogorov and Smirnov's statistic; for the predicted \
     class, half the sum of the differences of the fractions.",
    "PSI: population stability index; by a rule of thumb, below 0.1 is stable and above 0.25 a shift. With few \
     images it is large by chance.",
    "p: probability of such a distance without drift, corrected for the number of signals (Holm).",
];

impl Report {
    /// Whether even a large shift would not count as drift.
    fn is_too_small(&self) -> bool {
        self.detectable_distance > LARGE_SHIFT
    }

    /// What its own numbers make it mean less.
    pub fn own_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.is_too_small() {
            let from = match self.detectable_distance {
                distance if distance < 1.0 => {
                    format!("a single signal that differs is significant from {distance:.2} on")
                }
                _ => "no difference is significant".to_owned(),
            };
            let (new, reference) = (thousands(self.new_images), thousands(self.reference_images));
            warnings.push(format!("with {new} new and {reference} reference images, {from}; collect more"));
        }
        if self.drift && self.estimated_accuracy.is_some() {
            warnings.push(
                "the images have drifted, so the estimated accuracy may be wrong by more than its interval; label a sample"
                    .to_owned(),
            );
        }
        warnings
    }

    /// The result in a sentence.
    fn result(&self) -> String {
        let drifting: Vec<&str> =
            self.signals.iter().filter(|signal| signal.is_drift).map(|signal| signal.signal).collect();
        match drifting.as_slice() {
            [] if self.is_too_small() => "Too few images to tell".to_owned(),
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
            // Brightness is up to 255, confidence up to 1.
            let is_large = [signal.reference_mean, signal.new_mean].iter().flatten().any(|mean| *mean >= 10.0);
            let decimals = if is_large { 1 } else { 3 };
            let mean = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"));
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

    /// The result for the terminal.
    pub fn describe(&self) -> String {
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
        text += &format!("distance from which on a single signal is significant: {:.3}\n", self.detectable_distance);
        text
    }

    /// The result as a page.
    ///
    /// # Errors
    /// A plot that cannot be drawn.
    pub fn page(&self, args: &MonitorArgs, classes: &[String]) -> Result<String> {
        let mut facts: Vec<Fact> = vec![
            ("reference images".to_owned(), thousands(self.reference_images)),
            ("new images".to_owned(), thousands(self.new_images)),
        ];
        facts.extend(self.accuracies());
        facts.push((
            "distance from which on a single signal is significant".to_owned(),
            format!("{:.3}", self.detectable_distance),
        ));
        let general = [
            "The estimated accuracy assumes that confidence means as much on the new images as on the reference images. \
             Images unlike those the model was trained on can be wrong with high confidence."
                .to_owned(),
            "Brightness, contrast and sharpness do not see everything: label a sample of new images from time to time, \
             and pass it with its labels."
                .to_owned(),
        ];
        let caveats: Vec<String> = self.warnings.iter().cloned().chain(general).collect();
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
    let decimals = if signal.bin_ends.iter().all(|end| *end < 10.0) { 3 } else { 1 };
    let bins = signal.bin_ends.iter().map(|end| format!("to {end:.decimals$}"));
    let labels = if signal.signal == CLASSES { classes.to_vec() } else { bins.chain(["above".to_owned()]).collect() };
    Histogram {
        title: signal.signal.to_owned(),
        labels,
        reference: fractions(&signal.reference_counts),
        new: fractions(&signal.new_counts),
    }
}
