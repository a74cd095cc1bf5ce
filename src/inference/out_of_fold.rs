//! Out-of-fold predictions: each image is predicted by the network of a cross-validation that did not
//! train on it.

use std::path::Path;

use anyhow::Result;

use super::trained_run::TrainedNet;
use crate::data::config::{Fold, Validation};
use crate::run_dir::{FOLD, RunDir, ValidationPredictions};
use crate::util::error::input;
use crate::util::files::exists;

/// The folds of `grimace train --folds`, all trained to their end.
#[derive(Debug)]
pub struct OutOfFold {
    /// In the order of their numbers.
    pub folds: Vec<TrainedFold>,
}

/// A fold: its network, and what it predicts for the images that it is validated on.
#[derive(Debug)]
pub struct TrainedFold {
    /// Its run.
    pub run: TrainedNet,
    /// Its validation images, with probabilities without calibration.
    pub validation: ValidationPredictions,
    /// float32 [N, classes] calibrated probabilities of these images, row-major.
    pub probabilities: Vec<f32>,
}

impl OutOfFold {
    /// Opens the folds in the directory `path`.
    ///
    /// # Errors
    /// An input error for a directory without folds, a fold that is missing or unfinished, and folds
    /// that do not belong together.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let place = |number: u32| path.join(format!("{FOLD}{number}"));
        if !place(1).is_dir() {
            return Err(input(format!(
                "{shown}: holds no folds; train them with grimace train CONFIG --folds 5 --out {shown}"
            )));
        }
        let mut folds: Vec<TrainedFold> = Vec::new();
        for number in (1..).take_while(|number| exists(&place(*number))) {
            folds.push(TrainedFold::open(&place(number))?);
        }
        let of_fold = |fold: &TrainedFold| match fold.run.config.data.validation {
            Validation::Fold(Fold { folds, .. }) => folds as usize,
            _ => 0,
        };
        let count = folds.first().map_or(0, of_fold);
        if count != folds.len() {
            return Err(input(format!(
                "{shown}: has {} of {count} folds; resume it with grimace train CONFIG --folds {count} --out {shown} \
                 --resume",
                folds.len()
            )));
        }
        let data_hash = |fold: &TrainedFold| fold.run.checkpoint.state.data_hash.clone();
        let first = folds.first().map(data_hash);
        for (number, fold) in (1..).zip(&folds) {
            let is_fold = matches!(fold.run.config.data.validation, Validation::Fold(found) if found.fold == number);
            if !is_fold || of_fold(fold) != count || Some(data_hash(fold)) != first {
                let place = place(number);
                return Err(input(format!("{}: is not fold {number} of {count} of the same data", place.display())));
            }
        }
        Ok(Self { folds })
    }

    /// Hash of the images and labels, which all folds share.
    pub fn data_hash(&self) -> String {
        self.folds.first().map(|fold| fold.run.checkpoint.state.data_hash.clone()).unwrap_or_default()
    }
}

impl TrainedFold {
    fn open(path: &Path) -> Result<Self> {
        let run = TrainedNet::open(RunDir::open(path)?)?;
        let (Some(validation), Some(calibration)) = (run.validation_predictions()?, run.calibration()?) else {
            return Err(input(format!(
                "{}: is not trained to its end; resume the folds with grimace train CONFIG --folds K --resume",
                path.display()
            )));
        };
        let predictions = validation.predictions(run.config.data.classes.len());
        let temperature = calibration.temperature(crate::transforms::tta::Tta::None);
        Ok(Self { run, probabilities: predictions.with_temperature(temperature).probabilities, validation })
    }
}
