//! `grimace sweep`

use clap::Args;
use std::path::Path;
use std::path::PathBuf;

use anyhow::{Result, anyhow};

use super::common::{own_command, print, print_json, quoted};
use crate::report::Console;
use crate::report::table::table;
use crate::sweep::baseline::Source;
use crate::sweep::comparison::{self, Comparison};
use crate::sweep::plan::{self, PlannedRun};
use crate::sweep::runner::{DatasetCache, Trainer};
use crate::sweep::sweep_dir::SweepDir;
use crate::sweep::{artifacts, workers};
use crate::util::error::Outcome;
use crate::util::signals::Signals;

/// `grimace sweep`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace sweep configs/sweep/*.toml --seeds 5 --forest configs/forest.toml --out runs/five\n  grimace sweep configs/sweep/*.toml --seeds 5 --forest configs/forest.toml --out runs/five --resume\n\nThe directory gets a run directory for each config and seed, comparison.csv and .md, report.html, and of the best run model.pt and submission.csv.\nA run that fails is told in the comparison and does not end the sweep; the exit code is then 1."
)]
pub struct SweepArgs {
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

pub fn run(args: &SweepArgs) -> Result<Outcome> {
    let signals = Signals::watch()?;
    let planned_runs = plan::planned_runs(&args.configs, &args.sets, args.seeds)?;
    let forest = args.forest.as_deref().map(|path| Source::of(path, &args.sets, &planned_runs)).transpose()?;
    let mut datasets = DatasetCache::default();
    if let (Some(worker), Some(path)) = (args.worker, &args.out) {
        let resume_command = format!("grimace sweep {}", command_line(args, path));
        workers::end_with_parent();
        // Each begins with another one, so that they do not all reach for the first.
        let start = worker as usize % planned_runs.len().max(1);
        let planned_runs: Vec<PlannedRun> =
            planned_runs.iter().cycle().skip(start).take(planned_runs.len()).cloned().collect();
        let dir = SweepDir::open(path, true)?;
        let trainer = Trainer {
            dir: &dir,
            signals: &signals,
            command: &own_command(),
            resume_command: &resume_command,
            among_others: true,
        };
        return Ok(trainer.train(&planned_runs, &mut datasets)?.map_or(Outcome::Done, Outcome::Interrupted));
    }
    // What cannot be read is told before anything is made or takes time.
    artifacts::check_tests(&planned_runs)?;
    forest.as_ref().map_or(Ok(()), |forest| forest.check(None, &mut datasets))?;
    if let Some(planned_run) = planned_runs.first() {
        datasets.of(&planned_run.config)?;
    }
    let path = args.out.clone().map_or_else(|| SweepDir::default_place(args.resume), Ok)?;
    let resume_command = format!("grimace sweep {}", command_line(args, &path));
    let dir = SweepDir::open(&path, args.resume)?.locked()?;
    planned_runs.iter().try_for_each(|planned_run| dir.progress(planned_run).map(drop))?;
    forest.as_ref().map_or(Ok(()), |forest| forest.check(Some(&dir), &mut datasets))?;
    planned_runs.iter().try_for_each(|planned_run| dir.forget_failure(planned_run))?;
    dir.mark(&planned_runs, &own_command())?;
    let mut console = Console::default();
    console.line(&format!("sweep: {} runs in {}", planned_runs.len(), dir.path().display()))?;
    if let Some(reason) = dir.unlocked_reason() {
        console.line(&format!("warning: it cannot be locked ({reason}): let no other process sweep in it"))?;
    }
    let count = args.parallel.map_or_else(workers::default_count, |count| count as usize).min(planned_runs.len());
    let trainer = Trainer {
        dir: &dir,
        signals: &signals,
        command: &own_command(),
        resume_command: &resume_command,
        among_others: false,
    };
    let mut signal = if count > 1 {
        workers::run(count, &worker_arguments(args, &path), &signals)?
    } else {
        trainer.train(&planned_runs, &mut datasets)?
    };
    if signal.is_none() {
        trainer.report_missing(&planned_runs, &mut datasets)?;
    }
    let (baseline, baseline_error) = match &forest {
        Some(forest) if signal.is_none() => match forest.baseline(&dir, &signals, &mut datasets, &own_command()) {
            Ok(baseline) => (Some(baseline), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        },
        _ => (None, None),
    };
    signal = signal.or(baseline.as_ref().and_then(|baseline| baseline.signal));
    let found = Comparison { baseline_error, ..comparison::gather(&dir, &planned_runs, baseline.as_ref())? };
    artifacts::write(&dir, &found, &planned_runs, &own_command(), signal.is_some())?;
    let best = planned_runs.iter().find(|planned_run| Some(&planned_run.folder) == found.best_run.as_ref());
    let handed_over = match best {
        Some(best) if signal.is_none() => artifacts::hand_over(&dir, best),
        _ => Ok(Vec::new()),
    };
    if args.json {
        print_json(&found)?;
    } else {
        print(&describe(&found, &dir, handed_over.as_deref().unwrap_or_default()))?;
    }
    if let Some(signal) = signal {
        console.line(&format!("to go on: {resume_command}"))?;
        return Ok(Outcome::Interrupted(signal));
    }
    if let Err(error) = handed_over {
        // In words: whoever's mistake it is, the sweep's own work is done.
        return Err(anyhow!("the best run could not be handed over: {error:#}"));
    }
    if !found.is_complete() {
        let missing = found.runs.iter().filter(|run| run.error.is_some() || run.state == "unfinished").count();
        let forest = if found.baseline_error.is_some() { "; the forest failed" } else { "" };
        return Err(anyhow!(
            "{missing} of {} runs did not come to their end{forest}; to try resume_command: {resume_command}",
            planned_runs.len()
        ));
    }
    Ok(Outcome::Done)
}

fn describe(found: &Comparison, dir: &SweepDir, handed_over: &[String]) -> String {
    let (head, rows) = found.table();
    let mut text = table(&[vec![head], rows].concat()) + "\n";
    found.caveats().iter().for_each(|note| text += &format!("{note}\n"));
    handed_over.iter().for_each(|line| text += &format!("{line}\n"));
    text + &format!(
        "comparison: {}\nreport: {}\n",
        dir.file("comparison.md").display(),
        dir.file("report.html").display()
    )
}

/// The arguments that go on with the sweep.
fn command_line(args: &SweepArgs, path: &Path) -> String {
    let words = arguments(args, path);
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn arguments(args: &SweepArgs, path: &Path) -> Vec<String> {
    let mut words: Vec<String> = args.configs.iter().map(|config| config.display().to_string()).collect();
    let mut option = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    if args.seeds > 1 {
        option("seeds", args.seeds.to_string());
    }
    if let Some(forest) = &args.forest {
        option("forest", forest.display().to_string());
    }
    if let Some(count) = args.parallel {
        option("parallel", count.to_string());
    }
    args.sets.iter().for_each(|set| option("set", set.clone()));
    option("out", path.display().to_string());
    words.push("--resume".to_owned());
    words
}

/// The arguments of a worker, before its number.
fn worker_arguments(args: &SweepArgs, path: &Path) -> Vec<String> {
    [vec!["sweep".to_owned()], arguments(args, path)].concat()
}
