//! Training the members of a sweep one after another, in this process.

use anyhow::{Context, Result};

use super::plan::Member;
use super::sweep_dir::{Progress, SweepDir};
use crate::config::Config;
use crate::data::config::{DataConfig, Validation};
use crate::data::dataset::{self, Dataset};
use crate::device;
use crate::report::Console;
use crate::run_dir::{RunDir, Summary};
use crate::train::early_stopping::Stopped;
use crate::train::final_report;
use crate::train::session::{Manner, Opening};
use crate::util::signals::Signals;

/// The faces of the last config, since the next one mostly wants the same.
#[derive(Debug, Default)]
pub struct Faces {
    last: Option<(DataConfig, u64, Dataset)>,
}

impl Faces {
    /// The faces of a config, read unless they are those of the last one.
    ///
    /// # Errors
    /// As [`dataset::load`].
    pub fn of(&mut self, config: &Config) -> Result<&Dataset> {
        self.of_data(&config.data, config.seed)
    }

    /// As [`of`](Self::of), for `[data]` of any config.
    ///
    /// # Errors
    /// As [`dataset::load`].
    pub fn of_data(&mut self, data: &DataConfig, seed: u64) -> Result<&Dataset> {
        // Rows that are named do not hang on a seed.
        let is_drawn = matches!(data.validation, Validation::Fraction(_));
        let split = if is_drawn { data.split_seed.unwrap_or(seed) } else { 0 };
        // Nothing but the rows that are trained and validated on matters here.
        let wanted = DataConfig { test: None, split_seed: None, ..data.clone() };
        if self.last.as_ref().is_none_or(|(known, seed, _)| *known != wanted || *seed != split) {
            // The old ones go first: two data sets need not fit into memory.
            self.last = None;
            self.last = Some((wanted, split, dataset::load(data, seed)?));
        }
        self.last.as_ref().map(|(.., faces)| faces).context("the faces were just read")
    }
}

/// Trains members one after another.
pub struct Trainer<'a> {
    /// The sweep's directory.
    pub dir: &'a SweepDir,
    /// Those that ask to stop.
    pub signals: &'a Signals,
    /// The command line, for the record.
    pub command: &'a str,
    /// The command that goes on with the sweep.
    pub again: &'a str,
    /// Whether other processes train members of the same sweep: those that they have are left to them.
    pub among_others: bool,
}

impl Trainer<'_> {
    /// Trains every member that is not finished; the signal that stopped it. A member that fails is noted, and the next one's
    /// turn comes.
    ///
    /// # Errors
    /// What concerns the sweep as a whole: a finished member of another config, a folder that cannot be written to.
    pub fn train(&self, members: &[Member], faces: &mut Faces) -> Result<Option<i32>> {
        let mut console = Console::default();
        for (number, member) in members.iter().enumerate() {
            if let Some(signal) = self.signals.received() {
                return Ok(Some(signal));
            }
            let place = format!("{} of {}: {}", number + 1, members.len(), member.folder);
            // In a sweep of several processes one try is enough.
            if self.among_others && self.dir.has_failed(member) {
                continue;
            }
            if let Progress::Finished(summary) = self.dir.progress(member)? {
                if !self.among_others {
                    let best = summary.best_val_accuracy.map_or("-".to_owned(), |best| format!("{best:.4}"));
                    console.line(&format!("{place}: finished before, best validation accuracy {best}"))?;
                }
                continue;
            }
            match self.train_one(member, &place, faces) {
                Ok(Some(Stopped::Interrupted(signal))) => return Ok(Some(signal)),
                Ok(_) => {}
                Err(error) => {
                    console.line(&format!("{}: failed: {error:#}", member.folder))?;
                    self.dir.note_failure(member, &error)?;
                }
            }
        }
        Ok(None)
    }

    /// Writes the reports that finished members lack: those of runs that died just before, or that an older version trained. One
    /// that cannot be written is told.
    ///
    /// # Errors
    /// As [`SweepDir::progress`].
    pub fn report_missing(&self, members: &[Member], faces: &mut Faces) -> Result<()> {
        for member in members {
            let Progress::Finished(summary) = self.dir.progress(member)? else { continue };
            let run = RunDir::open(&self.dir.member(member))?;
            if (run.report_html().exists() && run.validation_csv().exists()) || summary.best_epoch.is_none() {
                continue;
            }
            let shown = run.report_html().display().to_string();
            let line = match Self::report(&run, member, &summary, faces) {
                Ok(()) => format!("report: {shown}"),
                Err(error) => format!("warning: {shown} cannot be written: {error:#}"),
            };
            Console::default().line(&line)?;
        }
        Ok(())
    }

    fn report(run: &RunDir, member: &Member, summary: &Summary, faces: &mut Faces) -> Result<()> {
        let config = &member.config;
        let placement = device::place(config.device, config.precision, config.threads)?;
        final_report::report(run, config, faces.of(config)?, summary, placement.device)
    }

    /// Trains a member; `None` when another process has it.
    fn train_one(&self, member: &Member, place: &str, faces: &mut Faces) -> Result<Option<Stopped>> {
        let (config, path) = (&member.config, self.dir.member(member));
        // Another process may take the member between our look at it and our hand on it.
        let is_taken = || self.among_others && RunDir::is_in_use(&path);
        let opening = match Opening::new(config, Some(&path)) {
            Err(_) if is_taken() => return Ok(None),
            other => other?,
        };
        let data = faces.of(config)?;
        let mut session = match opening.begin(config, data, Some(&path), self.signals) {
            Err(_) if is_taken() => return Ok(None),
            other => other?,
        };
        self.dir.forget_failure(member)?;
        let mut console = Console::default();
        if self.among_others {
            console.label(&member.folder);
        } else {
            console.line(&format!("{place}: training"))?;
        }
        let manner = Manner { command: self.command.to_owned(), again: self.again, resume: false, profile: false };
        session.train(manner, self.signals.clone(), &mut console).map(|(stopped, _)| Some(stopped))
    }
}
