//! The lock of a run directory: one process at a time writes to it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

/// Retries of a lock that is held: `grimace runs` holds it for a moment.
const RETRIES: u32 = 10;
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// The lock of a run directory, held until it is dropped or the process ends in any way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    /// Why the directory is not locked, if its file system does not support locks.
    pub unsupported: Option<String>,
}

impl Lock {
    /// Locks the file at `path` and writes the owner's process ID and the time to it.
    ///
    /// It is the operating system's advisory lock that counts, not the file: a file left by a
    /// killed process locks nobody out.
    ///
    /// # Errors
    /// If another process holds the lock, naming it; an I/O error with the path.
    pub fn acquire(path: &Path) -> Result<Self> {
        Self::acquire_with(path, File::try_lock)
    }

    /// [`acquire`](Self::acquire) for one of several processes that share the lock: it keeps out only
    /// those that want it alone.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_shared(path: &Path) -> Result<Self> {
        Self::acquire_with(path, File::try_lock_shared)
    }

    /// [`acquire`](Self::acquire) without waiting; `None` if another process holds the lock.
    ///
    /// # Errors
    /// An I/O error with the path, also of a file system without locks.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>> {
        let shown = path.display();
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file, unsupported: None })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {shown}")),
        }
    }

    fn acquire_with(path: &Path, try_lock: fn(&File) -> Result<(), TryLockError>) -> Result<Self> {
        let shown = path.display();
        let mut file = open(path)?;
        let mut tries = 0;
        let unsupported = loop {
            match try_lock(&file) {
                Ok(()) => break None,
                Err(TryLockError::WouldBlock) if tries < RETRIES => {
                    tries += 1;
                    std::thread::sleep(RETRY_DELAY);
                }
                Err(TryLockError::WouldBlock) => return Err(in_use_error(path, &mut file)),
                Err(TryLockError::Error(error)) => break Some(error.to_string()),
            }
        };
        let owner = format!("process {}, since {:.0}", std::process::id(), jiff::Timestamp::now());
        file.set_len(0)
            .and_then(|()| file.write_all(owner.as_bytes()))
            .with_context(|| format!("cannot write {shown}"))?;
        Ok(Self { _file: file, unsupported })
    }
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

fn in_use_error(path: &Path, file: &mut File) -> anyhow::Error {
    let mut owner = String::new();
    // Best effort: the owner may not have written its ID yet.
    let is_known = file.take(200).read_to_string(&mut owner).is_ok() && !owner.is_empty();
    let owner = if is_known { owner } else { "another process".to_owned() };
    let folder = path.parent().unwrap_or(path).display();
    anyhow!("{folder}: is in use by {owner}; wait for it to end, stop it, or choose another --out")
}

/// Whether a process holds the lock file at `path`, without acquiring it.
pub fn is_held(path: &Path) -> bool {
    // A shared lock, so that two processes that only check do not block each other.
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Why the file at `path` cannot be locked: the error of its file system.
pub(super) fn unsupported(path: &Path) -> Option<String> {
    let error = match File::open(path).map(|file| file.try_lock_shared()) {
        Ok(Ok(()) | Err(TryLockError::WouldBlock)) => return None,
        Ok(Err(TryLockError::Error(error))) | Err(error) => error,
    };
    Some(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_refused_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let lock = Lock::acquire(&path).unwrap();
        assert!(lock.unsupported.is_none());
        assert!(is_held(&path));
        let message = Lock::acquire(&path).unwrap_err().to_string();
        assert!(message.contains(&format!("is in use by process {}, since 2", std::process::id())), "{message}");
        drop(lock);
        assert!(!is_held(&path) && !is_held(&folder.path().join("none")));
        assert!(Lock::acquire(&path).is_ok(), "a lock file without an owner is not locked");
        let shared = [Lock::acquire_shared(&path).unwrap(), Lock::acquire_shared(&path).unwrap()];
        assert!(Lock::acquire(&path).is_err() && Lock::try_acquire(&path).unwrap().is_none());
        drop(shared);
        let alone = Lock::try_acquire(&path).unwrap();
        assert!(alone.is_some() && Lock::acquire_shared(&path).is_err());
    }
}
