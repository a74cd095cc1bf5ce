//! Ensembles: the mean of the probabilities of several networks ([`Predictions::average`] explains
//! why not of the logits).
//!
//! Networks that differ only in their seed disagree where they are uncertain; their mean is more
//! accurate and better calibrated than each of them (deep ensembles; Lakshminarayanan, Pritzel,
//! Blundell 2017).

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tch::Tensor;

use super::trained_run::TrainedNet;
use crate::data::config::DataConfig;
use crate::data::duplicates::duplicate_mask;
use crate::data::images::{ImageHash, Images};
use crate::device::DeviceChoice;
use crate::metrics::Evaluation;
use crate::metrics::predictions::Predictions;
use crate::run_dir::RunDir;
use crate::transforms::tta::Tta;
use crate::util::error::input;

/// Trained networks with the same classes, and their test-time augmentation.
#[derive(Debug)]
pub struct Ensemble {
    first: TrainedNet,
    others: Vec<TrainedNet>,
    tta: Tta,
}

/// Metrics of an ensemble on labeled images.
#[derive(Debug)]
pub struct Scores {
    /// Metrics of the ensemble.
    pub ensemble: Evaluation,
    /// Metrics of each model on the same images, in the order of [`Ensemble::models`].
    pub models: Vec<Evaluation>,
}

impl Ensemble {
    /// Opens the network runs at `paths`. Without `tta`, their configs must agree on `predict.tta`.
    ///
    /// # Errors
    /// Input errors: a run that cannot be opened, a forest run, fewer than two runs, different
    /// classes, different `predict.tta`.
    pub fn open(paths: &[PathBuf], tta: Option<Tta>) -> Result<Self> {
        let mut all = paths.iter().map(|path| TrainedNet::open(RunDir::open(path)?));
        let first = all.next().context("an ensemble needs at least two runs; got none")??;
        let others = all.collect::<Result<Vec<_>>>()?;
        if others.is_empty() {
            return Err(input("an ensemble needs at least two runs; got one"));
        }
        let display = |run: &TrainedNet| run.dir.path().display().to_string();
        for other in &others {
            let (ours, theirs) = (&first.config.data.classes, &other.config.data.classes);
            if ours != theirs {
                return Err(input(format!(
                    "{} has the classes {}, {} has {}; an ensemble needs the same classes in the same order",
                    display(&first),
                    ours.join(","),
                    display(other),
                    theirs.join(",")
                )));
            }
            let (ours, theirs) = (first.config.predict.tta, other.config.predict.tta);
            if tta.is_none() && ours != theirs {
                return Err(input(format!(
                    "predict.tta is {ours} in {} and {theirs} in {}; choose one for all with --tta",
                    display(&first),
                    display(other)
                )));
            }
        }
        let tta = tta.unwrap_or(first.config.predict.tta);
        Ok(Self { first, others, tta })
    }

    /// The models, in the order of the paths.
    pub fn models(&self) -> impl Iterator<Item = &TrainedNet> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The test-time augmentation of each model.
    pub fn tta(&self) -> Tta {
        self.tta
    }

    /// `[data]` of the first model, which controls how a CSV of images is read.
    pub fn data(&self) -> &DataConfig {
        &self.first.config.data
    }

    /// Checks that all models read the labels of a file in the same way.
    ///
    /// # Errors
    /// An input error for the first two whose `data.labels` differ.
    pub fn check_label_maps(&self) -> Result<()> {
        let differs = |other: &&TrainedNet| other.config.data.labels != self.first.config.data.labels;
        match self.others.iter().find(differs) {
            None => Ok(()),
            Some(other) => Err(input(format!(
                "data.labels is not the same in {} and {}; give the class of every label in the data with --label-map",
                self.first.dir.path().display(),
                other.dir.path().display()
            ))),
        }
    }

    /// Whether all models have the same train/validation split.
    pub fn has_one_split(&self) -> bool {
        let key = |run: &TrainedNet| {
            let state = &run.checkpoint.state;
            (state.data_hash.clone(), state.split_hash.clone())
        };
        self.others.iter().all(|other| key(other) == key(&self.first))
    }

    /// Warnings about pairs of models with the same weights, or the same initial weights.
    pub fn warnings(&self) -> Result<Vec<String>> {
        let models: Vec<&TrainedNet> = self.models().collect();
        let mut warnings = Vec::new();
        for (index, one) in models.iter().enumerate() {
            for other in models.iter().skip(index + 1) {
                let names = format!("{} and {}", one.dir.path().display(), other.dir.path().display());
                if same_weights(&one.checkpoint.tensors, &other.checkpoint.tensors)? {
                    warnings
                        .push(format!("warning: {names} have the same weights, which count twice; drop one of them"));
                } else if one.config.seed == other.config.seed && one.config.model == other.config.model {
                    let seed = one.config.seed;
                    warnings.push(format!(
                        "warning: {names} have the same architecture and the same seed, {seed}, so they started from the same weights; more diverse models gain more"
                    ));
                }
            }
        }
        Ok(warnings)
    }

    /// For each image, whether it is an exact duplicate of a training image of any model.
    ///
    /// # Errors
    /// An input error for a missing or corrupt `split.csv`.
    pub fn training_duplicates(&self, images: &Images) -> Result<Vec<bool>> {
        let mut training: HashSet<ImageHash> = HashSet::new();
        for run in self.models() {
            training.extend(run.training_images()?);
        }
        Ok(duplicate_mask(&images.hashes, &training))
    }

    /// Evaluates the ensemble and each model. Deduplicated metrics, of each model too, exclude the
    /// images that any model was trained on.
    ///
    /// # Errors
    /// An input error for a missing or corrupt `split.csv`, or a device that is not available.
    pub fn score(&self, images: &Images, labels: &[u8], device: DeviceChoice) -> Result<Scores> {
        let duplicates = self.training_duplicates(images)?;
        let predictions = self.models().map(|run| run.predict(images, device, self.tta)).collect::<Result<Vec<_>>>()?;
        let evaluate =
            |predictions: &Predictions| Evaluation::new(predictions, labels, &duplicates, &self.data().classes);
        Ok(Scores {
            ensemble: evaluate(&Predictions::average(&predictions)?),
            models: predictions.iter().map(evaluate).collect(),
        })
    }
}

/// Whether two state dicts have the same names, shapes and values.
fn same_weights(one: &[(String, Tensor)], other: &[(String, Tensor)]) -> Result<bool> {
    if one.len() != other.len() {
        return Ok(false);
    }
    for ((name, tensor), (other_name, other_tensor)) in one.iter().zip(other) {
        if name != other_name || tensor.size() != other_tensor.size() || !tensor.f_equal(other_tensor)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_weights_compares_names_shapes_and_values() {
        let tensors = |name: &str, values: &[f32]| vec![(name.to_owned(), Tensor::from_slice(values))];
        let own = tensors("output.bias", &[1.0, 2.0]);
        assert!(same_weights(&own, &tensors("output.bias", &[1.0, 2.0])).unwrap());
        for other in [
            tensors("output.bias", &[1.0, 2.5]),
            tensors("output.bias", &[1.0, 2.0, 3.0]),
            tensors("dense1.bias", &[1.0, 2.0]),
            tensors("output.bias", &[1.0, 2.0]).into_iter().chain(tensors("z", &[0.0])).collect(),
        ] {
            assert!(!same_weights(&own, &other).unwrap(), "{other:?}");
        }
    }
}
