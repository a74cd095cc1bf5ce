//! A sweep over several machines that share a file system: one process plans it, others each train
//! a part of its runs, and one compares them.

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;

use super::comparison::RunResult;
use super::driver::{Sweep, SweepResult, Task};
use super::runner::Sharing;
use super::sweep_dir::SweepDir;
use super::sweep_json::SweepJson;
use crate::report::Console;
use crate::run_dir::lock_scope::{LockScope, scope};
use crate::run_dir::{LOCK_FILE, RunDir};
use crate::util::error::{Outcome, input};

/// Runs that an error message names.
const MAX_NAMED: usize = 5;

/// The runs of a plan, or those that a process was to train.
#[derive(Debug, Serialize)]
pub struct PartResult {
    /// The runs in the order of the plan; `running` if a process has locked one.
    pub runs: Vec<RunResult>,
    /// The signal that interrupted the process.
    #[serde(skip)]
    pub signal: Option<i32>,
    /// The command that resumes it.
    #[serde(skip)]
    pub resume_command: String,
    #[serde(skip)]
    task: Task,
}

impl Sweep<'_> {
    /// Checks the inputs, and writes the directory with the list of runs. Failures of earlier
    /// processes are cleared, so that the runs are tried again.
    ///
    /// # Errors
    /// Inputs that cannot be read, before anything is written; a directory that cannot be used.
    pub fn write_plan(mut self) -> Result<PartResult> {
        self.open_cuda();
        self.check_inputs()?;
        let path = self.options.out.clone().context("--plan needs --out")?;
        let dir = self.prepare_dir(&path)?;
        self.part_result(&dir, None)
    }

    /// Trains the runs of a shard, or with `--join` one run after another that no process has locked.
    ///
    /// # Errors
    /// An input error for a directory without this plan, or for `--join` where a lock does not keep
    /// out other machines; errors of the sweep as a whole. A failed run is part of the result.
    pub fn train_part(mut self) -> Result<PartResult> {
        self.open_cuda();
        self.check_devices()?;
        let dir = self.open_planned()?;
        match self.options.task {
            Task::Shard(shard) => {
                let all = self.runs.len();
                self.runs = shard.select(std::mem::take(&mut self.runs));
                let (count, path) = (self.runs.len(), dir.path().display());
                Console::default().line(&format!("sweep: shard {shard} has {count} of {all} runs in {path}"))?;
                self.runs.iter().try_for_each(|run| dir.clear_failure(run))?;
            }
            _ => check_locks(&dir)?,
        }
        let resume_command = self.options.resume_command(dir.path())?;
        let signal = self.train(&dir, &resume_command, Sharing::Machines)?;
        // Others may be writing the reports of the runs that they have trained.
        if signal.is_none() && self.options.task != Task::Join {
            self.write_missing_reports(&dir, &resume_command)?;
        }
        self.part_result(&dir, signal)
    }

    /// Fits the forest, compares the runs and exports the best one.
    ///
    /// # Errors
    /// An input error for a directory without this plan; without `partial`, an error if runs are
    /// missing; those of [`Sweep::run`].
    pub fn collect(mut self, partial: bool) -> Result<SweepResult> {
        self.open_cuda();
        let dir = self.open_planned()?.locked()?;
        let resume_command = self.options.resume_command(dir.path())?;
        let missing = self.part_result(&dir, None)?.describe_missing();
        if let Some(missing) = missing.filter(|_| !partial) {
            return Err(anyhow!(
                "{}: {missing}; train them with --shard or --join, after failures plan again with --plan --resume, or \
                 compare the others with --partial",
                dir.path().display()
            ));
        }
        if let Some(forest) = &self.forest {
            forest.check(Some(&dir), &mut self.datasets)?;
        }
        self.write_missing_reports(&dir, &resume_command)?;
        self.finish(dir, None, resume_command)
    }

    /// Opens the directory, and checks that it was planned with these runs.
    fn open_planned(&self) -> Result<SweepDir> {
        let path = self.options.out.as_deref().context("the sweep needs --out")?;
        let dir = SweepDir::open_planned(path)?;
        SweepJson::new(&self.runs, &self.options.vary, &self.options.command)?.check_planned(&dir)?;
        Ok(dir)
    }

    fn part_result(&self, dir: &SweepDir, signal: Option<i32>) -> Result<PartResult> {
        let mut runs = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let mut result = RunResult::new(run, &dir.progress(run)?);
            // Also a finished run whose report is still being written.
            if RunDir::is_in_use(&dir.run_path(run)) {
                "running".clone_into(&mut result.state);
            }
            runs.push(result);
        }
        let resume_command = self.options.resume_command(dir.path())?;
        Ok(PartResult { runs, signal, resume_command, task: self.options.task })
    }
}

/// Refuses a directory in which a lock does not keep out the processes of other machines.
fn check_locks(dir: &SweepDir) -> Result<()> {
    let shown = dir.path().display();
    match scope(&dir.file(LOCK_FILE)) {
        LockScope::AllMachines => Ok(()),
        LockScope::NotShared(reason) => Err(input(format!(
            "--join: {shown}: its locks do not keep out other machines ({reason}), so two could train the same run; use \
             --shard I/N instead, which needs no locks"
        ))),
        LockScope::Uncertain(reason) => Console::default().line(&format!(
            "note: {shown}: its locks may not keep out other machines ({reason}); if two train the same run, use --shard \
             I/N, which needs no locks"
        )),
    }
}

impl PartResult {
    /// Such as `2 of 6 runs are missing: a-seed1 unfinished, b-seed1 failed`; `None` if none is.
    fn describe_missing(&self) -> Option<String> {
        self.describe_runs(&["unfinished", "running", "failed"], "missing")
    }

    /// The number and the first of the runs in one of these states, which are said to be `what`.
    fn describe_runs(&self, states: &[&str], what: &str) -> Option<String> {
        let found: Vec<&RunResult> = self.runs.iter().filter(|run| states.contains(&run.state.as_str())).collect();
        let first = found.first()?;
        let named = found.iter().take(MAX_NAMED).map(|run| format!("{} {}", run.folder, run.state));
        let more = (found.len() > MAX_NAMED).then(|| format!("{} more", found.len() - MAX_NAMED));
        let named: Vec<String> = named.chain(more).collect();
        Some(match (found.len(), self.runs.len()) {
            (1, 1) => format!("{} is {what}: {}", first.folder, first.state),
            (count, all) => format!("{count} of {all} runs are {what}: {}", named.join(", ")),
        })
    }

    /// How the command ends: its exit code, or what is missing and the command that resumes it.
    ///
    /// # Errors
    /// Runs of a shard that failed or did not finish; with `--join`, runs that failed.
    pub fn into_outcome(self) -> Result<Outcome> {
        if let Some(signal) = self.signal {
            Console::default().line(&format!("resume with: {}", self.resume_command))?;
            return Ok(Outcome::Interrupted(signal));
        }
        let problem = match self.task {
            Task::Plan => None,
            // Unfinished runs are being trained by others.
            Task::Join => self
                .describe_runs(&["failed"], "missing")
                .map(|missing| format!("{missing}; to try again, plan again with --plan --resume")),
            _ => self.describe_missing().map(|missing| format!("{missing}; to retry: {}", self.resume_command)),
        };
        problem.map_or(Ok(Outcome::Done), |problem| Err(anyhow!(problem)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::shard::ShardChoice;

    fn result(task: Task, states: &[&str]) -> PartResult {
        let run = |(index, state): (usize, &&str)| RunResult {
            folder: format!("a-seed{index}"),
            model: "a".to_owned(),
            state: (*state).to_owned(),
            error: None,
            seed: index as u64,
            best: None,
            best_interval: None,
            last: None,
            last_interval: None,
        };
        let runs = states.iter().enumerate().map(run).collect();
        PartResult { runs, signal: None, resume_command: "grimace sweep".to_owned(), task }
    }

    #[test]
    fn missing_runs_are_counted_and_the_first_named() {
        let collect = Task::Collect { partial: false };
        assert_eq!(result(collect, &["done", "early stop"]).describe_missing(), None);
        assert_eq!(
            result(collect, &["done", "failed", "unfinished", "running"]).describe_missing().unwrap(),
            "3 of 4 runs are missing: a-seed1 failed, a-seed2 unfinished, a-seed3 running"
        );
        let many = result(collect, &["unfinished"; 8]).describe_missing().unwrap();
        assert!(many.ends_with("a-seed4 unfinished, 3 more"), "{many}");
    }

    #[test]
    fn a_shard_fails_with_missing_runs_and_a_joining_process_with_failed_ones() {
        let Ok(ShardChoice::Given(shard)) = "0/2".parse() else { panic!("a shard") };
        let message = |task, states: &[&str]| result(task, states).into_outcome().unwrap_err().to_string();
        assert_eq!(
            message(Task::Shard(shard), &["done", "running"]),
            "1 of 2 runs are missing: a-seed1 running; to retry: grimace sweep"
        );
        assert_eq!(result(Task::Join, &["done", "running", "unfinished"]).into_outcome().unwrap(), Outcome::Done);
        let failed = message(Task::Join, &["done", "running", "failed"]);
        assert_eq!(failed, "1 of 3 runs are missing: a-seed2 failed; to try again, plan again with --plan --resume");
        assert!(message(Task::Join, &["failed"]).starts_with("a-seed0 is missing: failed;"));
        assert_eq!(result(Task::Plan, &["failed"]).into_outcome().unwrap(), Outcome::Done);
        let interrupted = PartResult { signal: Some(15), ..result(Task::Join, &["unfinished"]) };
        assert_eq!(interrupted.into_outcome().unwrap(), Outcome::Interrupted(15));
    }
}
