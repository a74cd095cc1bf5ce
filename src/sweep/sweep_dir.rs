//! The directory of a sweep: a run directory for each planned run, and the comparison.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

use super::plan::PlannedRun;
use crate::config;
use crate::run_dir::{LOCK_FILE, Lock, MAX_SUMMARY, RunDir, SWEEP_JSON, Summary};
use crate::util::error::input;
use crate::util::files::{is_temporary, read_small_text, write_atomically};

/// The directory of a sweep.
#[derive(Debug)]
pub struct SweepDir {
    path: PathBuf,
    /// Held by the process that sweeps, not by its workers.
    lock: Option<Lock>,
}

/// Progress of a planned run.
#[derive(Debug)]
pub enum Progress {
    /// Trained to the end.
    Finished(Box<Summary>),
    /// Not started, or interrupted.
    Open,
    /// Failed with this error.
    Failed(String),
}

impl SweepDir {
    /// Creates the directory, or with `resume` opens an existing one.
    ///
    /// # Errors
    /// An input error if the folder holds something else, or a sweep and `resume` is not set.
    pub fn open(path: &Path, resume: bool) -> Result<Self> {
        let display = path.display();
        let dir = Self { path: path.to_path_buf(), lock: None };
        let is_sweep = dir.path.join(SWEEP_JSON).is_file();
        RunDir::check_folder(path)?;
        if !is_sweep && !is_unused(path)? {
            return Err(input(format!("{display}: exists and is not a sweep; choose another --out")));
        }
        if is_sweep && !resume {
            return Err(input(format!("{display}: holds a sweep; choose another --out, or resume it with --resume")));
        }
        fs::create_dir_all(path)?;
        Ok(dir)
    }

    /// Opens the directory of a sweep that was planned before, on this machine or another.
    ///
    /// # Errors
    /// An input error if there is none.
    pub fn open_planned(path: &Path) -> Result<Self> {
        RunDir::check_folder(path)?;
        if !path.join(SWEEP_JSON).is_file() {
            let display = path.display();
            return Err(input(format!(
                "{display}: holds no planned sweep; plan it with the same arguments and --plan"
            )));
        }
        Ok(Self { path: path.to_path_buf(), lock: None })
    }

    /// Locks the directory until the process ends.
    ///
    /// # Errors
    /// When another process holds the lock; names it.
    pub fn locked(self) -> Result<Self> {
        let lock = Lock::acquire(&self.path.join(LOCK_FILE))?;
        Ok(Self { lock: Some(lock), ..self })
    }

    /// Why the directory is not locked, on a file system without locks.
    pub fn unlocked_reason(&self) -> Option<&str> {
        self.lock.as_ref().and_then(|lock| lock.unsupported.as_deref())
    }

    /// Creates `runs/sweep-<UTC time>`, or with `resume` finds the newest one.
    ///
    /// # Errors
    /// An input error if there is none to resume.
    pub fn default_path(resume: bool) -> Result<PathBuf> {
        if resume {
            RunDir::find_latest("sweep", |path| path.join(SWEEP_JSON).exists())
        } else {
            RunDir::create_default_folder("sweep")
        }
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Run directory of a planned run.
    pub fn run_path(&self, run: &PlannedRun) -> PathBuf {
        self.path.join(&run.folder)
    }

    /// A file or folder in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads the progress of a planned run from its files.
    ///
    /// # Errors
    /// An input error if the finished run has another config: the comparison would be wrong.
    pub fn progress(&self, run: &PlannedRun) -> Result<Progress> {
        let path = self.run_path(run);
        let summary = path.join("summary.json");
        if summary.is_file() {
            // An unreadable summary does not count as finished and is written again.
            let text = read_small_text(&summary, MAX_SUMMARY, "the summary of a run").ok();
            let found: Option<Summary> = text.and_then(|text| serde_json::from_str(&text).ok());
            match found {
                Some(found) if found.is_finished(&run.config) => {
                    check_same_config(&path, &run.config.to_toml()?)?;
                    return Ok(Progress::Finished(Box::new(found)));
                }
                Some(found) if found.stopped == "diverged" => {
                    return Ok(Progress::Failed(self.failure(run).unwrap_or_else(|| "diverged".to_owned())));
                }
                _ => {}
            }
        }
        Ok(self.failure(run).map_or(Progress::Open, Progress::Failed))
    }

    fn failure_file(&self, run: &PlannedRun) -> PathBuf {
        self.path.join(format!("{}.failed", run.folder))
    }

    fn failure(&self, run: &PlannedRun) -> Option<String> {
        let path = self.failure_file(run);
        let text = path.is_file().then(|| read_small_text(&path, MAX_SUMMARY, "the error of a run"))?;
        Some(text.map_or_else(|error| format!("{error:#}"), |text| text.trim().to_owned()))
    }

    /// Records the error of a run.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn record_failure(&self, run: &PlannedRun, error: &anyhow::Error) -> Result<()> {
        write_atomically(&self.failure_file(run), format!("{error:#}\n").as_bytes())
    }

    /// Whether an error of the run is recorded.
    pub fn has_failed(&self, run: &PlannedRun) -> bool {
        self.failure_file(run).exists()
    }

    /// Removes the recorded error of a run before a new attempt.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn clear_failure(&self, run: &PlannedRun) -> Result<()> {
        let path = self.failure_file(run);
        if path.exists() {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Whether there is nothing at `path` but what a sweep leaves that died as it started: its lock and
/// temporary files.
fn is_unused(path: &Path) -> Result<bool> {
    if !path.exists() {
        return Ok(true);
    }
    let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    Ok(names.iter().all(|name| name == LOCK_FILE || is_temporary(name)))
}

/// Refuses a finished run whose config differs in a key that changes the result. A run without a
/// readable config passes.
///
/// # Errors
/// An input error with the key and both values.
pub(super) fn check_same_config(run: &Path, config: &str) -> Result<()> {
    let text = read_small_text(&run.join("config.toml"), MAX_SUMMARY, "a config file in TOML").ok();
    let old = text.and_then(|text| config::read_table(&config::with_defaults(&text)).ok());
    let Some(old) = old else { return Ok(()) };
    let new = config::read_table(config)?;
    let differs = config::differing_keys(&old, &new).into_iter().find(|key| !crate::train::resume::may_change(key));
    match differs {
        None => Ok(()),
        Some(key) => Err(input(format!(
            "{}: is finished with {key} = {}, but the config now has {}; choose another --out",
            run.display(),
            config::format_value(&old, &key),
            config::format_value(&new, &key)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_that_died_as_it_started_leaves_a_usable_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep");
        drop(SweepDir::open(&path, false).unwrap().locked().unwrap());
        assert!(path.join(LOCK_FILE).exists());
        assert!(SweepDir::open(&path, true).is_ok() && SweepDir::open(&path, false).is_ok());
        fs::write(path.join("notes.txt"), "").unwrap();
        assert!(SweepDir::open(&path, false).unwrap_err().to_string().contains("is not a sweep"));
    }

    #[test]
    fn a_finished_run_of_an_older_version_may_lack_keys() {
        let folder = tempfile::tempdir().unwrap();
        let text = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n";
        fs::write(folder.path().join("config.toml"), text).unwrap();
        let resolved = config::from_text::<config::Config>(text, "").unwrap().to_toml().unwrap();
        check_same_config(folder.path(), &resolved).unwrap();
        let changed = resolved.replace("batch = 64", "batch = 32");
        let message = check_same_config(folder.path(), &changed).unwrap_err().to_string();
        assert!(message.contains("is finished with train.batch = 64, but the config now has 32"), "{message}");
    }
}
