//! `study.jsonl`: what a study has decided and measured, one JSON object a line, appended and synced
//! before anything follows from it.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::sampler::Sampler;
use crate::util::error::input;
use crate::util::files::{read_small_text, sync_folder_of};

/// Maximum size of a journal in bytes: 100,000 trials with several keys fit.
const MAX_JOURNAL: u64 = 1 << 28;

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// The first line: what the study is.
    Study(StudyRecord),
    /// A trial starts.
    Trial {
        /// Its number, from 0.
        trial: usize,
        /// The value of each key of the space, as TOML.
        values: Vec<String>,
    },
    /// A trial has reached a rung, or failed on the way.
    Result(ResultRecord),
}

/// What every decision of a study depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyRecord {
    /// Version of the format: 1.
    pub format: u32,
    /// How values are chosen.
    pub sampler: Sampler,
    /// Seed of the search.
    pub seed: u64,
    /// What is maximized.
    pub metric: String,
    /// Epochs at each rung.
    pub rungs: Vec<u32>,
    /// The part of the trials that goes on is one in `eta`.
    pub eta: u32,
    /// A line for each key and its values.
    pub space: Vec<String>,
    /// The resolved config that the trials vary.
    pub config: String,
}

/// The result of a trial at a rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// Number of the trial.
    pub trial: usize,
    /// The rung, from 0.
    pub rung: usize,
    /// Epochs trained in all; early stopping makes them fewer than those of the rung.
    pub epochs: u32,
    /// Epoch of the score.
    pub best_epoch: Option<u32>,
    /// The best validation metric so far; absent for a trial that failed.
    pub score: Option<f64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: fs::File,
    /// Its records.
    pub records: Vec<Record>,
    /// What was left out of the file, if anything.
    pub note: Option<String>,
}

impl Journal {
    /// Opens the journal at `path`, or creates it. A last line without an end, which a killed process
    /// left, is removed: nothing has followed from it.
    ///
    /// # Errors
    /// An input error that names a line that is no record; an I/O error with the path.
    pub fn open(path: &Path) -> Result<Self> {
        let is_new = !path.exists();
        let text = if is_new { String::new() } else { read_text(path)? };
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        let mut records = Vec::new();
        for (index, line) in text.get(..complete).unwrap_or_default().lines().enumerate() {
            let record = serde_json::from_str(line).map_err(|error| {
                let place = format!("{}:{}", path.display(), index + 1);
                input(format!("{place}: is no record of a study ({error}); choose another --out"))
            })?;
            records.push(record);
        }
        let mut file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let note = (complete < text.len()).then(|| {
            let shown = path.display();
            format!("{shown}: removed an unfinished last line of {} bytes", text.len() - complete)
        });
        file.set_len(complete as u64)?;
        file.seek(SeekFrom::End(0))?;
        if is_new {
            sync_folder_of(path)?;
        }
        Ok(Self { file, records, note })
    }

    /// Appends a record; when it returns, the record is on disk.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn append(&mut self, record: Record) -> Result<()> {
        let line = serde_json::to_string(&record).context("a record of a study")? + "\n";
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        self.records.push(record);
        Ok(())
    }
}

/// The text of a journal. A torn last line may be no UTF-8.
fn read_text(path: &Path) -> Result<String> {
    match read_small_text(path, MAX_JOURNAL, "the journal of a study") {
        Ok(text) => Ok(text),
        Err(error) => {
            let bytes = fs::read(path)?;
            let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let is_torn = complete < bytes.len() && bytes.len() as u64 <= MAX_JOURNAL;
            let text = String::from_utf8(bytes.get(..complete).unwrap_or_default().to_vec());
            // One byte stands for the torn line.
            text.ok().filter(|_| is_torn).map(|text| text + "?").ok_or(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(trial: usize) -> Record {
        Record::Trial { trial, values: vec!["0.1".to_owned(), "\"a\"".to_owned()] }
    }

    fn result(score: Option<f64>) -> Record {
        let error = score.is_none().then(|| "diverged\nat once".to_owned());
        Record::Result(ResultRecord { trial: 0, rung: 1, epochs: 3, best_epoch: Some(2), score, error })
    }

    #[test]
    fn records_are_read_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study.jsonl");
        let records = [trial(0), result(Some(0.1 + 0.2)), result(None)];
        for (count, record) in records.iter().enumerate() {
            let mut journal = Journal::open(&path).unwrap();
            assert_eq!(journal.records, records[..count]);
            journal.append(record.clone()).unwrap();
        }
        let journal = Journal::open(&path).unwrap();
        assert_eq!((journal.records.as_slice(), journal.note), (&records[..], None));
    }

    #[test]
    fn a_torn_last_line_is_removed_wherever_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study.jsonl");
        Journal::open(&path).unwrap().append(trial(0)).unwrap();
        let whole = fs::read(&path).unwrap();
        let torn = "{\"event\":\"trial\",\"trial\":1,\"values\":[\"é\"]}";
        for end in 1..=torn.len() {
            fs::write(&path, [&whole, &torn.as_bytes()[..end]].concat()).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            assert_eq!(journal.records, [trial(0)], "{end}");
            assert!(journal.note.as_ref().unwrap().contains("removed an unfinished last line"), "{:?}", journal.note);
            journal.append(trial(1)).unwrap();
            assert_eq!(Journal::open(&path).unwrap().records, [trial(0), trial(1)], "{end}");
        }
    }

    #[test]
    fn a_broken_line_within_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study.jsonl");
        for text in ["x\n{\"event\":\"trial\",\"trial\":0,\"values\":[]}\n", "{\"event\":\"none\"}\n"] {
            fs::write(&path, text).unwrap();
            let message = Journal::open(&path).unwrap_err().to_string();
            assert!(message.contains("study.jsonl:1: is no record of a study"), "{message}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "nothing is lost");
        }
    }
}
