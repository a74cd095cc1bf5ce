//! The directory of a study: the journal, a run directory for each trial, and the results.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

use super::journal::JournalLock;
use crate::run_dir::{LOCK_FILE, Lock, RunDir, STUDY_JSONL};
use crate::util::error::input;
use crate::util::files::is_temporary;

/// Folder of the files that processes lock to train a run.
const CLAIMS: &str = ".claims";

/// The directory, locked until the process ends.
#[derive(Debug)]
pub struct StudyDir {
    path: PathBuf,
    lock: Lock,
    /// Whether several processes share it.
    is_shared: bool,
}

/// The right to train a run, which ends with the process.
#[derive(Debug)]
pub struct Claim(Option<(PathBuf, Lock)>);

impl Claim {
    /// Gives it back. The journal must be locked.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn release(self, _lock: &JournalLock) -> Result<()> {
        // Processes claim with the journal locked, so none has opened the file and not yet locked it.
        self.0.map_or(Ok(()), |(path, _)| Ok(fs::remove_file(path)?))
    }
}

impl StudyDir {
    /// Creates and locks the directory, or with `resume` opens an existing one. With `is_shared`, other
    /// processes may do the same.
    ///
    /// # Errors
    /// An input error if the folder holds something else, or a study and `resume` is not set; an error
    /// if another process holds the lock.
    pub fn open(path: &Path, resume: bool, is_shared: bool) -> Result<Self> {
        let shown = path.display();
        let is_study = || path.join(STUDY_JSONL).is_file();
        RunDir::check_folder(path)?;
        // In this order: another process may create the study meanwhile.
        if !is_unused(path)? && !is_study() {
            return Err(input(format!("{shown}: exists and is not a study; choose another --out")));
        }
        let holds_study = format!("{shown}: holds a study; choose another --out, or resume it with --resume");
        if is_study() && !resume {
            return Err(input(holds_study));
        }
        fs::create_dir_all(path)?;
        let lock_path = path.join(LOCK_FILE);
        let lock = if is_shared { Lock::acquire_shared(&lock_path)? } else { Lock::acquire(&lock_path)? };
        // Another process may have started one meanwhile.
        if is_study() && !resume {
            return Err(input(holds_study));
        }
        Ok(Self { path: path.to_path_buf(), lock, is_shared })
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

    /// Claims the run `name` for this process; `None` if another process trains it. The journal must be
    /// locked.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn claim(&self, name: &str, _lock: &JournalLock) -> Result<Option<Claim>> {
        if !self.is_shared {
            return Ok(Some(Claim(None)));
        }
        let path = self.path.join(CLAIMS).join(name);
        fs::create_dir_all(self.path.join(CLAIMS))?;
        Ok(Lock::try_acquire(&path)?.map(|lock| Claim(Some((path, lock)))))
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
    use crate::tune::journal::Journal;

    #[test]
    fn only_a_study_is_resumed_and_nothing_else_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study");
        drop(StudyDir::open(&path, false, false).unwrap());
        drop(StudyDir::open(&path, false, false).unwrap());
        let held = StudyDir::open(&path, true, false).unwrap();
        assert!(StudyDir::open(&path, true, false).unwrap_err().to_string().contains("in use"));
        drop(held);
        fs::write(path.join(STUDY_JSONL), "").unwrap();
        assert!(StudyDir::open(&path, false, false).unwrap_err().to_string().contains("holds a study"));
        assert!(StudyDir::open(&path, true, false).is_ok());
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("notes.txt"), "").unwrap();
        assert!(StudyDir::open(&other, true, false).unwrap_err().to_string().contains("is not a study"));
    }

    #[test]
    fn a_run_is_claimed_by_one_of_the_processes_that_share_a_study() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study");
        let one = StudyDir::open(&path, true, true).unwrap();
        let journal = || Journal::open(&path.join(STUDY_JSONL), true).unwrap();
        let other = StudyDir::open(&path, true, true).unwrap();
        let lock = journal().lock().unwrap();
        assert!(StudyDir::open(&path, true, false).unwrap_err().to_string().contains("in use"));
        let claim = one.claim("a", &lock).unwrap().unwrap();
        assert!(other.claim("a", &lock).unwrap().is_none());
        assert!(other.claim("b", &lock).unwrap().is_some(), "and dropped at once, as by a process that dies");
        assert!(one.claim("b", &lock).unwrap().is_some());
        claim.release(&lock).unwrap();
        assert!(other.claim("a", &lock).unwrap().is_some());
        drop((one, other));
        let alone = StudyDir::open(&path, true, false).unwrap();
        assert!(alone.claim("a", &lock).unwrap().is_some() && alone.claim("a", &lock).unwrap().is_some());
    }
}
