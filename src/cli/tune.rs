//! `grimace tune`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::ConfigArgs;
use super::common::{own_command, print, print_json};
use crate::config::MAX_EPOCHS;
use crate::report::text_table::table_with_text;
use crate::tune::confirmation::MAX_SEEDS;
use crate::tune::outputs;
use crate::tune::plan::{Metric, StudyOptions};
use crate::tune::sampler::Sampler;
use crate::tune::study::{self, StudyResult};
use crate::tune::study_dir::trial_name;
use crate::util::error::Outcome;
use crate::util::signals::Signals;
use crate::util::text::count;

/// `grimace tune`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace tune configs/notebook.toml --space configs/spaces/notebook.toml --trials 40 \\\n      --confirm 3 --out runs/study\n  grimace tune configs/notebook.toml --space configs/spaces/notebook.toml --trials 40 \\\n      --confirm 3 --out runs/study --resume\n\nThe space names keys of the config and their values, in TOML (docs/tuning.md):\n  train.optimizer.lr = { log = [1e-4, 1e-2] }\n  train.batch = { int = [32, 256], step = 32 }\n  augment.rotate = { uniform = [0, 20] }\n  model.filters = { choice = [[32, 64, 128], [64, 128, 256]] }\n\nWrites a run directory for each trial, study.jsonl, trials.csv, best.toml, and report.html with its plots.\nEvery score is one on the config's validation images; test images are never read."
)]
pub struct TuneArgs {
    /// Config and overrides
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Keys and their values (TOML)
    #[arg(long, value_name = "TOML")]
    pub space: PathBuf,
    /// Number of trials; a resumed study may have more
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub trials: u32,
    /// Epochs of a full training [default: train.epochs]
    #[arg(long, value_name = "E", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EPOCHS)))]
    pub max_epochs: Option<u32>,
    /// Epochs after which trials are first compared; that of a full training turns halving off
    /// [default: a third of it, but at least 500 steps]
    #[arg(long, value_name = "E", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EPOCHS)))]
    pub min_epochs: Option<u32>,
    /// One in this many trials goes on to this many times the epochs
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub eta: u32,
    /// How the values of a trial are chosen
    #[arg(long, value_enum, default_value = "tpe")]
    pub sampler: Sampler,
    /// Seed of the search; every trial is trained with that of the config
    #[arg(long, value_name = "S", default_value_t = 42, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,
    /// What to maximize on the validation images; it also selects the best epoch
    #[arg(long, value_enum, default_value = "accuracy")]
    pub metric: Metric,
    /// In the end, train the best and the base config with this many fresh seeds
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=MAX_SEEDS))]
    pub confirm: u64,
    /// Directory of the study [default: runs/tune-TIME, in UTC]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Resume the study in --out, or the newest one
    #[arg(long)]
    pub resume: bool,
    /// Work on the study in --out together with other processes, which give the same arguments; the
    /// first creates it. Needs a file system with locks
    #[arg(long, requires = "out")]
    pub join: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &TuneArgs) -> Result<Outcome> {
    let signals = Signals::watch()?;
    let options = StudyOptions {
        config: args.config.config.clone(),
        sets: args.config.sets.clone(),
        space: args.space.clone(),
        trials: args.trials as usize,
        max_epochs: args.max_epochs,
        min_epochs: args.min_epochs,
        eta: args.eta,
        sampler: args.sampler,
        seed: args.seed,
        metric: args.metric,
        confirm: args.confirm,
        out: args.out.clone(),
        resume: args.resume,
        join: args.join,
        command: own_command()?,
    };
    let result = study::run(&options, &signals)?;
    if args.json {
        print_json(&outputs::to_json(&result))?;
    } else {
        print(&describe(&result))?;
    }
    result.into_outcome()
}

fn describe(result: &StudyResult) -> String {
    let mut text = table_with_text(&outputs::rows(result), &[0, 1]) + "\n";
    if let Some((best, score)) = result.best_trial().and_then(|trial| Some((trial, trial.score()?))) {
        let epochs = result.epochs();
        text += &format!(
            "the best of {}, after {} ({epochs} in all): {score:.4}, which is optimistic: it selected the trial\n",
            count(result.trials.len(), "trial"),
            count(best.epochs() as usize, "epoch"),
        );
        if let Some((reference, score)) = result.reference().and_then(|trial| Some((trial, trial.score()?))) {
            let name = trial_name(reference.number);
            let epochs = count(reference.epochs() as usize, "epoch");
            text += &format!("the config itself ({name}), after {epochs}: {score:.4}\n");
        }
        let run = result.dir.trial(best.number);
        if !run.is_dir() {
            text += &format!("note: {} is gone, with its weights; best.toml trains it again\n", run.display());
        }
    }
    text += &result.confirmation.as_ref().map_or(String::new(), |confirmation| confirmation.describe());
    for name in [outputs::BEST_TOML, "trials.csv", "report.html"] {
        let path = result.dir.file(name);
        if path.exists() {
            text += &format!("{}: {}\n", name.split('.').next().unwrap_or(name), path.display());
        }
    }
    text
}
