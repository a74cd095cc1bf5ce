//! `study.jsonl`: what a study has decided and measured, one JSON object a line, appended and synced
//! before anything follows from it.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::halving::Scored;
use super::sampler::Sampler;
use crate::util::error::input;
use crate::util::files::sync_folder_of;

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
    /// A trial is to be trained up to a higher rung.
    Promotion {
        /// Number of the trial.
        trial: usize,
        /// The rung, from 1.
        rung: usize,
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
    /// Hash of the images.
    pub data_hash: String,
    /// Hash of the split into training and validation images.
    pub split_hash: String,
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

impl ResultRecord {
    /// The result, for decisions.
    pub fn scored(&self) -> Scored {
        Scored { trial: self.trial, rung: self.rung, score: self.score }
    }
}

/// An open journal. Several processes may append to it; each locks it, which reads what the others
/// have appended, decides, and appends.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: fs::File,
    /// Whether other processes append to it.
    is_shared: bool,
    /// End of the last record.
    end: u64,
    /// The records so far.
    pub records: Vec<Record>,
    /// What was left out of the file, if anything.
    pub note: Option<String>,
}

/// Keeps other processes from the journal until it is dropped.
#[derive(Debug)]
pub struct JournalLock(File);

impl Drop for JournalLock {
    fn drop(&mut self) {
        // Closing the file unlocks it too.
        drop(self.0.unlock());
    }
}

impl Journal {
    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the journal at `path`, or creates it. With `is_shared`, other processes append to it.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn open(path: &Path, is_shared: bool) -> Result<Self> {
        let file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        sync_folder_of(path)?;
        Ok(Self { path: path.to_path_buf(), file, is_shared, end: 0, records: Vec::new(), note: None })
    }

    /// Waits for other processes that have locked the journal, which none does for long, and reads
    /// what they have appended. A last line without an end, which a killed process left, is removed:
    /// nothing has followed from it.
    ///
    /// # Errors
    /// An input error that names a line that is no record; an I/O error with the path.
    pub fn lock(&mut self) -> Result<JournalLock> {
        let shown = self.path.display();
        let file = self.file.file().try_clone().with_context(|| format!("cannot open {shown}"))?;
        loop {
            match file.lock() {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if self.is_shared => return Err(error).with_context(|| format!("cannot lock {shown}")),
                // A file system without locks: a warning about the directory has been printed.
                Err(_) => break,
            }
        }
        self.read()?;
        Ok(JournalLock(file))
    }

    /// Reads the records after the last one.
    fn read(&mut self) -> Result<()> {
        let shown = self.path.display();
        let size = self.file.metadata()?.len();
        if size > MAX_JOURNAL {
            return Err(input(format!(
                "{shown}: has {size} bytes; expected at most {MAX_JOURNAL}: choose another --out"
            )));
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.read_to_end(&mut bytes)?;
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let torn = bytes.len() - complete;
        // An editor may have added blank lines.
        let records = bytes.get(..complete).unwrap_or_default().trim_ascii_end().len();
        let complete = if records == 0 { 0 } else { records + 1 };
        let lines = bytes.get(..complete).unwrap_or_default().split_inclusive(|byte| *byte == b'\n');
        for line in lines {
            let record = serde_json::from_slice(line).map_err(|error| {
                let number = self.records.len() + 1;
                input(format!("{shown}:{number}: is not a record of a study ({error}); choose another --out"))
            })?;
            self.records.push(record);
            self.end += line.len() as u64;
        }
        if complete < bytes.len() {
            let what = if torn > 0 {
                format!("an unfinished last line of {torn} bytes")
            } else {
                "blank lines at its end".into()
            };
            self.note = Some(format!("{shown}: removed {what}"));
            self.file.set_len(self.end)?;
        }
        Ok(())
    }

    /// Appends a record; when it returns, the record is on disk.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn append(&mut self, _lock: &JournalLock, record: Record) -> Result<()> {
        let line = serde_json::to_string(&record).context("a record of a study")? + "\n";
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        self.end += line.len() as u64;
        self.records.push(record);
        Ok(())
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

    /// The journal at `path`, as a process alone opens it.
    fn open(path: &Path) -> Result<(Journal, JournalLock)> {
        let mut journal = Journal::open(path, false)?;
        let lock = journal.lock()?;
        Ok((journal, lock))
    }

    #[test]
    fn records_are_read_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study.jsonl");
        let promotion = Record::Promotion { trial: 0, rung: 1 };
        let records = [trial(0), result(Some(0.1 + 0.2)), promotion, result(None)];
        for (count, record) in records.iter().enumerate() {
            let (mut journal, lock) = open(&path).unwrap();
            assert_eq!(journal.records, records[..count]);
            journal.append(&lock, record.clone()).unwrap();
        }
        let (journal, _lock) = open(&path).unwrap();
        assert_eq!((journal.records.as_slice(), journal.note), (&records[..], None));
    }

    #[test]
    fn a_torn_last_line_is_removed_wherever_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study.jsonl");
        let (mut journal, lock) = open(&path).unwrap();
        journal.append(&lock, trial(0)).unwrap();
        drop((journal, lock));
        let whole = fs::read(&path).unwrap();
        let torn = "{\"event\":\"trial\",\"trial\":1,\"values\":[\"é\"]}";
        for end in 1..=torn.len() {
            fs::write(&path, [&whole, &torn.as_bytes()[..end]].concat()).unwrap();
            let (mut journal, lock) = open(&path).unwrap();
            assert_eq!(journal.records, [trial(0)], "{end}");
            assert!(journal.note.as_ref().unwrap().contains("removed an unfinished last line"), "{:?}", journal.note);
            journal.append(&lock, trial(1)).unwrap();
            drop(lock);
            assert_eq!(open(&path).unwrap().0.records, [trial(0), trial(1)], "{end}");
        }
    }

    #[test]
    fn a_broken_line_within_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study.jsonl");
        for text in ["x\n{\"event\":\"trial\",\"trial\":0,\"values\":[]}\n", "{\"event\":\"none\"}\n"] {
            fs::write(&path, text).unwrap();
            let message = open(&path).unwrap_err().to_string();
            assert!(message.contains("study.jsonl:1: is not a record of a study"), "{message}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "nothing is lost");
        }
    }

    #[test]
    fn blank_lines_at_the_end_are_removed_and_within_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study.jsonl");
        let line = serde_json::to_string(&trial(0)).unwrap() + "\n";
        for blank in ["\n", "\n \n\n", "\r\n", "\n  "] {
            fs::write(&path, format!("{line}{blank}")).unwrap();
            let (mut journal, lock) = open(&path).unwrap();
            assert!(journal.note.as_ref().unwrap().contains("removed "), "{:?}", journal.note);
            journal.append(&lock, trial(1)).unwrap();
            drop(lock);
            assert_eq!(open(&path).unwrap().0.records, [trial(0), trial(1)], "{blank:?}");
        }
        fs::write(&path, format!("{line}\n{line}")).unwrap();
        let message = open(&path).unwrap_err().to_string();
        assert!(message.contains("study.jsonl:2: is not a record of a study"), "{message}");
    }

    #[test]
    fn processes_take_turns_and_read_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study.jsonl");
        const EACH: usize = 25;
        let append = || {
            let mut journal = Journal::open(&path, true).unwrap();
            for _ in 0..EACH {
                let lock = journal.lock().unwrap();
                let next = trial(journal.records.len());
                journal.append(&lock, next).unwrap();
            }
        };
        std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(append))));
        let expected: Vec<Record> = (0..3 * EACH).map(trial).collect();
        assert_eq!(open(&path).unwrap().0.records, expected);
    }
}
