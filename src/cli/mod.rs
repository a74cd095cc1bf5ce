//! The command line: clap types and wiring, one file per command.

mod common;
mod compare;
mod data_audit;
mod data_audit_report;
mod data_check;
mod data_convert;
mod data_pack;
mod data_preview;
mod data_synth;
mod doctor;
mod ensemble;
mod evaluate;
mod explain;
mod export;
mod export_target;
mod forest;
mod generate;
mod monitor;
mod monitor_report;
mod predict;
mod predict_photos;
mod runs;
mod serve;
mod sweep;
mod train;
mod tune;
mod watch;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::common::RowArgs;
use crate::device::{DeviceChoice, MemoryAdvice, catch_torch_panics, simplify_torch_error};
use crate::inference::trained_run::TrainedRun;
use crate::transforms::tta::Tta;
use crate::util::error::Outcome;

/// Trains facial-expression classifiers on libtorch from CSV files or folders of face images.
#[derive(Debug, Parser)]
#[command(
    name = "grimace",
    version,
    arg_required_else_help = true,
    after_help = "Example:\n  grimace train configs/notebook.toml --out runs/mine\n  grimace evaluate runs/mine --data data/my_emotion_test.csv \\\n      --labels data/my_emotion_test_labels.csv\n\nExit codes: 0 done, 1 failed, 2 bad arguments, config or data, 3 drift (monitor), 129/130/143 interrupted after saving, 75 the same by SIGUSR1 or SIGUSR2: resume it"
)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check, audit, convert, preview or generate images
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
    /// Search for better values of config keys, and stop bad trials early
    Tune(tune::TuneArgs),
    /// List runs, newest first
    Runs(runs::RunsArgs),
    /// Watch a run or a sweep in the terminal: curves, progress, speed, time left; only reads
    Watch(watch::WatchArgs),
    /// Evaluate a trained run on labeled images
    Evaluate(evaluate::EvaluateArgs),
    /// Compare two trained runs on the same images: differences with intervals and tests
    Compare(compare::CompareArgs),
    /// Check whether new images differ from those that a run was validated on
    Monitor(monitor::MonitorArgs),
    /// Write a trained run's predictions as CSV
    Predict(predict::PredictArgs),
    /// Show which regions of images speak for a network's prediction, as a PNG
    Explain(explain::ExplainArgs),
    /// Export a trained run as TorchScript or ONNX
    Export(export::ExportArgs),
    /// Answer predictions over HTTP, and show a page to try a trained run on
    Serve(serve::ServeArgs),
    /// Evaluate an ensemble of trained networks, or export it as one TorchScript or ONNX file
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
    /// Find near duplicates, probable label errors and images without contrast, and write a report and a
    /// CSV to review
    Audit(data_audit::DataAuditArgs),
    /// Convert images between CSV, folders and packed files
    Convert(data_convert::DataConvertArgs),
    /// Pack images into one file that opens at once and need not fit into memory
    Pack(data_pack::DataPackArgs),
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

/// Which rows a trained run predicts, how, and where.
#[derive(Debug, Args)]
pub struct InferenceArgs {
    /// Which rows
    #[command(flatten)]
    pub rows: RowArgs,
    /// How to predict
    #[command(flatten)]
    pub model: ModelArgs,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// How a trained model is applied to an image.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Test-time augmentation [default: predict.tta of the run, which several runs must agree on]
    #[arg(long)]
    pub tta: Option<Tta>,
    /// Probabilities as each network computes them, without its run's temperature
    #[arg(long)]
    pub no_calibration: bool,
}

impl ModelArgs {
    /// Whether probabilities have the temperature of the run.
    fn is_calibrated(&self) -> bool {
        !self.no_calibration
    }
}

impl InferenceArgs {
    /// What the logits of `run` are divided by.
    fn temperature(&self, run: &TrainedRun, tta: Tta) -> Result<f64> {
        if self.model.is_calibrated() { run.temperature(tta) } else { Ok(1.0) }
    }
}

/// Parses the command line; prints what is wrong with it, or the help, and exits.
pub fn parse() -> Cli {
    let matches = with_negative_numbers(Cli::command()).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Lets every option have a negative number as its value, so that one which is out of range is named as
/// such, not as an unknown option.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let allow = |arg: clap::Arg| {
        let has_value = arg.get_action().takes_values() && !arg.is_positional();
        if has_value { arg.allow_negative_numbers(true) } else { arg }
    };
    command.mut_args(allow).mut_subcommands(with_negative_numbers)
}

/// Runs the command.
///
/// # Errors
/// Those of the command; [`crate::util::error::exit_code`] turns them into an exit code.
pub fn run(cli: Cli) -> Result<Outcome> {
    let advice = match cli.command {
        Command::Train(_) | Command::Sweep(_) | Command::Tune(_) => MemoryAdvice::Training,
        _ => MemoryAdvice::Inference,
    };
    let result = catch_torch_panics(|| dispatch(cli.command));
    result.map_err(|error| simplify_torch_error(error, advice))
}

fn dispatch(command: Command) -> Result<Outcome> {
    match command {
        Command::Data(Data::Check(args)) => data_check::run(&args),
        Command::Data(Data::Audit(args)) => data_audit::run(&args),
        Command::Data(Data::Convert(args)) => data_convert::run(&args),
        Command::Data(Data::Pack(args)) => data_pack::run(&args),
        Command::Data(Data::Synth(args)) => data_synth::run(&args),
        Command::Data(Data::Preview(args)) => data_preview::run(&args),
        Command::Forest(args) => forest::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Monitor(args) => monitor::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Ensemble(args) => ensemble::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Generate(what) => generate::run(&what),
    }
}
