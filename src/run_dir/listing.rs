//! Which runs there are, and how far each is, from their files alone.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use fs_err as fs;
use serde::Serialize;
use serde_json::Value;

use super::summary::describe_state;
use super::{MAX_SUMMARY, RunDir};
use crate::config::read_table;
use crate::util::error::input;
use crate::util::files::read_small_text;

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed {
    /// Its directory.
    pub path: String,
    /// Name of its config.
    pub name: String,
    /// When its files changed last, RFC 3339 in UTC.
    pub changed: String,
    /// Finished epochs; none for a forest.
    pub epochs: Option<u64>,
    /// Best validation accuracy so far.
    pub best: Option<f64>,
    /// `running`, `done`, `early stop`, `interrupted`, `diverged`, or `died` when no process has it and it did not say why.
    pub state: String,
}

/// The runs in a folder and in the sweeps in it, those that changed last first.
///
/// # Errors
/// An input error when there is no such folder; an I/O error with the path.
pub fn list(folder: &Path) -> Result<Vec<Listed>> {
    if folder.is_file() {
        return Err(input(format!("{}: is a file; expected a folder of runs", folder.display())));
    }
    if !folder.is_dir() {
        let hint = "train one first: make train, or grimace train CONFIG";
        return Err(input(format!("{}: no such folder of runs; {hint}", folder.display())));
    }
    let mut found = Vec::new();
    match RunDir::open(folder) {
        Ok(run) => found.push(look(&run)),
        Err(_) => visit(folder, 0, &mut found)?,
    }
    found.sort_by(|(a, listed), (b, other)| b.cmp(a).then_with(|| listed.path.cmp(&other.path)));
    Ok(found.into_iter().map(|(_, listed)| listed).collect())
}

fn visit(folder: &Path, depth: usize, found: &mut Vec<(SystemTime, Listed)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        match RunDir::open(&path) {
            Ok(run) => found.push(look(&run)),
            // A sweep is a folder of runs. One that cannot be listed must not hide the others.
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

fn unreadable(path: &Path) -> Listed {
    let (name, changed) = ("?".to_owned(), "?".to_owned());
    let state = "cannot be read".to_owned();
    Listed { path: path.display().to_string(), name, changed, epochs: None, best: None, state }
}

fn look(run: &RunDir) -> (SystemTime, Listed) {
    let text = |path: &Path| read_small_text(path, MAX_SUMMARY, "a file of a run").ok();
    let summary: Value =
        text(&run.summary_json()).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let config = text(&run.config_toml()).and_then(|text| read_table(&text).ok());
    let name = config.as_ref().and_then(|table| table.get("name")).and_then(toml::Value::as_str);
    let files = [run.summary_json(), run.metrics_jsonl(), run.last(), run.forest(), run.config_toml()];
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let changed = files.iter().filter_map(|path| time(path)).max().unwrap_or(SystemTime::UNIX_EPOCH);
    let in_use = RunDir::is_in_use(run.path());
    let stopped = summary.get("stopped").and_then(Value::as_str);
    let state = match stopped {
        _ if in_use => "running",
        Some(stopped) => describe_state(stopped),
        None => "died",
    };
    // What a run that goes on has done since its last summary stands in its metrics.
    let records = run.read_metrics().unwrap_or_default();
    let best = records.iter().map(|record| record.val_accuracy).max_by(f64::total_cmp);
    let of_summary = |key: &str| summary.get(key).and_then(Value::as_f64);
    let listed = Listed {
        path: run.path().display().to_string(),
        name: name.unwrap_or("?").to_owned(),
        changed: jiff::Timestamp::try_from(changed).map_or_else(|_| "?".to_owned(), |time| format!("{time:.0}")),
        epochs: (!run.is_forest()).then_some(records.len() as u64),
        best: best.or_else(|| of_summary("best_val_accuracy")).or_else(|| of_summary("val_accuracy")),
        state: state.to_owned(),
    };
    (changed, listed)
}
