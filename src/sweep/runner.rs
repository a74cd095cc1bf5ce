//! Trains the runs of a sweep one after another in this process.

use anyhow::{Context, Result};

use super::plan::PlannedRun;
use super::sweep_dir::{Progress, SweepDir};
use crate::config::Config;
use crate::data::config::DataConfig;
use crate::data::dataset::{self, Dataset};
use crate::device::{self, MemoryAdvice};
use crate::metrics::describe_accuracy;
use crate::report::Console;
use crate::run_dir::{RunDir, Summary};
use crate::train::early_stopping::StopReason;
use crate::train::final_report;
use crate::train::session::{PreparedRun, RunOptions};
use crate::util::signals::Signals;

/// Keeps the images of the last config in memory, because the next run usually needs the same.
#[derive(Debug, Default)]
pub struct DatasetCache {
    last: Option<(DataConfig, u64, Dataset)>,
}

impl DatasetCache {
    /// The images of a config, loaded unless they are those of the last call.
    ///
    /// # Errors
    /// As [`dataset::load`].
    pub fn get(&mut self, config: &Config) -> Result<&Dataset> {
        self.get_data(&config.data, config.seed)
    }

    /// [`get`](Self::get) for the `[data]` and seed of any config.
    ///
    /// # Errors
    /// As [`dataset::load`].
    pub fn get_data(&mut self, data: &DataConfig, seed: u64) -> Result<&Dataset> {
        // Only a random split depends on the seed.
        let is_random = data.validation.is_sampled();
        let split = if is_random { data.split_seed.unwrap_or(seed) } else { 0 };
        // Keys that do not change the training and validation images.
        let key = DataConfig { test: None, split_seed: None, ..data.clone() };
        if self.last.as_ref().is_none_or(|(last, seed, _)| *last != key || *seed != split) {
            // Dropped first: two data sets may not fit into memory.
            self.last = None;
            self.last = Some((key, split, dataset::load(data, seed)?));
        }
        self.last.as_ref().map(|(.., dataset)| dataset).context("the images were just loaded")
    }
}

/// Trains planned runs one after another.
pub struct Trainer<'a> {
    /// The sweep's directory.
    pub dir: &'a SweepDir,
    /// Signals that ask to stop.
    pub signals: &'a Signals,
    /// The command line, for the provenance of runs.
    pub command: &'a str,
    /// The command that resumes the sweep.
    pub resume_command: &'a str,
    /// Who else trains runs of the sweep.
    pub sharing: Sharing,
}

/// Who else trains runs of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody.
    Alone,
    /// Other processes, perhaps on other machines: runs that they have locked, and failed runs, are
    /// skipped.
    Machines,
    /// Other processes with the same stderr, too: each line names its run.
    Workers,
}

/// What a pass over the runs did.
struct Pass {
    /// The signal that interrupted it.
    signal: Option<i32>,
    /// Number of runs that were trained or failed.
    trained: usize,
}

impl Trainer<'_> {
    /// Trains every run that is not finished; returns the signal that interrupted it. The error of
    /// a run is recorded, and the next run starts.
    ///
    /// # Errors
    /// Errors of the sweep as a whole: a finished run of another config, a folder that cannot be
    /// written to.
    pub fn train(&self, runs: &[PlannedRun], datasets: &mut DatasetCache) -> Result<Option<i32>> {
        self.train_pass(runs, datasets).map(|pass| pass.signal)
    }

    /// [`train`](Self::train), repeated until there is no run that is neither finished nor failed nor
    /// locked: a run that another process left unfinished is taken over.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn train_until_none_is_free(&self, runs: &[PlannedRun], datasets: &mut DatasetCache) -> Result<Option<i32>> {
        loop {
            let pass = self.train_pass(runs, datasets)?;
            if pass.signal.is_some() || pass.trained == 0 {
                return Ok(pass.signal);
            }
        }
    }

    fn train_pass(&self, runs: &[PlannedRun], datasets: &mut DatasetCache) -> Result<Pass> {
        let mut console = Console::default();
        let mut pass = Pass { signal: None, trained: 0 };
        for (number, run) in runs.iter().enumerate() {
            if let Some(signal) = self.signals.received() {
                return Ok(Pass { signal: Some(signal), ..pass });
            }
            let title = format!("{} of {}: {}", number + 1, runs.len(), run.folder);
            // Another process has tried it, or is training it.
            if self.is_shared() && (self.dir.has_failed(run) || RunDir::is_in_use(&self.dir.run_path(run))) {
                continue;
            }
            if let Progress::Finished(summary) = self.dir.progress(run)? {
                if self.sharing != Sharing::Workers {
                    let interval = summary.best_interval();
                    let best =
                        summary.best_val_accuracy.map_or("-".to_owned(), |best| describe_accuracy(best, interval));
                    let name = summary.best_accuracy_name();
                    console.line(&format!("{title}: already finished, {name} {best}"))?;
                }
                continue;
            }
            match self.train_run(run, &title, datasets) {
                Ok(Some(StopReason::Interrupted(signal))) => return Ok(Pass { signal: Some(signal), ..pass }),
                Ok(None) => {}
                Ok(Some(_)) => pass.trained += 1,
                Err(error) => {
                    let error = device::simplify_torch_error(error, MemoryAdvice::Training);
                    console.line(&format!("{}: failed: {error:#}", run.folder))?;
                    self.dir.record_failure(run, &error)?;
                    pass.trained += 1;
                }
            }
        }
        Ok(pass)
    }

    fn is_shared(&self) -> bool {
        self.sharing != Sharing::Alone
    }

    /// Writes missing reports of finished runs: of runs that were killed before their report, or
    /// trained by an older version. A report that cannot be written is a warning.
    ///
    /// # Errors
    /// As [`SweepDir::progress`].
    pub fn write_missing_reports(&self, runs: &[PlannedRun], datasets: &mut DatasetCache) -> Result<()> {
        for run in runs {
            let Progress::Finished(summary) = self.dir.progress(run)? else { continue };
            let run_dir = RunDir::open(&self.dir.run_path(run))?;
            if (run_dir.report_html().exists() && run_dir.validation_csv().exists()) || summary.best_epoch.is_none() {
                continue;
            }
            let path = run_dir.report_html().display().to_string();
            let line = match Self::write_report(&run_dir, run, &summary, datasets) {
                Ok(()) => format!("report: {path}"),
                Err(error) => {
                    format!(
                        "warning: {path} cannot be written: {:#}",
                        device::simplify_torch_error(error, MemoryAdvice::Training)
                    )
                }
            };
            Console::default().line(&line)?;
        }
        Ok(())
    }

    fn write_report(run_dir: &RunDir, run: &PlannedRun, summary: &Summary, datasets: &mut DatasetCache) -> Result<()> {
        let config = &run.config;
        let placement = device::place(config.device, config.precision, config.threads)?;
        final_report::write(run_dir, config, datasets.get(config)?, summary, placement.device)
    }

    /// Trains a run; `None` if another process has locked or finished it.
    fn train_run(&self, run: &PlannedRun, title: &str, datasets: &mut DatasetCache) -> Result<Option<StopReason>> {
        let (config, path) = (&run.config, self.dir.run_path(run));
        // Another process may lock the run between the check and the lock here.
        let is_taken = || self.is_shared() && RunDir::is_in_use(&path);
        let prepared = match PreparedRun::new(config, Some(&path), None) {
            Err(_) if is_taken() => return Ok(None),
            other => other?,
        };
        // It may also have finished the run meanwhile.
        if self.is_shared() && matches!(self.dir.progress(run)?, Progress::Finished(_)) {
            return Ok(None);
        }
        let data = datasets.get(config)?;
        let mut session = match prepared.begin(config, data, Some(&path), self.signals) {
            Err(_) if is_taken() => return Ok(None),
            other => other?,
        };
        self.dir.clear_failure(run)?;
        let mut console = Console::default();
        if self.sharing == Sharing::Workers {
            console.label(&run.folder);
        } else {
            console.line(&format!("{title}: training"))?;
        }
        let options = RunOptions {
            command: self.command.to_owned(),
            resume_command: self.resume_command,
            resume: false,
            profile: false,
            stop_after: None,
        };
        session.train(options, self.signals.clone(), &mut console).map(|(stopped, _)| Some(stopped))
    }
}
