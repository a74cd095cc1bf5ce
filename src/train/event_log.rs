//! Writes the metrics of finished epochs to a TensorBoard event file.

use std::path::Path;

use anyhow::Result;

use crate::config::Config;
use crate::report::tensorboard::{EventFile, config_hparams};
use crate::run_dir::checkpoint::State;

/// The event file of a run, in step with its metrics.
#[derive(Debug, Default)]
pub struct EventLog {
    file: Option<EventFile>,
    /// Number of epochs written.
    epochs: usize,
    /// End of the last of them, in seconds since the Unix epoch.
    time: f64,
}

impl EventLog {
    /// Appends new epochs. A new process, and a run that was rolled back, start a new file, since
    /// events cannot be removed.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn sync(&mut self, folder: &Path, config: &Config, state: &State) -> Result<()> {
        let mut file = match self.file.take() {
            Some(file) if self.epochs <= state.records.len() => file,
            _ => self.start_file(folder, config, state)?,
        };
        for record in state.records.iter().skip(self.epochs) {
            self.time += record.seconds;
            file.epoch(record, self.time)?;
        }
        self.epochs = state.records.len();
        self.file = Some(file);
        Ok(())
    }

    fn start_file(&mut self, folder: &Path, config: &Config, state: &State) -> Result<EventFile> {
        // Times are those of a run without interruption that has reached this point now.
        let trained = state.seconds + state.epoch_seconds;
        let start = (jiff::Timestamp::now().as_duration().as_secs_f64() - trained).max(0.0);
        let mut file = EventFile::create(folder, start)?;
        file.hparams(&config_hparams(config)?)?;
        (self.epochs, self.time) = (0, start);
        Ok(file)
    }

    /// Marks the run as finished.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn finish(&mut self) -> Result<()> {
        self.file.as_mut().map_or(Ok(()), EventFile::end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;
    use crate::metrics::epoch::EpochMetrics;
    use crate::run_dir::event_files;

    #[test]
    fn a_rolled_back_run_gets_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let text = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n";
        let config: Config = from_text(text, "x.toml").unwrap();
        let metrics = |epoch| EpochMetrics {
            epoch,
            lr: 0.1,
            loss: 1.0,
            accuracy: 0.5,
            val_loss: 1.0,
            val_accuracy: 0.5,
            val_accuracy_dedup: None,
            val_macro_f1: None,
            seconds: 1.5,
            images_per_second: 10.0,
        };
        let state = |epochs| State { records: (1..=epochs).map(metrics).collect(), ..State::default() };
        let mut log = EventLog::default();
        let mut sync = |epochs| {
            log.sync(folder.path(), &config, &state(epochs)).unwrap();
            let (_, path) = event_files(folder.path()).unwrap().pop().unwrap();
            let size = fs_err::metadata(&path).unwrap().len();
            (path, size)
        };
        let (first, two) = sync(2);
        let (same, three) = sync(3);
        assert!(first == same && three > two, "one file grows");
        assert_eq!(sync(3), (same, three), "no epoch is written twice");
        let (later, again) = sync(2);
        assert!(later > first && again == two, "rolled back");
        assert_eq!(sync(3).1, three);
    }
}
