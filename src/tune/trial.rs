//! Trains a run of a study up to a number of epochs.

use std::path::Path;

use anyhow::{Error, Result};

use crate::config::Config;
use crate::device::{self, MemoryAdvice};
use crate::report::Console;
use crate::run_dir::Summary;
use crate::sweep::runner::DatasetCache;
use crate::train::early_stopping::{Diverged, StopReason};
use crate::train::session::{PreparedRun, RunOptions};
use crate::util::error::is_input;
use crate::util::signals::Signals;

/// What a training ended with.
#[derive(Debug)]
pub enum Trained {
    /// It has reached its epochs, or early stopping has ended it.
    Done(Box<Summary>),
    /// It failed, as it would again: it diverged, or does not fit into memory, or the data.
    Failed(String),
    /// This signal interrupted it; it has saved its state.
    Interrupted(i32),
}

/// Trains the runs of a study in this process.
pub struct Runs<'a> {
    /// Signals that ask to stop.
    pub signals: &'a Signals,
    /// The command line, for the provenance of runs.
    pub command: &'a str,
    /// The command that resumes the study.
    pub resume_command: &'a str,
    /// The images, which all runs share.
    pub datasets: &'a mut DatasetCache,
}

impl Runs<'_> {
    /// Trains the run at `path` until it has `epochs` in all, from its checkpoint if it has one.
    ///
    /// # Errors
    /// What another attempt may not meet: a file that cannot be read or written, a run that is in use, a
    /// device that fails.
    pub fn train(&mut self, config: &Config, path: &Path, epochs: u32) -> Result<Trained> {
        let prepared = PreparedRun::new(config, Some(path), None)?;
        let data = self.datasets.get(config)?;
        let mut session = match prepared.begin(config, data, Some(path), self.signals) {
            // Of the memory that the config needs, or of its weights in `train.init`.
            Err(error) if is_input(&error) || is_out_of_memory(&error) => return Ok(failed(error)),
            result => result?,
        };
        let options = RunOptions {
            command: self.command.to_owned(),
            resume_command: self.resume_command,
            resume: false,
            profile: false,
            stop_after: Some(epochs),
        };
        match session.train(options, self.signals.clone(), &mut Console::default()) {
            Ok((StopReason::Interrupted(signal), _)) => Ok(Trained::Interrupted(signal)),
            Ok((_, summary)) => Ok(Trained::Done(Box::new(summary))),
            Err(error) if error.is::<Diverged>() || is_out_of_memory(&error) => Ok(failed(error)),
            Err(error) => Err(device::simplify_torch_error(error, MemoryAdvice::Training)),
        }
    }
}

/// An error as the result of a trial. The advice for a run that diverged is not one for a trial, whose
/// config is that of the study.
fn failed(error: Error) -> Trained {
    if let Some(Diverged { what, .. }) = error.downcast_ref() {
        return Trained::Failed(format!("{what}: training diverged"));
    }
    let error = device::simplify_torch_error(error, MemoryAdvice::Training);
    Trained::Failed(format!("{error:#}"))
}

fn is_out_of_memory(error: &Error) -> bool {
    device::is_out_of_memory(&format!("{error:#}"))
}
