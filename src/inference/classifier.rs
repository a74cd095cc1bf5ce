//! A trained run that is ready to predict again and again: nothing is loaded or built per call.

use anyhow::{Result, ensure};
use tch::Device;

use super::forward::predict_with_tta;
use super::trained_run::TrainedRun;
use crate::data::device_images::DeviceImages;
use crate::data::images::{Images, PIXELS};
use crate::device::{DeviceChoice, catch_torch_panics, place_for_inference};
use crate::forest::{Forest, LeafFrequencies};
use crate::metrics::Predictions;
use crate::model::Net;
use crate::transforms::tta::Tta;
use crate::util::error::input;

/// A trained model with its device, test-time augmentation and temperature. It may move to another
/// thread, but only one thread at a time predicts with it.
#[derive(Debug)]
pub struct Classifier {
    model: Model,
    tta: Tta,
    temperature: f64,
}

#[derive(Debug)]
enum Model {
    Net { net: Box<Net>, device: Device },
    Forest { forest: Forest, frequencies: LeafFrequencies },
}

/// How a [`Classifier`] predicts.
#[derive(Debug, Clone, Copy)]
pub struct ClassifierOptions {
    /// Where a network runs.
    pub device: DeviceChoice,
    /// CPU threads of libtorch; 0: one per core.
    pub threads: usize,
    /// Test-time augmentation; by default the run's.
    pub tta: Option<Tta>,
    /// Whether the probabilities have the run's temperature.
    pub is_calibrated: bool,
}

impl Classifier {
    /// Builds the model of a run.
    ///
    /// # Errors
    /// Input errors: a device that is not available; TTA or another device for a forest; a corrupt
    /// `calibration.json`; weights that do not match the architecture.
    pub fn new(run: TrainedRun, options: &ClassifierOptions) -> Result<Self> {
        let tta = run.tta(options.tta)?;
        let temperature = if options.is_calibrated { run.temperature(tta)? } else { 1.0 };
        let model = match run {
            TrainedRun::Net(run) => {
                let device = place_for_inference(options.device, options.threads)?.device;
                Model::Net { net: Box::new(run.net_for_inference(device)?), device }
            }
            TrainedRun::Forest(run) => {
                if !matches!(options.device, DeviceChoice::Auto | DeviceChoice::Cpu) {
                    let device = options.device;
                    return Err(input(format!(
                        "--device {device}: a forest runs on the CPU; omit --device or pass --device cpu"
                    )));
                }
                let frequencies = run.forest.leaf_frequencies();
                Model::Forest { forest: run.forest, frequencies }
            }
        };
        Ok(Self { model, tta, temperature })
    }

    /// The test-time augmentation.
    pub fn tta(&self) -> Tta {
        self.tta
    }

    /// The temperature of the probabilities; 1 without calibration.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// Trainable parameters of a network; `None` for a forest.
    pub fn parameters(&self) -> Option<usize> {
        match &self.model {
            Model::Net { net, .. } => Some(net.parameter_count()),
            Model::Forest { .. } => None,
        }
    }

    /// Predicts images: uint8 [N, 48, 48], row-major, N from 1. Equals `grimace predict` on the same
    /// images, up to the rounding of other batch sizes.
    ///
    /// # Errors
    /// A number of pixels that fits no number of images; errors of libtorch.
    pub fn predict(&self, pixels: Vec<u8>) -> Result<Predictions> {
        ensure!(
            !pixels.is_empty() && pixels.len().is_multiple_of(PIXELS),
            "{} pixels are not whole images",
            pixels.len()
        );
        match &self.model {
            Model::Net { net, device } => {
                let rows = (0..u32::try_from(pixels.len() / PIXELS)?).collect();
                let images = Images { pixels: pixels.into(), rows, ..Images::default() };
                let run = || predict_with_tta(net, &DeviceImages::new(&images, *device)?, self.tta);
                catch_torch_panics(run)?.mean(self.temperature)
            }
            Model::Forest { forest, frequencies } => {
                Ok(forest.predictions_by(frequencies, &pixels).with_temperature(self.temperature))
            }
        }
    }
}
