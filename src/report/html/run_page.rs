//! `report.html` of a training run or a forest.

use anyhow::Result;
use indicatif::HumanCount;
use maud::{Markup, html};

use super::{Fact, facts, inline_png, inline_svg, page, percent_with_interval, table};
use crate::data::dataset::Dataset;
use crate::data::images::PIXELS;
use crate::metrics::epoch::EpochMetrics;
use crate::metrics::predictions::Predictions;
use crate::metrics::{Evaluation, Monitor, accuracy_cell, calibration_bins, most_confident_mistakes, roc_curves};
use crate::report::plot::{self, Explained, Mistake, Plot};
use crate::run_dir::RunDir;
use crate::run_dir::calibration::Calibration;
use crate::util::files::write_atomically;

/// Max images on the contact sheet of mistakes.
pub const MAX_MISTAKES: usize = 40;

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
    /// The heat maps of the most confident mistakes; none for a forest.
    pub mistake_heat: Option<MistakeHeat>,
    /// The temperature of the saved model, if it has one.
    pub calibration: Option<Calibration>,
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

/// Where the evidence for the predictions of mistakes is.
#[derive(Debug)]
pub struct MistakeHeat {
    /// Name of the method.
    pub method: &'static str,
    /// 48x48 values from 0 to 1 for each of the [`MAX_MISTAKES`] most confident mistakes.
    pub maps: Vec<Vec<f32>>,
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
        let curves = roc_curves(&predictions.probabilities, predictions.classes, labels);
        let caption = "ROC curve of each class against all others. The area under it (AUC) is the probability that an \
                       image of the class has a higher probability of it than another image.";
        plots.push(("roc", plot::roc(self.classes, &curves, found.macro_auc)?, caption));
        let worst = most_confident_mistakes(&predictions.probabilities, predictions.classes, labels, MAX_MISTAKES);
        let images = self.data.validation.pixels.select(&worst.iter().map(|(row, ..)| *row).collect::<Vec<_>>());
        let pixels = images.all()?;
        let mistakes = self.mistakes(&worst, &pixels);
        if !mistakes.is_empty() {
            plots.push(self.plot_mistakes(&mistakes)?);
        }
        Ok(plots)
    }

    /// The contact sheet of mistakes, with their heat maps if there are any.
    fn plot_mistakes(&self, mistakes: &[Mistake]) -> Result<(&'static str, Plot, &'static str)> {
        let Some(heat) = &self.mistake_heat else {
            let caption = "The most confident wrong predictions among the validation images.";
            return Ok(("mistakes", plot::mistakes(mistakes)?, caption));
        };
        let explained = mistakes.iter().zip(&heat.maps).map(|(mistake, heat)| Explained {
            image: mistake.image,
            heat,
            predicted: mistake.predicted,
            confidence: mistake.confidence,
            label: Some(mistake.label),
            id: None,
        });
        let title = format!("What speaks for the wrong prediction, by {}", heat.method);
        let note = "Above: the prediction and its confidence. Below: the label.";
        let caption = "The most confident wrong predictions among the validation images, each beside the evidence for \
                       the prediction.";
        Ok(("mistakes", plot::explanations(&title, note, &explained.collect::<Vec<_>>())?, caption))
    }

    /// The most confident wrong predictions, row, class and confidence of each, and their `pixels`.
    fn mistakes<'b>(&'b self, worst: &[(usize, u8, f32)], pixels: &'b [u8]) -> Vec<Mistake<'b>> {
        let labels = self.data.validation_labels();
        let class = |class: u8| self.classes.get(usize::from(class)).map_or("?", String::as_str);
        let mistakes = worst.iter().enumerate().map(|(number, (row, predicted, confidence))| Mistake {
            image: pixels.get(number * PIXELS..(number + 1) * PIXELS).unwrap_or_default(),
            label: labels.get(*row).map_or("?", |label| class(*label)),
            predicted: class(*predicted),
            confidence: f64::from(*confidence),
        });
        mistakes.collect()
    }

    fn body(&self, found: &Evaluation, figures: &[Markup]) -> Markup {
        let duplicates = found.rows - found.rows_dedup;
        let dedup = found.accuracy_dedup;
        html! {
            h1 { "Grimace: " (self.kind) " \"" (self.name) "\"" }
            p.result {
                "Validation accuracy: " (percent_with_interval(found.accuracy, found.accuracy_interval)) " of "
                (HumanCount(found.rows as u64)) " images"
                @if duplicates > 0 {
                    @if let Some(dedup) = dedup {
                        "; " (percent_with_interval(dedup, found.accuracy_dedup_interval)) " without the "
                        (HumanCount(duplicates as u64)) " that are exact duplicates of training images"
                    }
                } @else { ", none of which is an exact duplicate of a training image" }
                "."
            }
            @if !self.warnings.is_empty() {
                div.note { @for warning in self.warnings { p { "Warning: " (warning) } } }
            }
            p.note { (self.caveat) " " (self.split) }
            (facts(&self.boxes(found)))
            @if self.calibration.is_some() {
                p {
                    "Plots and metrics are those before calibration. The temperature was fitted on the validation images, and "
                    "predict and export apply it; its ECE here is that of each half with the temperature of the other."
                }
            }
            h2 { "Plots" }
            @for figure in figures { (figure) }
            h2 { "Metrics by class" }
            (classes_table(found))
            h2 { "Provenance" }
            (facts(&self.provenance))
            h2 { "Config" }
            pre { (self.config) }
        }
    }

    /// The metrics and facts in boxes.
    fn boxes(&self, found: &Evaluation) -> Vec<Fact> {
        let mut boxes = vec![
            ("validation accuracy (95% CI)".to_owned(), accuracy_cell(Some(found.accuracy), found.accuracy_interval)),
            ("deduplicated accuracy".to_owned(), accuracy_cell(found.accuracy_dedup, found.accuracy_dedup_interval)),
            ("top-2 accuracy".to_owned(), accuracy_cell(found.top2_accuracy, found.top2_accuracy_interval)),
            ("macro F1".to_owned(), format!("{:.4}", found.macro_f1)),
            ("macro AUC".to_owned(), found.macro_auc.map_or("-".to_owned(), |auc| format!("{auc:.4}"))),
            ("calibration error (ECE)".to_owned(), format!("{:.4}", found.ece)),
        ];
        if let Some(calibration) = &self.calibration {
            boxes.push(("ECE after calibration".to_owned(), format!("{:.4}", calibration.plain.ece_after)));
            boxes.push(("temperature".to_owned(), format!("{:.3}", calibration.plain.temperature)));
        }
        boxes.extend(self.facts.iter().cloned());
        boxes
    }
}

/// The metrics of each class.
fn classes_table(found: &Evaluation) -> Markup {
    let head = ["class", "images", "precision", "recall (95% CI)", "specificity", "F1", "AUC"].map(String::from);
    let rows: Vec<_> = found
        .per_class
        .iter()
        .map(|class| {
            let number = |value: f64| html! { (format!("{value:.4}")) };
            let cells = vec![
                html! { (class.class) },
                html! { (HumanCount(class.rows)) },
                number(class.precision),
                html! { (accuracy_cell(Some(class.recall), class.recall_interval)) },
                number(class.specificity),
                number(class.f1),
                class.auc.map_or_else(|| html! { "-" }, number),
            ];
            (None, cells)
        })
        .collect();
    table(&head, &rows)
}
