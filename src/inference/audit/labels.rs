//! Probable label errors, from predictions of networks that did not train on the images.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::{Finding, Place, Problem};
use crate::data::images::{ImageHash, Images};
use crate::device::DeviceChoice;
use crate::inference::out_of_fold::OutOfFold;
use crate::inference::trained_run::TrainedRun;
use crate::metrics::{accuracy, label_errors};
use crate::transforms::tta::Tta;
use crate::util::error::input;
use crate::util::text::count;

/// Predictions for images by networks that did not train on them.
#[derive(Debug, Default)]
pub struct Probabilities {
    classes: usize,
    /// By the hash of the image, float32 `[classes]` each.
    by_image: HashMap<ImageHash, Vec<f32>>,
    /// Images of the files that the network trained on: their labels cannot be checked.
    trained_on: usize,
}

/// What is known of the labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelReport {
    /// Labeled rows with a prediction.
    pub checked: usize,
    /// Labeled rows without one, for a cross-validation: of other data.
    pub unknown: usize,
    /// Labeled rows that the run was trained on, which are not checked.
    pub trained_on: usize,
    /// Probable errors.
    pub errors: usize,
    /// Fraction of the checked labels that the networks predict: the lower, the more of the errors are
    /// their own.
    pub predicted: f64,
    /// Errors by label and suggested class.
    #[serde(skip)]
    pub by_class: BTreeMap<(u8, u8), usize>,
}

impl Probabilities {
    /// Those of a cross-validation, of all its images but those that have a copy in another fold.
    ///
    /// # Errors
    /// An input error if no image of `files` has a prediction.
    pub fn of_folds(found: &OutOfFold, classes: usize, files: &[(PathBuf, Images)], path: &Path) -> Result<Self> {
        let mut by_image = HashMap::new();
        for fold in &found.folds {
            let images = fold.validation.hashes.iter().zip(&fold.validation.duplicates);
            for ((hash, is_copy), row) in images.zip(fold.probabilities.chunks(classes.max(1))) {
                if let (Some(hash), false) = (ImageHash::from_hex(hash), *is_copy) {
                    by_image.insert(hash, row.to_vec());
                }
            }
        }
        if !files.iter().any(|(_, images)| images.hashes.iter().any(|hash| by_image.contains_key(hash))) {
            return Err(input(format!(
                "{}: has no prediction for any of these images; audit the data that it was trained on",
                path.display()
            )));
        }
        Ok(Self { classes, by_image, trained_on: 0 })
    }

    /// Those of a run, for the images that it was not trained on.
    ///
    /// # Errors
    /// An input error if it was trained on all images; those of a prediction.
    pub fn of_run(run: &TrainedRun, files: &[(PathBuf, Images)], device: DeviceChoice) -> Result<Self> {
        let trained = run.split_hashes()?.train;
        let classes = run.data().classes.len();
        let mut found = Self { classes, ..Self::default() };
        let mut labeled = 0;
        for (_, images) in files.iter().filter(|(_, images)| images.labels.is_some()) {
            let is_new = |position: &usize| images.hashes.get(*position).is_some_and(|hash| !trained.contains(hash));
            let new: Vec<usize> = (0..images.len()).filter(is_new).collect();
            labeled += images.len();
            found.trained_on += images.len() - new.len();
            if new.is_empty() {
                continue;
            }
            let part = Images::select(images, &new);
            let predictions = run.predict(&part, device, Tta::None)?.mean(run.temperature(Tta::None)?)?;
            let rows = predictions.probabilities.chunks(classes.max(1)).map(<[f32]>::to_vec);
            found.by_image.extend(part.hashes.iter().copied().zip(rows));
        }
        if found.by_image.is_empty() && labeled > 0 {
            let shown = run.dir().path().display();
            return Err(input(format!(
                "{shown}: was trained on all {} with a label, so it cannot check their labels; train with \
                 grimace train CONFIG --folds 5 --out DIR, and pass --folds DIR",
                count(labeled, "image")
            )));
        }
        Ok(found)
    }
}

/// Checks the labels of all files together.
pub fn check(files: &[(PathBuf, Images)], known: &Probabilities, propose: bool) -> (LabelReport, Vec<Finding>) {
    let mut places: Vec<Place> = Vec::new();
    let (mut labels, mut probabilities) = (Vec::new(), Vec::new());
    let mut labeled = 0;
    for (file, (_, images)) in files.iter().enumerate() {
        let all = images.labels.iter().flatten().zip(&images.hashes);
        for (position, (label, hash)) in all.enumerate() {
            labeled += 1;
            if let Some(row) = known.by_image.get(hash) {
                places.push((file, position));
                labels.push(*label);
                probabilities.extend_from_slice(row);
            }
        }
    }
    let errors = label_errors(&probabilities, known.classes, &labels);
    let mut by_class = BTreeMap::new();
    let finding = |error: &crate::metrics::LabelError| {
        let label = labels.get(error.position).copied().unwrap_or_default();
        *by_class.entry((label, error.suggested)).or_insert(0) += 1;
        Some(Finding {
            place: *places.get(error.position)?,
            problem: Problem::LabelError,
            group: None,
            suggested: Some(error.suggested),
            score: error.score,
            exclude: propose,
        })
    };
    let findings: Vec<Finding> = errors.iter().filter_map(finding).collect();
    let report = LabelReport {
        checked: labels.len(),
        unknown: (labeled - labels.len()).saturating_sub(known.trained_on),
        trained_on: known.trained_on,
        errors: errors.len(),
        predicted: accuracy(&labels, &predicted_classes(&probabilities, known.classes)),
        by_class,
    };
    (report, findings)
}

/// The most probable class of each row of `probabilities`.
fn predicted_classes(probabilities: &[f32], classes: usize) -> Vec<u8> {
    let best = |row: &[f32]| (0_u8..).zip(row).max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(class, _)| class);
    probabilities.chunks(classes.max(1)).map(best).collect()
}
