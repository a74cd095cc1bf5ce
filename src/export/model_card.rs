//! `MODEL_CARD.md`: what a model was trained on, how well it does, and what it must not be used for
//! (Mitchell et al. 2019, "Model Cards for Model Reporting").

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::card_metrics::{Ece, fraction, mean_predictions, validation_metrics};
use super::format::Format;
use super::onnx::Quantization;
use crate::data::config::describe_split;
use crate::inference::trained_run::TrainedNet;
use crate::metrics::{Evaluation, Monitor};
use crate::run_dir::Summary;
use crate::transforms::tta::Tta;
use crate::util::files::last_name;
use crate::util::text::count;

/// The card of an exported model, without what depends on the file.
#[derive(Debug, Default)]
pub struct ModelCard {
    classes: Vec<String>,
    tta: Option<Tta>,
    temperatures: Vec<f64>,
    /// Sections on training and metrics, as Markdown.
    sections: String,
}

impl ModelCard {
    /// The card of one run, or of the mean of several, whose logits are divided by `temperatures`.
    /// `is_calibrated`: whether these are the runs' own.
    ///
    /// # Errors
    /// Those of the files of a run.
    pub fn new(runs: &[&TrainedNet], temperatures: &[f64], is_calibrated: bool, tta: Tta) -> Result<Self> {
        let mut sections = String::new();
        let found = runs.iter().map(|run| run.validation_predictions()).collect::<Result<Vec<_>>>()?;
        if let [first, _, ..] = runs
            && let Some(mean) = mean_predictions(&found, temperatures)?
        {
            let ece = if is_calibrated { Ece::AfterFit } else { Ece::Before };
            sections += &validation_metrics("Metrics of the ensemble", &mean, &first.config.data, ece);
        }
        for (number, (run, found)) in runs.iter().zip(&found).enumerate() {
            if runs.len() > 1 {
                let _ = write!(sections, "\n# Model {}: {}\n", number + 1, run.config.name);
            }
            sections += &training(run);
            let calibration = if is_calibrated { run.calibration()? } else { None };
            let ece = calibration.map_or(Ece::Before, |found| Ece::CrossFitted(found.plain.ece_after));
            sections += &match found {
                Some(found) => validation_metrics("Metrics", found, &run.config.data, ece),
                None => "\n## Metrics\n\nNone: the run has not been trained to its end.\n".to_owned(),
            };
        }
        let classes = runs.first().map(|run| run.config.data.classes.clone()).unwrap_or_default();
        Ok(Self { classes, tta: Some(tta), temperatures: temperatures.to_vec(), sections })
    }

    /// Adds the metrics of an ensemble on the images `data`.
    pub fn add_evaluation(&mut self, data: &str, evaluation: &Evaluation) {
        let correct = (evaluation.accuracy * evaluation.rows as f64).round() as u64;
        let _ = write!(
            self.sections,
            "\n## Evaluation of the ensemble\n\nOn {} of {data}: accuracy {}, macro F1 {:.3}, ECE {:.3}.\n",
            count(evaluation.rows, "image"),
            fraction(correct, evaluation.rows as u64),
            evaluation.macro_f1,
            evaluation.ece
        );
    }

    /// The card of the file `file`, as Markdown.
    pub fn to_markdown(&self, file: &str, format: Format, quantization: Option<&Quantization>) -> String {
        let what = match self.temperatures.len() {
            0 | 1 => "A network that classifies".to_owned(),
            models => format!("The mean of {models} networks that classify"),
        };
        let mut temperatures: Vec<String> = self.temperatures.iter().map(|value| format!("{value:.3}")).collect();
        if self.temperatures.iter().all(|temperature| *temperature == 1.0) {
            temperatures = vec!["none: not calibrated".to_owned()];
        }
        let precision = match quantization {
            None => "float32".to_owned(),
            Some(found) => found.describe().replace('\n', "; "),
        };
        format!(
            "# Model card: {file}\n\n{what} facial expressions.\n\n\
             | | |\n| --- | --- |\n\
             | format | {format} |\n\
             | precision | {precision} |\n\
             | input | gray face, 48x48 pixels, 0 to 255 |\n\
             | output | probability of each class: {} |\n\
             | test-time augmentation | {} |\n\
             | temperature of the probabilities | {} |\n\
             | made with | Grimace {}, libtorch {} |\n\
             {}{USE}",
            self.classes.join(", ").replace('|', "\\|"),
            self.tta.map_or_else(|| "none".to_owned(), |tta| tta.describe().to_owned()),
            temperatures.join(", "),
            env!("CARGO_PKG_VERSION"),
            torch_ext::torch_version(),
            self.sections,
        )
    }
}

/// Data and protocol.
fn training(run: &TrainedNet) -> String {
    let (config, state) = (&run.config, &run.checkpoint.state);
    let summary: Option<Summary> = run.dir.read_summary();
    let mut text = "\n## Training\n\n| | |\n| --- | --- |\n".to_owned();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "| {name} | {} |", value.replace('|', "\\|").replace('\n', " "));
    };
    line("run", format!("{} ({})", config.name, last_name(run.dir.path())));
    line("training data", last_name(&config.data.train));
    if let Some(summary) = &summary {
        line("training images", summary.train_rows.to_string());
        line("validation images", summary.validation_rows.to_string());
    }
    line("split", describe_split(&config.data, config.seed));
    line("hash of images and labels", state.data_hash.clone());
    line("hash of the split", state.split_hash.clone());
    if let Some(best) = state.best {
        let epochs = summary.as_ref().map_or(config.train.epochs, |summary| summary.epochs);
        let selection = match run.config.train.early_stop.monitor {
            Monitor::LastEpoch => "the last".to_owned(),
            monitor => format!("selected by {monitor}"),
        };
        line("epoch of the weights", format!("{} of {epochs}, {selection}", best.epoch));
    }
    if let Some(init) = &state.init {
        let path = Path::new(&init.path);
        let folder = path.parent().map(last_name).filter(|folder| !folder.is_empty());
        let file = folder.into_iter().chain([last_name(path)]).collect::<Vec<_>>().join("/");
        line("initial weights", format!("{file}, BLAKE3 {}; this card says nothing of their training data", init.hash));
    }
    line("seed", config.seed.to_string());
    line("precision of training", state.precision.clone());
    if let Some(summary) = &summary {
        line("parameters", summary.parameters.to_string());
    }
    for warning in summary.iter().flat_map(|summary| &summary.warnings) {
        line("warning", warning.clone());
    }
    text + "\nThe config, with all settings, is in the description of the model (`config`).\n"
}

/// What every model of this kind can and cannot do.
const USE: &str = "
## Intended use

Research and teaching on facial-expression recognition, and applications whose users know of it and have agreed to it.
The input is one face, cropped as the faces of the training data.

## Limitations

- An expression is not an emotion: people smile without joy, and hide what they feel. The model names the expression that
  people who labeled the training data would have named, and they disagree on many images.
- Accuracy falls with other cameras, poses, lighting, ages and cultures than those of the training data, and differs
  between groups of people. Measure it on your own images before you rely on it.
- A probability is the confidence of the model on images like its validation images, not a measure of intensity.
- An image without a face gets probabilities too.

## Where its use is restricted

- European Union: the AI Act (Regulation (EU) 2024/1689), Article 5(1)(f), prohibits AI systems that infer emotions of
  people at the workplace and in education, except for medical or safety reasons, since February 2, 2025. Other systems
  that recognize emotions from biometric data are high-risk (Annex III, 1(c)), and people must be told that one is used
  (Article 50(3)). Images of faces are personal data (GDPR).
- Elsewhere, laws on biometric data apply, such as the Biometric Information Privacy Act of Illinois.

This is information, not legal advice.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_names_file_classes_and_law() {
        let card = ModelCard {
            classes: vec!["sad".into(), "happy".into()],
            tta: Some(Tta::Flip),
            temperatures: vec![1.25],
            sections: "\n## Metrics\n".into(),
        };
        let text = card.to_markdown("model.onnx", Format::Onnx, None);
        assert!(
            text.starts_with("# Model card: model.onnx\n\nA network that classifies facial expressions.\n"),
            "{text}"
        );
        for part in
            ["| format | ONNX |", "sad, happy", "| 1.250 |", "## Metrics", "Article 5(1)(f)", "February 2, 2025"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
