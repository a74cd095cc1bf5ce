//! What is watched: a run, a sweep, the newest of a folder, or nothing yet.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use serde_json::Value;

use super::run_status::{RunState, RunStatus, last_change};
use crate::run_dir::{RunDir, SWEEP_JSON};
use crate::util::error::input;
use crate::util::files::read_small_text;

/// Maximum size of `sweep.json`.
const MAX_SWEEP_JSON: u64 = 1 << 24;

/// Longest error of a failed run.
const MAX_FAILURE: u64 = 1 << 20;

/// What there is to watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched {
    /// There is no run yet.
    Nothing {
        /// Where one is awaited.
        path: PathBuf,
    },
    /// One run.
    Run(Box<RunStatus>),
    /// The runs of a sweep.
    Sweep(SweepStatus),
}

/// A sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepStatus {
    /// Its directory.
    pub path: PathBuf,
    /// Its runs, in the order of the plan.
    pub runs: Vec<RunStatus>,
}

impl SweepStatus {
    /// Runs with a state that satisfies `filter`.
    pub fn count(&self, filter: impl Fn(&RunState) -> bool) -> usize {
        self.runs.iter().filter(|run| filter(&run.state)).count()
    }
}

/// Looks at `path`: a run, a sweep, or a folder of both, of which it takes the one that changed last.
///
/// # Errors
/// An input error for a file.
pub fn look(path: &Path) -> Result<Watched> {
    if path.is_file() {
        return Err(input(format!("{}: is a file; expected a run directory, or a folder of runs", path.display())));
    }
    if let Some(found) = read(path) {
        return Ok(found);
    }
    let newest = folders(path).filter_map(|folder| Some((changed(&folder)?, folder))).max();
    let found = newest.and_then(|(_, folder)| read(&folder));
    Ok(found.unwrap_or_else(|| Watched::Nothing { path: path.to_path_buf() }))
}

/// Reads a run or a sweep.
fn read(path: &Path) -> Option<Watched> {
    if path.join(SWEEP_JSON).is_file() {
        return Some(Watched::Sweep(read_sweep(path)));
    }
    let dir = RunDir::open(path).ok()?;
    Some(Watched::Run(Box::new(RunStatus::read(&dir))))
}

fn folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs_err::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

/// When a run or a sweep last changed; `None` for any other folder.
fn changed(path: &Path) -> Option<SystemTime> {
    if !path.join(SWEEP_JSON).is_file() && RunDir::open(path).is_err() {
        return None;
    }
    let of_runs = folders(path).filter_map(|folder| last_change(&folder)).max();
    last_change(path).max(of_runs)
}

fn read_sweep(path: &Path) -> SweepStatus {
    let text = read_small_text(&path.join(SWEEP_JSON), MAX_SWEEP_JSON, "the plan of a sweep").unwrap_or_default();
    let plan: Value = serde_json::from_str(&text).unwrap_or_default();
    let names = plan.get("runs").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    // A name that leads elsewhere is none of a sweep.
    let names = names.filter(|name| Path::new(name).file_name().is_some_and(|file| file == *name));
    let runs = names.map(|name| read_sweep_run(path, name)).collect();
    SweepStatus { path: path.to_path_buf(), runs }
}

fn read_sweep_run(sweep: &Path, name: &str) -> RunStatus {
    let path = sweep.join(name);
    let failure = sweep.join(format!("{name}.failed"));
    let failure = failure.is_file().then(|| {
        let text = read_small_text(&failure, MAX_FAILURE, "the error of a run");
        RunState::Failed(text.map_or_else(|error| format!("{error:#}"), |text| text.trim().to_owned()))
    });
    let Ok(dir) = RunDir::open(&path) else {
        return RunStatus::without_files(path, failure.unwrap_or(RunState::Waiting));
    };
    let status = RunStatus { name: name.to_owned(), ..RunStatus::read(&dir) };
    match failure {
        // It is trained again.
        Some(_) if status.state == RunState::Training => status,
        Some(state) => RunStatus { state, ..status },
        None => status,
    }
}
