//! `grimace train`

use clap::Args;
use std::path::PathBuf;

use anyhow::Result;

use super::ConfigArgs;
use super::common::{own_command, print, print_json, quoted};
use crate::config::{self, Config};
use crate::data::dataset;
use crate::report::{Console, seconds};
use crate::run_dir::{RunDir, SWEEP, Summary};
use crate::train::early_stopping::Stopped;
use crate::train::session::{PreparedRun, RunOptions};
use crate::util::error::Outcome;
use crate::util::signals::Signals;

/// `grimace train`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace train configs/notebook.toml --set train.batch=128 --out runs/batch128\n  grimace train configs/notebook.toml --out runs/batch128 --resume"
)]
pub struct TrainArgs {
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

pub fn run(args: &TrainArgs) -> Result<Outcome> {
    let signals = Signals::watch()?;
    let config: Config = config::load(&args.config.config, &args.config.sets)?;
    let path = find_dir(args, &config)?;
    let prepared = PreparedRun::new(&config, path.as_deref())?;
    let data = dataset::load(&config.data, config.seed)?;
    let mut session = prepared.begin(&config, &data, path.as_deref(), &signals)?;
    let resume_command = format!("grimace train {}", command_line(args, session.dir()));
    let options = RunOptions {
        command: own_command(),
        resume_command: &resume_command,
        resume: args.resume,
        profile: args.profile,
    };
    let mut console = Console::default();
    let (stopped, summary) = session.train(options, signals, &mut console)?;
    if args.json {
        print_json(&summary)?;
    } else {
        print(&describe(&summary, session.dir()))?;
    }
    if let Stopped::Interrupted(signal) = stopped {
        console.line(&format!("to go on: {resume_command}"))?;
        return Ok(Outcome::Interrupted(signal));
    }
    Ok(Outcome::Done)
}

/// The arguments that go on with the run.
fn command_line(args: &TrainArgs, dir: &RunDir) -> String {
    let sets: String = args.config.sets.iter().map(|set| format!(" --set {}", quoted(set))).collect();
    let (config, out) = (args.config.config.display().to_string(), dir.path().display().to_string());
    format!("{}{sets} --out {} --resume", quoted(&config), quoted(&out))
}

/// Where the run directory is, `None` for the default place of a new one; refuses one that cannot be used before any work.
fn find_dir(args: &TrainArgs, config: &Config) -> Result<Option<PathBuf>> {
    let path = match &args.out {
        Some(path) => path.clone(),
        None if args.resume => RunDir::newest(&config.name, |path| !path.join(SWEEP).exists())?,
        None => return Ok(None),
    };
    if args.resume {
        RunDir::check_folder(&path)?;
    } else {
        RunDir::check_free(&path)?;
    }
    Ok(Some(path))
}

fn describe(summary: &Summary, dir: &RunDir) -> String {
    let shown = dir.path().display();
    let Some(best) = summary.best_val_accuracy else {
        return match summary.epochs {
            0 => format!("{shown}: stopped ({}) before the first epoch was done\n", summary.stopped),
            epochs => {
                format!("{shown}: stopped ({}) after {epochs} epochs; its best weights are gone\n", summary.stopped)
            }
        };
    };
    let without = summary.best_val_accuracy_dedup.map_or("-".into(), |value| format!("{value:.4}"));
    format!(
        "best validation accuracy {best:.4} in epoch {} ({without} without images that also stand in the training rows); \
         stopped after {} epochs ({}), {}; best weights: {shown}/best.safetensors\n",
        summary.best_epoch.unwrap_or(0),
        summary.epochs,
        summary.stopped,
        seconds(summary.seconds),
    )
}
