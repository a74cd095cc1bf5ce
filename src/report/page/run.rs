//! The report of a run: of a network or of a forest.

use anyhow::Result;
use maud::{Markup, html};

use super::{facts, inline_png, inline_svg, page, percent, table};
use crate::data::dataset::Dataset;
use crate::metrics::epoch::EpochMetrics;
use crate::metrics::predictions::Predictions;
use crate::metrics::{Evaluation, calibration_bins, most_confident_mistakes};
use crate::report::plot::{self, Mistake};
use crate::report::table::thousands;
use crate::run_dir::{RunDir, ValidationPredictions};
use crate::util::files::write_atomically;

/// Mistakes on the contact sheet.
const MISTAKES: usize = 40;

/// A fact in a box: its name and value.
pub type Figure = (String, String);

/// What a report is made of.
pub struct RunReport<'a> {
    /// Where it goes.
    pub dir: &'a RunDir,
    /// Name of the run.
    pub name: &'a str,
    /// `network` or `forest`.
    pub kind: &'a str,
    /// Training and validation faces.
    pub data: &'a Dataset,
    /// How the validation faces were divided off, in words.
    pub split: String,
    /// Class names.
    pub classes: &'a [String],
    /// What the model that is kept makes of the validation faces.
    pub outputs: &'a Predictions,
    /// What must be said of the accuracy: by which faces the model was chosen.
    pub caveat: &'a str,
    /// Figures in boxes, beside those of the validation.
    pub facts: Vec<Figure>,
    /// Epochs; none for a forest.
    pub records: &'a [EpochMetrics],
    /// The epoch whose weights are kept.
    pub best_epoch: Option<u32>,
    /// Further pictures as PNG, with a caption.
    pub pictures: Vec<(Vec<u8>, String)>,
    /// The resolved config.
    pub config: String,
    /// Where the figures come from.
    pub provenance: Vec<Figure>,
}

impl RunReport<'_> {
    /// Writes `validation.csv`, the pictures and `report.html`; gives the pictures as PNG, by name.
    ///
    /// # Errors
    /// An I/O error with the path; a picture that cannot be drawn.
    pub fn write(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let (data, outputs) = (self.data, self.outputs);
        let folder = self.dir.path();
        let labels = data.validation_labels();
        let found = Evaluation::of(outputs, labels, &data.validation_seen, self.classes);
        ValidationPredictions::write(&self.dir.validation_csv(), data, outputs, self.classes)?;
        let (mut pictures, mut drawn) = (Vec::new(), Vec::new());
        if !self.records.is_empty() {
            let curves = plot::curves(self.records, self.best_epoch)?;
            curves.write(folder, "curves")?;
            let caption = "Loss, accuracy and learning rate by epoch. Training figures are those of augmented faces with dropout, while the weights change.";
            pictures.push(inline_svg(&curves.svg, caption));
            drawn.push(("curves", curves.png));
        }
        let confusion = plot::confusion(&found.confusion, self.classes)?;
        confusion.write(folder, "confusion")?;
        pictures.push(inline_svg(
            &confusion.svg,
            "Validation faces by true and predicted class, and the recall of each class.",
        ));
        drawn.push(("confusion", confusion.png));
        let bins = calibration_bins(&outputs.probabilities, outputs.classes, labels);
        let reliability = plot::reliability(&bins, found.ece)?;
        reliability.write(folder, "reliability")?;
        let caption = "Accuracy by confidence: on the diagonal a model that says 70% is right in 70% of cases.";
        pictures.push(inline_svg(&reliability.svg, caption));
        drawn.push(("reliability", reliability.png));
        for (png, caption) in &self.pictures {
            pictures.push(inline_png(png, caption));
        }
        if let Some(png) = self.mistakes()? {
            write_atomically(&folder.join("mistakes.png"), &png)?;
            let caption = "The most confident mistakes among the validation faces: true label, and what was predicted.";
            pictures.push(inline_png(&png, caption));
            drawn.push(("mistakes", png));
        }
        write_atomically(&folder.join("report.html"), page(self.name, &self.body(&found, &pictures)).as_bytes())?;
        Ok(drawn)
    }

    /// The contact sheet; `None` when nothing is wrong.
    fn mistakes(&self) -> Result<Option<Vec<u8>>> {
        let outputs = self.outputs;
        let labels = self.data.validation_labels();
        let worst = most_confident_mistakes(&outputs.probabilities, outputs.classes, labels, MISTAKES);
        let class = |class: u8| self.classes.get(usize::from(class)).map_or("?", String::as_str);
        let mistakes: Vec<Mistake<'_>> = worst
            .iter()
            .map(|(face, predicted, confidence)| Mistake {
                face: self.data.validation.image(*face),
                truth: labels.get(*face).map_or("?", |label| class(*label)),
                predicted: class(*predicted),
                confidence: f64::from(*confidence),
            })
            .collect();
        if mistakes.is_empty() { Ok(None) } else { plot::mistakes(&mistakes).map(Some) }
    }

    fn body(&self, found: &Evaluation, pictures: &[Markup]) -> Markup {
        let copies = found.rows - found.rows_dedup;
        let without = found.accuracy_dedup;
        let mut boxes = vec![
            ("validation accuracy".to_owned(), format!("{:.4}", found.accuracy)),
            ("without copies".to_owned(), without.map_or("-".to_owned(), |value| format!("{value:.4}"))),
            ("macro F1".to_owned(), format!("{:.4}", found.macro_f1)),
            ("calibration error".to_owned(), format!("{:.4}", found.ece)),
        ];
        boxes.extend(self.facts.iter().cloned());
        let head = ["class", "faces", "precision", "recall", "F1"].map(String::from);
        let rows: Vec<_> = found
            .per_class
            .iter()
            .map(|class| {
                let shown = [class.precision, class.recall, class.f1].map(|value| html! { (format!("{value:.4}")) });
                let first = [html! { (class.class) }, html! { (thousands(class.rows as usize)) }];
                (None, first.into_iter().chain(shown).collect::<Vec<_>>())
            })
            .collect();
        html! {
            h1 { "Grimace: the " (self.kind) " " (self.name) }
            p.answer {
                (percent(found.accuracy)) " of " (thousands(found.rows)) " validation faces are classified rightly"
                @if copies > 0 {
                    @if let Some(without) = without {
                        "; " (percent(without)) " without the " (thousands(copies)) " that are exact copies of training faces"
                    }
                } @else { ", none of which is a copy of a training face" }
                "."
            }
            p.note { (self.caveat) " " (self.split) }
            (facts(&boxes))
            h2 { "Pictures" }
            @for picture in pictures { (picture) }
            h2 { "By class" }
            (table(&head, &rows))
            h2 { "Where the figures come from" }
            (facts(&self.provenance))
            h2 { "Config" }
            pre { (self.config) }
        }
    }
}
