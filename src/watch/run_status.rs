//! What the files of a run say about it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::config::read_table;
use crate::metrics::{EpochMetrics, Monitor, accuracy_interval, describe_accuracy};
use crate::run_dir::listing::{best_epoch, monitor};
use crate::run_dir::{MAX_SUMMARY, RUNNING, RunDir};
use crate::util::files::read_small_text;

/// State of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// A run of a sweep that has not started.
    Waiting,
    /// A process works in its directory.
    Training,
    /// Ended, with the reason: `epochs`, `early_stop`, `interrupted`, `diverged`, or `done` for a
    /// forest.
    Ended(String),
    /// No process holds the lock, and there is no end in the summary.
    Died,
    /// A run of a sweep that failed with this error.
    Failed(String),
}

impl RunState {
    /// The state in a word or two.
    pub fn describe(&self) -> &str {
        match self {
            Self::Waiting => "waiting",
            Self::Training => "training",
            Self::Ended(reason) if reason == "early_stop" => "early stop",
            Self::Ended(reason) if reason == "epochs" => "done",
            Self::Ended(reason) => reason,
            Self::Died => "died",
            Self::Failed(_) => "failed",
        }
    }
}

/// A run as its files describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunStatus {
    /// Its directory.
    pub path: PathBuf,
    /// `name` in its config.
    pub name: String,
    /// Its state.
    pub state: RunState,
    /// Whether it is a forest, which has no epochs.
    pub is_forest: bool,
    /// Finished epochs.
    pub records: Vec<EpochMetrics>,
    /// `train.epochs`.
    pub max_epochs: Option<u32>,
    /// `train.early_stop.patience`; 0 is off.
    pub patience: u32,
    /// The metric by which the best epoch is the best.
    pub monitor: Monitor,
    /// Number of validation images.
    pub validation_rows: Option<usize>,
    /// Device and precision.
    pub device: Option<String>,
    /// Validation accuracy of a forest.
    pub forest_accuracy: Option<f64>,
    /// When its files last changed.
    pub changed: Option<SystemTime>,
}

impl RunStatus {
    /// Reads the run in `dir`. What cannot be read is left out: files are replaced while a run trains.
    pub fn read(dir: &RunDir) -> Self {
        let text = |path: &Path| read_small_text(path, MAX_SUMMARY, "a file of a run").ok();
        let config = text(&dir.config_toml()).and_then(|text| read_table(&text).ok()).unwrap_or_default();
        let summary: Value =
            text(&dir.summary_json()).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let name = config.get("name").and_then(toml::Value::as_str).unwrap_or("?").to_owned();
        let train = config.get("train");
        let number = |table: Option<&toml::Value>, key: &str| {
            table.and_then(|table| table.get(key)).and_then(toml::Value::as_integer).and_then(|n| u32::try_from(n).ok())
        };
        let stopped = summary.get("stopped").and_then(Value::as_str);
        let state = match stopped {
            _ if RunDir::is_in_use(dir.path()) => RunState::Training,
            Some(RUNNING) | None => RunState::Died,
            Some(stopped) => RunState::Ended(stopped.to_owned()),
        };
        let word = |key: &str| summary.get(key).and_then(Value::as_str);
        let device = word("device").zip(word("precision")).map(|(device, precision)| format!("{device}, {precision}"));
        Self {
            path: dir.path().to_path_buf(),
            name,
            state,
            is_forest: config.contains_key("forest"),
            records: dir.read_metrics().unwrap_or_default(),
            max_epochs: number(train, "epochs"),
            patience: number(train.and_then(|train| train.get("early_stop")), "patience").unwrap_or(0),
            monitor: monitor(&config, &summary),
            validation_rows: summary.get("validation_rows").and_then(Value::as_u64).map(|rows| rows as usize),
            device,
            forest_accuracy: summary.get("val_accuracy").and_then(Value::as_f64),
            changed: last_change(dir.path()),
        }
    }

    /// A run that is not there yet, or not any more.
    pub fn without_files(path: PathBuf, state: RunState) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            path,
            name,
            state,
            is_forest: false,
            records: Vec::new(),
            max_epochs: None,
            patience: 0,
            monitor: Monitor::default(),
            validation_rows: None,
            device: None,
            forest_accuracy: None,
            changed: None,
        }
    }

    /// The best epoch so far.
    pub fn best(&self) -> Option<&EpochMetrics> {
        best_epoch(&self.records, self.monitor)
    }

    /// Validation accuracy of the best epoch; that of a forest.
    pub fn best_accuracy(&self) -> Option<f64> {
        self.best().map(|best| best.val_accuracy).or(self.forest_accuracy)
    }

    /// [`best_accuracy`](Self::best_accuracy) with its interval over the validation images.
    pub fn describe_best(&self) -> Option<String> {
        let accuracy = self.best_accuracy()?;
        let interval = self.validation_rows.and_then(|rows| accuracy_interval(accuracy, rows));
        Some(describe_accuracy(accuracy, interval))
    }
}

/// The last change of a file that a run, or a sweep, replaces.
pub fn last_change(folder: &Path) -> Option<SystemTime> {
    const FILES: [&str; 6] =
        ["metrics.jsonl", "summary.json", "config.toml", "forest.safetensors", "sweep.json", "comparison.csv"];
    FILES.iter().filter_map(|name| folder.join(name).metadata().ok()?.modified().ok()).max()
}
