//! A sweep from its plan to its report.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use super::baseline::{Baseline, BaselineSource};
use super::comparison::{self, Comparison};
use super::plan::{PlannedRun, plan_runs};
use super::runner::{DatasetCache, Sharing, Trainer};
use super::shard::Shard;
use super::sweep_dir::SweepDir;
use super::sweep_json::SweepJson;
use super::vary::Variation;
use super::{artifacts, workers};
use crate::device::{self, DeviceChoice};
use crate::report::Console;
use crate::util::error::Outcome;
use crate::util::signals::Signals;

/// What a process does of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Everything.
    Whole,
    /// Checks the inputs and writes the directory with the list of runs.
    Plan,
    /// Trains the runs of a shard.
    Shard(Shard),
    /// Trains one run after another that no other process has locked.
    Join,
    /// Compares the runs.
    Collect {
        /// Also if some are missing.
        partial: bool,
    },
}

/// What to sweep and where.
#[derive(Debug, Clone)]
pub struct SweepOptions {
    /// Config files.
    pub configs: Vec<PathBuf>,
    /// `--set KEY=VALUE` for every config.
    pub sets: Vec<String>,
    /// `--vary KEY=V1,V2` for every config.
    pub vary: Vec<String>,
    /// Seeds of each config.
    pub seeds: u32,
    /// A forest's config or run directory.
    pub forest: Option<PathBuf>,
    /// Processes [default: one for each CUDA device, or 1].
    pub parallel: Option<u32>,
    /// The sweep's directory [default: a new one in `runs/`, or with `resume` the newest there].
    pub out: Option<PathBuf>,
    /// Whether to resume the sweep in the directory.
    pub resume: bool,
    /// What this process does of it.
    pub task: Task,
    /// The command line, for the provenance of runs.
    pub command: String,
}

/// A planned sweep.
pub struct Sweep<'a> {
    pub(super) options: &'a SweepOptions,
    pub(super) signals: &'a Signals,
    pub(super) runs: Vec<PlannedRun>,
    pub(super) forest: Option<BaselineSource>,
    pub(super) datasets: DatasetCache,
}

/// The result of a sweep. It holds the lock of the directory.
pub struct SweepResult {
    /// The comparison, also in the directory.
    pub comparison: Comparison,
    /// The sweep's directory.
    pub dir: SweepDir,
    /// A line for each file made from the best run, or why there is none.
    pub exported: Result<Vec<String>>,
    /// The signal that interrupted it.
    pub signal: Option<i32>,
    /// The command that resumes it.
    pub resume_command: String,
    /// Whether missing runs are no failure.
    pub partial: bool,
}

impl SweepOptions {
    /// The arguments after `grimace` that resume the sweep in `path`.
    fn resume_arguments(&self, path: &Path) -> Vec<String> {
        let mut words = vec!["sweep".to_owned()];
        words.extend(self.configs.iter().map(|config| config.display().to_string()));
        let mut option = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        if self.seeds > 1 {
            option("seeds", self.seeds.to_string());
        }
        if let Some(forest) = &self.forest {
            option("forest", forest.display().to_string());
        }
        if let Some(count) = self.parallel {
            option("parallel", count.to_string());
        }
        self.sets.iter().for_each(|set| option("set", set.clone()));
        self.vary.iter().for_each(|vary| option("vary", vary.clone()));
        option("out", path.display().to_string());
        match self.task {
            Task::Whole => words.push("--resume".to_owned()),
            Task::Plan => words.extend(["--plan", "--resume"].map(String::from)),
            Task::Shard(shard) => words.extend(["--shard".to_owned(), shard.to_string()]),
            Task::Join => words.push("--join".to_owned()),
            Task::Collect { partial } => {
                words.push("--collect".to_owned());
                words.extend(partial.then(|| "--partial".to_owned()));
            }
        }
        words
    }

    /// The command that resumes the sweep in `path`, with the program as it was started: a name on
    /// `PATH` or a path.
    pub(super) fn resume_command(&self, path: &Path) -> Result<String> {
        let started = shlex::split(&self.command).unwrap_or_default();
        let program = started.into_iter().next().unwrap_or_else(|| "grimace".to_owned());
        let words = self.resume_arguments(path);
        Ok(shlex::try_join([&program].into_iter().chain(&words).map(String::as_str))?)
    }
}

impl<'a> Sweep<'a> {
    /// Reads the configs and plans the runs. Nothing is written.
    ///
    /// # Errors
    /// Those of a config; an input error for runs or a forest that do not fit together.
    pub fn plan(options: &'a SweepOptions, signals: &'a Signals) -> Result<Self> {
        let variations = Variation::parse_all(&options.vary)?;
        let runs = plan_runs(&options.configs, &options.sets, &variations, options.seeds)?;
        let open = |path: &Path| BaselineSource::open(path, &options.sets, &runs);
        let forest = options.forest.as_deref().map(open).transpose()?;
        Ok(Self { options, signals, runs, forest, datasets: DatasetCache::default() })
    }

    /// Trains as worker `number` in the directory of a sweep that another process runs, until no
    /// run is left. Runs with `device = "auto"` use `device` if it is given and computes.
    ///
    /// # Errors
    /// As [`Trainer::train`].
    pub fn work(mut self, number: u32, device: Option<DeviceChoice>, path: &Path) -> Result<Outcome> {
        workers::end_with_parent();
        self.open_cuda();
        // A device that does not compute is left to `auto`, which says why and trains on another.
        if let Some(device) = device.filter(|device| device::is_usable(*device)) {
            self.runs.iter_mut().try_for_each(|run| run.place(device))?;
        }
        if let Task::Shard(shard) = self.options.task {
            self.runs = shard.select(std::mem::take(&mut self.runs));
        }
        // Each worker starts at another run, so that they do not all try to lock the first.
        let start = number as usize % self.runs.len().max(1);
        self.runs.rotate_left(start);
        let resume_command = &self.options.resume_command(path)?;
        let dir = &SweepDir::open(path, true)?;
        let trainer = trainer(self.options, self.signals, dir, resume_command, Sharing::Workers);
        let signal = match self.options.task {
            Task::Join => trainer.train_until_none_is_free(&self.runs, &mut self.datasets)?,
            _ => trainer.train(&self.runs, &mut self.datasets)?,
        };
        Ok(signal.map_or(Outcome::Done, Outcome::Interrupted))
    }

    /// Trains all runs and the forest, compares them, and exports the best run. A run or a forest
    /// that fails is part of the result.
    ///
    /// # Errors
    /// Inputs that cannot be read, before anything is written; a directory that cannot be used or
    /// written to.
    pub fn run(mut self) -> Result<SweepResult> {
        self.open_cuda();
        self.check_devices()?;
        self.check_inputs()?;
        let path = match &self.options.out {
            Some(path) => path.clone(),
            None => SweepDir::default_path(self.options.resume)?,
        };
        let resume_command = self.options.resume_command(&path)?;
        let dir = self.prepare_dir(&path)?;
        let signal = self.train(&dir, &resume_command, Sharing::Alone)?;
        if signal.is_none() {
            self.write_missing_reports(&dir, &resume_command)?;
        }
        self.finish(dir, signal, resume_command)
    }

    /// Fits the forest unless a signal interrupted the sweep, compares all runs, and exports the best.
    pub(super) fn finish(mut self, dir: SweepDir, signal: Option<i32>, resume_command: String) -> Result<SweepResult> {
        let mut signal = signal;
        let (mut baseline, mut baseline_error) = (None, None);
        if signal.is_none() {
            match self.fit_forest(&dir).transpose() {
                Ok(fitted) => baseline = fitted,
                Err(error) => baseline_error = Some(format!("{error:#}")),
            }
        }
        signal = signal.or(baseline.as_ref().and_then(|baseline| baseline.signal));
        let comparison = Comparison { baseline_error, ..comparison::gather(&dir, &self.runs, baseline.as_ref())? };
        artifacts::write(&dir, &comparison, &self.runs, &self.options.command, signal.is_some())?;
        let best = self.runs.iter().find(|run| Some(&run.folder) == comparison.best_run.as_ref());
        let exported = match best {
            Some(best) if signal.is_none() => artifacts::export_best(&dir, best),
            _ => Ok(Vec::new()),
        };
        let partial = self.options.task == (Task::Collect { partial: true });
        Ok(SweepResult { comparison, dir, exported, signal, resume_command, partial })
    }

    /// Fails before any run does if a device of the configs is not there. Not for a plan: another
    /// machine may train it.
    pub(super) fn check_devices(&self) -> Result<()> {
        self.runs.iter().try_for_each(|run| device::check_usable(run.config.device))
    }

    /// Opens CUDA if a run may use it: after training on the CPU it is too late in this process.
    pub(super) fn open_cuda(&self) {
        if self.runs.iter().any(|run| run.config.device != DeviceChoice::Cpu) {
            // A run that needs it reports why it is not available.
            drop(device::init_cuda());
        }
    }

    /// Reads test images, the forest's images and those of the first run before a directory is made.
    /// Other runs fail on their own: a failed run does not end a sweep.
    pub(super) fn check_inputs(&mut self) -> Result<()> {
        let notes = artifacts::check_test_images(&self.runs)?;
        notes.iter().try_for_each(|note| Console::default().line(note))?;
        if let Some(forest) = &self.forest {
            forest.check(None, &mut self.datasets)?;
        }
        if let Some(run) = self.runs.first() {
            self.datasets.get(&run.config)?;
        }
        Ok(())
    }

    /// Opens and locks the directory, checks what earlier sweeps left in it, and clears their
    /// failures.
    pub(super) fn prepare_dir(&mut self, path: &Path) -> Result<SweepDir> {
        let dir = SweepDir::open(path, self.options.resume)?.locked()?;
        let mark = SweepJson::new(&self.runs, &self.options.vary, &self.options.command)?;
        mark.check_replaces(&dir)?;
        self.runs.iter().try_for_each(|run| dir.progress(run).map(drop))?;
        if let Some(forest) = &self.forest {
            forest.check(Some(&dir), &mut self.datasets)?;
        }
        self.runs.iter().try_for_each(|run| dir.clear_failure(run))?;
        mark.write(&dir)?;
        let mut console = Console::default();
        let runs = match self.runs.len() {
            1 => "1 run".to_owned(),
            count => format!("{count} runs"),
        };
        console.line(&format!("sweep: {runs} in {}", dir.path().display()))?;
        if let Some(reason) = dir.unlocked_reason() {
            console.line(&format!("warning: it cannot be locked ({reason}): let no other process sweep in it"))?;
        }
        Ok(dir)
    }

    /// Trains the runs, in this process or in workers; the signal that interrupted it.
    pub(super) fn train(&mut self, dir: &SweepDir, resume_command: &str, sharing: Sharing) -> Result<Option<i32>> {
        let is_on_cpu = |run: &PlannedRun| run.config.device == DeviceChoice::Cpu;
        let (only_cpu, uses_cpu) = (self.runs.iter().all(is_on_cpu), self.runs.iter().any(is_on_cpu));
        let count = self.options.parallel.map_or_else(|| workers::default_count(only_cpu), |count| count as usize);
        let count = count.min(self.runs.len());
        if count > 1 {
            return workers::run(count, &self.options.resume_arguments(dir.path()), self.signals, uses_cpu);
        }
        let trainer = trainer(self.options, self.signals, dir, resume_command, sharing);
        match self.options.task {
            Task::Join => trainer.train_until_none_is_free(&self.runs, &mut self.datasets),
            _ => trainer.train(&self.runs, &mut self.datasets),
        }
    }

    /// Writes the reports that finished runs lack.
    pub(super) fn write_missing_reports(&mut self, dir: &SweepDir, resume_command: &str) -> Result<()> {
        let trainer = trainer(self.options, self.signals, dir, resume_command, Sharing::Alone);
        trainer.write_missing_reports(&self.runs, &mut self.datasets)
    }

    fn fit_forest(&mut self, dir: &SweepDir) -> Option<Result<Baseline>> {
        let forest = self.forest.as_ref()?;
        Some(forest.fit(dir, self.signals, &mut self.datasets, &self.options.command))
    }
}

fn trainer<'a>(
    options: &'a SweepOptions,
    signals: &'a Signals,
    dir: &'a SweepDir,
    resume_command: &'a str,
    sharing: Sharing,
) -> Trainer<'a> {
    Trainer { dir, signals, command: &options.command, resume_command, sharing }
}

impl SweepResult {
    /// How the command ends: its exit code, or what is missing and the command that resumes the
    /// sweep.
    ///
    /// # Errors
    /// A best run that could not be exported; runs or a forest that failed or did not finish.
    pub fn into_outcome(self) -> Result<Outcome> {
        if let Some(signal) = self.signal {
            Console::default().line(&format!("resume with: {}", self.resume_command))?;
            return Ok(Outcome::Interrupted(signal));
        }
        if let Err(error) = self.exported {
            // As text: an input error would end the program with exit code 2, but the sweep's own
            // work is done.
            return Err(anyhow!("the best run could not be exported: {error:#}"));
        }
        let Comparison { runs, baseline_error, .. } = &self.comparison;
        if !self.comparison.is_complete() && (baseline_error.is_some() || !self.partial) {
            let missing = runs.iter().filter(|run| run.error.is_some() || run.state == "unfinished").count();
            let forest = if baseline_error.is_some() { "; the forest failed" } else { "" };
            return Err(anyhow!(
                "{missing} of {} runs did not finish{forest}; to retry: {}",
                runs.len(),
                self.resume_command
            ));
        }
        Ok(Outcome::Done)
    }
}
