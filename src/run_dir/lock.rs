//! One process at a time works in a run directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

/// How often, and after how long, a lock that somebody holds is tried again.
const LOOKS: u32 = 10;
const LOOK: Duration = Duration::from_millis(10);

/// The lock of a run directory, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    /// Why the directory could not be locked, where its file system has no locks.
    pub refused: Option<String>,
}

impl Lock {
    /// Takes the lock file at `path`, and writes into it who has it.
    ///
    /// The system's advisory lock counts, not the file: what a killed process leaves behind locks nobody out.
    ///
    /// # Errors
    /// When another process has it, saying which; an I/O error with the path.
    pub fn take(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.with_context(|| format!("cannot open {shown}"))?;
        let mut tries = 0;
        let refused = loop {
            match file.try_lock() {
                Ok(()) => break None,
                // Who lists runs holds it for a moment.
                Err(TryLockError::WouldBlock) if tries < LOOKS => {
                    tries += 1;
                    std::thread::sleep(LOOK);
                }
                Err(TryLockError::WouldBlock) => return Err(in_use(path, &mut file)),
                Err(TryLockError::Error(error)) => break Some(error.to_string()),
            }
        };
        let owner = format!("process {}, since {:.0}", std::process::id(), jiff::Timestamp::now());
        file.set_len(0)
            .and_then(|()| file.write_all(owner.as_bytes()))
            .with_context(|| format!("cannot write {shown}"))?;
        Ok(Self { _file: file, refused })
    }
}

fn in_use(path: &Path, file: &mut File) -> anyhow::Error {
    let mut owner = String::new();
    // Who it is helps, but is not needed: the owner may be about to write it.
    let known = file.take(200).read_to_string(&mut owner).is_ok() && !owner.is_empty();
    let owner = if known { owner } else { "another process".to_owned() };
    let folder = path.parent().unwrap_or(path).display();
    anyhow!("{folder}: is in use by {owner}; wait for it to end, stop it, or train into another --out")
}

/// Whether a process works in the directory of this lock file; it is not taken.
pub fn is_held(path: &Path) -> bool {
    // Shared, so that two who only look do not see each other.
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_the_next_is_told_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let lock = Lock::take(&path).unwrap();
        assert!(lock.refused.is_none());
        assert!(is_held(&path));
        let message = Lock::take(&path).unwrap_err().to_string();
        assert!(message.contains(&format!("is in use by process {}, since 2", std::process::id())), "{message}");
        drop(lock);
        assert!(!is_held(&path) && !is_held(&folder.path().join("none")));
        assert!(Lock::take(&path).is_ok(), "a lock file without an owner is free");
    }
}
