//! What TensorBoard is told of a run: just the records that the run has.

use std::path::Path;

use anyhow::Result;

use crate::config::Config;
use crate::report::tensorboard::{EventFile, hyperparameters_of};
use crate::run_dir::checkpoint::State;

/// The event file of a run.
#[derive(Debug, Default)]
pub struct Events {
    file: Option<EventFile>,
    /// How many records it has.
    epochs: usize,
    /// When the last of them ended, in seconds since 1970.
    time: f64,
}

impl Events {
    /// Adds the records that are new. A process that begins, or a run that went back to an earlier epoch, begins the file anew: what
    /// was written cannot be taken out.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn follow(&mut self, folder: &Path, config: &Config, state: &State) -> Result<()> {
        let mut file = match self.file.take() {
            Some(file) if self.epochs <= state.records.len() => file,
            _ => self.begin(folder, config, state)?,
        };
        for record in state.records.iter().skip(self.epochs) {
            self.time += record.seconds;
            file.epoch(record, self.time)?;
        }
        self.epochs = state.records.len();
        self.file = Some(file);
        Ok(())
    }

    fn begin(&mut self, folder: &Path, config: &Config, state: &State) -> Result<EventFile> {
        // As if it had been trained without a break up to now.
        let trained = state.seconds + state.epoch_seconds;
        let start = (jiff::Timestamp::now().as_duration().as_secs_f64() - trained).max(0.0);
        let mut file = EventFile::create(folder, start)?;
        file.hyperparameters(&hyperparameters_of(config)?)?;
        (self.epochs, self.time) = (0, start);
        Ok(file)
    }

    /// Says that the run came to its end.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn end(&mut self) -> Result<()> {
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
    fn a_run_that_went_back_gets_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let text = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n";
        let config: Config = from_text(text, "x.toml").unwrap();
        let record = |epoch| EpochMetrics {
            epoch,
            lr: 0.1,
            loss: 1.0,
            accuracy: 0.5,
            val_loss: 1.0,
            val_accuracy: 0.5,
            val_accuracy_dedup: None,
            seconds: 1.5,
            images_per_second: 10.0,
        };
        let state = |epochs| State { records: (1..=epochs).map(record).collect(), ..State::default() };
        let mut events = Events::default();
        let mut follow = |epochs| {
            events.follow(folder.path(), &config, &state(epochs)).unwrap();
            let (_, path) = event_files(folder.path()).unwrap().pop().unwrap();
            let size = fs_err::metadata(&path).unwrap().len();
            (path, size)
        };
        let (first, two) = follow(2);
        let (same, three) = follow(3);
        assert!(first == same && three > two, "one file grows");
        assert_eq!(follow(3), (same, three), "nothing is told twice");
        let (later, again) = follow(2);
        assert!(later > first && again == two, "taken back");
        assert_eq!(follow(3).1, three);
    }
}
