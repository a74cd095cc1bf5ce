//! A trained run, opened for use.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::{LARGEST_TEXT, RunDir};
use crate::checkpoint::{self, Checkpoint};
use crate::config::{self, Config};
use crate::data::dataset::training_faces;
use crate::data::faces::FaceHash;
use crate::error::input;
use crate::files::read_small_text;
use crate::model::Net;

/// A trained run, opened for use: its config and its best weights.
#[derive(Debug)]
pub struct TrainedRun {
    /// Its directory.
    pub dir: RunDir,
    /// The config it was trained with.
    pub config: Config,
    /// The best checkpoint, tensors included.
    pub checkpoint: Checkpoint,
}

impl TrainedRun {
    /// Opens the run at `path`.
    ///
    /// # Errors
    /// Input errors that name what is missing or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let dir = RunDir::open(path)?;
        if !dir.best().exists() {
            let shown = path.display();
            return Err(input(format!(
                "{shown}: holds no best.safetensors: no epoch was finished yet, or it was removed; train it on with --resume --out {shown}"
            )));
        }
        let checkpoint = checkpoint::load(&dir.best())?;
        // The checkpoint's own config, not config.toml: a file that was edited since must not change what the weights mean.
        let config = config::from_text(&checkpoint.config, &format!("{}: its config", dir.best().display()))?;
        Ok(Self { dir, config, checkpoint })
    }

    /// The network with its best weights, on `device`.
    ///
    /// # Errors
    /// An input error when weights and architecture do not fit.
    pub fn net(&self, device: tch::Device) -> Result<Net> {
        let net = Net::new(&self.config.model, self.config.data.classes.len(), 0, device)?;
        net.load(&self.checkpoint.tensors)
            .map_err(|error| input(format!("{}: {error:#}", self.dir.best().display())))?;
        Ok(net)
    }

    /// The network as [`net`](Self::net), made ready to run over many faces.
    ///
    /// # Errors
    /// As [`net`](Self::net).
    pub fn net_for_inference(&self, device: tch::Device) -> Result<Net> {
        torch_ext::keep_memory();
        let net = self.net(device)?;
        net.use_channels_last()?;
        Ok(net)
    }

    /// The faces it was trained on, by hash.
    ///
    /// # Errors
    /// An input error when `split.csv` is missing or damaged.
    pub fn training_faces(&self) -> Result<HashSet<FaceHash>> {
        let path = self.dir.split_csv();
        let text = read_small_text(&path, LARGEST_TEXT, "the split of a run")
            .context("which faces were trained on cannot be told")?;
        if blake3::hash(text.as_bytes()).to_hex().to_string() != self.checkpoint.state.split_hash {
            let shown = path.display();
            return Err(input(format!(
                "{shown}: is not the split of this run (its hash differs), so which faces were trained on cannot be told"
            )));
        }
        training_faces(&text, &path)
    }
}
