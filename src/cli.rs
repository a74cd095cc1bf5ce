//! The command line: types only, no logic.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Trains facial-expression classifiers on libtorch from CSV files of 48x48 grey faces.
#[derive(Debug, Parser)]
#[command(
    name = "grimace",
    version,
    arg_required_else_help = true,
    after_help = "Example:\n  grimace train configs/seed.toml --out runs/mine\n  grimace evaluate runs/mine --data data/my_emotion_test.csv --labels data/my_emotion_test_labels.csv\n\nExit codes: 0 done, 1 failed, 2 bad arguments, config or data, 129/130/143 interrupted after saving"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at CSV files of faces, or draw some
    #[command(subcommand)]
    Data(Data),
    /// Cross-validate and fit the random-forest baseline
    Forest(Forest),
    /// Train a network
    Train(Train),
    /// Train several configurations and compare them
    Sweep(Sweep),
    /// List runs, newest first
    Runs(Runs),
    /// Score a trained run on labelled faces
    Evaluate(Evaluate),
    /// Write a trained run's predictions as CSV
    Predict(Predict),
    /// Write a trained run as TorchScript
    Export(Export),
    /// Average the probabilities of several trained networks: score them, write them as one TorchScript file
    Ensemble(Ensemble),
    /// Show libtorch, devices, threads, instructions, and why CUDA is not used when it is not
    Doctor(Doctor),
}

/// `grimace data ...`
#[derive(Debug, Subcommand)]
pub enum Data {
    /// Count classes, blanks, exact copies, conflicting labels and copies across splits
    Check(Check),
    /// Draw schematic faces, for a machine without data
    Synth(Synth),
    /// Draw a contact sheet of originals beside augmented faces
    Augment(AugmentSheet),
}

/// A config and changes to it.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Config file (TOML)
    pub config: PathBuf,
    /// Change a key: the value is TOML, or else a string; may be given more than once
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// `grimace data check`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data check data/my_emotion_train.csv data/my_emotion_test.csv\n\nExits with 0 whatever it finds in readable rows, 2 where rows cannot be read; with --strict, findings exit with 1."
)]
pub struct Check {
    /// CSV files; copies are looked for within and across them
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Class names in the order of their numbers, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub classes: Option<Vec<String>>,
    /// Exit with 1 when anything was found: blanks, copies, conflicting labels
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `grimace data synth`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data synth --out drawn\n\nWrites my_emotion_train.csv (emotion,pixels), my_emotion_test.csv (id,pixels) and my_emotion_test_labels.csv (id,emotion)."
)]
pub struct Synth {
    /// Folder to write to; created when missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Training faces
    #[arg(long, default_value_t = 12_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub train: u32,
    /// Test faces
    #[arg(long, default_value_t = 3_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub test: u32,
    /// Seed: the same faces for the same seed
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
    /// Print what was done as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `grimace data augment`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data augment --config configs/seed.toml --out sheet.png\n\nEach row: an original on the left, then what training makes of it in its first epochs, before faces are mixed."
)]
pub struct AugmentSheet {
    /// Config file (TOML)
    #[arg(long)]
    pub config: PathBuf,
    /// Change a key of the config; may be given more than once
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// PNG to write
    #[arg(long, value_name = "PNG")]
    pub out: PathBuf,
    /// Originals
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rows: u32,
    /// Augmented faces beside each
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub columns: u32,
    /// Print what was done as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `grimace forest`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace forest configs/forest.toml --out runs/forest\n  grimace forest configs/forest.toml --set forest.trees=500 --set forest.folds=0\n\nevaluate and predict take the run directory as they take a network's; importance.png in it shows where the forest looks."
)]
pub struct Forest {
    /// Config and changes to it
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Run directory; default `runs/NAME-TIME`, the time in UTC
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `grimace train`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace train configs/seed.toml --set train.batch=128 --out runs/batch128\n  grimace train configs/seed.toml --out runs/batch128 --resume"
)]
pub struct Train {
    /// Config and changes to it
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Run directory; default `runs/NAME-TIME`, the time in UTC
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continue the run in --out, or the newest run of this name
    #[arg(long)]
    pub resume: bool,
    /// Say at the end where the time went: phases of a step, operations, start to first step
    #[arg(long)]
    pub profile: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `grimace sweep`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace sweep configs/sweep/*.toml --seeds 5 --forest configs/forest.toml --out runs/five\n  grimace sweep configs/sweep/*.toml --seeds 5 --forest configs/forest.toml --out runs/five --resume\n\nThe directory gets a run directory for each config and seed, comparison.csv and .md, report.html, and of the best run model.pt and submission.csv.\nA run that fails is told in the comparison and does not end the sweep; the exit code is then 1."
)]
pub struct Sweep {
    /// Config files (TOML), each with a name of its own
    #[arg(required = true, value_name = "CONFIG")]
    pub configs: Vec<PathBuf>,
    /// Seeds for each config: its own, and those that follow; the split stays that of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub seeds: u32,
    /// Baseline of the comparison: a forest's config, or the run directory of one
    #[arg(long, value_name = "CONFIG")]
    pub forest: Option<PathBuf>,
    /// Change a key in every config; may be given more than once. The forest takes data.* and seed from it
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Processes that train at the same time; default one for each CUDA device, or 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub parallel: Option<u32>,
    /// Directory of the sweep; default `runs/sweep-TIME`, the time in UTC
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the sweep in --out, or the newest: finished runs stay, interrupted ones go on
    #[arg(long)]
    pub resume: bool,
    /// Print the comparison as one JSON object
    #[arg(long)]
    pub json: bool,
    /// One of the processes of --parallel
    #[arg(long, hide = true)]
    pub worker: Option<u32>,
}

/// `grimace runs`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  grimace runs\n  grimace runs runs/five --json")]
pub struct Runs {
    /// Folder with run directories; those of sweeps within it are listed, too
    #[arg(default_value = "runs", value_name = "DIR")]
    pub folder: PathBuf,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

/// `grimace evaluate`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace evaluate runs/mine --data data/my_emotion_test.csv --labels data/my_emotion_test_labels.csv\n  grimace evaluate runs/mine --data data/fer2013.csv --usage PublicTest --json"
)]
pub struct Evaluate {
    /// Run directory
    pub run: PathBuf,
    /// CSV of faces, with a column emotion or with --labels
    #[arg(long, value_name = "CSV")]
    pub data: PathBuf,
    /// CSV of labels: id,emotion
    #[arg(long, value_name = "CSV")]
    pub labels: Option<PathBuf>,
    /// Take only the rows of this Usage
    #[arg(long)]
    pub usage: Option<String>,
    /// Average probabilities over views of each face: one, flip or ten_crops; default what the run's config says
    #[arg(long)]
    pub views: Option<crate::config::Views>,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: crate::config::DeviceChoice,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `grimace predict`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  grimace predict runs/mine --data data/my_emotion_test.csv --out submission.csv")]
pub struct Predict {
    /// Run directory
    pub run: PathBuf,
    /// CSV of faces
    #[arg(long, value_name = "CSV")]
    pub data: PathBuf,
    /// CSV to write: id,emotion
    #[arg(long, value_name = "CSV")]
    pub out: PathBuf,
    /// Add a column per class with its probability
    #[arg(long)]
    pub probabilities: bool,
    /// Take only the rows of this Usage
    #[arg(long)]
    pub usage: Option<String>,
    /// Average probabilities over views of each face: one, flip or ten_crops; default what the run's config says
    #[arg(long)]
    pub views: Option<crate::config::Views>,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: crate::config::DeviceChoice,
    /// Print what was done as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `grimace export`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace export runs/mine --out model.pt\n\nIn Python:\n  model = torch.jit.load(\"model.pt\")\n  probabilities = model(faces)    # uint8 or float32, 0..255, [N, 1, 48, 48]"
)]
pub struct Export {
    /// Run directory
    pub run: PathBuf,
    /// TorchScript file to write; model.json goes beside it
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Let the module average over views of each face: one, flip or ten_crops; default what the run's config says
    #[arg(long)]
    pub views: Option<crate::config::Views>,
    /// Print what was done as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `grimace ensemble`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace ensemble runs/five/seed-seed42 runs/five/deep-seed42 --data data/my_emotion_test.csv --labels data/my_emotion_test_labels.csv --out model.pt\n\nAt least one of --data and --out. Networks may differ in everything but their classes. Choose members by validation accuracy, not by the faces of --data,\nor the score flatters. model.pt is used as that of grimace export."
)]
pub struct Ensemble {
    /// Run directories of networks, two or more
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// TorchScript file to write; model.json goes beside it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// CSV of faces to score the ensemble and each member on, with a column emotion or with --labels
    #[arg(long, value_name = "CSV")]
    pub data: Option<PathBuf>,
    /// CSV of labels: id,emotion
    #[arg(long, value_name = "CSV", requires = "data")]
    pub labels: Option<PathBuf>,
    /// Take only the rows of this Usage
    #[arg(long, requires = "data")]
    pub usage: Option<String>,
    /// Average over views of each face too: one, flip or ten_crops; default what the runs' configs say, where they agree
    #[arg(long)]
    pub views: Option<crate::config::Views>,
    /// Device to score on: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: crate::config::DeviceChoice,
    /// Print what was done and found as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `grimace doctor`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  grimace doctor --json")]
pub struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
