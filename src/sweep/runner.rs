//! Training the planned_runs of a sweep one after another, in this process.

use anyhow::{Context, Result};

use super::plan::PlannedRun;
use super::sweep_dir::{Progress, SweepDir};
use crate::config::Config;
use crate::data::config::{DataConfig, Validation};
use crate::data::dataset::{self, Dataset};
use crate::device;
use crate::report::Console;
use crate::run_dir::{RunDir, Summary};
use crate::train::early_stopping::Stopped;
use crate::train::final_report;
use crate::train::session::{PreparedRun, RunOptions};
use crate::util::signals::Signals;

/// The images of the last config, since the next one mostly wants the same.
#[derive(Debug, Default)]
pub struct DatasetCache {
    last: Option<(DataConfig, u64, Dataset)>,
}

impl DatasetCache {
    /// The images of a config, read unless they are those of the last one.
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
        self.last.as_ref().map(|(.., datasets)| datasets).context("the images were just read")
    }
}

/// Trains planned_runs one after another.
pub struct Trainer<'a> {
    /// The sweep's directory.
    pub dir: &'a SweepDir,
    /// Those that ask to stop.
    pub signals: &'a Signals,
    /// The command line, for the record.
    pub command: &'a str,
    /// The command that goes on with the sweep.
    pub resume_command: &'a str,
    /// Whether other processes train planned_runs of the same sweep: those that they have are left to them.
    pub among_others: bool,
}

impl Trainer<'_> {
    /// Trains every planned_run that is not finished; the signal that stopped it. A planned_run that fails is noted, and the next one's
    /// turn comes.
    ///
    /// # Errors
    /// What concerns the sweep as a whole: a finished planned_run of another config, a folder that cannot be written to.
    pub fn train(&self, planned_runs: &[PlannedRun], datasets: &mut DatasetCache) -> Result<Option<i32>> {
        let mut console = Console::default();
        for (number, planned_run) in planned_runs.iter().enumerate() {
            if let Some(signal) = self.signals.received() {
                return Ok(Some(signal));
            }
            let place = format!("{} of {}: {}", number + 1, planned_runs.len(), planned_run.folder);
            // In a sweep of several processes one try is enough.
            if self.among_others && self.dir.has_failed(planned_run) {
                continue;
            }
            if let Progress::Finished(summary) = self.dir.progress(planned_run)? {
                if !self.among_others {
                    let best = summary.best_val_accuracy.map_or("-".to_owned(), |best| format!("{best:.4}"));
                    console.line(&format!("{place}: finished before, best validation accuracy {best}"))?;
                }
                continue;
            }
            match self.train_one(planned_run, &place, datasets) {
                Ok(Some(Stopped::Interrupted(signal))) => return Ok(Some(signal)),
                Ok(_) => {}
                Err(error) => {
                    console.line(&format!("{}: failed: {error:#}", planned_run.folder))?;
                    self.dir.note_failure(planned_run, &error)?;
                }
            }
        }
        Ok(None)
    }

    /// Writes the reports that finished planned_runs lack: those of runs that died just before, or that an older version trained. One
    /// that cannot be written is told.
    ///
    /// # Errors
    /// As [`SweepDir::progress`].
    pub fn report_missing(&self, planned_runs: &[PlannedRun], datasets: &mut DatasetCache) -> Result<()> {
        for planned_run in planned_runs {
            let Progress::Finished(summary) = self.dir.progress(planned_run)? else { continue };
            let run = RunDir::open(&self.dir.run_path(planned_run))?;
            if (run.report_html().exists() && run.validation_csv().exists()) || summary.best_epoch.is_none() {
                continue;
            }
            let shown = run.report_html().display().to_string();
            let line = match Self::report(&run, planned_run, &summary, datasets) {
                Ok(()) => format!("report: {shown}"),
                Err(error) => format!("warning: {shown} cannot be written: {error:#}"),
            };
            Console::default().line(&line)?;
        }
        Ok(())
    }

    fn report(run: &RunDir, planned_run: &PlannedRun, summary: &Summary, datasets: &mut DatasetCache) -> Result<()> {
        let config = &planned_run.config;
        let placement = device::place(config.device, config.precision, config.threads)?;
        final_report::report(run, config, datasets.of(config)?, summary, placement.device)
    }

    /// Trains a planned_run; `None` when another process has it.
    fn train_one(&self, planned_run: &PlannedRun, place: &str, datasets: &mut DatasetCache) -> Result<Option<Stopped>> {
        let (config, path) = (&planned_run.config, self.dir.run_path(planned_run));
        // Another process may take the planned_run between our look at it and our hand on it.
        let is_taken = || self.among_others && RunDir::is_in_use(&path);
        let prepared = match PreparedRun::new(config, Some(&path)) {
            Err(_) if is_taken() => return Ok(None),
            other => other?,
        };
        let data = datasets.of(config)?;
        let mut session = match prepared.begin(config, data, Some(&path), self.signals) {
            Err(_) if is_taken() => return Ok(None),
            other => other?,
        };
        self.dir.forget_failure(planned_run)?;
        let mut console = Console::default();
        if self.among_others {
            console.label(&planned_run.folder);
        } else {
            console.line(&format!("{place}: training"))?;
        }
        let options = RunOptions {
            command: self.command.to_owned(),
            resume_command: self.resume_command,
            resume: false,
            profile: false,
        };
        session.train(options, self.signals.clone(), &mut console).map(|(stopped, _)| Some(stopped))
    }
}
