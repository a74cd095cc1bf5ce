//! The checkpoints of a run: the newest, the one before it, the best.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use tch::Tensor;

use super::RunDir;
use super::checkpoint::{self, Checkpoint, State};
use crate::util::error::input;
use crate::util::files::{replace_atomically_after, temporary_beside, write_atomically};

/// The newest checkpoint of a run that is whole.
#[derive(Debug)]
pub struct Newest {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// What its user should know: that it is not the newest that was written.
    pub warning: Option<String>,
}

impl RunDir {
    /// Writes `last.safetensors`; the one that was there becomes `previous.safetensors`. At every moment, whatever
    /// happens, one of the two is whole.
    ///
    /// # Errors
    /// An I/O error with the path; the files that were there stay.
    pub fn save_last(&self, config: &str, state: &State, tensors: &[(String, Tensor)]) -> Result<()> {
        let bytes = checkpoint::to_bytes(config, state, tensors)?;
        // The new one is on the disk before the old one changes its name: at no moment is there one alone.
        let write = |temporary: &Path| Ok(fs::write(temporary, &bytes)?);
        replace_atomically_after(&self.last(), write, || self.keep_last_as(&self.previous()))
    }

    /// Marks the newest checkpoint as the one that a divergence goes back to.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn keep_for_rollback(&self) -> Result<()> {
        self.keep_last_as(&self.rollback())
    }

    /// The checkpoint that a divergence goes back to: that of the last epoch's end, or else the newest.
    ///
    /// # Errors
    /// As [`newest_checkpoint`](Self::newest_checkpoint).
    pub fn rollback_checkpoint(&self) -> Result<Option<Newest>> {
        let rollback = self.rollback();
        if !rollback.exists() {
            return self.newest_checkpoint();
        }
        match checkpoint::load_unless_damaged(&rollback)? {
            Ok(checkpoint) => Ok(Some(Newest { checkpoint, warning: None })),
            Err(damage) => {
                let trouble = checkpoint::not_usable(&rollback, &damage);
                let warning = format!("warning: {trouble}; going back to the newest checkpoint instead");
                Ok(self.newest_checkpoint()?.map(|newest| Newest { warning: Some(warning), ..newest }))
            }
        }
    }

    /// Gives the newest checkpoint, where there is one, a second name.
    fn keep_last_as(&self, name: &Path) -> Result<()> {
        if !self.last().exists() {
            return Ok(());
        }
        // The file itself, where `last` is a symbolic link: a link to that would follow it to the next one.
        let last = fs::canonicalize(self.last())?;
        let link = temporary_beside(name)?;
        if std::fs::hard_link(&last, &link).is_err() {
            // A file system without links: a copy does as well.
            return write_atomically(name, &fs::read(&last)?);
        }
        fs::rename(&link, name).with_context(|| format!("cannot write {}", name.display()))?;
        // Where both names meant one file already (a process killed right here), POSIX has rename do nothing.
        if link.exists() {
            fs::remove_file(&link)?;
        }
        Ok(())
    }

    /// The newest checkpoint that is whole; `None` where there is none at all. A damaged one is put aside, since the next
    /// that is written would make it the previous one.
    ///
    /// # Errors
    /// An input error when every one that is there is damaged; an I/O error with the path.
    pub fn newest_checkpoint(&self) -> Result<Option<Newest>> {
        let (last, previous) = (self.last(), self.previous());
        let trouble = if last.exists() {
            match checkpoint::load_unless_damaged(&last)? {
                Ok(checkpoint) => return Ok(Some(Newest { checkpoint, warning: None })),
                Err(damage) => checkpoint::not_usable(&last, &damage),
            }
        } else if previous.exists() {
            format!("{}: is missing", last.display())
        } else {
            return Ok(None);
        };
        let refused = |trouble: String| Err(input(format!("{trouble}; {}", checkpoint::DAMAGED_ADVICE)));
        if !previous.exists() {
            return refused(trouble);
        }
        let checkpoint = match checkpoint::load_unless_damaged(&previous)? {
            Ok(checkpoint) => checkpoint,
            Err(damage) => return refused(format!("{trouble}; {}", checkpoint::not_usable(&previous, &damage))),
        };
        if last.exists() {
            fs::rename(&last, self.path.join("damaged-last.safetensors"))?;
        }
        let warning = format!("warning: {trouble}; going on from {}, the one before it", previous.display());
        Ok(Some(Newest { checkpoint, warning: Some(warning) }))
    }

    /// The best checkpoint, where there is one.
    ///
    /// # Errors
    /// An input error when it is damaged.
    pub fn best_checkpoint(&self) -> Result<Option<Checkpoint>> {
        if !self.best().exists() {
            return Ok(None);
        }
        checkpoint::load(&self.best()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    const CONFIG: &str = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n";

    #[test]
    fn a_damaged_last_falls_back_to_the_previous_one() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(&folder.path().join("run")).unwrap();
        assert!(dir.newest_checkpoint().unwrap().is_none());
        let tensors = vec![("a".to_owned(), Tensor::zeros([4], (Kind::Float, Device::Cpu)))];
        let save = |step| dir.save_last(CONFIG, &State { step, ..State::default() }, &tensors).unwrap();
        let newest = || {
            let found = dir.newest_checkpoint().unwrap().unwrap();
            (found.checkpoint.state.step, found.warning)
        };
        save(1);
        assert!(!dir.previous().exists());
        save(2);
        // As a process leaves it that is killed between the two names.
        fs::remove_file(dir.previous()).unwrap();
        fs::hard_link(dir.last(), dir.previous()).unwrap();
        save(3);
        assert_eq!(newest(), (3, None));
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !crate::util::files::is_temporary(&name)), "no link is left behind");
        fs::write(dir.last(), "half").unwrap();
        let (step, warning) = newest();
        assert_eq!(step, 2);
        assert!(warning.is_some_and(|text| text.contains("last.safetensors") && text.contains("previous.safetensors")));
        assert_eq!((newest().0, dir.last().exists()), (2, false), "it is put aside, and still found");
        save(4);
        assert_eq!(newest(), (4, None));
        fs::write(dir.last(), "half").unwrap();
        fs::write(dir.previous(), "half").unwrap();
        let message = dir.newest_checkpoint().unwrap_err().to_string();
        assert!(message.contains("last.safetensors") && message.contains("previous.safetensors"), "{message}");
    }
}
