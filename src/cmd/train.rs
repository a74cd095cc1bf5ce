//! `grimace train`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{print, print_json};
use crate::checkpoint;
use crate::cli::Train;
use crate::config::{self, Config};
use crate::data::dataset::{self, Dataset};
use crate::device::{self, Placement};
use crate::error::{Outcome, input};
use crate::files::write_atomically;
use crate::report::table::thousands;
use crate::report::{Console, duration};
use crate::rundir::{RunDir, Summary};
use crate::train::resume;
use crate::train::run::{Resumed, Run, Stopped};

pub fn run(args: &Train) -> Result<Outcome> {
    let config = config::load(&args.config.config, &args.config.sets)?;
    let mut console = Console::default();
    let (path, resumes) = find_dir(args, &config)?;
    let placement = device::place(config.device, config.precision, config.threads)?;
    // The data comes before the directory: a run that cannot begin leaves nothing behind.
    let data = dataset::load(&config)?;
    let dir = if resumes { RunDir::open(&path)? } else { RunDir::create(&path)? };
    console.log_to(&dir.log_txt())?;
    let result = train(args, &config, &data, &dir, resumes, &placement, &mut console);
    if let Err(error) = &result {
        // For whoever reads the log later; on screen the program's last line says it.
        console.log_line(&format!("error: {error:#}"))?;
    }
    let (stopped, summary) = result?;
    if args.json {
        print_json(&summary)?;
    } else {
        print(&describe(&summary, &dir))?;
    }
    if let Stopped::Interrupted(signal) = stopped {
        let sets: String = args.config.sets.iter().map(|set| format!(" --set {}", quoted(set))).collect();
        let (config, out) = (args.config.config.display().to_string(), dir.path().display().to_string());
        console.line(&format!("to go on: grimace train {}{sets} --out {} --resume", quoted(&config), quoted(&out)))?;
        return Ok(Outcome::Interrupted(signal));
    }
    Ok(Outcome::Done)
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Where the run directory is, and whether a run in it goes on; refuses one that cannot be used before any work is done.
fn find_dir(args: &Train, config: &Config) -> Result<(PathBuf, bool)> {
    let path = match &args.out {
        Some(path) => path.clone(),
        None if args.resume => RunDir::newest(&config.name)?,
        None => RunDir::default_path(&config.name),
    };
    if args.resume && !RunDir::is_free(&path)? {
        RunDir::open(&path)?;
        return Ok((path, true));
    }
    RunDir::check_free(&path)?;
    Ok((path, false))
}

fn train(
    args: &Train,
    config: &Config,
    data: &Dataset,
    dir: &RunDir,
    resumes: bool,
    placement: &Placement,
    console: &mut Console,
) -> Result<(Stopped, Summary)> {
    let checkpoint = if resumes && dir.last().exists() { Some(checkpoint::load(&dir.last())?) } else { None };
    let resumed = match checkpoint {
        None => {
            if dir.best().exists() || dir.metrics_jsonl().exists() {
                let shown = dir.path().display();
                return Err(input(format!(
                    "{shown}: holds results but no last.safetensors to go on from; train into a new --out"
                )));
            }
            if resumes {
                console
                    .line(&format!("{} holds no checkpoint yet: starting from the beginning", dir.path().display()))?;
            }
            write_atomically(&dir.config_toml(), config.to_toml()?.as_bytes())?;
            write_atomically(&dir.split_csv(), data.split_csv.as_bytes())?;
            None
        }
        Some(checkpoint) => {
            let shown = dir.last().display().to_string();
            for note in resume::compare(&checkpoint, config, data, placement, &shown)? {
                console.line(&note)?;
            }
            let records = dir.read_metrics(checkpoint.state.epoch)?;
            write_atomically(&dir.config_toml(), config.to_toml()?.as_bytes())?;
            Some(Resumed { checkpoint, records })
        }
    };
    announce(config, dir, data, placement, console)?;
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [signal_hook::consts::SIGHUP, signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)
            .context("cannot watch signals")?;
    }
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    Run { config, data, placement, dir, console, profile: args.profile, command, signal }.train(resumed)
}

fn announce(config: &Config, dir: &RunDir, data: &Dataset, placement: &Placement, console: &mut Console) -> Result<()> {
    let (train, validation) = (thousands(data.train.len()), thousands(data.validation.len()));
    let (file, time) = (config.data.train.display(), duration(data.load_time));
    console.line(&format!("data: {file}: {train} training and {validation} validation faces, read in {time}"))?;
    for note in &data.notes {
        console.line(&format!("data: {note}"))?;
    }
    let reason = placement.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let threads = device::threads();
    console.line(&format!(
        "device: {}{reason}, {}, {threads} threads",
        placement.device_name(),
        placement.precision_name()
    ))?;
    console.line(&format!("run: {}", dir.path().display()))
}

fn describe(summary: &Summary, dir: &RunDir) -> String {
    let shown = dir.path().display();
    let Some(best) = summary.best_val_accuracy else {
        return format!("{shown}: stopped ({}) before the first epoch was done\n", summary.stopped);
    };
    let without = summary.best_val_accuracy_without_copies.map_or("-".into(), |value| format!("{value:.4}"));
    format!(
        "best validation accuracy {best:.4} in epoch {} ({without} without faces that also stand in the training rows); \
         stopped after {} epochs ({}), {}; best weights: {shown}/best.safetensors\n",
        summary.best_epoch.unwrap_or(0),
        summary.epochs,
        summary.stopped,
        duration(Duration::from_secs_f64(summary.seconds)),
    )
}
