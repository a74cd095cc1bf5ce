//! A training from its directory to its summary: the run that is there is gone on with, or a new one begun.

use std::path::Path;

use anyhow::Result;

use super::early_stopping::Stopped;
use super::resume::{self, Resumed};
use super::training_loop::Run;
use super::{final_report, memory_check};
use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::device::{self, Placement};
use crate::report::Console;
use crate::run_dir::{Newest, RunDir, Summary};
use crate::util::error::input;
use crate::util::files::write_atomically;
use crate::util::signals::Signals;
use crate::util::text::legible;

/// A training before its images are read: the run that it goes on with is locked, and where to compute is settled.
pub struct PreparedRun {
    resumed: Option<(RunDir, Newest)>,
    placement: Placement,
}

/// A training that may begin.
pub struct Session<'a> {
    config: &'a Config,
    data: &'a Dataset,
    dir: RunDir,
    newest: Option<Newest>,
    placement: Placement,
}

/// How to train, beside what the config says.
pub struct RunOptions<'a> {
    /// The command line, for the record.
    pub command: String,
    /// The command that goes on with it, for who reads the log.
    pub resume_command: &'a str,
    /// Whether the user expects a run to go on with.
    pub resume: bool,
    /// Whether to say where the time went.
    pub profile: bool,
}

impl PreparedRun {
    /// Looks at what is at `path` (`None`: a new run in its default place), before anything takes time.
    ///
    /// # Errors
    /// A run that is in use, damaged, or without a checkpoint; a device that cannot be had.
    pub fn new(config: &Config, path: Option<&Path>) -> Result<Self> {
        let resumed = match path {
            Some(path) if !RunDir::is_free(path)? => Some(open(path)?),
            _ => None,
        };
        let (precision, threads) = match &resumed {
            Some((_, newest)) => resume::as_before(config, &newest.checkpoint.state),
            None => (config.precision, config.threads),
        };
        Ok(Self { placement: device::place(config.device, precision, threads)?, resumed })
    }

    /// Makes the directory of a new run. From here on a signal finds something to save: not before, so that it never leaves
    /// half a start behind.
    ///
    /// # Errors
    /// Too little memory; a directory that cannot be made.
    pub fn begin<'a>(
        self,
        config: &'a Config,
        data: &'a Dataset,
        path: Option<&Path>,
        signals: &Signals,
    ) -> Result<Session<'a>> {
        memory_check::check(config, data, &self.placement, device::memory())?;
        signals.defer();
        let (dir, newest) = match self.resumed {
            Some((dir, newest)) => (dir, Some(newest)),
            None => (path.map_or_else(|| RunDir::create_default(&config.name), RunDir::create)?, None),
        };
        Ok(Session { config, data, dir, newest, placement: self.placement })
    }
}

/// The directory of a run to go on with, locked, and its newest checkpoint.
fn open(path: &Path) -> Result<(RunDir, Newest)> {
    let dir = RunDir::open_to_go_on(path)?;
    let shown = path.display();
    let newest = dir.newest_checkpoint()?.ok_or_else(|| {
        input(format!("{shown}: holds results but no last.safetensors to go on from; train into a new --out"))
    })?;
    Ok((dir, newest))
}

impl Session<'_> {
    /// Its directory.
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// Trains to the end, or to a signal; the lines of `console` go to the run's log, too.
    ///
    /// # Errors
    /// As [`Run::train`], and a run that cannot be gone on with; the log has them.
    pub fn train(
        &mut self,
        options: RunOptions<'_>,
        signals: Signals,
        console: &mut Console,
    ) -> Result<(Stopped, Summary)> {
        console.log_to(&self.dir.log_txt())?;
        let resume_command = options.resume_command;
        let result = self.run(options, signals, console);
        if let Err(error) = &result {
            console.end();
            // For whoever reads the log later; on screen the program's last line says it. A log that cannot be written must not
            // hide why the run ended.
            drop(console.log_line(&legible(&format!("error: {error:#}"))));
            if error.chain().any(|cause| cause.is::<std::io::Error>()) && self.dir.last().exists() {
                drop(console.line(&format!("to go on when that is mended: {resume_command}")));
            }
        }
        result
    }

    fn run(&mut self, options: RunOptions<'_>, signals: Signals, console: &mut Console) -> Result<(Stopped, Summary)> {
        let Self { config, data, dir, placement, .. } = self;
        if let Some(reason) = dir.unlocked_reason() {
            console.line(&format!(
                "warning: {} cannot be locked ({reason}): let no other process train in it",
                dir.path().display()
            ))?;
        }
        let resumed = match self.newest.take() {
            None => {
                if options.resume {
                    let shown = dir.path().display();
                    console.line(&format!("{shown} holds no checkpoint yet: starting from the beginning"))?;
                }
                None
            }
            Some(Newest { mut checkpoint, warning }) => {
                let shown = dir.last().display().to_string();
                let notes = resume::compare(&checkpoint, config, data, placement, &shown)?;
                let best = resume::settle_best(dir, &mut checkpoint)?;
                resume::follow_tta(dir, config)?;
                for note in warning.into_iter().chain(best).chain(notes) {
                    console.line(&note)?;
                }
                let ahead =
                    dir.read_metrics()?.into_iter().filter(|record| record.epoch > checkpoint.state.epoch).collect();
                Some(Resumed { checkpoint, ahead })
            }
        };
        // A run that goes on has the split that it had, or it would have been refused.
        write_atomically(&dir.split_csv(), data.split_csv.as_bytes())?;
        write_atomically(&dir.config_toml(), config.to_toml()?.as_bytes())?;
        console.announce(&config.data.train, data)?;
        announce(dir, placement, console)?;
        let patience = config.train.early_stop.patience;
        if config.train.depends_on_epochs() && patience > 0 {
            console.line(&format!(
                "warning: train.early_stop.patience = {patience} may end this run while its learning rate is still high or its images \
                 are small, before most is won; 0 turns it off"
            ))?;
        }
        let RunOptions { command, profile, .. } = options;
        let (stopped, summary) =
            Run { config, data, placement, dir, console, profile, command, signals }.train(resumed)?;
        // A run that was finished before may have died before its report.
        if matches!(stopped, Stopped::Epochs | Stopped::EarlyStop) && summary.best_epoch.is_some() {
            final_report::report(dir, config, data, &summary, placement.device)?;
            console.line(&format!("report: {}", dir.report_html().display()))?;
        }
        Ok((stopped, summary))
    }
}

fn announce(dir: &RunDir, placement: &Placement, console: &mut Console) -> Result<()> {
    let reason = placement.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let threads = match device::threads() {
        1 => "1 thread".to_owned(),
        threads => format!("{threads} threads"),
    };
    console.line(&format!("device: {}{reason}, {}, {threads}", placement.device_name(), placement.precision_name()))?;
    console.line(&format!("run: {}", dir.path().display()))
}
