//! A study from its plan to its results.

use std::path::Path;

use anyhow::{Result, anyhow};

use super::confirmation::{self, Confirmation};
use super::halving::leader;
use super::history::{History, Trial};
use super::journal::{Journal, Record, ResultRecord, StudyRecord};
use super::plan::{Plan, StudyOptions, check_same};
use super::search::Search;
use super::study_dir::StudyDir;
use super::trial::Runs;
use super::{outputs, page};
use crate::config::{self, Config};
use crate::device::{self, DeviceChoice};
use crate::report::Console;
use crate::run_dir::lock_scope::{LockScope, scope};
use crate::run_dir::{LOCK_FILE, STUDY_JSONL};
use crate::sweep::runner::DatasetCache;
use crate::util::error::{Outcome, input};
use crate::util::signals::Signals;
use crate::util::text::count;

/// The result of a study.
pub struct StudyResult {
    /// What was searched.
    pub plan: Plan,
    /// The base config as the study was started with, on a device and with threads of its own.
    pub recorded: Config,
    /// Its directory, locked.
    pub dir: StudyDir,
    /// The trials in their order.
    pub trials: Vec<Trial>,
    /// Results in the order in which they were measured.
    pub results: Vec<ResultRecord>,
    /// Number of the best trial.
    pub best: Option<usize>,
    /// Fresh seeds of the best and the base config.
    pub confirmation: Option<Confirmation>,
    /// The signal that interrupted it.
    pub signal: Option<i32>,
    /// The command that resumes it.
    pub resume_command: String,
}

impl StudyResult {
    /// The best trial.
    pub fn best_trial(&self) -> Option<&Trial> {
        self.best.and_then(|number| self.trials.get(number))
    }

    /// The trial of the config itself, if there is one.
    pub fn reference(&self) -> Option<&Trial> {
        self.plan.reference(&self.trials).and_then(|number| self.trials.get(number))
    }

    /// The config of a trial.
    ///
    /// # Errors
    /// Those of a config.
    pub fn config(&self, trial: &Trial) -> Result<Config> {
        config::with_values(&self.plan.base, &self.plan.space.assignments(&trial.values))
    }

    /// The config of a trial, with device, threads and name as the study was started with. It is the
    /// same in all processes that share the study.
    ///
    /// # Errors
    /// Those of a config.
    pub fn recorded_config(&self, trial: &Trial) -> Result<Config> {
        config::with_values(&self.recorded, &self.plan.space.assignments(&trial.values))
    }

    /// Epochs trained by all trials.
    pub fn epochs(&self) -> u64 {
        self.trials.iter().map(|trial| u64::from(trial.epochs())).sum()
    }

    /// How the command ends.
    ///
    /// # Errors
    /// If no trial has a score.
    pub fn into_outcome(self) -> Result<Outcome> {
        if let Some(signal) = self.signal {
            Console::default().line(&format!("resume with: {}", self.resume_command))?;
            return Ok(Outcome::Interrupted(signal));
        }
        if self.best.is_none() {
            let error = self.results.iter().find_map(|result| result.error.clone()).unwrap_or_default();
            let trials = count(self.trials.len(), "trial");
            return Err(anyhow!("all {trials} failed; the first: {error}"));
        }
        Ok(Outcome::Done)
    }
}

/// Searches, confirms and reports.
///
/// # Errors
/// Input errors before anything is written; files that cannot be read or written.
pub fn run(options: &StudyOptions, signals: &Signals) -> Result<StudyResult> {
    let mut datasets = DatasetCache::default();
    let plan = Plan::new(options, &mut datasets)?;
    if plan.base.device != DeviceChoice::Cpu {
        // A run that needs it reports why it is not available.
        drop(device::init_cuda());
    }
    let record = plan.record(options, datasets.get(&plan.base)?)?;
    let path = match &options.out {
        Some(path) => path.clone(),
        None => StudyDir::default_path(options.resume)?,
    };
    let dir = open_dir(&path, options)?;
    let (mut journal, recorded) = open_journal(&dir, record, options)?;
    let resume_command = resume_command(options, &dir)?;
    let mut runs =
        Runs { signals, command: &options.command, resume_command: &resume_command, datasets: &mut datasets };
    let mut search = Search {
        options,
        plan: &plan,
        dir: &dir,
        journal: &mut journal,
        history: History::default(),
        runs: &mut runs,
        is_exhausted: false,
    };
    let signal = search.run()?;
    let (History { trials, results, .. }, lock) = search.into_history()?;
    let best = best(&results);
    let mut result = StudyResult {
        plan,
        recorded,
        dir,
        trials,
        results,
        best,
        confirmation: None,
        signal,
        resume_command: resume_command.clone(),
    };
    outputs::write(&result, options, &lock)?;
    drop(lock);
    if result.signal.is_none() {
        if confirmation::seed_count(&result, options)? > 0 {
            match confirmation::run(&result, options, &mut journal, &mut runs)? {
                Ok(confirmation) => result.confirmation = Some(confirmation),
                Err(signal) => result.signal = Some(signal),
            }
        } else if let Some(note) = confirmation::note(&result)? {
            Console::default().line(note)?;
        }
    }
    if result.signal.is_none() {
        page::write(&result, options, &journal.lock()?)?;
    }
    Ok(result)
}

/// Opens the directory, and prints what is to be known of its locks.
fn open_dir(path: &Path, options: &StudyOptions) -> Result<StudyDir> {
    let dir = StudyDir::open(path, options.resume || options.join, options.join)?;
    let mut console = Console::default();
    let shown = path.display();
    if options.join {
        match scope(&dir.file(LOCK_FILE)) {
            LockScope::AllMachines => {}
            LockScope::NotShared(reason) => {
                return Err(input(format!(
                    "--join: {shown}: its locks do not keep out other machines ({reason}), so two could train the same \
                     trial; choose an --out on a file system with locks, or drop --join and tune with one process"
                )));
            }
            LockScope::Uncertain(reason) => console.line(&format!(
                "note: {shown}: its locks may not keep out other machines ({reason}); only processes of one machine should \
                 join"
            ))?,
        }
    } else if let Some(reason) = dir.unlocked_reason() {
        console.line(&format!("warning: it cannot be locked ({reason}): let no other process tune in it"))?;
    }
    Ok(dir)
}

/// Opens the journal of a new study, or of the one that is resumed or joined. Returns the base config
/// as it was started with, too.
fn open_journal(dir: &StudyDir, record: StudyRecord, options: &StudyOptions) -> Result<(Journal, Config)> {
    let mut console = Console::default();
    let path = dir.file(STUDY_JSONL);
    let mut journal = Journal::open(&path, options.join)?;
    let lock = journal.lock()?;
    journal.note.take().iter().try_for_each(|note| console.line(note))?;
    let rungs = match &record.rungs[..] {
        [all] => format!("each of {}, without halving", count(*all as usize, "epoch")),
        rungs => format!("rungs at epochs {}", rungs.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
    };
    let shown_dir = dir.path().display().to_string();
    let recorded = match journal.records.first() {
        None => {
            if options.resume {
                console.line(&format!("{shown_dir} holds no study yet: starting a new one"))?;
            }
            let recorded = record.config.clone();
            journal.append(&lock, Record::Study(record))?;
            recorded
        }
        Some(Record::Study(old)) => {
            check_same(old, &record, &shown_dir)?;
            old.config.clone()
        }
        Some(_) => {
            let shown = path.display();
            return Err(input(format!("{shown}:1: does not describe the study; choose another --out")));
        }
    };
    drop(lock);
    console.line(&format!("study: up to {}, {rungs}, in {shown_dir}", count(options.trials, "trial")))?;
    let recorded = config::from_text(&recorded, &format!("{}:1", path.display()))?;
    Ok((journal, recorded))
}

/// Number of the best trial.
fn best(results: &[ResultRecord]) -> Option<usize> {
    let scored: Vec<_> = results.iter().map(ResultRecord::scored).collect();
    leader(&scored).map(|best| best.trial)
}

/// The command that resumes the study.
fn resume_command(options: &StudyOptions, dir: &StudyDir) -> Result<String> {
    let words = shlex::split(&options.command).unwrap_or_default();
    let mut words: Vec<String> = words.into_iter().filter(|word| word != "--resume").collect();
    if options.out.is_none() {
        words.extend(["--out".to_owned(), dir.path().display().to_string()]);
    }
    if !options.join {
        words.push("--resume".to_owned());
    }
    Ok(shlex::try_join(words.iter().map(String::as_str))?)
}
