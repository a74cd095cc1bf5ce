//! Several trained networks as one model: the mean of their probabilities (see [`Outputs::average`] for why not of logits).
//!
//! Networks that differ only in their seed disagree where they are unsure; their mean is right more often than its members
//! and knows better how sure it may be (Lakshminarayanan, Pritzel, Blundell 2017, "Deep Ensembles").

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tch::Tensor;

use super::trained_run::TrainedNet;
use crate::data::config::DataConfig;
use crate::data::images::{FaceHash, Faces};
use crate::data::split::seen_in;
use crate::device::DeviceChoice;
use crate::metrics::Evaluation;
use crate::metrics::predictions::Outputs;
use crate::run_dir::RunDir;
use crate::transforms::tta::Views;
use crate::util::error::input;

/// Trained networks with the same classes, and the views that each is averaged over.
#[derive(Debug)]
pub struct Ensemble {
    first: TrainedNet,
    others: Vec<TrainedNet>,
    views: Views,
}

/// The figures of an ensemble on labelled faces.
#[derive(Debug)]
pub struct Scores {
    /// Of the mean.
    pub ensemble: Evaluation,
    /// Of each member alone, in their order, on the same faces.
    pub members: Vec<Evaluation>,
}

impl Ensemble {
    /// Opens the runs at `paths`; `views` may be left out where their configs have the same.
    ///
    /// # Errors
    /// Input errors: those of a run, a forest's run, fewer than two runs, other classes, configs with other views.
    pub fn open(paths: &[PathBuf], views: Option<Views>) -> Result<Self> {
        let mut all = paths.iter().map(|path| TrainedNet::open(RunDir::open(path)?));
        let first = all.next().context("an ensemble has members, which the command line sees to")??;
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
            let (own, its) = (first.config.predict.views, other.config.predict.views);
            if views.is_none() && own != its {
                return Err(input(format!(
                    "predict.views is {own} in {} and {its} in {}; say which to use for all with --views",
                    shown(&first),
                    shown(other)
                )));
            }
        }
        let views = views.unwrap_or(first.config.predict.views);
        Ok(Self { first, others, views })
    }

    /// The members, in their order.
    pub fn members(&self) -> impl Iterator<Item = &TrainedNet> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The views that each member is averaged over.
    pub fn views(&self) -> Views {
        self.views
    }

    /// The `[data]` of the first member, which says how a CSV of faces is read.
    pub fn data(&self) -> &DataConfig {
        &self.first.config.data
    }

    /// Whether all members were trained and validated on the same split of the same faces.
    pub fn has_one_split(&self) -> bool {
        let key = |run: &TrainedNet| {
            let state = &run.checkpoint.state;
            (state.data_hash.clone(), state.split_hash.clone())
        };
        self.others.iter().all(|other| key(other) == key(&self.first))
    }

    /// What a reader should know: members that are no members of their own.
    ///
    /// # Errors
    /// libtorch's.
    pub fn warnings(&self) -> Result<Vec<String>> {
        let members: Vec<&TrainedNet> = self.members().collect();
        let mut found = Vec::new();
        for (number, one) in members.iter().enumerate() {
            for other in members.iter().skip(number + 1) {
                let names = format!("{} and {}", one.dir.path().display(), other.dir.path().display());
                if same_weights(&one.checkpoint.tensors, &other.checkpoint.tensors)? {
                    found.push(format!("warning: {names} have the same weights, which so count twice; leave one out"));
                } else if one.config.seed == other.config.seed && one.config.model == other.config.model {
                    let seed = one.config.seed;
                    found.push(format!(
                        "warning: {names} have the same network and the same seed, {seed}, and so began with the same weights; members that differ more gain more"
                    ));
                }
            }
        }
        Ok(found)
    }

    /// For each face whether it also stands among the training rows of any member.
    ///
    /// # Errors
    /// An input error when a `split.csv` is missing or damaged.
    pub fn seen(&self, faces: &Faces) -> Result<Vec<bool>> {
        let mut known: HashSet<FaceHash> = HashSet::new();
        for run in self.members() {
            known.extend(run.training_faces()?);
        }
        Ok(seen_in(&faces.hashes, &known))
    }

    /// Compares what the ensemble and each member make of `faces` with `labels`. Figures without copies leave out, for all of
    /// them, the faces that stand among the training rows of any member.
    ///
    /// # Errors
    /// As [`seen`](Self::seen); libtorch's; an input error for a device that cannot be had.
    pub fn score(&self, faces: &Faces, labels: &[u8], device: DeviceChoice) -> Result<Scores> {
        let seen = self.seen(faces)?;
        let outputs = self.members().map(|run| run.outputs(faces, device, self.views)).collect::<Result<Vec<_>>>()?;
        let evaluation = |outputs: &Outputs| Evaluation::of(outputs, labels, &seen, &self.data().classes);
        Ok(Scores {
            ensemble: evaluation(&Outputs::average(&outputs)?),
            members: outputs.iter().map(evaluation).collect(),
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
