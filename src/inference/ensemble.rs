//! Several trained networks as one model: the mean of their probabilities (see [`Predictions::average`] for why not of logits).
//!
//! Networks that differ only in their seed disagree where they are unsure; their mean is right more often than its models
//! and knows better how sure it may be (Lakshminarayanan, Pritzel, Blundell 2017, "Deep Ensembles").

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tch::Tensor;

use super::trained_run::TrainedNet;
use crate::data::config::DataConfig;
use crate::data::images::{ImageHash, Images};
use crate::data::split::seen_in;
use crate::device::DeviceChoice;
use crate::metrics::Evaluation;
use crate::metrics::predictions::Predictions;
use crate::run_dir::RunDir;
use crate::transforms::tta::Tta;
use crate::util::error::input;

/// Trained networks with the same classes, and the tta that each is averaged over.
#[derive(Debug)]
pub struct Ensemble {
    first: TrainedNet,
    others: Vec<TrainedNet>,
    tta: Tta,
}

/// The figures of an ensemble on labeled images.
#[derive(Debug)]
pub struct Scores {
    /// Of the mean.
    pub ensemble: Evaluation,
    /// Of each model alone, in their order, on the same images.
    pub models: Vec<Evaluation>,
}

impl Ensemble {
    /// Opens the runs at `paths`; `tta` may be left out where their configs have the same.
    ///
    /// # Errors
    /// Input errors: those of a run, a forest's run, fewer than two runs, other classes, configs with other tta.
    pub fn open(paths: &[PathBuf], tta: Option<Tta>) -> Result<Self> {
        let mut all = paths.iter().map(|path| TrainedNet::open(RunDir::open(path)?));
        let first = all.next().context("an ensemble has models, which the command line sees to")??;
        let others = all.collect::<Result<Vec<_>>>()?;
        if others.is_empty() {
            return Err(input("an ensemble averages two runs or more; got one"));
        }
        let shown = |run: &TrainedNet| run.dir.path().display().to_string();
        for other in &others {
            let (own, its) = (&first.config.data.classes, &other.config.data.classes);
            if own != its {
                return Err(input(format!(
                    "{} has the classes {}, {} has {}; an ensemble needs the same classes in the same order",
                    shown(&first),
                    own.join(","),
                    shown(other),
                    its.join(",")
                )));
            }
            let (own, its) = (first.config.predict.tta, other.config.predict.tta);
            if tta.is_none() && own != its {
                return Err(input(format!(
                    "predict.tta is {own} in {} and {its} in {}; say which to use for all with --tta",
                    shown(&first),
                    shown(other)
                )));
            }
        }
        let tta = tta.unwrap_or(first.config.predict.tta);
        Ok(Self { first, others, tta })
    }

    /// The models, in their order.
    pub fn models(&self) -> impl Iterator<Item = &TrainedNet> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The tta that each model is averaged over.
    pub fn tta(&self) -> Tta {
        self.tta
    }

    /// The `[data]` of the first model, which says how a CSV of images is read.
    pub fn data(&self) -> &DataConfig {
        &self.first.config.data
    }

    /// Whether all models were trained and validated on the same split of the same images.
    pub fn has_one_split(&self) -> bool {
        let key = |run: &TrainedNet| {
            let state = &run.checkpoint.state;
            (state.data_hash.clone(), state.split_hash.clone())
        };
        self.others.iter().all(|other| key(other) == key(&self.first))
    }

    /// What a reader should know: models that are no models of their own.
    ///
    /// # Errors
    /// libtorch's.
    pub fn warnings(&self) -> Result<Vec<String>> {
        let models: Vec<&TrainedNet> = self.models().collect();
        let mut found = Vec::new();
        for (number, one) in models.iter().enumerate() {
            for other in models.iter().skip(number + 1) {
                let names = format!("{} and {}", one.dir.path().display(), other.dir.path().display());
                if same_weights(&one.checkpoint.tensors, &other.checkpoint.tensors)? {
                    found.push(format!("warning: {names} have the same weights, which so count twice; leave one out"));
                } else if one.config.seed == other.config.seed && one.config.model == other.config.model {
                    let seed = one.config.seed;
                    found.push(format!(
                        "warning: {names} have the same network and the same seed, {seed}, and so began with the same weights; models that differ more gain more"
                    ));
                }
            }
        }
        Ok(found)
    }

    /// For each image whether it also stands among the training rows of any model.
    ///
    /// # Errors
    /// An input error when a `split.csv` is missing or damaged.
    pub fn seen(&self, images: &Images) -> Result<Vec<bool>> {
        let mut known: HashSet<ImageHash> = HashSet::new();
        for run in self.models() {
            known.extend(run.training_images()?);
        }
        Ok(seen_in(&images.hashes, &known))
    }

    /// Compares what the ensemble and each model make of `images` with `labels`. Figures without copies leave out, for all of
    /// them, the images that stand among the training rows of any model.
    ///
    /// # Errors
    /// As [`seen`](Self::seen); libtorch's; an input error for a device that cannot be had.
    pub fn score(&self, images: &Images, labels: &[u8], device: DeviceChoice) -> Result<Scores> {
        let seen = self.seen(images)?;
        let predictions =
            self.models().map(|run| run.predictions(images, device, self.tta)).collect::<Result<Vec<_>>>()?;
        let evaluation = |predictions: &Predictions| Evaluation::of(predictions, labels, &seen, &self.data().classes);
        Ok(Scores {
            ensemble: evaluation(&Predictions::average(&predictions)?),
            models: predictions.iter().map(evaluation).collect(),
        })
    }
}

/// Whether two networks have the same tensors: names, shapes and values.
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
    fn weights_are_the_same_in_names_shapes_and_values() {
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
