//! `grimace sweep`

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use serde_json::json;

use super::{own_command, print, print_json, quoted};
use crate::cli::Sweep;
use crate::config::{self, ForestConfig};
use crate::error::{Outcome, input};
use crate::files::{read_small_text, write_atomically};
use crate::report::Console;
use crate::report::table::table;
use crate::rundir::{ForestSummary, RunDir};
use crate::signals::Signals;
use crate::sweep::comparison::{self, Comparison};
use crate::sweep::folder::SweepDir;
use crate::sweep::hand_over::hand_over;
use crate::sweep::plan::{self, Member};
use crate::sweep::report;
use crate::sweep::train::{Faces, Trainer};
use crate::sweep::workers;
use crate::train::conclude::split_in_words;
use crate::train::forest::ForestRun;

pub fn run(args: &Sweep) -> Result<Outcome> {
    let signals = Signals::watch()?;
    let members = plan::members(&args.configs, &args.sets, args.seeds)?;
    let forest = args.forest.as_deref().map(|path| Forest::of(path, &args.sets)).transpose()?;
    let path = args.out.clone().map_or_else(|| SweepDir::default_place(args.resume), Ok)?;
    let again = format!("grimace sweep {}", command_line(args, &path));
    let mut faces = Faces::default();
    if let Some(worker) = args.worker {
        workers::end_with_parent();
        // Each begins with another one, so that they do not all reach for the first.
        let start = worker as usize % members.len().max(1);
        let members: Vec<Member> = members.iter().cycle().skip(start).take(members.len()).cloned().collect();
        let dir = SweepDir::open(&path, true)?;
        let trainer =
            Trainer { dir: &dir, signals: &signals, command: &own_command(), again: &again, among_others: true };
        return Ok(trainer.train(&members, &mut faces)?.map_or(Outcome::Done, Outcome::Interrupted));
    }
    // Faces that cannot be read are told before anything is made.
    if let Some(member) = members.first() {
        faces.of(&member.config)?;
    }
    let dir = SweepDir::open(&path, args.resume)?;
    members.iter().try_for_each(|member| dir.progress(member).map(drop))?;
    dir.mark(&members, &own_command())?;
    let mut console = Console::default();
    console.line(&format!("sweep: {} runs in {}", members.len(), dir.path().display()))?;
    let count = args.parallel.map_or_else(workers::default_count, |count| count as usize).min(members.len());
    let mut signal = if count > 1 {
        workers::run(count, &worker_arguments(args, &path), &signals)?
    } else {
        let trainer =
            Trainer { dir: &dir, signals: &signals, command: &own_command(), again: &again, among_others: false };
        trainer.train(&members, &mut faces)?
    };
    let mut baseline = None;
    if let (Some(forest), None) = (&forest, signal) {
        (signal, baseline) = forest.row(&dir, &signals, &mut faces)?;
    }
    let seed = members.first().map_or(0, |member| member.config.seed);
    let named = baseline.as_ref().map(|(folder, summary)| (folder.as_str(), summary));
    let found = comparison::gather(&dir, &members, named, seed)?;
    let handed_over = write(&dir, &found, &members, signal.is_some())?;
    if args.json {
        print_json(&found)?;
    } else {
        print(&describe(&found, &dir, &handed_over))?;
    }
    if let Some(signal) = signal {
        console.line(&format!("to go on: {again}"))?;
        return Ok(Outcome::Interrupted(signal));
    }
    if !found.is_complete() {
        let missing = found.runs.iter().filter(|run| run.error.is_some() || run.state == "unfinished").count();
        return Err(anyhow!(
            "{missing} of {} runs did not come to their end; to try them again: {again}",
            members.len()
        ));
    }
    Ok(Outcome::Done)
}

/// Writes the comparison, and unless the sweep was interrupted what the best run is handed over as.
fn write(dir: &SweepDir, found: &Comparison, members: &[Member], interrupted: bool) -> Result<Vec<String>> {
    write_atomically(&dir.file("comparison.csv"), &found.csv()?)?;
    write_atomically(&dir.file("comparison.md"), found.markdown().as_bytes())?;
    let summary = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "command": own_command(),
        "complete": found.is_complete() && !interrupted,
        "comparison": found,
        "best_run": found.best_run,
    });
    write_atomically(&dir.file("summary.json"), (serde_json::to_string_pretty(&summary)? + "\n").as_bytes())?;
    let split = members.first().map_or(String::new(), |member| split_in_words(&member.config.data, member.config.seed));
    let provenance = [("version", env!("CARGO_PKG_VERSION").to_owned()), ("command", own_command())];
    report::write(dir, found, &split, provenance.map(|(name, value)| (name.to_owned(), value)).to_vec())?;
    match &found.best_run {
        Some(best) if !interrupted => hand_over(dir, &dir.file(best)),
        _ => Ok(Vec::new()),
    }
}

fn describe(found: &Comparison, dir: &SweepDir, handed_over: &[String]) -> String {
    let (head, rows) = found.table();
    let mut text = table(&[vec![head], rows].concat()) + "\n";
    found.notes().iter().for_each(|note| text += &format!("{note}\n"));
    handed_over.iter().for_each(|line| text += &format!("{line}\n"));
    text + &format!(
        "comparison: {}\nreport: {}\n",
        dir.file("comparison.md").display(),
        dir.file("report.html").display()
    )
}

/// The arguments that go on with the sweep.
fn command_line(args: &Sweep, path: &Path) -> String {
    let words = arguments(args, path);
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn arguments(args: &Sweep, path: &Path) -> Vec<String> {
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
fn worker_arguments(args: &Sweep, path: &Path) -> Vec<String> {
    [vec!["sweep".to_owned()], arguments(args, path)].concat()
}

/// Where the forest's row comes from.
enum Forest {
    /// A run that is there.
    Run(PathBuf),
    /// A config to fit.
    Config(Box<ForestConfig>),
}

impl Forest {
    fn of(path: &Path, sets: &[String]) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Run(path.to_path_buf()));
        }
        // The other keys are a network's.
        let own = |set: &&String| {
            let key = set.split('=').next().unwrap_or_default().trim();
            key == "seed" || key == "data" || key.starts_with("data.")
        };
        let sets: Vec<String> = sets.iter().filter(own).cloned().collect();
        Ok(Self::Config(Box::new(config::load(path, &sets)?)))
    }

    /// Its summary and where its run is, seen from the sweep's directory; fitted unless it was before.
    fn row(
        &self,
        dir: &SweepDir,
        signals: &Signals,
        faces: &mut Faces,
    ) -> Result<(Option<i32>, Option<(String, ForestSummary)>)> {
        let config = match self {
            Self::Run(path) => return Ok((None, Some((path.display().to_string(), read_summary(path)?)))),
            Self::Config(config) => config,
        };
        let path = dir.file(&config.name);
        if path.join("forest.safetensors").exists() {
            return Ok((None, Some((config.name.clone(), read_summary(&path)?))));
        }
        let mut console = Console::default();
        console.line(&format!("forest: {}", path.display()))?;
        let data = faces.of_data(&config.data, config.seed)?;
        signals.defer();
        // What an interrupted fit left behind has no forest and is of no use.
        let run = if RunDir::is_free(&path)? { RunDir::create(&path)? } else { RunDir::open_to_go_on(&path)? };
        console.log_to(&run.log_txt())?;
        write_atomically(&run.split_csv(), data.split_csv.as_bytes())?;
        write_atomically(&run.config_toml(), config.to_toml()?.as_bytes())?;
        let mut fitting = ForestRun {
            config,
            data,
            dir: &run,
            console: &mut console,
            command: own_command(),
            signals: signals.clone(),
        };
        let (signal, summary) = fitting.fit()?;
        Ok((signal, Some((config.name.clone(), summary))))
    }
}

fn read_summary(run: &Path) -> Result<ForestSummary> {
    let path = run.join("summary.json");
    let text = read_small_text(&path, 1 << 22, "the summary of a forest's run")?;
    serde_json::from_str(&text)
        .map_err(|error| input(format!("{}: is not the summary of a forest's run: {error}", path.display())))
}
