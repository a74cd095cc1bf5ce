//! The directory of a study: the journal, a run directory for each trial, and the results.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

use crate::run_dir::{LOCK_FILE, Lock, RunDir, STUDY_JSONL};
use crate::util::error::input;
use crate::util::files::is_temporary;

/// The directory, locked until the process ends.
#[derive(Debug)]
pub struct StudyDir {
    path: PathBuf,
    lock: Lock,
}

impl StudyDir {
    /// Creates and locks the directory, or with `resume` opens an existing one.
    ///
    /// # Errors
    /// An input error if the folder holds something else, or a study and `resume` is not set; an error
    /// if another process holds the lock.
    pub fn open(path: &Path, resume: bool) -> Result<Self> {
        let shown = path.display();
        let is_study = || path.join(STUDY_JSONL).is_file();
        RunDir::check_folder(path)?;
        if !is_study() && !is_unused(path)? {
            return Err(input(format!("{shown}: exists and is not a study; choose another --out")));
        }
        let holds_study = format!("{shown}: holds a study; choose another --out, or resume it with --resume");
        if is_study() && !resume {
            return Err(input(holds_study));
        }
        fs::create_dir_all(path)?;
        let lock = Lock::acquire(&path.join(LOCK_FILE))?;
        // Another process may have started one meanwhile.
        if is_study() && !resume {
            return Err(input(holds_study));
        }
        Ok(Self { path: path.to_path_buf(), lock })
    }

    /// Creates `runs/tune-<UTC time>`, or with `resume` finds the newest one.
    ///
    /// # Errors
    /// An input error if there is none to resume.
    pub fn default_path(resume: bool) -> Result<PathBuf> {
        if resume {
            RunDir::find_latest("tune", |path| path.join(STUDY_JSONL).exists())
        } else {
            RunDir::create_default_folder("tune")
        }
    }

    /// Why the directory is not locked, on a file system without locks.
    pub fn unlocked_reason(&self) -> Option<&str> {
        self.lock.unsupported.as_deref()
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Run directory of a trial.
    pub fn trial(&self, number: usize) -> PathBuf {
        self.path.join(trial_name(number))
    }
}

/// Name of a trial and of its run directory.
pub fn trial_name(number: usize) -> String {
    format!("trial{number:03}")
}

/// Whether there is nothing at `path` but what a study leaves that died as it started.
fn is_unused(path: &Path) -> Result<bool> {
    if !path.exists() {
        return Ok(true);
    }
    let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    Ok(names.iter().all(|name| name == LOCK_FILE || is_temporary(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_study_is_resumed_and_nothing_else_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study");
        drop(StudyDir::open(&path, false).unwrap());
        drop(StudyDir::open(&path, false).unwrap());
        let held = StudyDir::open(&path, true).unwrap();
        assert!(StudyDir::open(&path, true).unwrap_err().to_string().contains("in use"));
        drop(held);
        fs::write(path.join(STUDY_JSONL), "").unwrap();
        assert!(StudyDir::open(&path, false).unwrap_err().to_string().contains("holds a study"));
        assert!(StudyDir::open(&path, true).is_ok());
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("notes.txt"), "").unwrap();
        assert!(StudyDir::open(&other, true).unwrap_err().to_string().contains("is not a study"));
    }
}
