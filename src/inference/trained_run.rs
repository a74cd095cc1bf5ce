//! Trained runs, opened for inference and export.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};
use tch::Device;

use crate::config::{self, Config};
use crate::data::config::DataConfig;
use crate::data::device_images::DeviceImages;
use crate::data::images::{ImageHash, Images};
use crate::data::split_csv::{SplitHashes, split_hashes};
use crate::device::{DeviceChoice, place_for_inference};
use crate::forest::config::ForestConfig;
use crate::forest::{self, Forest, Origin};
use crate::inference::forward::predict_with_tta;
use crate::metrics::ViewPredictions;
use crate::model::Net;
use crate::run_dir::calibration::Calibration;
use crate::run_dir::checkpoint::{self, Checkpoint};
use crate::run_dir::{MAX_SPLIT_CSV, RunDir, ValidationPredictions};
use crate::transforms::tta::Tta;
use crate::util::error::input;
use crate::util::files::read_small_text;

/// A trained run of either kind.
#[derive(Debug)]
pub enum TrainedRun {
    /// A network run.
    Net(Box<TrainedNet>),
    /// A forest run.
    Forest(Box<TrainedForest>),
}

/// A network run: its config and best weights.
#[derive(Debug)]
pub struct TrainedNet {
    /// Run directory.
    pub dir: RunDir,
    /// Config it was trained with.
    pub config: Config,
    /// Best checkpoint, including tensors.
    pub checkpoint: Checkpoint,
}

/// A forest run.
#[derive(Debug)]
pub struct TrainedForest {
    /// Run directory.
    pub dir: RunDir,
    /// Config it was fitted with.
    pub config: ForestConfig,
    /// Fitted trees.
    pub forest: Forest,
    /// Data it was fitted on.
    pub origin: Origin,
}

impl TrainedRun {
    /// Opens the run at `path`.
    ///
    /// # Errors
    /// Input errors for a missing or corrupt file.
    pub fn open(path: &Path) -> Result<Self> {
        let dir = RunDir::open(path)?;
        if dir.is_forest() {
            return TrainedForest::open(dir).map(|run| Self::Forest(Box::new(run)));
        }
        TrainedNet::open(dir).map(|run| Self::Net(Box::new(run)))
    }

    /// Run directory.
    pub fn dir(&self) -> &RunDir {
        match self {
            Self::Net(run) => &run.dir,
            Self::Forest(run) => &run.dir,
        }
    }

    /// `[data]` of its config.
    pub fn data(&self) -> &DataConfig {
        match self {
            Self::Net(run) => &run.config.data,
            Self::Forest(run) => &run.config.data,
        }
    }

    /// Hashes of the training and validation images.
    ///
    /// # Errors
    /// An input error for a missing or corrupt `split.csv`.
    pub fn split_hashes(&self) -> Result<SplitHashes> {
        match self {
            Self::Net(run) => read_split(&run.dir, &run.checkpoint.state.split_hash),
            Self::Forest(run) => read_split(&run.dir, &run.origin.split_hash),
        }
    }

    /// The test-time augmentation to use: `chosen`, or `predict.tta` of a network's config by
    /// default.
    ///
    /// # Errors
    /// An input error for a forest and `chosen` other than [`Tta::None`].
    pub fn tta(&self, chosen: Option<Tta>) -> Result<Tta> {
        match (self, chosen) {
            (Self::Net(run), None) => Ok(run.config.predict.tta),
            (Self::Net(_), Some(tta)) => Ok(tta),
            (Self::Forest(_), None | Some(Tta::None)) => Ok(Tta::None),
            (Self::Forest(run), Some(tta)) => {
                let run_dir = run.dir.path().display();
                Err(input(format!(
                    "--tta {tta}: {run_dir} is a forest run, and forests have no test-time augmentation; omit --tta or pass --tta none"
                )))
            }
        }
    }

    /// The temperature of its probabilities with `tta`; 1 for a forest, and for a run that has none.
    ///
    /// # Errors
    /// An input error for a corrupt `calibration.json`.
    pub fn temperature(&self, tta: Tta) -> Result<f64> {
        match self {
            Self::Net(run) => run.temperature(tta),
            Self::Forest(_) => Ok(1.0),
        }
    }

    /// Predicts `images`: a network on `device` with `tta`, a forest on the CPU without.
    ///
    /// # Errors
    /// An input error for a device that is not available, and for a forest with another device or
    /// with `tta`.
    pub fn predict(&self, images: &Images, device: DeviceChoice, tta: Tta) -> Result<ViewPredictions> {
        match self {
            Self::Net(run) => run.predict(images, device, tta),
            Self::Forest(run) if matches!(device, DeviceChoice::Auto | DeviceChoice::Cpu) => {
                self.tta(Some(tta))?;
                Ok(ViewPredictions(vec![run.forest.predictions(&images.pixels.all()?)]))
            }
            Self::Forest(_) => {
                Err(input(format!("--device {device}: a forest runs on the CPU; omit --device or pass --device cpu")))
            }
        }
    }
}

impl TrainedNet {
    /// Opens the network run in `dir`.
    ///
    /// # Errors
    /// Input errors for a missing or corrupt file, and for a forest run.
    pub fn open(dir: RunDir) -> Result<Self> {
        let run_dir = dir.path().display();
        if dir.is_forest() {
            return Err(input(format!("{run_dir}: is a forest run; only networks can be exported or ensembled")));
        }
        if !dir.best_safetensors().exists() {
            return Err(input(format!(
                "{run_dir}: has no best.safetensors: no epoch has finished, or the file was removed; resume it with grimace train CONFIG --resume --out {run_dir}"
            )));
        }
        let checkpoint = checkpoint::load(&dir.best_safetensors())?;
        // Not config.toml: an edit of that file must not change the meaning of the weights.
        let config =
            config::from_text(&checkpoint.config, &format!("{}: its config", dir.best_safetensors().display()))?;
        Ok(Self { dir, config, checkpoint })
    }

    /// Hashes of the training images.
    ///
    /// # Errors
    /// An input error for a missing or corrupt `split.csv`.
    pub fn training_images(&self) -> Result<HashSet<ImageHash>> {
        Ok(read_split(&self.dir, &self.checkpoint.state.split_hash)?.train)
    }

    /// The temperature of the best weights with `tta`, fitted on the validation images at the end of
    /// training; 1 if there is none.
    ///
    /// # Errors
    /// An input error for a corrupt `calibration.json`.
    pub fn temperature(&self, tta: Tta) -> Result<f64> {
        Ok(self.calibration()?.map_or(1.0, |found| found.temperature(tta)))
    }

    /// The calibration of the best weights; `None` if the run has not been trained to its end, or
    /// was resumed and has better ones since.
    ///
    /// # Errors
    /// An input error for a corrupt `calibration.json`.
    pub fn calibration(&self) -> Result<Option<Calibration>> {
        self.checkpoint.state.best.map_or(Ok(None), |best| self.dir.read_calibration(best.epoch))
    }

    /// The predictions of the best weights for the validation images, without calibration; `None`
    /// where [`calibration`](Self::calibration) is, or corrupt.
    ///
    /// # Errors
    /// An input error for a corrupt `validation.csv`.
    pub fn validation_predictions(&self) -> Result<Option<ValidationPredictions>> {
        let path = self.dir.validation_csv();
        // A corrupt calibration is an error where its temperature is needed, not with --no-calibration.
        if !matches!(self.calibration(), Ok(Some(_))) || !path.exists() {
            return Ok(None);
        }
        ValidationPredictions::read(&path).map(Some)
    }

    /// Predicts `images` with the best weights on `device`, with `tta`.
    ///
    /// # Errors
    /// An input error for a device that is not available.
    pub fn predict(&self, images: &Images, device: DeviceChoice, tta: Tta) -> Result<ViewPredictions> {
        let placement = place_for_inference(device, self.config.threads)?;
        let net = self.net_for_inference(placement.device)?;
        predict_with_tta(&net, &DeviceImages::place(images, placement.device, self.config.data.resident)?, tta)
    }

    /// Builds the network with its best weights on `device`.
    ///
    /// # Errors
    /// An input error for weights that do not match the architecture.
    pub fn net(&self, device: Device) -> Result<Net> {
        let net = Net::new(&self.config.model, self.config.data.classes.len(), 0, device)?;
        net.load_state_dict(&self.checkpoint.tensors)
            .map_err(|error| input(format!("{}: {error:#}", self.dir.best_safetensors().display())))?;
        Ok(net)
    }

    /// Builds the network like [`net`](Self::net), in the memory format that is fastest on many
    /// images.
    ///
    /// # Errors
    /// Like [`net`](Self::net).
    pub fn net_for_inference(&self, device: Device) -> Result<Net> {
        torch_ext::keep_memory();
        let net = self.net(device)?;
        net.use_channels_last()?;
        Ok(net)
    }
}

impl TrainedForest {
    fn open(dir: RunDir) -> Result<Self> {
        let path = dir.forest_safetensors();
        if !path.exists() {
            let run_dir = dir.path().display();
            return Err(input(format!(
                "{run_dir}: has no forest.safetensors: fitting was interrupted, or the file was removed; fit it again with grimace forest CONFIG --out {run_dir}"
            )));
        }
        let (forest, config, origin) = forest::load(&path)?;
        Ok(Self { dir, config, forest, origin })
    }
}

/// Reads the hashes of the images from the `split.csv` in `dir`, whose hash must be `split_hash`.
pub(crate) fn read_split(dir: &RunDir, split_hash: &str) -> Result<SplitHashes> {
    let path = dir.split_csv();
    let text = read_small_text(&path, MAX_SPLIT_CSV, "the split of a run")
        .context("cannot determine the training images of the run")?;
    if blake3::hash(text.as_bytes()).to_hex().to_string() != split_hash {
        let split_csv = path.display();
        return Err(input(format!(
            "{split_csv}: is not the split of this run (hash mismatch); cannot determine the training images of the run"
        )));
    }
    split_hashes(&text, &path)
}
