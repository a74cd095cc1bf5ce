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
use crate::metrics::{Evaluation, Predictions, ViewPredictions, fit_temperature};
use crate::run_dir::RunDir;
use crate::transforms::tta::Tta;
use crate::util::error::input;

/// Trained networks with the same classes, and their test-time augmentation.
#[derive(Debug)]
pub struct Ensemble {
    first: TrainedNet,
    others: Vec<TrainedNet>,
    tta: Tta,
    is_calibrated: bool,
    /// What the logits of each model are divided by.
    temperatures: Vec<f64>,
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
    /// Opens the network runs at `paths`. Without `tta`, their configs must agree on `predict.tta`. With
    /// `is_calibrated`, the probabilities of each model have its temperature before they are averaged.
    ///
    /// # Errors
    /// Input errors: a run that cannot be opened, a forest run, fewer than two runs, different
    /// classes, different `predict.tta`, a corrupt `calibration.json` or `validation.csv`.
    pub fn open(paths: &[PathBuf], tta: Option<Tta>, is_calibrated: bool) -> Result<Self> {
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
        let mut ensemble = Self { first, others, tta, is_calibrated, temperatures: Vec::new() };
        ensemble.temperatures = ensemble.fit_temperatures()?;
        Ok(ensemble)
    }

    /// The models, in the order of the paths.
    pub fn models(&self) -> impl Iterator<Item = &TrainedNet> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The temperature of each model in the ensemble. The mean of calibrated models is less certain than
    /// it should be (Rahaman and Thiery 2021, "Uncertainty Quantification and Deep Ensembles"), so each
    /// model's own temperature is multiplied by one that is fitted on the validation images, if all
    /// models have the same.
    pub fn temperatures(&self) -> &[f64] {
        &self.temperatures
    }

    /// What [`temperatures`](Self::temperatures) returns.
    fn fit_temperatures(&self) -> Result<Vec<f64>> {
        let joint = self.joint_temperature()?;
        Ok(self.own_temperatures(self.tta)?.into_iter().map(|own| own * joint).collect())
    }

    /// The temperature of each model alone, with `tta`.
    fn own_temperatures(&self, tta: Tta) -> Result<Vec<f64>> {
        self.models().map(|run| if self.is_calibrated { run.temperature(tta) } else { Ok(1.0) }).collect()
    }

    /// The temperature of the mean of the calibrated models, from their predictions for the validation
    /// images, which are without TTA; 1 if the models have different validation images, or one has no
    /// predictions for them.
    fn joint_temperature(&self) -> Result<f64> {
        if !self.is_calibrated || !self.has_one_split() {
            return Ok(1.0);
        }
        let found = self.models().map(TrainedNet::validation_predictions).collect::<Result<Option<Vec<_>>>>()?;
        let Some(found) = found else { return Ok(1.0) };
        let Some(labels) = found.first().map(|first| first.labels.as_slice()) else { return Ok(1.0) };
        let classes = self.data().classes.len();
        // One split may still have other labels, by another label map.
        if found.iter().any(|one| one.labels != labels || one.probabilities.len() != labels.len() * classes) {
            return Ok(1.0);
        }
        let own = self.own_temperatures(Tta::None)?;
        let views = found.iter().zip(own).map(|(one, own)| one.predictions(classes).with_temperature(own));
        fit_temperature(&ViewPredictions(views.collect()), labels)
    }

    /// Whether the models have their temperatures.
    pub fn is_calibrated(&self) -> bool {
        self.is_calibrated
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
        let predict = |run: &TrainedNet| run.predict(images, device, self.tta);
        let views = self.models().map(predict).collect::<Result<Vec<_>>>()?;
        let mean = |temperatures: &[f64]| -> Result<Vec<Predictions>> {
            views.iter().zip(temperatures).map(|(views, temperature)| views.mean(*temperature)).collect()
        };
        let (parts, alone) = (mean(&self.temperatures)?, mean(&self.own_temperatures(self.tta)?)?);
        let evaluate =
            |predictions: &Predictions| Evaluation::new(predictions, labels, &duplicates, &self.data().classes);
        Ok(Scores { ensemble: evaluate(&Predictions::average(&parts)?), models: alone.iter().map(evaluate).collect() })
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
