//! `train.init`: the weights that a new run starts from. A resumed run has them in its checkpoints
//! and reads no file.

mod transfer;
mod weights_file;

use std::collections::HashSet;

use anyhow::{Context, Result};
use tch::Device;

pub use transfer::transfer;
pub use weights_file::WeightsFile;

use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::data::images::ImageHash;
use crate::model::Net;
use crate::run_dir::checkpoint::InitRecord;

/// A network with initial weights from a file.
#[derive(Debug)]
pub struct InitialNet {
    /// The network.
    pub net: Net,
    /// What the run records about the file.
    pub record: InitRecord,
    /// Lines for the log: what was taken, what is new, what was not used.
    pub notes: Vec<String>,
}

impl InitialNet {
    /// Builds the network of `config` with the weights of `file`, to train on `data`.
    ///
    /// # Errors
    /// An input error for a tensor of another shape, or a file that has none of the network.
    pub fn new(file: &WeightsFile, config: &Config, data: &Dataset, device: Device) -> Result<Self> {
        let net = Net::new(&config.model, config.data.classes.len(), config.seed, device)?;
        let notes = transfer(&net, file, &config.data.classes)
            .with_context(|| format!("train.init = {:?}", file.path.display().to_string()))?;
        let seen = file.training_images.as_ref().map(|seen| count_seen(&data.validation.hashes, seen));
        let (path, hash) = (file.path.display().to_string(), file.hash.clone());
        let record = InitRecord { path, hash, validation_images: data.validation.len(), seen_validation_images: seen };
        Ok(Self { net, record, notes })
    }
}

/// How many `images` are among those `seen`.
fn count_seen(images: &[ImageHash], seen: &HashSet<ImageHash>) -> usize {
    images.iter().filter(|image| seen.contains(image)).count()
}
