//! The command line: clap types and wiring, one file per command.

mod common;
mod data_check;
mod data_preview;
mod data_synth;
mod doctor;
mod ensemble;
mod evaluate;
mod export;
mod forest;
mod generate;
mod predict;
mod runs;
mod sweep;
mod train;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use self::common::RowArgs;
use crate::device::DeviceChoice;
use crate::transforms::tta::Tta;
use crate::util::error::Outcome;

/// Trains facial-expression classifiers on libtorch from CSV files of 48x48 grayscale images.
#[derive(Debug, Parser)]
#[command(
    name = "grimace",
    version,
    arg_required_else_help = true,
    after_help = "Example:\n  grimace train configs/notebook.toml --out runs/mine\n  grimace evaluate runs/mine --data data/my_emotion_test.csv \\\n      --labels data/my_emotion_test_labels.csv\n\nExit codes: 0 done, 1 failed, 2 bad arguments, config or data, 129/130/143 interrupted after saving"
)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check, preview or generate images
    #[command(
        subcommand,
        after_help = "Example:\n  grimace data check data/my_emotion_train.csv data/my_emotion_test.csv"
    )]
    Data(Data),
    /// Fit and cross-validate the random-forest baseline
    Forest(forest::ForestArgs),
    /// Train a network
    Train(train::TrainArgs),
    /// Train several configs, values and seeds, and compare them
    Sweep(sweep::SweepArgs),
    /// List runs, newest first
    Runs(runs::RunsArgs),
    /// Evaluate a trained run on labeled images
    Evaluate(evaluate::EvaluateArgs),
    /// Write a trained run's predictions as CSV
    Predict(predict::PredictArgs),
    /// Export a trained run as TorchScript
    Export(export::ExportArgs),
    /// Evaluate an ensemble of trained networks, or export it as one TorchScript file
    Ensemble(ensemble::EnsembleArgs),
    /// Show libtorch, devices, threads and CPU kernels, and why CUDA is not available
    Doctor(doctor::DoctorArgs),
    /// Generate configs, their schema, shell completions and manual pages
    #[command(
        subcommand,
        after_help = "Example:\n  grimace generate config notebook > notebook.toml\n  source <(grimace generate completions bash)"
    )]
    Generate(generate::Generate),
}

/// `grimace data ...`
#[derive(Debug, Subcommand)]
pub enum Data {
    /// Count classes, blank images, exact duplicates, conflicting labels and duplicates across
    /// splits
    Check(data_check::DataCheckArgs),
    /// Generate synthetic images, to try Grimace without data
    Synth(data_synth::DataSynthArgs),
    /// Show training images and their augmentations as a PNG
    Preview(data_preview::DataPreviewArgs),
}

/// A config and overrides.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Config file (TOML)
    pub config: PathBuf,
    /// Override a key; the value is TOML, or else a string; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// Which rows a trained run predicts, and how.
#[derive(Debug, Args)]
pub struct InferenceArgs {
    /// Which rows
    #[command(flatten)]
    pub rows: RowArgs,
    /// Test-time augmentation [default: the run's predict.tta]
    #[arg(long)]
    pub tta: Option<Tta>,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// Runs the command.
///
/// # Errors
/// Those of the command; [`crate::util::error::exit_code`] turns them into an exit code.
pub fn run(cli: Cli) -> Result<Outcome> {
    let result = match cli.command {
        Command::Data(Data::Check(args)) => data_check::run(&args),
        Command::Data(Data::Synth(args)) => data_synth::run(&args),
        Command::Data(Data::Preview(args)) => data_preview::run(&args),
        Command::Forest(args) => forest::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Ensemble(args) => ensemble::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Generate(what) => generate::run(&what),
    };
    result.map_err(crate::device::simplify_torch_error)
}
