//! `grimace runs`: lists runs and their state from their files alone.

use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use fs_err as fs;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::summary::{RUNNING, describe_stop_reason};
use super::{MAX_SUMMARY, RunDir};
use crate::config::read_table;
use crate::metrics::{EpochMetrics, Monitor, accuracy_interval};
use crate::util::error::input;
use crate::util::files::read_small_text;

/// A run in the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunEntry {
    /// Its directory.
    pub path: String,
    /// `name` in its config.
    pub name: String,
    /// Last modification of its files, RFC 3339 in UTC.
    pub changed: String,
    /// Finished epochs; `None` for a forest.
    pub epochs: Option<u64>,
    /// Validation accuracy of the best epoch so far.
    pub best: Option<BestAccuracy>,
    /// Its 95% Wilson interval over the validation images, if their number is known.
    pub best_interval: Option<(f64, f64)>,
    /// The metric by which that epoch is the best.
    pub monitor: Option<Monitor>,
    /// `running`, `done`, `early stop`, `interrupted`, `diverged`, or `died` if no process holds
    /// the lock and there is no summary.
    pub state: String,
}

/// The validation accuracy of the best epoch, with the metric by which it is the best. A number in
/// JSON.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestAccuracy {
    /// Validation accuracy.
    pub accuracy: f64,
    /// The metric by which the epoch is the best.
    pub monitor: Monitor,
}

impl Serialize for BestAccuracy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.accuracy.serialize(serializer)
    }
}

impl Display for BestAccuracy {
    /// Formats as `0.5012`, as `by val_loss 0.5012` if another metric selects the epoch, and as `last epoch
    /// 0.5012` if nothing does.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.monitor {
            Monitor::ValAccuracy => {}
            Monitor::LastEpoch => write!(f, "last epoch ")?,
            monitor => write!(f, "by {monitor} ")?,
        }
        Display::fmt(&self.accuracy, f)
    }
}

/// Lists the runs in a folder and in the sweeps in it, last modified first.
///
/// # Errors
/// An input error if there is no such folder.
pub fn list_runs(folder: &Path) -> Result<Vec<RunEntry>> {
    if folder.is_file() {
        return Err(input(format!("{}: is a file; expected a folder of runs", folder.display())));
    }
    if !folder.is_dir() {
        let hint = "train one first: make train, or grimace train CONFIG";
        return Err(input(format!("{}: no such folder of runs; {hint}", folder.display())));
    }
    let mut found = Vec::new();
    match RunDir::open(folder) {
        Ok(run) => found.push(inspect(&run)),
        Err(_) => visit(folder, 0, &mut found)?,
    }
    found.sort_by(|(a, entry), (b, other)| b.cmp(a).then_with(|| entry.path.cmp(&other.path)));
    Ok(found.into_iter().map(|(_, entry)| entry).collect())
}

fn visit(folder: &Path, depth: usize, found: &mut Vec<(SystemTime, RunEntry)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        match RunDir::open(&path) {
            Ok(run) => found.push(inspect(&run)),
            // A sweep is a folder of runs. One that cannot be read must not hide the others.
            Err(_) if depth == 0 => {
                if visit(&path, 1, found).is_err() {
                    found.push((SystemTime::UNIX_EPOCH, unreadable(&path)));
                }
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn unreadable(path: &Path) -> RunEntry {
    let (name, changed) = ("?".to_owned(), "?".to_owned());
    let state = "unreadable".to_owned();
    RunEntry {
        path: path.display().to_string(),
        name,
        changed,
        epochs: None,
        best: None,
        best_interval: None,
        monitor: None,
        state,
    }
}

fn inspect(run: &RunDir) -> (SystemTime, RunEntry) {
    let text = |path: &Path| read_small_text(path, MAX_SUMMARY, "a file of a run").ok();
    let summary: Value =
        text(&run.summary_json()).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let config = text(&run.config_toml()).and_then(|text| read_table(&text).ok());
    let name = config.as_ref().and_then(|table| table.get("name")).and_then(toml::Value::as_str);
    let files =
        [run.summary_json(), run.metrics_jsonl(), run.last_safetensors(), run.forest_safetensors(), run.config_toml()];
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let changed = files.iter().filter_map(|path| modified(path)).max().unwrap_or(SystemTime::UNIX_EPOCH);
    let stopped = summary.get("stopped").and_then(Value::as_str);
    let state = match stopped {
        _ if RunDir::is_in_use(run.path()) => "running",
        Some(RUNNING) | None => "died",
        Some(stopped) => describe_stop_reason(stopped),
    };
    // A resumed run may have finished epochs since its last summary: metrics.jsonl has them.
    let epochs = run.read_metrics().unwrap_or_default();
    let monitor = config.as_ref().map_or(Monitor::ValAccuracy, |table| monitor(table, &summary));
    let from_summary = |key: &str| summary.get(key).and_then(Value::as_f64);
    let best = best_epoch(&epochs, monitor).map(|epoch| epoch.val_accuracy);
    let best = best.or_else(|| from_summary("best_val_accuracy")).or_else(|| from_summary("val_accuracy"));
    let rows = summary.get("validation_rows").and_then(Value::as_u64).map(|rows| rows as usize);
    let entry = RunEntry {
        path: run.path().display().to_string(),
        name: name.unwrap_or("?").to_owned(),
        changed: jiff::Timestamp::try_from(changed).map_or_else(|_| "?".to_owned(), |time| format!("{time:.0}")),
        epochs: (!run.is_forest()).then_some(epochs.len() as u64),
        best: best.map(|accuracy| BestAccuracy { accuracy, monitor }),
        best_interval: best.zip(rows).and_then(|(accuracy, rows)| accuracy_interval(accuracy, rows)),
        monitor: best.map(|_| monitor),
        state: state.to_owned(),
    };
    (changed, entry)
}

/// The metric by which the best epoch of a run is the best. A summary of an older version does not
/// name it: there it is accuracy.
pub fn monitor(config: &toml::Table, summary: &Value) -> Monitor {
    if summary.is_object() {
        return summary.get("monitor").and_then(|name| Monitor::deserialize(name).ok()).unwrap_or_default();
    }
    let early_stop = config.get("train").and_then(|train| train.get("early_stop"));
    let name = early_stop.and_then(|table| table.get("monitor"));
    name.and_then(|name| name.clone().try_into().ok()).unwrap_or_default()
}

/// The first epoch with the best value of `monitor`.
pub fn best_epoch(epochs: &[EpochMetrics], monitor: Monitor) -> Option<&EpochMetrics> {
    epochs.iter().fold(None, |best: Option<&EpochMetrics>, epoch| {
        let known = best.map(|best| best.monitored_value(monitor));
        if monitor.is_better(epoch.monitored_value(monitor), known) { Some(epoch) } else { best }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_by_the_monitored_metric() {
        let folder = tempfile::tempdir().unwrap();
        let config = |monitor: &str| format!("name = \"x\"\n[train.early_stop]\nmonitor = {monitor:?}\n");
        let line = |epoch, accuracy, loss, f1| {
            format!(
                "{{\"epoch\":{epoch},\"lr\":0.1,\"loss\":1.0,\"accuracy\":0.5,\"val_loss\":{loss},\"val_accuracy\":{accuracy},\
                 \"val_macro_f1\":{f1},\"seconds\":1.0,\"images_per_second\":1.0}}\n"
            )
        };
        let lines = line(1, 0.25, 0.5, 0.1) + &line(2, 0.5, 1.0, 0.2) + &line(3, 0.375, 0.5, 0.3);
        fs::write(folder.path().join("metrics.jsonl"), lines).unwrap();
        let best = || list_runs(folder.path()).unwrap().pop().unwrap().best.unwrap();
        for (monitor, shown) in
            [("val_accuracy", "0.5000"), ("val_loss", "by val_loss 0.2500"), ("val_macro_f1", "by val_macro_f1 0.3750")]
        {
            fs::write(folder.path().join("config.toml"), config(monitor)).unwrap();
            assert_eq!(format!("{:.4}", best()), shown);
        }
        assert_eq!(serde_json::to_value(best()).unwrap(), 0.375);
        let interval = || list_runs(folder.path()).unwrap().pop().unwrap().best_interval;
        assert_eq!(interval(), None);
        fs::write(folder.path().join("summary.json"), "{\"stopped\": \"epochs\", \"validation_rows\": 8}").unwrap();
        assert_eq!(interval(), accuracy_interval(0.5, 8));
        fs::write(folder.path().join("summary.json"), "{\"stopped\": \"epochs\", \"best_epoch\": 2}").unwrap();
        assert_eq!(format!("{:.4}", best()), "0.5000", "an older version followed accuracy");
    }

    #[test]
    fn a_run_killed_after_a_resume_is_not_listed_by_its_earlier_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.toml"), "name = \"x\"\n").unwrap();
        let state = |stopped: &str| {
            fs::write(folder.path().join("summary.json"), format!("{{\"stopped\": {stopped:?}}}")).unwrap();
            list_runs(folder.path()).unwrap().pop().unwrap().state
        };
        assert_eq!(state("epochs"), "done");
        assert_eq!(state(RUNNING), "died");
    }
}
