//! `grimace train`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;

use super::ConfigArgs;
use super::common::{own_command, print, print_json};
use crate::config::{self, Config};
use crate::data::config::MAX_FOLDS;
use crate::data::dataset;
use crate::device::{Launch, ProcessGroup};
use crate::metrics::{Monitor, accuracy_cell, describe_accuracy, describe_interval};
use crate::report::text_table::{table, thousands};
use crate::report::{Console, seconds};
use crate::run_dir::{RunDir, STUDY_JSONL, SWEEP_JSON, Summary};
use crate::sweep::folds::{FoldOptions, FoldsSummary, cross_validate};
use crate::train::early_stopping::StopReason;
use crate::train::session::{PreparedRun, RunOptions};
use crate::util::error::{Outcome, input};
use crate::util::signals::Signals;

/// `grimace train`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace train configs/notebook.toml --set train.batch=128 --out runs/batch128\n  grimace train configs/notebook.toml --out runs/batch128 --resume\n  grimace train configs/notebook.toml --folds 5 --out runs/folds"
)]
pub struct TrainArgs {
    /// Config and overrides
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Run directory [default: runs/NAME-TIME, in UTC]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Resume the run in --out, or the newest run of this name
    #[arg(long)]
    pub resume: bool,
    /// Cross-validate: train this many runs, each validated on another part of the training rows, in
    /// DIR/fold1, DIR/fold2, ..., and write the prediction of each for its part to DIR/out_of_fold.csv
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(2..=i64::from(MAX_FOLDS)))]
    pub folds: Option<u32>,
    /// Profile the run: time of each phase of a step, of each operation, and from start to first
    /// step
    #[arg(long, conflicts_with = "folds")]
    pub profile: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &TrainArgs) -> Result<Outcome> {
    let launch = Launch::from_environment()?;
    // A launcher passes on what the terminal has already sent to all.
    let signals = if launch.is_some() { Signals::watch_forwarded()? } else { Signals::watch()? };
    if let Some(folds) = args.folds {
        if launch.is_some() {
            return Err(input(
                "--folds: trains in one process; start it without a launcher, or set GRIMACE_DISTRIBUTED=0",
            ));
        }
        return run_folds(args, folds, &signals);
    }
    let Some(launch) = launch else { return train(args, signals, None) };
    let group = ProcessGroup::join(launch)?;
    train(args, signals, Some(&group)).map_err(|error| group.end_with(error))
}

/// Trains, or as a process of a group its part. Only rank 0 opens, writes and prints something.
fn train(args: &TrainArgs, signals: Signals, group: Option<&Arc<ProcessGroup>>) -> Result<Outcome> {
    let is_main = group.is_none_or(|group| group.is_main());
    let config: Config = config::load(&args.config.config, &args.config.sets)?;
    let path = if is_main { find_dir(args, &config)? } else { None };
    let prepared = PreparedRun::new(&config, path.as_deref(), group.cloned())?;
    let data = dataset::load(&config.data, config.seed)?;
    let mut session = prepared.begin(&config, &data, path.as_deref(), &signals)?;
    let resume_command = session.dir().map_or_else(|| Ok(String::new()), |dir| resume_command(args, dir))?;
    let options = RunOptions {
        command: own_command()?,
        resume_command: &resume_command,
        resume: args.resume,
        profile: args.profile,
        stop_after: None,
    };
    let mut console = if is_main { Console::default() } else { Console::silent() };
    let (stopped, summary) = session.train(options, signals, &mut console)?;
    match session.dir() {
        None => {}
        Some(_) if args.json => print_json(&summary)?,
        Some(dir) => print(&describe(&summary, dir))?,
    }
    if let StopReason::Interrupted(signal) = stopped {
        console.line(&format!("resume with: {resume_command}"))?;
        return Ok(Outcome::Interrupted(signal));
    }
    Ok(Outcome::Done)
}

/// Cross-validates, with `--folds`.
fn run_folds(args: &TrainArgs, folds: u32, signals: &Signals) -> Result<Outcome> {
    let command = own_command()?;
    let options = FoldOptions {
        config: &args.config.config,
        sets: &args.config.sets,
        folds,
        out: args.out.as_deref(),
        resume: args.resume,
        command: &command,
    };
    let result = cross_validate(&options, signals)?;
    if let Some(signal) = result.signal {
        Console::default().line(&format!("resume with: {}", result.resume_command))?;
        return Ok(Outcome::Interrupted(signal));
    }
    match &result.summary {
        Some(summary) if args.json => print_json(summary)?,
        Some(summary) => print(&describe_folds(summary, &result.dir.path().display().to_string()))?,
        None => {}
    }
    Ok(Outcome::Done)
}

fn describe_folds(summary: &FoldsSummary, dir: &str) -> String {
    let header = ["Fold", "Images", "Accuracy (95% CI)", "Epoch of the weights"].map(str::to_owned).to_vec();
    let rows = summary.per_fold.iter().map(|fold| {
        let epoch = fold.best_epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
        let accuracy = accuracy_cell(Some(fold.accuracy), fold.accuracy_interval);
        vec![fold.run.clone(), thousands(fold.rows), accuracy, epoch]
    });
    let mut text = table(&std::iter::once(header).chain(rows).collect::<Vec<_>>());
    text += &format!(
        "\nmean accuracy {:.4}, standard deviation over folds {:.4}; of all {} images {}\n",
        summary.mean_accuracy,
        summary.std_accuracy,
        thousands(summary.rows),
        describe_accuracy(summary.accuracy, summary.accuracy_interval)
    );
    text += &format!("out-of-fold predictions: {dir}/out_of_fold.csv\n");
    text
}

/// The command that resumes the run, with the program as it was started: a name on `PATH` or a path.
fn resume_command(args: &TrainArgs, dir: &RunDir) -> Result<String> {
    let program = std::env::args_os().next().map_or("grimace".into(), |word| word.to_string_lossy().into_owned());
    let (config, out) = (args.config.config.display().to_string(), dir.path().display().to_string());
    let mut words = vec![program.as_str(), "train", config.as_str()];
    words.extend(args.config.sets.iter().flat_map(|set| ["--set", set.as_str()]));
    words.extend(["--out", out.as_str(), "--resume"]);
    Ok(shlex::try_join(words)?)
}

/// The run directory, `None` for a new one in the default place. A directory that cannot be used is
/// refused before any work.
fn find_dir(args: &TrainArgs, config: &Config) -> Result<Option<PathBuf>> {
    let is_no_group = |path: &Path| !path.join(SWEEP_JSON).exists() && !path.join(STUDY_JSONL).exists();
    let path = match &args.out {
        Some(path) => path.clone(),
        None if args.resume => RunDir::find_latest(&config.name, is_no_group)?,
        None => return Ok(None),
    };
    if args.resume {
        RunDir::check_folder(&path)?;
    } else {
        RunDir::check_available(&path)?;
    }
    Ok(Some(path))
}

fn describe(summary: &Summary, dir: &RunDir) -> String {
    let display = dir.path().display();
    let Some(best) = summary.best_val_accuracy else {
        return match summary.epochs {
            0 => format!("{display}: {} in the first epoch\n", summary.stopped),
            _ => format!("{display}: {}; its best weights are missing\n", describe_end(summary)),
        };
    };
    let dedup = summary.best_val_accuracy_dedup.map_or("-".into(), |accuracy| {
        let interval = summary.best_val_accuracy_dedup_interval;
        interval.map_or(format!("{accuracy:.4}"), |interval| {
            format!("{accuracy:.4}, 95% CI {},", describe_interval(interval))
        })
    });
    let best = describe_accuracy(best, summary.best_val_accuracy_interval);
    let result = match (summary.monitor, summary.best_monitor_value) {
        (Monitor::ValAccuracy, _) | (_, None) => format!("best validation accuracy {best}"),
        (Monitor::LastEpoch, _) => format!("validation accuracy {best}"),
        (monitor, Some(value)) => format!("best {monitor} {value:.4}, validation accuracy {best}"),
    };
    format!(
        "{result} in epoch {} ({dedup} without duplicates of training images); {}, {}; \
         best weights: {display}/best.safetensors\n",
        summary.best_epoch.unwrap_or(0),
        describe_end(summary),
        seconds(summary.seconds),
    )
}

/// Why and after how many epochs training ended, such as `finished all 40 epochs`.
fn describe_end(summary: &Summary) -> String {
    let count = summary.epochs;
    let epochs = if count == 1 { "1 epoch".to_owned() } else { format!("{count} epochs") };
    match summary.stopped.as_str() {
        "epochs" if count == 1 => format!("finished {epochs}"),
        "epochs" => format!("finished all {epochs}"),
        "early_stop" => format!("early stopping after {epochs}"),
        other => format!("{other} after {epochs}"),
    }
}
