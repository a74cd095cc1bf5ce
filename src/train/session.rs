//! A training session: opens or creates the run directory, trains, and writes the report.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::early_stopping::StopReason;
use super::initial_weights::{InitialNet, WeightsFile};
use super::resume::{self, ResumePoint};
use super::training_loop::TrainingLoop;
use super::warnings::run_warnings;
use super::{early_stopping, final_report, memory_check};
use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::device::{self, MemoryAdvice, Placement, Precision, ProcessGroup, catch_torch_panics};
use crate::report::Console;
use crate::run_dir::checkpoint::State;
use crate::run_dir::{LatestCheckpoint, RunDir, Summary};
use crate::util::error::input;
use crate::util::files::write_atomically;
use crate::util::signals::Signals;
use crate::util::text::printable;

/// A session before its images are loaded: a run to resume is locked, and the device is selected.
pub struct PreparedRun {
    resumed: Option<(RunDir, LatestCheckpoint)>,
    /// The initial weights of a new run, if `train.init` is set.
    weights: Option<WeightsFile>,
    placement: Placement,
    group: Option<Arc<ProcessGroup>>,
}

/// A session that is ready to train.
pub struct Session<'a> {
    config: &'a Config,
    data: &'a Dataset,
    dir: Option<RunDir>,
    latest: Option<LatestCheckpoint>,
    initial: Option<InitialNet>,
    placement: Placement,
    group: Option<Arc<ProcessGroup>>,
}

/// Options of a session that are not in the config.
pub struct RunOptions<'a> {
    /// The command line, for the provenance.
    pub command: String,
    /// The command that resumes the run, for the log.
    pub resume_command: &'a str,
    /// Whether the user passed `--resume`.
    pub resume: bool,
    /// Whether to print a profile.
    pub profile: bool,
    /// Stop after this number of epochs, if training would go on. It changes no metric: schedules
    /// follow `train.epochs`, and `--resume` goes on exactly.
    pub stop_after: Option<u32>,
}

impl PreparedRun {
    /// Opens the run at `path` if there is one, before anything slow happens. `None` is a new run
    /// in the default directory. Of a group only rank 0 opens it.
    ///
    /// # Errors
    /// If the run is in use or has no usable checkpoint, the initial weights of a new one cannot be
    /// read, or the device is not available.
    pub fn new(config: &Config, path: Option<&Path>, group: Option<Arc<ProcessGroup>>) -> Result<Self> {
        let writes = group.as_ref().is_none_or(|group| group.is_main());
        let resumed = match path {
            Some(path) if writes && !RunDir::is_available(path)? => Some(open(path)?),
            _ => None,
        };
        let (mut precision, mut threads) = match &resumed {
            Some((_, latest)) => resume::inherit_precision_and_threads(config, &latest.checkpoint.state),
            None => (config.precision, config.threads),
        };
        let weights = match &config.train.init {
            Some(path) if writes && resumed.is_none() => Some(WeightsFile::open(path)?),
            _ => None,
        };
        let mut device = config.device;
        if let Some(group) = &group {
            // Threads are for the number of processes now.
            (precision, threads) = agree(group, config, (precision, config.threads))?;
            device = group.device(device)?;
        }
        let mut placement = device::place(device, precision, threads)?;
        if let Some(group) = &group {
            placement.processes = group.size();
            let kernels = device::describe_kernels();
            group.require_equal("a precision or kernels", &format!("{} {kernels}", placement.precision_name()))?;
        }
        Ok(Self { placement, resumed, weights, group })
    }

    /// Creates the directory of a new run. From here on, signals are deferred until a checkpoint is
    /// saved; before, they end the process at once, so that no empty run is left.
    ///
    /// # Errors
    /// If there is too little memory, the initial weights do not fit the network, or the directory
    /// cannot be created.
    pub fn begin<'a>(
        self,
        config: &'a Config,
        data: &'a Dataset,
        path: Option<&Path>,
        signals: &Signals,
    ) -> Result<Session<'a>> {
        memory_check::check(config, data, &self.placement, device::total_memory())?;
        let device = self.placement.device;
        let initial = self.weights.map(|file| InitialNet::new(&file, config, data, device)).transpose()?;
        if let Some(group) = &self.group {
            group.require_equal("data", &format!("{} {}", data.data_hash, data.split_hash))?;
        }
        signals.defer();
        let (dir, latest) = match self.resumed {
            Some((dir, latest)) => (Some(dir), Some(latest)),
            None if self.group.as_ref().is_some_and(|group| !group.is_main()) => (None, None),
            None => (Some(path.map_or_else(|| RunDir::create_default(&config.name), RunDir::create)?), None),
        };
        Ok(Session { config, data, dir, latest, initial, placement: self.placement, group: self.group })
    }
}

/// What the processes of a group start with: refuses a config of their own, and returns precision and
/// threads, both as rank 0 has them, for this process.
fn agree(
    group: &ProcessGroup,
    config: &Config,
    (precision, threads): (Precision, usize),
) -> Result<(Precision, usize)> {
    group.require_equal("a version", env!("CARGO_PKG_VERSION"))?;
    group.require_equal("a config", &config.to_toml()?)?;
    let (batch, size) = (config.train.batch, group.size());
    if batch < size {
        return Err(input(format!(
            "train.batch = {batch}: less than the {size} processes, each of which computes a part; use a larger batch, \
             or fewer processes"
        )));
    }
    let text = group.broadcast_text(&serde_json::to_string(&(precision, threads))?)?;
    let (precision, threads): (Precision, usize) = serde_json::from_str(&text)?;
    Ok((precision, group.threads(threads)?))
}

/// Locks the directory of a run to resume, and loads its newest checkpoint.
fn open(path: &Path) -> Result<(RunDir, LatestCheckpoint)> {
    let dir = RunDir::open_for_resume(path)?;
    let latest = dir.latest_checkpoint()?.ok_or_else(|| {
        let shown = path.display();
        input(format!("{shown}: holds results but no last.safetensors to resume from; choose another --out"))
    })?;
    Ok((dir, latest))
}

impl Session<'_> {
    /// The run directory; `None` in a process of a group that writes nothing.
    pub fn dir(&self) -> Option<&RunDir> {
        self.dir.as_ref()
    }

    /// Trains until finished or interrupted. Lines printed to `console` are also written to the
    /// run's log.
    ///
    /// # Errors
    /// As [`TrainingLoop::train`], and if the run cannot be resumed. Errors are logged.
    pub fn train(
        &mut self,
        options: RunOptions<'_>,
        signals: Signals,
        console: &mut Console,
    ) -> Result<(StopReason, Summary)> {
        if let Some(dir) = &self.dir {
            console.log_to(&dir.log_txt())?;
        }
        let resume_command = options.resume_command;
        catch_torch_panics(|| self.run(options, signals, console)).map_err(|error| {
            let is_io = error.chain().any(|cause| cause.is::<std::io::Error>());
            let error = device::simplify_torch_error(error, MemoryAdvice::Training);
            console.end();
            let is_lost = self.group.as_ref().is_some_and(|group| group.is_broken());
            let error = match &self.group {
                Some(group) => group.end_with(error),
                None => error,
            };
            let Some(dir) = &self.dir else { return error };
            // Only to the log: `main` prints the error to the terminal. A failure to log must not
            // hide it.
            let elsewhere = self.group.as_ref().filter(|_| is_lost).and_then(|group| group.failure());
            let reason = elsewhere.unwrap_or_else(|| format!("{error:#}"));
            drop(console.log_line(&printable(&format!("error: {reason}"))));
            if (is_io || is_lost) && dir.last_safetensors().exists() {
                let when = if is_lost { "" } else { "once fixed, " };
                drop(console.line(&format!("{when}resume with: {resume_command}")));
            }
            error
        })
    }

    fn run(
        &mut self,
        options: RunOptions<'_>,
        signals: Signals,
        console: &mut Console,
    ) -> Result<(StopReason, Summary)> {
        let Some(dir) = &self.dir else { return self.run_without_files(options, signals, console) };
        let initial = self.initial.take();
        let Self { config, data, placement, group, .. } = self;
        if let Some(reason) = dir.unlocked_reason() {
            console.line(&format!(
                "warning: {} cannot be locked ({reason}): do not train in it with another process",
                dir.path().display()
            ))?;
        }
        let resume_point = match self.latest.take() {
            None => {
                if options.resume {
                    let shown = dir.path().display();
                    console.line(&format!("{shown} has no checkpoint yet: starting a new run"))?;
                }
                None
            }
            Some(LatestCheckpoint { mut checkpoint, warning }) => {
                let shown = dir.last_safetensors().display().to_string();
                let notes = resume::check_compatible(&checkpoint, config, data, placement, &shown)?;
                let best = resume::reconcile_best(dir, &mut checkpoint)?;
                resume::update_best_tta(dir, config)?;
                for note in warning.into_iter().chain(best).chain(notes) {
                    console.line(&note)?;
                }
                let finished = dir.read_metrics()?.into_iter();
                let replayed = finished.filter(|metrics| metrics.epoch > checkpoint.state.epoch).collect();
                Some(ResumePoint { checkpoint, replayed })
            }
        };
        // A resumed run has the same split: check_compatible refuses any other.
        data.split_csv().write(&dir.split_csv())?;
        write_atomically(&dir.config_toml(), config.to_toml()?.as_bytes())?;
        console.announce(&config.data.train, data)?;
        announce(dir, placement, console)?;
        initial.iter().flat_map(|initial| &initial.notes).try_for_each(|note| console.line(note))?;
        let saved = resume_point.as_ref().and_then(|point| point.checkpoint.state.init.as_ref());
        let warnings = run_warnings(config, data, initial.as_ref().map(|initial| &initial.record).or(saved));
        warnings.iter().try_for_each(|warning| console.line(&format!("warning: {warning}")))?;
        let RunOptions { command, profile, stop_after, .. } = options;
        // The epochs of a run that another command stops are not the user's to choose.
        let own = resume_point.as_ref().filter(|_| stop_after.is_none());
        if let Some(note) = own.and_then(|point| finished_note(config, &point.checkpoint.state)) {
            console.line(&note)?;
        }
        let (stopped, summary) = TrainingLoop {
            config,
            data,
            placement,
            dir: Some(dir),
            group: group.clone(),
            console,
            profile,
            stop_after,
            command,
            signals,
            initial,
        }
        .train(resume_point)?;
        // Also for a run that was already finished: it may have died before its report.
        if matches!(stopped, StopReason::Epochs | StopReason::EarlyStop) && summary.best_epoch.is_some() {
            final_report::write(dir, config, data, &summary, placement.device)?;
            console.line(&format!("report: {}", dir.report_html().display()))?;
        }
        Ok((stopped, summary))
    }

    /// Trains in a process of a group that writes nothing: what it starts from is rank 0's.
    fn run_without_files(
        &self,
        options: RunOptions<'_>,
        signals: Signals,
        console: &mut Console,
    ) -> Result<(StopReason, Summary)> {
        let Self { config, data, placement, group, .. } = self;
        let RunOptions { command, profile, stop_after, .. } = options;
        let (dir, group, initial) = (None, group.clone(), None);
        TrainingLoop { config, data, placement, dir, group, console, profile, stop_after, command, signals, initial }
            .train(None)
    }
}

/// If nothing is left to train in a run with this `state`: a line with the reason, and how to train
/// longer.
fn finished_note(config: &Config, state: &State) -> Option<String> {
    let (epoch, epochs, patience) = (state.epoch, config.train.epochs, config.train.early_stop.patience);
    if state.step > 0 || epoch == 0 {
        return None;
    }
    let best_epoch = state.monitor.map_or(0, |(_, epoch)| epoch);
    let is_stopped = early_stopping::should_stop(&config.train.early_stop, epoch, best_epoch);
    let is_complete = epoch >= epochs;
    if !is_stopped && !is_complete {
        return None;
    }
    let reason = if is_stopped {
        format!("early stopping ended this run after epoch {epoch}")
    } else {
        format!("this run has finished train.epochs = {epochs}")
    };
    if is_complete && config.train.depends_on_epochs() {
        return Some(format!(
            "nothing is left to train: {reason}; its learning rate or image size depends on train.epochs: to train longer, \
             start a new run with another --out"
        ));
    }
    let raise = |key: &str, value: u32| format!("{key} (such as --set {key}={value})");
    let epochs = is_complete.then(|| raise("train.epochs", epochs.saturating_mul(2)));
    // More than the epochs since the best one: a smaller patience would stop the run again.
    let since_best = epoch.saturating_sub(best_epoch);
    let patience = is_stopped.then(|| raise("train.early_stop.patience", since_best.max(patience).saturating_mul(2)));
    let keys: Vec<String> = epochs.into_iter().chain(patience).collect();
    Some(format!("nothing is left to train: {reason}; to train longer, raise {}", keys.join(" and ")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;

    #[test]
    fn a_finished_run_says_how_to_train_longer() {
        let note = |more: &str, state: &State| {
            let text = "name = \"x\"\n[data]\ntrain = \"a.csv\"\n[model]\nkind = \"cnn\"\n[train]\nepochs = 9\n";
            finished_note(&from_text(&format!("{text}{more}"), "x.toml").unwrap(), state)
        };
        let state = |epoch, step, best| State { epoch, step, monitor: Some((0.5, best)), ..State::default() };
        let patience = |patience: u32| format!("early_stop = {{ patience = {patience} }}\n");
        for unfinished in [state(0, 0, 0), state(8, 0, 8), state(8, 9, 1)] {
            assert_eq!(note(&patience(3), &unfinished), None, "{unfinished:?}");
        }
        let found = note(&patience(3), &state(9, 0, 9)).unwrap();
        assert!(
            found.contains("finished train.epochs = 9")
                && found.ends_with("raise train.epochs (such as --set train.epochs=18)"),
            "{found}"
        );
        let found = note(&patience(3), &state(6, 0, 3)).unwrap();
        assert!(
            found.contains("early stopping")
                && found.ends_with("raise train.early_stop.patience (such as --set train.early_stop.patience=6)"),
            "{found}"
        );
        let found = note(&patience(1), &state(6, 0, 2)).unwrap();
        assert!(found.ends_with("patience=8)"), "2 would stop it again: {found}");
        let found = note(&patience(3), &state(9, 0, 6)).unwrap();
        assert!(found.contains("epochs=18) and train.early_stop.patience (such as"), "{found}");
        let cosine = patience(0) + "schedule = { kind = \"cosine\" }\n";
        assert!(note(&cosine, &state(9, 0, 1)).unwrap().contains("start a new run with another --out"));
    }
}
