//! The run directory: which files it holds, who may write to it, and reading it back.

pub mod calibration;
pub mod checkpoint;
mod checkpoint_rotation;
mod checkpoint_state;
mod event_files;
pub mod listing;
mod lock;
pub mod lock_scope;
mod metrics_jsonl;
mod paths;
mod summary;
mod validation_predictions;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use fs_err as fs;
use serde_json::Value;

use crate::config::{MAX_CONFIG, read_table};
use crate::util::error::input;
use crate::util::files::{
    check_output_file, is_same_file, is_temporary, read_small_text, sync_folder_of, write_atomically,
};

pub use checkpoint_rotation::LatestCheckpoint;
pub use event_files::{event_file_name, event_files};
pub use lock::Lock;
pub use summary::{ForestProvenance, ForestSummary, MAX_SUMMARY, Provenance, RUNNING, Summary};
pub use validation_predictions::ValidationPredictions;

/// Maximum size of `split.csv` in bytes.
pub const MAX_SPLIT_CSV: u64 = 1 << 30;

/// Lock file, held while a process trains in the directory.
pub const LOCK_FILE: &str = ".lock";

/// File that marks the directory of a sweep.
pub const SWEEP_JSON: &str = "sweep.json";

/// Journal of a study, which marks its directory.
pub const STUDY_JSONL: &str = "study.jsonl";

/// The directory of a fold of a cross-validation is this and its number, from 1.
pub const FOLD: &str = "fold";

/// Files that a run may have written before its first checkpoint.
const STARTUP_FILES: [&str; 4] = [LOCK_FILE, "log.txt", "config.toml", "split.csv"];

/// Keys of `summary.json` that describe how a run ended.
const OUTCOME_KEYS: [&str; 5] = ["epochs", "best_epoch", "best_val_accuracy", "stopped", "rollbacks"];

/// The directory of one run.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held by a process that writes. Readers need no lock: files are replaced atomically.
    lock: Option<Lock>,
}

impl RunDir {
    /// Creates and locks `runs/<name>-<UTC time>`, the default directory of a new run.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn create_default(name: &str) -> Result<Self> {
        Self { path: Self::create_default_folder(name)?, lock: None }.locked()
    }

    /// Creates the folder `runs/<name>-<UTC time>`, with a number appended if it exists.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn create_default_folder(name: &str) -> Result<PathBuf> {
        let runs = Path::new("runs");
        fs::create_dir_all(runs)?;
        let first = format!("{name}-{}", jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"));
        for number in 1.. {
            let path = runs.join(if number == 1 { first.clone() } else { format!("{first}-{number}") });
            match fs::create_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                created => {
                    created?;
                    return Ok(path);
                }
            }
        }
        Err(anyhow!("{}: no unused name for a run", runs.display()))
    }

    /// Finds the newest default folder with this `name` that satisfies `filter`.
    ///
    /// # Errors
    /// An input error if there is none.
    pub fn find_latest(name: &str, filter: impl Fn(&Path) -> bool) -> Result<PathBuf> {
        let prefix = format!("{name}-");
        let is_time = |rest: &str| rest.len() >= 15 && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let mut found: Vec<PathBuf> =
            fs::read_dir("runs").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        found.retain(|path| {
            let file = path.file_name().and_then(|file| file.to_str());
            path.is_dir() && file.and_then(|file| file.strip_prefix(&prefix)).is_some_and(is_time) && filter(path)
        });
        found.sort();
        found.pop().ok_or_else(|| {
            input(format!("--resume: there is no runs/{name}-<time> to resume; name the directory with --out DIR"))
        })
    }

    /// Whether a new run may use `path`: it does not exist, is an empty folder, or holds only what
    /// a run left behind that died before its first checkpoint.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn is_available(path: &Path) -> Result<bool> {
        if !path.is_dir() {
            return Ok(!path.exists());
        }
        let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
        let is_startup_file = |name: &OsString| STARTUP_FILES.iter().any(|file| name == file) || is_temporary(name);
        // Without a lock file they are the user's own files, whatever their names.
        Ok(names.is_empty() || (names.iter().any(|name| name == LOCK_FILE) && names.iter().all(is_startup_file)))
    }

    /// Refuses a path that a new run may not use.
    ///
    /// # Errors
    /// An input error if the folder is in use by another run, see
    /// [`is_available`](Self::is_available); an error if `path` is a file.
    pub fn check_available(path: &Path) -> Result<()> {
        Self::check_folder(path)?;
        if !Self::is_available(path)? {
            return Err(input(format!(
                "{}: exists and is not empty; choose another --out, or resume it with --resume",
                path.display()
            )));
        }
        Ok(())
    }

    /// Refuses a path that exists and is not a folder.
    ///
    /// # Errors
    /// An error that names the path.
    pub fn check_folder(path: &Path) -> Result<()> {
        if path.exists() && !path.is_dir() {
            return Err(anyhow!("{}: is a file; expected a folder for the run", path.display()));
        }
        Ok(())
    }

    /// Creates the directory, or reuses an available one, and locks it.
    ///
    /// # Errors
    /// As [`check_available`](Self::check_available); an error if another process holds the lock.
    pub fn create(path: &Path) -> Result<Self> {
        if !path.exists() {
            fs::create_dir_all(path).with_context(|| format!("{}: cannot create the run directory", path.display()))?;
            sync_folder_of(path)?;
        }
        // Checked again before and after locking: another process may have started here meanwhile.
        Self::check_available(path)?;
        let dir = Self { path: path.to_path_buf(), lock: None }.locked()?;
        Self::check_available(path)?;
        Ok(dir)
    }

    /// Opens the directory of an existing run for reading.
    ///
    /// # Errors
    /// An input error if it is not a run directory.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        if path.is_file() {
            return Err(input(format!("{shown}: is a file; expected a run directory")));
        }
        if !path.is_dir() {
            return Err(input(format!("{shown}: no such run directory")));
        }
        let run = Self { path: path.to_path_buf(), lock: None };
        let files = [
            run.config_toml(),
            run.last_safetensors(),
            run.previous_safetensors(),
            run.best_safetensors(),
            run.forest_safetensors(),
        ];
        if files.iter().any(|file| file.exists()) {
            return Ok(run);
        }
        if path.join(SWEEP_JSON).exists() && path.join(format!("{FOLD}1")).is_dir() {
            return Err(input(format!(
                "{shown}: is a cross-validation, expected one of its folds, such as {shown}/{FOLD}1"
            )));
        }
        if path.join(SWEEP_JSON).exists() {
            return Err(input(format!(
                "{shown}: is a sweep, expected one of its runs; {shown}/summary.json names the best"
            )));
        }
        if path.join(STUDY_JSONL).exists() {
            return Err(input(format!("{shown}: is a study, expected one of its runs; {shown}/trials.csv lists them")));
        }
        Err(input(format!("{shown}: is not a run directory: it holds neither config.toml nor a checkpoint")))
    }

    /// Opens and locks the directory of an existing run, and removes temporary files of killed
    /// processes.
    ///
    /// # Errors
    /// As [`open`](Self::open); an error if another process holds the lock.
    pub fn open_for_resume(path: &Path) -> Result<Self> {
        Self::open(path)?.locked()
    }

    /// Whether `path` is one of the run's own files.
    fn owns(&self, path: &Path) -> bool {
        let files = [self.log_txt(), self.path.join(LOCK_FILE)];
        let events = event_files(&self.path).unwrap_or_default();
        let own = self.replaced_files().into_iter().chain(files).chain(events.into_iter().map(|(_, file)| file));
        own.into_iter().any(|own| is_same_file(&own, path))
    }

    /// Refuses an output path that is one of the run's own files.
    ///
    /// # Errors
    /// An input error with the path.
    pub fn check_not_owned(&self, path: &Path) -> Result<()> {
        if self.owns(path) {
            return Err(input(format!(
                "{}: belongs to the run and would be overwritten; choose another --out",
                path.display()
            )));
        }
        Ok(())
    }

    fn locked(self) -> Result<Self> {
        // Fail before training, not when the file is to be written.
        self.replaced_files().iter().try_for_each(|file| check_output_file(file))?;
        event_files(&self.path)?.iter().try_for_each(|(_, file)| check_output_file(file))?;
        let lock = Lock::acquire(&self.path.join(LOCK_FILE))?;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if is_temporary(&entry.file_name()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { lock: Some(lock), ..self })
    }

    /// Another handle to the directory, without its lock: for a thread of the process that holds it.
    pub fn without_lock(&self) -> Self {
        Self { path: self.path.clone(), lock: None }
    }

    /// Why the directory is not locked, if its file system does not support locks.
    pub fn unlocked_reason(&self) -> Option<&str> {
        self.lock.as_ref().and_then(|lock| lock.unsupported.as_deref())
    }

    /// Whether a process is working in the directory at `path`.
    pub fn is_in_use(path: &Path) -> bool {
        lock::is_held(&path.join(LOCK_FILE))
    }

    /// Whether this is a forest's run, fitted or not: its config has a `[forest]` table.
    pub fn is_forest(&self) -> bool {
        let has_forest_table = |text: String| read_table(&text).is_ok_and(|table| table.contains_key("forest"));
        let config = || read_small_text(&self.config_toml(), MAX_CONFIG, "a config file in TOML");
        self.forest_safetensors().exists()
            || (!self.best_safetensors().exists() && config().is_ok_and(has_forest_table))
    }

    /// Whether `summary.json` already describes the same outcome as `summary`.
    pub fn has_summary(&self, summary: &Summary) -> bool {
        let text = read_small_text(&self.summary_json(), 1 << 20, "a summary").unwrap_or_default();
        let (old, new) = (serde_json::from_str::<Value>(&text), serde_json::to_value(summary));
        let is_same = |old: &Value, new: &Value| OUTCOME_KEYS.iter().all(|key| old.get(key) == new.get(key));
        old.ok().zip(new.ok()).is_some_and(|(old, new)| is_same(&old, &new))
    }

    /// Reads `summary.json` of a network; `None` if there is none that can be read, since it only
    /// describes the run.
    pub fn read_summary(&self) -> Option<Summary> {
        let text = read_small_text(&self.summary_json(), 1 << 20, "a summary").ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Writes `summary.json`.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write_summary(&self, summary: &impl serde::Serialize) -> Result<()> {
        write_atomically(&self.summary_json(), (serde_json::to_string_pretty(summary)? + "\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_only_startup_files_is_available() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let is_available = || RunDir::is_available(&path).unwrap();
        assert!(is_available());
        fs::create_dir(&path).unwrap();
        assert!(is_available());
        fs::write(path.join("config.toml"), "mine").unwrap();
        assert!(!is_available(), "a user's config in a folder without a lock file");
        fs::write(path.join(".lock"), "").unwrap();
        fs::write(path.join(".last.safetensors.grimace-a1B2c3.tmp"), "half").unwrap();
        assert!(is_available(), "a run that died before its first checkpoint");
        drop(RunDir::create(&path).unwrap());
        assert!(!path.join(".last.safetensors.grimace-a1B2c3.tmp").exists());
        fs::write(path.join("last.safetensors"), "").unwrap();
        assert!(!is_available());
    }
}
