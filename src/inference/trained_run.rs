//! A trained run, opened for use.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};
use tch::Device;

use crate::config::{self, Config};
use crate::data::config::DataConfig;
use crate::data::dataset::training_images;
use crate::data::device_images::DeviceImages;
use crate::data::images::{ImageHash, Images};
use crate::device::{DeviceChoice, place_for_inference};
use crate::forest::config::ForestConfig;
use crate::forest::{self, Forest, Origin};
use crate::inference::forward::predict_with_tta;
use crate::metrics::predictions::Predictions;
use crate::model::Net;
use crate::run_dir::checkpoint::{self, Checkpoint};
use crate::run_dir::{MAX_TEXT, RunDir};
use crate::transforms::tta::Tta;
use crate::util::error::input;
use crate::util::files::read_small_text;

/// A trained run, opened for use.
#[derive(Debug)]
pub enum TrainedRun {
    /// A network.
    Net(Box<TrainedNet>),
    /// A forest.
    Forest(Box<TrainedForest>),
}

/// A network's run: its config and its best weights.
#[derive(Debug)]
pub struct TrainedNet {
    /// Its directory.
    pub dir: RunDir,
    /// The config it was trained with.
    pub config: Config,
    /// The best checkpoint, tensors included.
    pub checkpoint: Checkpoint,
}

/// A forest's run.
#[derive(Debug)]
pub struct TrainedForest {
    /// Its directory.
    pub dir: RunDir,
    /// The config it was fitted with.
    pub config: ForestConfig,
    /// The forest.
    pub forest: Forest,
    /// What it was fitted on.
    pub origin: Origin,
}

impl TrainedRun {
    /// Opens the run at `path`.
    ///
    /// # Errors
    /// Input errors that name what is missing or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let dir = RunDir::open(path)?;
        if dir.is_forest() {
            return TrainedForest::open(dir).map(|run| Self::Forest(Box::new(run)));
        }
        TrainedNet::open(dir).map(|run| Self::Net(Box::new(run)))
    }

    /// Its directory.
    pub fn dir(&self) -> &RunDir {
        match self {
            Self::Net(run) => &run.dir,
            Self::Forest(run) => &run.dir,
        }
    }

    /// The `[data]` it was trained with.
    pub fn data(&self) -> &DataConfig {
        match self {
            Self::Net(run) => &run.config.data,
            Self::Forest(run) => &run.config.data,
        }
    }

    /// The images it was trained on, by hash.
    ///
    /// # Errors
    /// An input error when `split.csv` is missing or damaged.
    pub fn training_images(&self) -> Result<HashSet<ImageHash>> {
        match self {
            Self::Net(run) => run.training_images(),
            Self::Forest(run) => images_of_split(&run.dir, &run.origin.split_hash),
        }
    }

    /// The tta of each image to average over: `chosen`, or else what a network's config says.
    ///
    /// # Errors
    /// An input error for several tta and a forest.
    pub fn tta(&self, chosen: Option<Tta>) -> Result<Tta> {
        match (self, chosen) {
            (Self::Net(run), None) => Ok(run.config.predict.tta),
            (Self::Net(_), Some(tta)) => Ok(tta),
            (Self::Forest(_), None | Some(Tta::None)) => Ok(Tta::None),
            (Self::Forest(run), Some(tta)) => {
                let shown = run.dir.path().display();
                Err(input(format!(
                    "--tta {tta}: {shown} is a forest's run, and forests look at each image as it is; leave --tta out, or say one"
                )))
            }
        }
    }

    /// What it makes of `images`: a network on the device, averaged over `tta` of each image (see [`tta`](Self::tta)); a
    /// forest on the CPU, of each image as it is.
    ///
    /// # Errors
    /// libtorch's; an input error for a device that cannot be had, or that a forest has no use for, and for several tta and
    /// a forest.
    pub fn predictions(&self, images: &Images, device: DeviceChoice, tta: Tta) -> Result<Predictions> {
        match self {
            Self::Net(run) => run.predictions(images, device, tta),
            Self::Forest(run) if matches!(device, DeviceChoice::Auto | DeviceChoice::Cpu) => {
                self.tta(Some(tta))?;
                Ok(run.forest.predictions(&images.pixels))
            }
            Self::Forest(_) => {
                Err(input(format!("--device {device}: a forest runs on the CPU; leave the device out, or say cpu")))
            }
        }
    }
}

impl TrainedNet {
    /// Opens the run in `dir`.
    ///
    /// # Errors
    /// Input errors that name what is missing or damaged, or that it is a forest's.
    pub fn open(dir: RunDir) -> Result<Self> {
        let shown = dir.path().display();
        if dir.is_forest() {
            return Err(input(format!("{shown}: is a forest's run; expected a network's")));
        }
        if !dir.best().exists() {
            return Err(input(format!(
                "{shown}: holds no best.safetensors: no epoch was finished yet, or it was removed; train it on with --resume --out {shown}"
            )));
        }
        let checkpoint = checkpoint::load(&dir.best())?;
        // The checkpoint's own config, not config.toml: a file that was edited since must not change what the weights mean.
        let config = config::from_text(&checkpoint.config, &format!("{}: its config", dir.best().display()))?;
        Ok(Self { dir, config, checkpoint })
    }

    /// The images it was trained on, by hash.
    ///
    /// # Errors
    /// An input error when `split.csv` is missing or damaged.
    pub fn training_images(&self) -> Result<HashSet<ImageHash>> {
        images_of_split(&self.dir, &self.checkpoint.state.split_hash)
    }

    /// What the best weights make of `images` on the device, averaged over `tta` of each.
    ///
    /// # Errors
    /// libtorch's; an input error for a device that cannot be had.
    pub fn predictions(&self, images: &Images, device: DeviceChoice, tta: Tta) -> Result<Predictions> {
        let placement = place_for_inference(device, self.config.threads)?;
        let net = self.net_for_inference(placement.device)?;
        predict_with_tta(&net, &DeviceImages::new(images, placement.device)?, tta)
    }

    /// The network with its best weights, on `device`.
    ///
    /// # Errors
    /// An input error when weights and architecture do not fit.
    pub fn net(&self, device: Device) -> Result<Net> {
        let net = Net::new(&self.config.model, self.config.data.classes.len(), 0, device)?;
        net.load(&self.checkpoint.tensors)
            .map_err(|error| input(format!("{}: {error:#}", self.dir.best().display())))?;
        Ok(net)
    }

    /// The network as [`net`](Self::net), made ready to run over many images.
    ///
    /// # Errors
    /// As [`net`](Self::net).
    pub fn net_for_inference(&self, device: Device) -> Result<Net> {
        torch_ext::keep_memory();
        let net = self.net(device)?;
        net.use_channels_last()?;
        Ok(net)
    }
}

impl TrainedForest {
    fn open(dir: RunDir) -> Result<Self> {
        let path = dir.forest();
        if !path.exists() {
            let shown = dir.path().display();
            return Err(input(format!(
                "{shown}: holds no forest.safetensors: fitting was interrupted, or it was removed; fit it again with grimace forest"
            )));
        }
        let (forest, config, origin) = forest::load(&path)?;
        Ok(Self { dir, config, forest, origin })
    }
}

/// The training images of the `split.csv` in `dir`, which must have this hash.
fn images_of_split(dir: &RunDir, split_hash: &str) -> Result<HashSet<ImageHash>> {
    let path = dir.split_csv();
    let text = read_small_text(&path, MAX_TEXT, "the split of a run")
        .context("which images were trained on cannot be told")?;
    if blake3::hash(text.as_bytes()).to_hex().to_string() != split_hash {
        let shown = path.display();
        return Err(input(format!(
            "{shown}: is not the split of this run (its hash differs), so which images were trained on cannot be told"
        )));
    }
    training_images(&text, &path)
}
