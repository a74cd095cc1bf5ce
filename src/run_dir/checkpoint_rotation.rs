//! The checkpoints of a run: last, previous, best and rollback.

use std::path::Path;

use anyhow::Result;
use fs_err as fs;
use tch::Tensor;

use super::RunDir;
use super::checkpoint::{self, Checkpoint, State};
use crate::util::container::{LoadError, is_version_mismatch};
use crate::util::error::input;
use crate::util::files::{link_atomically, replace_atomically_after};

/// The newest usable checkpoint of a run.
#[derive(Debug)]
pub struct LatestCheckpoint {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// A warning for the log if a newer checkpoint is missing or corrupt.
    pub warning: Option<String>,
}

impl RunDir {
    /// Writes `last.safetensors` and gives the old one the name `previous.safetensors`. At any
    /// moment at least one of them is complete.
    ///
    /// # Errors
    /// An I/O error with the path; existing files are kept.
    pub fn save_last(&self, config: &str, state: &State, tensors: &[(String, Tensor)]) -> Result<()> {
        let bytes = checkpoint::to_bytes(config, state, tensors)?;
        // The new file is on disk before the old one gets the name `previous.safetensors`.
        let write = |temporary: &Path| Ok(fs::write(temporary, &bytes)?);
        let rotate = || self.link_last(&self.previous_safetensors());
        replace_atomically_after(&self.last_safetensors(), write, rotate)
    }

    /// Keeps the newest checkpoint as the one to roll back to after a divergence.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn keep_for_rollback(&self) -> Result<()> {
        self.link_last(&self.rollback_safetensors())
    }

    /// Loads the checkpoint to roll back to: that of the last finished epoch, or else the newest.
    ///
    /// # Errors
    /// As [`latest_checkpoint`](Self::latest_checkpoint).
    pub fn rollback_checkpoint(&self) -> Result<Option<LatestCheckpoint>> {
        let rollback = self.rollback_safetensors();
        if !rollback.exists() {
            return self.latest_checkpoint();
        }
        match checkpoint::try_load(&rollback) {
            Ok(checkpoint) => Ok(Some(LatestCheckpoint { checkpoint, warning: None })),
            Err(LoadError::Open(error)) => Err(error),
            Err(LoadError::Unusable(error)) => {
                let problem = checkpoint::describe_unusable(&rollback, &error);
                let warning = format!("warning: {problem}; rolling back to the newest checkpoint instead");
                Ok(self.latest_checkpoint()?.map(|latest| LatestCheckpoint { warning: Some(warning), ..latest }))
            }
        }
    }

    /// Gives `last.safetensors`, if it exists, a second name.
    fn link_last(&self, name: &Path) -> Result<()> {
        let last = self.last_safetensors();
        if last.exists() { link_atomically(&last, name) } else { Ok(()) }
    }

    /// Loads the newest usable checkpoint; `None` if there is none at all.
    ///
    /// A corrupt `last.safetensors` is renamed, since the next checkpoint would replace the good
    /// `previous.safetensors` with it.
    ///
    /// # Errors
    /// An input error if no checkpoint is usable, or the newest has another format version.
    pub fn latest_checkpoint(&self) -> Result<Option<LatestCheckpoint>> {
        let (last, previous) = (self.last_safetensors(), self.previous_safetensors());
        let problem = if last.exists() {
            match checkpoint::try_load(&last) {
                Ok(checkpoint) => return Ok(Some(LatestCheckpoint { checkpoint, warning: None })),
                // Of another version, it is not corrupt: keep it, and do not fall back to an older
                // state.
                Err(LoadError::Open(error)) => return Err(error),
                Err(LoadError::Unusable(error)) if is_version_mismatch(&error) || !previous.exists() => {
                    return Err(checkpoint::unusable(&last, &error));
                }
                Err(LoadError::Unusable(error)) => checkpoint::describe_unusable(&last, &error),
            }
        } else if previous.exists() {
            format!("{}: is missing", last.display())
        } else {
            return Ok(None);
        };
        let checkpoint = match checkpoint::try_load(&previous) {
            Ok(checkpoint) => checkpoint,
            Err(LoadError::Open(error)) => return Err(error),
            Err(LoadError::Unusable(error)) => {
                return Err(input(format!("{problem}; {}", checkpoint::unusable(&previous, &error))));
            }
        };
        if last.exists() {
            fs::rename(&last, self.path.join("corrupt-last.safetensors"))?;
        }
        let warning = format!("warning: {problem}; resuming from {} instead", previous.display());
        Ok(Some(LatestCheckpoint { checkpoint, warning: Some(warning) }))
    }

    /// Loads the best checkpoint, if there is one.
    ///
    /// # Errors
    /// An input error if it is not usable.
    pub fn best_checkpoint(&self) -> Result<Option<Checkpoint>> {
        let best = self.best_safetensors();
        if !best.exists() {
            return Ok(None);
        }
        checkpoint::load(&best).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    const CONFIG: &str = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n";

    #[test]
    fn a_corrupt_last_falls_back_to_previous() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(&folder.path().join("run")).unwrap();
        assert!(dir.latest_checkpoint().unwrap().is_none());
        let tensors = vec![("a".to_owned(), Tensor::zeros([4], (Kind::Float, Device::Cpu)))];
        let save = |step| dir.save_last(CONFIG, &State { step, ..State::default() }, &tensors).unwrap();
        let latest = || {
            let found = dir.latest_checkpoint().unwrap().unwrap();
            (found.checkpoint.state.step, found.warning)
        };
        save(1);
        assert!(!dir.previous_safetensors().exists());
        save(2);
        // The state after a kill between the hard link and the rename.
        fs::remove_file(dir.previous_safetensors()).unwrap();
        fs::hard_link(dir.last_safetensors(), dir.previous_safetensors()).unwrap();
        save(3);
        assert_eq!(latest(), (3, None));
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !crate::util::files::is_temporary(&name)), "no link is left behind");
        fs::write(dir.last_safetensors(), "half").unwrap();
        let (step, warning) = latest();
        assert_eq!(step, 2);
        assert!(warning.is_some_and(|text| text.contains("last.safetensors") && text.contains("previous.safetensors")));
        assert_eq!((latest().0, dir.last_safetensors().exists()), (2, false), "the corrupt file is renamed");
        save(4);
        assert_eq!(latest(), (4, None));
        fs::write(dir.last_safetensors(), "half").unwrap();
        fs::write(dir.previous_safetensors(), "half").unwrap();
        let message = dir.latest_checkpoint().unwrap_err().to_string();
        assert!(message.contains("last.safetensors") && message.contains("previous.safetensors"), "{message}");
    }
}
