//! `grimace train`

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{announce_data, own_command, print, print_json, quoted};
use crate::cli::Train;
use crate::config::{self, Config};
use crate::data::dataset::{self, Dataset};
use crate::device::{self, Placement};
use crate::error::{Outcome, input};
use crate::files::write_atomically;
use crate::report::{Console, seconds};
use crate::rundir::{Newest, RunDir, Summary};
use crate::signals::Signals;
use crate::text::legible;
use crate::train::memory;
use crate::train::resume::{self, Resumed};
use crate::train::run::{Run, Stopped};

pub fn run(args: &Train) -> Result<Outcome> {
    let signals = Signals::watch()?;
    let config: Config = config::load(&args.config.config, &args.config.sets)?;
    let mut console = Console::default();
    let path = find_dir(args, &config)?;
    // A run that goes on is locked before anything takes time; a new one that cannot begin leaves nothing behind.
    let resumed = match &path {
        Some(path) if !RunDir::is_free(path)? => Some(open(path)?),
        _ => None,
    };
    let (precision, threads) = match &resumed {
        Some((_, newest)) => resume::as_before(&config, &newest.checkpoint.state),
        None => (config.precision, config.threads),
    };
    let placement = device::place(config.device, precision, threads)?;
    let data = dataset::load(&config.data, config.seed)?;
    memory::check(&config, &data, &placement, device::memory())?;
    // From here on a signal finds something to save: before, so that it never leaves half a start behind.
    signals.defer();
    let (dir, newest) = match resumed {
        Some((dir, newest)) => (dir, Some(newest)),
        None => (path.map_or_else(|| RunDir::create_default(&config.name), |path| RunDir::create(&path))?, None),
    };
    console.log_to(&dir.log_txt())?;
    let work = Work { args, config: &config, data: &data, dir: &dir, placement: &placement };
    let result = train(&work, newest, signals, &mut console);
    let again = format!("grimace train {}", command_line(args, &dir));
    if let Err(error) = &result {
        // For whoever reads the log later; on screen the program's last line says it. A log that cannot be written must not
        // hide why the run ended.
        drop(console.log_line(&legible(&format!("error: {error:#}"))));
        if error.chain().any(|cause| cause.is::<std::io::Error>()) && dir.last().exists() {
            drop(console.line(&format!("to go on when that is mended: {again}")));
        }
    }
    let (stopped, summary) = result?;
    if args.json {
        print_json(&summary)?;
    } else {
        print(&describe(&summary, &dir))?;
    }
    if let Stopped::Interrupted(signal) = stopped {
        console.line(&format!("to go on: {again}"))?;
        return Ok(Outcome::Interrupted(signal));
    }
    Ok(Outcome::Done)
}

/// What a training is made of.
struct Work<'a> {
    args: &'a Train,
    config: &'a Config,
    data: &'a Dataset,
    dir: &'a RunDir,
    placement: &'a Placement,
}

/// The arguments that go on with the run.
fn command_line(args: &Train, dir: &RunDir) -> String {
    let sets: String = args.config.sets.iter().map(|set| format!(" --set {}", quoted(set))).collect();
    let (config, out) = (args.config.config.display().to_string(), dir.path().display().to_string());
    format!("{}{sets} --out {} --resume", quoted(&config), quoted(&out))
}

/// Where the run directory is, `None` for the default place of a new one; refuses one that cannot be used before any work.
fn find_dir(args: &Train, config: &Config) -> Result<Option<PathBuf>> {
    let path = match &args.out {
        Some(path) => path.clone(),
        None if args.resume => RunDir::newest(&config.name)?,
        None => return Ok(None),
    };
    if args.resume {
        RunDir::check_folder(&path)?;
    } else {
        RunDir::check_free(&path)?;
    }
    Ok(Some(path))
}

/// The directory of a run to go on with, locked, and its newest checkpoint.
fn open(path: &Path) -> Result<(RunDir, Newest)> {
    let dir = RunDir::open_to_go_on(path)?;
    let shown = path.display();
    let newest = dir.newest_checkpoint()?.ok_or_else(|| {
        input(format!("{shown}: holds results but no last.safetensors to go on from; train into a new --out"))
    })?;
    Ok((dir, newest))
}

fn train(work: &Work, newest: Option<Newest>, signals: Signals, console: &mut Console) -> Result<(Stopped, Summary)> {
    let Work { args, config, data, dir, placement } = *work;
    if let Some(reason) = dir.unlocked_reason() {
        console.line(&format!(
            "warning: {} cannot be locked ({reason}): let no other process train in it",
            dir.path().display()
        ))?;
    }
    let resumed = match newest {
        None => {
            if args.resume {
                let shown = dir.path().display();
                console.line(&format!("{shown} holds no checkpoint yet: starting from the beginning"))?;
            }
            None
        }
        Some(Newest { mut checkpoint, warning }) => {
            let shown = dir.last().display().to_string();
            let notes = resume::compare(&checkpoint, config, data, placement, &shown)?;
            let best = resume::settle_best(dir, &mut checkpoint)?;
            for note in warning.into_iter().chain(best).chain(notes) {
                console.line(&note)?;
            }
            let ahead =
                dir.read_metrics()?.into_iter().filter(|record| record.epoch > checkpoint.state.epoch).collect();
            Some(Resumed { checkpoint, ahead })
        }
    };
    // A run that goes on has the split that it had, or it would have been refused.
    write_atomically(&dir.split_csv(), data.split_csv.as_bytes())?;
    write_atomically(&dir.config_toml(), config.to_toml()?.as_bytes())?;
    announce(config, dir, data, placement, console)?;
    Run { config, data, placement, dir, console, profile: args.profile, command: own_command(), signals }.train(resumed)
}

fn announce(config: &Config, dir: &RunDir, data: &Dataset, placement: &Placement, console: &mut Console) -> Result<()> {
    announce_data(&config.data.train, data, console)?;
    let reason = placement.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let threads = match device::threads() {
        1 => "1 thread".to_owned(),
        threads => format!("{threads} threads"),
    };
    console.line(&format!("device: {}{reason}, {}, {threads}", placement.device_name(), placement.precision_name()))?;
    console.line(&format!("run: {}", dir.path().display()))
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
    let without = summary.best_val_accuracy_without_copies.map_or("-".into(), |value| format!("{value:.4}"));
    format!(
        "best validation accuracy {best:.4} in epoch {} ({without} without faces that also stand in the training rows); \
         stopped after {} epochs ({}), {}; best weights: {shown}/best.safetensors\n",
        summary.best_epoch.unwrap_or(0),
        summary.epochs,
        summary.stopped,
        seconds(summary.seconds),
    )
}
