//! The search of one process: it decides with the journal locked, and trains without.

use std::time::Duration;

use anyhow::{Context as _, Result};
use toml::Value;

use super::domain::{Domain, toml_text};
use super::halving::{Decision, Position};
use super::history::{History, Work};
use super::journal::{Journal, JournalLock, Record, ResultRecord};
use super::plan::{Plan, StudyOptions};
use super::study_dir::{Claim, StudyDir, trial_name};
use super::trial::{Runs, Trained};
use crate::config;
use crate::report::Console;
use crate::run_dir::{RunDir, Summary};
use crate::util::text::count;

/// Interval at which a process without work looks at what others have done.
pub const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Attempts to draw a trial that is not the same as another.
const ATTEMPTS: u64 = 1000;
/// Combinations of a space that are tried one by one if no other is drawn.
const MAX_COMBINATIONS: f64 = 100_000.0;

/// A search in progress.
pub struct Search<'a, 'r> {
    /// The options of the study.
    pub options: &'a StudyOptions,
    /// What is searched.
    pub plan: &'a Plan,
    /// The directory.
    pub dir: &'a StudyDir,
    /// The journal.
    pub journal: &'a mut Journal,
    /// What the journal came to when it was last locked.
    pub history: History,
    /// Trains runs.
    pub runs: &'a mut Runs<'r>,
    /// Whether no combination of the space is found that has not been a trial.
    pub is_exhausted: bool,
}

/// What this process does next.
enum Next {
    Train(Work, Claim),
    /// Others train what is left.
    Wait,
    Finish,
}

impl Search<'_, '_> {
    /// Trains until nothing is left to do, also for other processes; the signal that interrupted it.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn run(&mut self) -> Result<Option<i32>> {
        let mut is_waiting = false;
        loop {
            if let Some(signal) = self.runs.signals.received() {
                return Ok(Some(signal));
            }
            match self.next()? {
                Next::Finish => return Ok(None),
                Next::Wait => {
                    if !is_waiting {
                        Console::default().line("waiting for the trials of other processes")?;
                    }
                    is_waiting = true;
                    std::thread::sleep(POLL_INTERVAL);
                }
                Next::Train(work, claim) => {
                    is_waiting = false;
                    if let Some(signal) = self.train(work, claim)? {
                        return Ok(Some(signal));
                    }
                }
            }
        }
    }

    /// What the journal comes to in the end, and its lock: what is written under it is of this state.
    ///
    /// # Errors
    /// A journal that cannot be read.
    pub fn into_history(mut self) -> Result<(History, JournalLock)> {
        let lock = self.lock()?;
        Ok((self.history, lock))
    }

    fn lock(&mut self) -> Result<JournalLock> {
        let lock = self.journal.lock()?;
        self.history.read(self.journal.path(), &self.journal.records, &self.plan.space)?;
        Ok(lock)
    }

    fn append(&mut self, lock: &JournalLock, record: Record) -> Result<()> {
        self.journal.append(lock, record)?;
        self.history.read(self.journal.path(), &self.journal.records, &self.plan.space)
    }

    /// What was decided and nobody trains comes first, then a new decision.
    fn next(&mut self) -> Result<Next> {
        let lock = self.lock()?;
        if let Some(next) = self.claim_open(&lock)? {
            return Ok(next);
        }
        let record = match self.decide() {
            Decision::Finish => return Ok(Next::Finish),
            Decision::Wait => return Ok(Next::Wait),
            Decision::Promote { trial, rung } => Record::Promotion { trial, rung },
            Decision::Start => match self.sample()? {
                Some(record) => record,
                None => {
                    let trials = count(self.history.trials.len(), "trial");
                    Console::default().line(&format!("note: the space has no other values, after {trials}"))?;
                    self.is_exhausted = true;
                    drop(lock);
                    return self.next();
                }
            },
        };
        self.append(&lock, record)?;
        Ok(self.claim_open(&lock)?.unwrap_or(Next::Wait))
    }

    fn decide(&self) -> Decision {
        let results = self.history.scored();
        let started = self.history.trials.len();
        self.plan.ladder.decide(Position {
            results: &results,
            promotions: &self.history.promotions,
            started,
            limit: if self.is_exhausted { started } else { self.options.trials },
            is_idle: self.history.open.is_empty(),
            reference: self.plan.reference(&self.history.trials),
        })
    }

    /// The first work without a result that no other process has claimed.
    fn claim_open(&self, lock: &JournalLock) -> Result<Option<Next>> {
        for work in &self.history.open {
            if let Some(claim) = self.dir.claim(&trial_name(work.trial), lock)? {
                return Ok(Some(Next::Train(*work, claim)));
            }
        }
        Ok(None)
    }

    /// The next trial with its values; the first has those of the config itself, if the space has them.
    /// Every trial has the same seed, so equal values would be the same training: `None` if there are no
    /// others.
    fn sample(&self) -> Result<Option<Record>> {
        let domains: Vec<&Domain> = self.plan.space.parameters.iter().map(|parameter| &parameter.domain).collect();
        let positions: Vec<Vec<f64>> = self.history.trials.iter().map(|trial| trial.positions.clone()).collect();
        let number = self.history.trials.len();
        if number == 0 {
            match self.plan.space.values_of(&self.plan.base) {
                Ok(values) => return Ok(Some(trial_record(number, &values))),
                Err(key) => Console::default().line(&format!(
                    "note: the config itself is not a trial: the space does not have its value of {key}"
                ))?,
            }
        }
        let results = self.history.scored();
        let draw = |attempt| -> Vec<Value> {
            let stream = (self.options.seed, number, attempt);
            let sampled = self.options.sampler.sample(stream, &domains, &positions, &results);
            domains.iter().zip(sampled).map(|(domain, at)| domain.value(at)).collect()
        };
        let is_new = |values: &Vec<Value>| self.history.trials.iter().all(|trial| trial.values != *values);
        // Of a few combinations, the last ones may be hard to draw.
        let size = self.plan.space.size().filter(|size| *size <= MAX_COMBINATIONS).map_or(0, |size| size as u64);
        let rest = (0..size).filter_map(|index| self.plan.space.combination(index));
        let found = (0..ATTEMPTS).map(draw).chain(rest).find(is_new);
        Ok(found.map(|values| trial_record(number, &values)))
    }

    /// Trains a trial up to a rung and records the result; the signal that interrupted it.
    fn train(&mut self, work: Work, claim: Claim) -> Result<Option<i32>> {
        let Work { trial: number, rung } = work;
        let trial = self.history.trials.get(number).context("a trial of the study")?;
        let epochs = self.plan.ladder.epochs().get(rung).copied().context("a rung of the study")?;
        let assignments = self.plan.space.assignments(&trial.values);
        let name = trial_name(number);
        Console::default().line(&format!("{name}: up to epoch {epochs}, {}", assignments.join(" ")))?;
        let trained = match config::with_values(&self.plan.base, &assignments) {
            Ok(config) => self.runs.train(&config, &self.dir.trial(number), epochs)?,
            // Values that each fit the config may not fit each other.
            Err(error) => Trained::Failed(error.to_string()),
        };
        let before = trial.epochs();
        let result = match trained {
            Trained::Interrupted(signal) => return Ok(Some(signal)),
            Trained::Failed(error) => failure(work, before, error),
            Trained::Done(summary) => {
                let reached = summary.epochs.min(epochs);
                match self.best_until(&summary, number, epochs)? {
                    Some((best_epoch, score)) => {
                        let (best_epoch, score) = (Some(best_epoch), Some(score));
                        ResultRecord { trial: number, rung, epochs: reached, best_epoch, score, error: None }
                    }
                    None => failure(work, reached, "has no finite metric".to_owned()),
                }
            }
        };
        Console::default().line(&self.describe(&name, &result))?;
        // Together, so that nobody claims work that has just been done.
        let lock = self.lock()?;
        self.append(&lock, Record::Result(result))?;
        claim.release(&lock)?;
        Ok(None)
    }

    /// Best epoch and its score up to `epochs`. A run may be ahead of the journal, if it was trained by
    /// hand or the journal is an older copy.
    fn best_until(&self, summary: &Summary, trial: usize, epochs: u32) -> Result<Option<(u32, f64)>> {
        if summary.epochs <= epochs {
            let best = summary.best_epoch.zip(summary.best_monitor_value);
            return Ok(best.filter(|(_, score)| score.is_finite()));
        }
        let monitor = self.options.metric.monitor();
        let mut best: Option<(u32, f64)> = None;
        for epoch in RunDir::open(&self.dir.trial(trial))?.read_metrics()?.iter().filter(|one| one.epoch <= epochs) {
            let value = epoch.monitored_value(monitor);
            if monitor.is_better(value, best.map(|(_, best)| best)) {
                best = Some((epoch.epoch, value));
            }
        }
        Ok(best)
    }

    fn describe(&self, name: &str, result: &ResultRecord) -> String {
        match (&result.score, &result.error) {
            (Some(score), _) => {
                format!("{name}: {} {score:.4} after epoch {}", self.options.metric.monitor(), result.epochs)
            }
            (None, error) => format!("{name}: failed: {}", error.as_deref().unwrap_or_default()),
        }
    }
}

fn trial_record(trial: usize, values: &[Value]) -> Record {
    Record::Trial { trial, values: values.iter().map(toml_text).collect() }
}

fn failure(work: Work, epochs: u32, error: String) -> ResultRecord {
    ResultRecord { trial: work.trial, rung: work.rung, epochs, best_epoch: None, score: None, error: Some(error) }
}
