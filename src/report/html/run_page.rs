//! `report.html` of a training run or a forest.

use anyhow::Result;
use indicatif::HumanCount;
use maud::{Markup, html};

use super::{Fact, facts, inline_png, inline_svg, page, percent, table};
use crate::data::dataset::Dataset;
use crate::metrics::epoch::EpochMetrics;
use crate::metrics::predictions::Predictions;
use crate::metrics::{Evaluation, Monitor, calibration_bins, most_confident_mistakes};
use crate::report::plot::{self, Mistake, Plot};
use crate::run_dir::RunDir;
use crate::util::files::write_atomically;

/// Max images on the contact sheet of mistakes.
const MAX_MISTAKES: usize = 40;

/// Content of the report.
pub struct RunReport<'a> {
    /// Run directory, where the report goes.
    pub dir: &'a RunDir,
    /// Name of the run.
    pub name: &'a str,
    /// `network` or `forest`.
    pub kind: &'a str,
    /// Training and validation images.
    pub data: &'a Dataset,
    /// A sentence about the train/validation split.
    pub split: String,
    /// Class names.
    pub classes: &'a [String],
    /// Predictions of the saved model on the validation images.
    pub predictions: &'a Predictions,
    /// A sentence about bias of the accuracy: how the model was selected.
    pub caveat: &'a str,
    /// Facts in boxes, beside the validation metrics.
    pub facts: Vec<Fact>,
    /// What makes the result mean less, without the prefix `warning: `.
    pub warnings: &'a [String],
    /// Metrics of each epoch; empty for a forest.
    pub records: &'a [EpochMetrics],
    /// Epoch whose weights are saved, and the metric by which it is the best.
    pub best_epoch: Option<(u32, Monitor)>,
    /// Further plots as PNG, each with a caption.
    pub plots: Vec<(Vec<u8>, String)>,
    /// The resolved config as TOML.
    pub config: String,
    /// Provenance of the results: versions, seed, hashes, command.
    pub provenance: Vec<Fact>,
}

impl RunReport<'_> {
    /// Writes the plots and `report.html`; returns name and PNG of each plot.
    pub fn write(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let (data, predictions) = (self.data, self.predictions);
        let labels = data.validation_labels();
        let found = Evaluation::new(predictions, labels, &data.validation_duplicates, self.classes);
        let plots = self.plots(&found)?;
        let mut figures = Vec::new();
        for (name, plot, caption) in &plots {
            plot.write(self.dir.path(), name)?;
            figures.push(inline_svg(&plot.svg, caption));
        }
        figures.extend(self.plots.iter().map(|(png, caption)| inline_png(png, caption)));
        let page = page(self.name, &self.body(&found, &figures));
        write_atomically(&self.dir.path().join("report.html"), page.as_bytes())?;
        Ok(plots.into_iter().map(|(name, plot, _)| (name, plot.png)).collect())
    }

    /// Name, plot and caption of each plot.
    fn plots(&self, found: &Evaluation) -> Result<Vec<(&'static str, Plot, &'static str)>> {
        let (predictions, labels) = (self.predictions, self.data.validation_labels());
        let mut plots = Vec::new();
        if !self.records.is_empty() {
            let caption = "Loss, accuracy and learning rate by epoch. Training metrics are measured on augmented images with dropout, while the weights change.";
            plots.push(("curves", plot::curves(self.records, self.best_epoch)?, caption));
        }
        let caption = "Confusion matrix of the validation images, and the recall of each class.";
        plots.push(("confusion", plot::confusion(&found.confusion, self.classes)?, caption));
        let bins = calibration_bins(&predictions.probabilities, predictions.classes, labels);
        let caption =
            "Reliability diagram. On the diagonal, predictions with 70% confidence are correct in 70% of cases.";
        plots.push(("reliability", plot::reliability(&bins, found.ece)?, caption));
        let mistakes = self.mistakes();
        if !mistakes.is_empty() {
            let caption = "The most confident wrong predictions among the validation images.";
            plots.push(("mistakes", plot::mistakes(&mistakes)?, caption));
        }
        Ok(plots)
    }

    /// The most confident wrong predictions.
    fn mistakes(&self) -> Vec<Mistake<'_>> {
        let predictions = self.predictions;
        let labels = self.data.validation_labels();
        let worst = most_confident_mistakes(&predictions.probabilities, predictions.classes, labels, MAX_MISTAKES);
        let class = |class: u8| self.classes.get(usize::from(class)).map_or("?", String::as_str);
        let mistakes = worst.iter().map(|(row, predicted, confidence)| Mistake {
            image: self.data.validation.image(*row),
            label: labels.get(*row).map_or("?", |label| class(*label)),
            predicted: class(*predicted),
            confidence: f64::from(*confidence),
        });
        mistakes.collect()
    }

    fn body(&self, found: &Evaluation, figures: &[Markup]) -> Markup {
        let duplicates = found.rows - found.rows_dedup;
        let dedup = found.accuracy_dedup;
        let mut boxes = vec![
            ("validation accuracy".to_owned(), format!("{:.4}", found.accuracy)),
            ("deduplicated accuracy".to_owned(), dedup.map_or("-".to_owned(), |value| format!("{value:.4}"))),
            ("macro F1".to_owned(), format!("{:.4}", found.macro_f1)),
            ("calibration error (ECE)".to_owned(), format!("{:.4}", found.ece)),
        ];
        boxes.extend(self.facts.iter().cloned());
        let head = ["class", "images", "precision", "recall", "F1"].map(String::from);
        let rows: Vec<_> = found
            .per_class
            .iter()
            .map(|class| {
                let shown = [class.precision, class.recall, class.f1].map(|value| html! { (format!("{value:.4}")) });
                let first = [html! { (class.class) }, html! { (HumanCount(class.rows)) }];
                (None, first.into_iter().chain(shown).collect::<Vec<_>>())
            })
            .collect();
        html! {
            h1 { "Grimace: " (self.kind) " \"" (self.name) "\"" }
            p.result {
                "Validation accuracy: " (percent(found.accuracy)) " of " (HumanCount(found.rows as u64)) " images"
                @if duplicates > 0 {
                    @if let Some(dedup) = dedup {
                        "; " (percent(dedup)) " without the " (HumanCount(duplicates as u64))
                        " that are exact duplicates of training images"
                    }
                } @else { ", none of which is an exact duplicate of a training image" }
                "."
            }
            @if !self.warnings.is_empty() {
                div.note { @for warning in self.warnings { p { "Warning: " (warning) } } }
            }
            p.note { (self.caveat) " " (self.split) }
            (facts(&boxes))
            h2 { "Plots" }
            @for figure in figures { (figure) }
            h2 { "Metrics by class" }
            (table(&head, &rows))
            h2 { "Provenance" }
            (facts(&self.provenance))
            h2 { "Config" }
            pre { (self.config) }
        }
    }
}
