//! A run's directory: what is in it, and how a trained run is opened again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, Checkpoint};
use crate::config::{self, Config};
use crate::data::dataset::training_faces;
use crate::data::faces::FaceHash;
use crate::error::input;
use crate::files::{read_small_text, write_atomically};
use crate::model::Net;

const LARGEST_TEXT: u64 = 1 << 30;

/// The directory of one run.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: u32,
    /// Learning rate.
    pub lr: f64,
    /// Mean loss over the training faces, as augmented and with dropout, while the weights change.
    pub loss: f64,
    /// Accuracy under the same conditions.
    pub accuracy: f64,
    /// Mean loss over the validation faces after the epoch.
    pub val_loss: f64,
    /// Accuracy over the validation faces after the epoch.
    pub val_accuracy: f64,
    /// The same without faces that also stand among the training rows.
    pub val_accuracy_without_copies: Option<f64>,
    /// Wall time of the epoch, validation included.
    pub seconds: f64,
    /// Training rows over training seconds.
    pub images_per_second: f64,
}

/// `summary.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Name of the run.
    pub name: String,
    /// Trainable values of the network.
    pub parameters: usize,
    /// `cpu`, `cuda:N` or `mps`.
    pub device: String,
    /// `f32` or `bf16`.
    pub precision: String,
    /// CPU threads.
    pub threads: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Finished epochs.
    pub epochs: u32,
    /// Epoch of `best.safetensors`, from 1.
    pub best_epoch: Option<u32>,
    /// Its validation accuracy.
    pub best_val_accuracy: Option<f64>,
    /// The same without faces that also stand among the training rows.
    pub best_val_accuracy_without_copies: Option<f64>,
    /// Validation accuracy of the last epoch.
    pub last_val_accuracy: Option<f64>,
    /// Training and validation faces.
    pub train_rows: usize,
    /// Validation faces.
    pub validation_rows: usize,
    /// `epochs`, `early_stop`, `interrupted` or `diverged`.
    pub stopped: String,
    /// Training and validation time over all resumptions.
    pub seconds: f64,
    /// Median over epochs.
    pub train_images_per_second: Option<f64>,
    /// Where the figures come from.
    pub provenance: Provenance,
}

/// Where figures come from.
#[derive(Debug, Clone, Serialize)]
pub struct Provenance {
    /// Of grimace.
    pub version: String,
    /// Of libtorch.
    pub libtorch: String,
    /// Our own CPU kernels used.
    #[serde(default)]
    pub kernels: String,
    /// The command that began the run.
    pub command: String,
    /// The commands that went on with it.
    pub resumed: Vec<String>,
    /// Hash of the faces and labels.
    pub data_hash: String,
    /// Hash of `split.csv`.
    pub split_hash: String,
}

impl RunDir {
    /// `runs/<name>-<UTC time>`, the default place of a new run.
    pub fn default_path(name: &str) -> PathBuf {
        let first = format!("{name}-{}", jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"));
        // Runs that begin in the same second are told apart by a number.
        let names = std::iter::once(first.clone()).chain((2..).map(|number| format!("{first}-{number}")));
        names.map(|name| Path::new("runs").join(name)).find(|path| !path.exists()).unwrap_or_default()
    }

    /// The newest default place of a run called `name`.
    ///
    /// # Errors
    /// An input error when there is none.
    pub fn newest(name: &str) -> Result<PathBuf> {
        let prefix = format!("{name}-");
        let is_time = |rest: &str| rest.len() >= 15 && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let mut found: Vec<PathBuf> =
            fs::read_dir("runs").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        found.retain(|path| {
            let file = path.file_name().and_then(|file| file.to_str());
            path.is_dir() && file.and_then(|file| file.strip_prefix(&prefix)).is_some_and(is_time)
        });
        found.sort();
        found.pop().ok_or_else(|| {
            input(format!("--resume: there is no runs/{name}-<time> to resume; name the run with --out DIR"))
        })
    }

    /// Whether nothing is at `path` yet, or an empty folder.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn is_free(path: &Path) -> Result<bool> {
        Ok(!path.exists() || (path.is_dir() && fs::read_dir(path)?.next().is_none()))
    }

    /// Refuses a path that a new run cannot have.
    ///
    /// # Errors
    /// An input error that says what is there already.
    pub fn check_free(path: &Path) -> Result<()> {
        let shown = path.display();
        if path.exists() && !path.is_dir() {
            return Err(input(format!("{shown}: is a file; expected a folder for the run")));
        }
        if !Self::is_free(path)? {
            return Err(input(format!(
                "{shown}: exists and is not empty; choose another --out, or continue that run with --resume"
            )));
        }
        Ok(())
    }

    /// Creates the directory, or takes an empty one.
    ///
    /// # Errors
    /// As [`check_free`](Self::check_free), or an I/O error with the path.
    pub fn create(path: &Path) -> Result<Self> {
        Self::check_free(path)?;
        fs::create_dir_all(path)?;
        Ok(Self { path: path.to_path_buf() })
    }

    /// An existing run's directory.
    ///
    /// # Errors
    /// An input error when it is not one.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        if !path.is_dir() {
            return Err(input(format!("{shown}: no such run directory")));
        }
        let run = Self { path: path.to_path_buf() };
        if !run.config_toml().is_file() {
            return Err(input(format!("{shown}: is not a run directory: it holds no config.toml")));
        }
        Ok(run)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved config.
    pub fn config_toml(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// What was printed.
    pub fn log_txt(&self) -> PathBuf {
        self.path.join("log.txt")
    }

    /// One object an epoch.
    pub fn metrics_jsonl(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The newest checkpoint, with the optimizer's state.
    pub fn last(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    /// The best weights by validation accuracy.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// Which face went where.
    pub fn split_csv(&self) -> PathBuf {
        self.path.join("split.csv")
    }

    /// The result.
    pub fn summary_json(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// Rewrites `metrics.jsonl` with these records; lines of records that stay come out byte for byte the same.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write_metrics(&self, records: &[EpochRecord]) -> Result<()> {
        let mut text = String::new();
        for record in records {
            text += &serde_json::to_string(record)?;
            text.push('\n');
        }
        write_atomically(&self.metrics_jsonl(), text.as_bytes())
    }

    /// The first `epochs` records of `metrics.jsonl`; a torn last line is left out.
    ///
    /// # Errors
    /// When fewer can be read.
    pub fn read_metrics(&self, epochs: u32) -> Result<Vec<EpochRecord>> {
        let path = self.metrics_jsonl();
        let text = if path.exists() { read_small_text(&path, LARGEST_TEXT, "metrics")? } else { String::new() };
        let records: Vec<EpochRecord> =
            text.lines().map_while(|line| serde_json::from_str(line).ok()).take(epochs as usize).collect();
        if records.len() < epochs as usize {
            return Err(input(format!(
                "{}: has {} readable epochs; the checkpoint has {epochs}",
                path.display(),
                records.len()
            )));
        }
        Ok(records)
    }

    /// Writes `summary.json`.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write_summary(&self, summary: &Summary) -> Result<()> {
        write_atomically(&self.summary_json(), (serde_json::to_string_pretty(summary)? + "\n").as_bytes())
    }
}

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
                "{shown}: holds no best.safetensors: no epoch was finished yet; train it on with --resume --out {shown}"
            )));
        }
        let checkpoint = checkpoint::load(&dir.best())?;
        // The checkpoint's own config, not config.toml: a file that was edited since must not change what the weights mean.
        let config = config::from_text(&checkpoint.config, &dir.best().display().to_string())?;
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
