//! `summary.json`: the result of a run and where it comes from.

use serde::Serialize;

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
    /// How often it diverged and was rolled back.
    pub rollbacks: u32,
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
