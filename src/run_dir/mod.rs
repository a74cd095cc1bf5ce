//! A run's directory: what is in it, who may write to it, and how a trained run is opened again.

pub mod checkpoint;
mod checkpoint_rotation;
mod checkpoint_state;
mod event_files;
pub mod listing;
mod lock;
mod summary;
mod validation_predictions;

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use fs_err as fs;
use serde_json::Value;

use crate::config::{MAX_CONFIG, read_table};
use crate::metrics::epoch::EpochMetrics;
use crate::util::error::input;
use crate::util::files::{
    check_output_file, check_regular_file, is_same_file, is_temporary, read_small_text, sync_folder_of,
    write_atomically,
};

pub use checkpoint_rotation::Newest;
pub use event_files::{event_file_name, event_files};
pub use lock::Lock;
pub use summary::{ForestProvenance, ForestSummary, MAX_SUMMARY, Provenance, Summary};
pub use validation_predictions::ValidationPredictions;

/// Bytes of the largest `split.csv` that is read.
pub const MAX_TEXT: u64 = 1 << 30;

/// Bytes of the largest `metrics.jsonl` that is read: more than a config's greatest number of epochs has.
const MAX_METRICS: u64 = 1 << 26;

/// Held while a process trains in the directory.
const LOCK: &str = ".lock";

/// Marks the directory of a sweep.
pub const SWEEP: &str = "sweep.json";

/// What a run may have written before its first checkpoint.
const STARTED: [&str; 4] = [LOCK, "log.txt", "config.toml", "split.csv"];

/// Keys of `summary.json` that tell one end of a run from another.
const END: [&str; 5] = ["epochs", "best_epoch", "best_val_accuracy", "stopped", "rollbacks"];

/// The directory of one run.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Of the process that trains; readers need none, since files are replaced whole.
    lock: Option<Lock>,
}

impl RunDir {
    /// Creates `runs/<name>-<UTC time>`, the default place of a new run, and locks it.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn create_default(name: &str) -> Result<Self> {
        Self { path: Self::make_default(name)?, lock: None }.locked()
    }

    /// Makes the folder `runs/<name>-<UTC time>`.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn make_default(name: &str) -> Result<PathBuf> {
        let runs = Path::new("runs");
        fs::create_dir_all(runs)?;
        let first = format!("{name}-{}", jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"));
        // Those that begin in the same second are told apart by a number.
        for number in 1.. {
            let path = runs.join(if number == 1 { first.clone() } else { format!("{first}-{number}") });
            match fs::create_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    return Ok(path);
                }
            }
        }
        Err(anyhow!("{}: there is no free name for a run", runs.display()))
    }

    /// The newest default place of what is called `name` and is as `wanted`.
    ///
    /// # Errors
    /// An input error when there is none.
    pub fn newest(name: &str, wanted: impl Fn(&Path) -> bool) -> Result<PathBuf> {
        let prefix = format!("{name}-");
        let is_time = |rest: &str| rest.len() >= 15 && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let mut found: Vec<PathBuf> =
            fs::read_dir("runs").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        found.retain(|path| {
            let file = path.file_name().and_then(|file| file.to_str());
            path.is_dir() && file.and_then(|file| file.strip_prefix(&prefix)).is_some_and(is_time) && wanted(path)
        });
        found.sort();
        found
            .pop()
            .ok_or_else(|| input(format!("--resume: there is no runs/{name}-<time> to resume; name it with --out DIR")))
    }

    /// Whether nothing is at `path` that a new run would have to respect: nothing at all, an empty folder, or what a run
    /// left behind that died before its first checkpoint.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn is_free(path: &Path) -> Result<bool> {
        if !path.is_dir() {
            return Ok(!path.exists());
        }
        let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
        let of_a_start = |name: &OsString| STARTED.iter().any(|file| name == file) || is_temporary(name);
        // Without the lock file the others are somebody's own, whatever their names.
        Ok(names.is_empty() || (names.iter().any(|name| name == LOCK) && names.iter().all(of_a_start)))
    }

    /// Refuses a path that a new run cannot have.
    ///
    /// # Errors
    /// What is there already: as an input error where another --out or --resume helps.
    pub fn check_free(path: &Path) -> Result<()> {
        let shown = path.display();
        Self::check_folder(path)?;
        if !Self::is_free(path)? {
            return Err(input(format!(
                "{shown}: exists and is not empty; choose another --out, or continue that run with --resume"
            )));
        }
        Ok(())
    }

    /// Refuses a path at which something else than a folder is in the way.
    ///
    /// # Errors
    /// Saying so.
    pub fn check_folder(path: &Path) -> Result<()> {
        if path.exists() && !path.is_dir() {
            return Err(anyhow!("{}: is a file; expected a folder for the run", path.display()));
        }
        Ok(())
    }

    /// Creates the directory, or takes a free one, and locks it.
    ///
    /// # Errors
    /// As [`check_free`](Self::check_free) and when another process has it, or an I/O error with the path.
    pub fn create(path: &Path) -> Result<Self> {
        if !path.exists() {
            fs::create_dir_all(path).with_context(|| format!("{}: cannot be made a run directory", path.display()))?;
            sync_folder_of(path)?;
        }
        // A second look, for whoever was here in the meantime; the first came before the data was read.
        Self::check_free(path)?;
        let dir = Self { path: path.to_path_buf(), lock: None }.locked()?;
        Self::check_free(path)?;
        Ok(dir)
    }

    /// An existing run's directory, to read from.
    ///
    /// # Errors
    /// An input error when it is not one.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        if !path.is_dir() {
            return Err(input(format!("{shown}: no such run directory")));
        }
        let run = Self { path: path.to_path_buf(), lock: None };
        let some = [run.config_toml(), run.last(), run.previous(), run.best(), run.forest()];
        if !some.iter().any(|file| file.exists()) && path.join(SWEEP).exists() {
            return Err(input(format!(
                "{shown}: is a sweep, expected one of its runs; {shown}/summary.json names the best"
            )));
        }
        if !some.iter().any(|file| file.exists()) {
            return Err(input(format!(
                "{shown}: is not a run directory: it holds neither config.toml nor a checkpoint"
            )));
        }
        Ok(run)
    }

    /// An existing run's directory, to go on in: locked, and rid of what a killed process was writing.
    ///
    /// # Errors
    /// As [`open`](Self::open) and when another process has it, or an I/O error with the path.
    pub fn open_to_go_on(path: &Path) -> Result<Self> {
        Self::open(path)?.locked()
    }

    /// Whether `path` is a file that a run keeps here.
    fn owns(&self, path: &Path) -> bool {
        let files = [self.log_txt(), self.path.join(LOCK)];
        // Where the folder cannot be listed, nobody knows of any.
        let events = event_files(&self.path).unwrap_or_default();
        let own = self.files().into_iter().chain(files).chain(events.into_iter().map(|(_, file)| file));
        own.into_iter().any(|own| is_same_file(&own, path))
    }

    /// Refuses to write another command's output over a file that a run keeps here.
    ///
    /// # Errors
    /// An input error with the path.
    pub fn check_foreign(&self, path: &Path) -> Result<()> {
        if self.owns(path) {
            return Err(input(format!(
                "{}: belongs to the run, and would be lost; choose another --out",
                path.display()
            )));
        }
        Ok(())
    }

    /// What is written whole and replaced.
    fn files(&self) -> [PathBuf; 11] {
        [
            self.config_toml(),
            self.split_csv(),
            self.metrics_jsonl(),
            self.last(),
            self.previous(),
            self.rollback(),
            self.best(),
            self.summary_json(),
            self.forest(),
            self.importance_png(),
            self.validation_csv(),
        ]
    }

    fn locked(self) -> Result<Self> {
        // What is in the way of a file is told before a training, not when the file is to be written.
        self.files().iter().try_for_each(|file| check_output_file(file))?;
        event_files(&self.path)?.iter().try_for_each(|(_, file)| check_output_file(file))?;
        let lock = Lock::take(&self.path.join(LOCK))?;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if is_temporary(&entry.file_name()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { lock: Some(lock), ..self })
    }

    /// Why the directory is not locked, where its file system has no locks.
    pub fn unlocked_reason(&self) -> Option<&str> {
        self.lock.as_ref().and_then(|lock| lock.refused.as_deref())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved config.
    pub fn config_toml(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// What was printed.
    pub fn log_txt(&self) -> PathBuf {
        self.path.join("log.txt")
    }

    /// One object an epoch.
    pub fn metrics_jsonl(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The newest checkpoint, with the optimizer's state.
    pub fn last(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    /// The checkpoint before the newest, for when that is damaged.
    pub fn previous(&self) -> PathBuf {
        self.path.join("previous.safetensors")
    }

    /// The checkpoint that a divergence goes back to, where `train.max_rollbacks` allows it.
    pub fn rollback(&self) -> PathBuf {
        self.path.join("rollback.safetensors")
    }

    /// The best weights by validation accuracy.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// What the best weights made of the validation images.
    pub fn validation_csv(&self) -> PathBuf {
        self.path.join("validation.csv")
    }

    /// The report for people.
    pub fn report_html(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// Whether a process works in the directory at `path`, whatever else is there.
    pub fn is_in_use(path: &Path) -> bool {
        lock::is_held(&path.join(LOCK))
    }

    /// The fitted forest, where the run is one.
    pub fn forest(&self) -> PathBuf {
        self.path.join("forest.safetensors")
    }

    /// Whether it is a forest's, fitted or not: then its config has a table `forest`.
    pub fn is_forest(&self) -> bool {
        let is_forests = |text: String| read_table(&text).is_ok_and(|table| table.contains_key("forest"));
        let config = || read_small_text(&self.config_toml(), MAX_CONFIG, "a config file in TOML");
        self.forest().exists() || (!self.best().exists() && config().is_ok_and(is_forests))
    }

    /// Where a forest looks.
    pub fn importance_png(&self) -> PathBuf {
        self.path.join("importance.png")
    }

    /// Which image went where.
    pub fn split_csv(&self) -> PathBuf {
        self.path.join("split.csv")
    }

    /// The result.
    pub fn summary_json(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// Rewrites `metrics.jsonl` with these records; lines of records that stay come out byte for byte the same.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write_metrics<'a>(&self, records: impl Iterator<Item = &'a EpochMetrics>) -> Result<()> {
        let mut text = String::new();
        for record in records {
            text += &serde_json::to_string(record)?;
            text.push('\n');
        }
        write_atomically(&self.metrics_jsonl(), text.as_bytes())
    }

    /// The records that can be read from `metrics.jsonl`, up to the first line that is torn or not the next epoch's;
    /// none where there is no such file. The checkpoint has the truth: this is for epochs that it does not have yet.
    ///
    /// # Errors
    /// When it is there and no file that can be read.
    pub fn read_metrics(&self) -> Result<Vec<EpochMetrics>> {
        let path = self.metrics_jsonl();
        if !path.exists() {
            return Ok(Vec::new());
        }
        check_regular_file(&path, "metrics")?;
        let mut bytes = Vec::new();
        fs::File::open(&path)?.take(MAX_METRICS).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let records = text.lines().map_while(|line| serde_json::from_str::<EpochMetrics>(line).ok());
        Ok((1..).zip(records).take_while(|(epoch, record)| record.epoch == *epoch).map(|(_, record)| record).collect())
    }

    /// Whether `summary.json` says the same of the run's end as `summary`: it is then left as it was.
    pub fn has_summary(&self, summary: &Summary) -> bool {
        let text = read_small_text(&self.summary_json(), 1 << 20, "a summary").unwrap_or_default();
        let (old, new) = (serde_json::from_str::<Value>(&text), serde_json::to_value(summary));
        let same = |old: &Value, new: &Value| END.iter().all(|key| old.get(key) == new.get(key));
        old.ok().zip(new.ok()).is_some_and(|(old, new)| same(&old, &new))
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
mod tests;
