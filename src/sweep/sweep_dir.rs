//! The directory of a sweep: a run directory for each planned_run, and what was made of them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;
use serde_json::json;

use super::plan::PlannedRun;
use crate::config;
use crate::run_dir::{Lock, MAX_SUMMARY, RunDir, SWEEP, Summary};
use crate::util::error::input;
use crate::util::files::{read_small_text, write_atomically};

/// The directory of a sweep.
#[derive(Debug)]
pub struct SweepDir {
    path: PathBuf,
    /// Of the process that sweeps; its workers have none.
    lock: Option<Lock>,
}

/// How far a planned_run is.
#[derive(Debug)]
pub enum Progress {
    /// Trained to its end.
    Finished(Box<Summary>),
    /// Not begun, or interrupted.
    Open,
    /// It ended with an error.
    Failed(String),
}

impl SweepDir {
    /// Makes the directory, or with `resume` opens the one that is there.
    ///
    /// # Errors
    /// An input error when something else is there; an I/O error with the path.
    pub fn open(path: &Path, resume: bool) -> Result<Self> {
        let shown = path.display();
        let dir = Self { path: path.to_path_buf(), lock: None };
        let is_sweep = dir.path.join(SWEEP).is_file();
        RunDir::check_folder(path)?;
        let is_empty = !path.exists() || fs::read_dir(path)?.next().is_none();
        if !is_empty && !is_sweep {
            return Err(input(format!("{shown}: exists and is no sweep; choose another --out")));
        }
        if is_sweep && !resume {
            return Err(input(format!("{shown}: holds a sweep; choose another --out, or go on with it with --resume")));
        }
        fs::create_dir_all(path)?;
        Ok(dir)
    }

    /// Keeps other processes from sweeping in the directory until this one ends.
    ///
    /// # Errors
    /// When another process does, saying which.
    pub fn locked(self) -> Result<Self> {
        let lock = Lock::take(&self.path.join(".lock"))?;
        Ok(Self { lock: Some(lock), ..self })
    }

    /// Why the directory could not be locked, where its file system has no locks.
    pub fn unlocked_reason(&self) -> Option<&str> {
        self.lock.as_ref().and_then(|lock| lock.refused.as_deref())
    }

    /// Marks the directory as a sweep of these planned_runs.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn mark(&self, planned_runs: &[PlannedRun], command: &str) -> Result<()> {
        let folders: Vec<&str> = planned_runs.iter().map(|planned_run| planned_run.folder.as_str()).collect();
        let mark = json!({"command": command, "version": env!("CARGO_PKG_VERSION"), "runs": folders});
        write_atomically(&self.path.join(SWEEP), (serde_json::to_string_pretty(&mark)? + "\n").as_bytes())
    }

    /// The newest default place of a sweep, or a new one, which is made.
    ///
    /// # Errors
    /// An input error with `resume` when there is none; an I/O error with the path.
    pub fn default_place(resume: bool) -> Result<PathBuf> {
        if resume { RunDir::newest("sweep", |path| path.join(SWEEP).exists()) } else { RunDir::make_default("sweep") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run directory of a planned_run.
    pub fn run_path(&self, planned_run: &PlannedRun) -> PathBuf {
        self.path.join(&planned_run.folder)
    }

    /// A file beside the planned_runs.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// How far a planned_run is.
    ///
    /// # Errors
    /// An input error for a finished run with another config: it would stand in the comparison for what it is not.
    pub fn progress(&self, planned_run: &PlannedRun) -> Result<Progress> {
        let run = self.run_path(planned_run);
        let summary = run.join("summary.json");
        if summary.is_file() {
            // What cannot be read is no end of a training, and will be written again.
            let text = read_small_text(&summary, MAX_SUMMARY, "the summary of a run").ok();
            let found: Option<Summary> = text.and_then(|text| serde_json::from_str(&text).ok());
            match found {
                Some(found) if found.is_finished(&planned_run.config) => {
                    check_same(&run, &planned_run.config.to_toml()?)?;
                    return Ok(Progress::Finished(Box::new(found)));
                }
                Some(found) if found.stopped == "diverged" => {
                    return Ok(Progress::Failed(self.failure(planned_run).unwrap_or_else(|| "diverged".to_owned())));
                }
                _ => {}
            }
        }
        Ok(self.failure(planned_run).map_or(Progress::Open, Progress::Failed))
    }

    fn failure_file(&self, planned_run: &PlannedRun) -> PathBuf {
        self.path.join(format!("{}.failed", planned_run.folder))
    }

    fn failure(&self, planned_run: &PlannedRun) -> Option<String> {
        let path = self.failure_file(planned_run);
        let text = path.is_file().then(|| read_small_text(&path, MAX_SUMMARY, "the error of a run"))?;
        Some(text.map_or_else(|error| format!("{error:#}"), |text| text.trim().to_owned()))
    }

    /// Keeps why a planned_run failed.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn note_failure(&self, planned_run: &PlannedRun, error: &anyhow::Error) -> Result<()> {
        write_atomically(&self.failure_file(planned_run), format!("{error:#}\n").as_bytes())
    }

    /// Whether a planned_run has failed since failures were forgotten.
    pub fn has_failed(&self, planned_run: &PlannedRun) -> bool {
        self.failure_file(planned_run).exists()
    }

    /// Forgets why a planned_run failed, since it is tried again.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn forget_failure(&self, planned_run: &PlannedRun) -> Result<()> {
        let path = self.failure_file(planned_run);
        if path.exists() {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Refuses a finished run whose config would have given another. One without a config is taken as it is.
///
/// # Errors
/// An input error that names the key.
pub(super) fn check_same(run: &Path, config: &str) -> Result<()> {
    let text = read_small_text(&run.join("config.toml"), MAX_SUMMARY, "a config file in TOML").ok();
    let Some(old) = text.and_then(|text| config::read_table(&text).ok()) else { return Ok(()) };
    let new = config::read_table(config)?;
    let differs = config::differing_keys(&old, &new).into_iter().find(|key| !crate::train::resume::is_free(key));
    match differs {
        None => Ok(()),
        Some(key) => Err(input(format!(
            "{}: is finished, but {key} was {} there, now it is {}; sweep into another --out",
            run.display(),
            config::shown_key(&old, &key),
            config::shown_key(&new, &key)
        ))),
    }
}
