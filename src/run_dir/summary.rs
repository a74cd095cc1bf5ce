//! `summary.json`: the result of a run and where it comes from.

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::forest::config::Finder;

/// Bytes of the largest summary, config or note of a run that is read.
pub const MAX_SUMMARY: u64 = 1 << 22;

/// `summary.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// The same without images that also stand among the training rows.
    pub best_val_accuracy_dedup: Option<f64>,
    /// Validation accuracy of the last epoch.
    pub last_val_accuracy: Option<f64>,
    /// Training and validation images.
    pub train_rows: usize,
    /// Validation images.
    pub validation_rows: usize,
    /// `epochs`, `early_stop`, `interrupted` or `diverged`.
    pub stopped: String,
    /// How often it diverged and was rolled back.
    pub rollbacks: u32,
    /// Training and validation time over all resumptions.
    pub seconds: f64,
    /// Median over epochs.
    pub train_images_per_second: Option<f64>,
    /// Where the figures come from.
    pub provenance: Provenance,
}

impl Summary {
    /// How it stands, for people.
    pub fn state(&self) -> &str {
        describe_state(&self.stopped)
    }

    /// Whether the training came to its end; a config with more epochs than it had lets it go on.
    pub fn is_finished(&self, config: &Config) -> bool {
        match self.stopped.as_str() {
            "early_stop" => true,
            "epochs" => self.epochs >= config.train.epochs,
            _ => false,
        }
    }
}

/// Where figures come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Provenance {
    /// Of grimace.
    pub version: String,
    /// Of libtorch.
    pub libtorch: String,
    /// Our own CPU kernels used.
    pub kernels: String,
    /// The command that began the run.
    pub command: String,
    /// The commands that went on with it.
    pub resumed: Vec<String>,
    /// Hash of the images and labels.
    pub data_hash: String,
    /// Hash of `split.csv`.
    pub split_hash: String,
}

/// What `stopped` means, for people.
pub fn describe_state(stopped: &str) -> &str {
    match stopped {
        "early_stop" => "early stop",
        "epochs" => "done",
        other => other,
    }
}

/// `summary.json` of a forest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForestSummary {
    /// Name of the run.
    pub name: String,
    /// Seed of the run.
    pub seed: u64,
    /// CPU threads.
    pub threads: usize,
    /// Trees asked for.
    pub trees: usize,
    /// Pixels drawn at a node.
    pub max_features: usize,
    /// `histogram` or `linfa`.
    pub finder: Finder,
    /// Nodes of all trees; absent where the forest was not fitted.
    pub nodes: Option<usize>,
    /// Folds of the cross-validation that was asked for; 0 for none.
    pub folds: usize,
    /// Accuracy of each fold that was fitted.
    pub cv_accuracies: Vec<f64>,
    /// Their mean; absent unless all folds were fitted.
    pub cv_mean: Option<f64>,
    /// Their population standard deviation, as numpy's `std`.
    pub cv_std: Option<f64>,
    /// Mean of the folds' accuracies without images that also stand among the fold's training rows.
    pub cv_mean_dedup: Option<f64>,
    /// Validation accuracy of the forest fitted on all training rows.
    pub val_accuracy: Option<f64>,
    /// The same without images that also stand among the training rows.
    pub val_accuracy_dedup: Option<f64>,
    /// Wall time of the cross-validation.
    pub cv_seconds: Option<f64>,
    /// Wall time of the fit on all training rows.
    pub fit_seconds: Option<f64>,
    /// Training images.
    pub train_rows: usize,
    /// Validation images.
    pub validation_rows: usize,
    /// `done` or `interrupted`.
    pub stopped: String,
    /// Where the figures come from.
    pub provenance: ForestProvenance,
}

/// Where a forest's figures come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForestProvenance {
    /// Of grimace.
    pub version: String,
    /// The command.
    pub command: String,
    /// Hash of the images and labels.
    pub data_hash: String,
    /// Hash of `split.csv`.
    pub split_hash: String,
}
