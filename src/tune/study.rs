//! A study from its plan to its results.

use anyhow::{Context as _, Result, anyhow};
use toml::Value;

use super::confirmation::{self, Confirmation};
use super::domain::Domain;
use super::halving::{Decision, Scored, leader};
use super::journal::{Journal, Record, ResultRecord};
use super::plan::{Plan, StudyOptions, check_same};
use super::study_dir::{StudyDir, trial_name};
use super::trial::{Runs, Trained};
use super::{outputs, page};
use crate::config::{self, Config};
use crate::device::{self, DeviceChoice};
use crate::report::Console;
use crate::run_dir::STUDY_JSONL;
use crate::sweep::runner::DatasetCache;
use crate::util::error::{Outcome, input};
use crate::util::signals::Signals;

/// A trial and what is known of it.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Its number, from 0.
    pub number: usize,
    /// The value of each key of the space.
    pub values: Vec<Value>,
    /// Its results at rungs, in order.
    pub results: Vec<ResultRecord>,
}

impl Trial {
    /// The last result.
    pub fn last(&self) -> Option<&ResultRecord> {
        self.results.last()
    }

    /// The score at the highest rung; none for a trial that failed.
    pub fn score(&self) -> Option<f64> {
        self.last().and_then(|result| result.score)
    }

    /// Epochs trained.
    pub fn epochs(&self) -> u32 {
        self.last().map_or(0, |result| result.epochs)
    }
}

/// The result of a study.
pub struct StudyResult {
    /// What was searched.
    pub plan: Plan,
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

    /// The config of a trial.
    ///
    /// # Errors
    /// Those of a config.
    pub fn config(&self, trial: &Trial) -> Result<Config> {
        config::with_values(&self.plan.base, &self.plan.space.assignments(&trial.values))
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
            return Err(anyhow!("all {} trials failed; the first: {error}", self.trials.len()));
        }
        Ok(Outcome::Done)
    }
}

/// Searches, confirms and reports.
///
/// # Errors
/// Input errors before anything is written; files that cannot be read or written.
pub fn run(options: &StudyOptions, signals: &Signals) -> Result<StudyResult> {
    let plan = Plan::new(options)?;
    if plan.base.device != DeviceChoice::Cpu {
        // A run that needs it reports why it is not available.
        drop(device::init_cuda());
    }
    let mut datasets = DatasetCache::default();
    datasets.get(&plan.base)?;
    let path = match &options.out {
        Some(path) => path.clone(),
        None => StudyDir::default_path(options.resume)?,
    };
    let dir = StudyDir::open(&path, options.resume)?;
    let mut console = Console::default();
    if let Some(reason) = dir.unlocked_reason() {
        console.line(&format!("warning: it cannot be locked ({reason}): let no other process tune in it"))?;
    }
    let mut journal = Journal::open(&dir.file(STUDY_JSONL))?;
    journal.note.iter().try_for_each(|note| console.line(note))?;
    let record = plan.record(options)?;
    match journal.records.first() {
        None => journal.append(Record::Study(record))?,
        Some(Record::Study(old)) => check_same(old, &record, &path.display().to_string())?,
        Some(_) => {
            let shown = dir.file(STUDY_JSONL);
            return Err(input(format!("{}:1: does not describe the study; choose another --out", shown.display())));
        }
    }
    let rungs: Vec<String> = plan.ladder.epochs().iter().map(u32::to_string).collect();
    console.line(&format!(
        "study: {} trials, rungs at epochs {}, in {}",
        options.trials,
        rungs.join(", "),
        path.display()
    ))?;
    let resume_command = resume_command(options, &dir)?;
    let runs = Runs { signals, command: &options.command, resume_command: &resume_command, datasets: &mut datasets };
    let trials = replay(&journal, &plan)?;
    let mut search = Search { options, plan, dir, journal, trials, runs };
    let signal = search.run()?;
    let Search { plan, dir, trials, journal, mut runs, .. } = search;
    let results = results(&journal);
    let best = leader(&scored(&results)).map(|best| best.trial);
    let mut result = StudyResult {
        plan,
        dir,
        trials,
        results,
        best,
        confirmation: None,
        signal,
        resume_command: resume_command.clone(),
    };
    outputs::write(&result, options)?;
    if result.signal.is_none() && options.confirm > 0 && result.best.is_some() {
        match confirmation::run(&result, options, &mut runs)? {
            Ok(confirmation) => result.confirmation = Some(confirmation),
            Err(signal) => result.signal = Some(signal),
        }
    }
    if result.signal.is_none() {
        page::write(&result, options)?;
    }
    Ok(result)
}

/// The command that resumes the study.
fn resume_command(options: &StudyOptions, dir: &StudyDir) -> Result<String> {
    let words = shlex::split(&options.command).unwrap_or_default();
    let mut words: Vec<String> = words.into_iter().filter(|word| word != "--resume").collect();
    if options.out.is_none() {
        words.extend(["--out".to_owned(), dir.path().display().to_string()]);
    }
    words.push("--resume".to_owned());
    Ok(shlex::try_join(words.iter().map(String::as_str))?)
}

fn results(journal: &Journal) -> Vec<ResultRecord> {
    let result = |record: &Record| match record {
        Record::Result(result) => Some(result.clone()),
        _ => None,
    };
    journal.records.iter().filter_map(result).collect()
}

fn scored(results: &[ResultRecord]) -> Vec<Scored> {
    results.iter().map(|r| Scored { trial: r.trial, rung: r.rung, score: r.score }).collect()
}

/// The trials of a journal.
///
/// # Errors
/// An input error for records that do not follow from each other.
fn replay(journal: &Journal, plan: &Plan) -> Result<Vec<Trial>> {
    let mut trials: Vec<Trial> = Vec::new();
    for (index, record) in journal.records.iter().enumerate().skip(1) {
        let place = || input(format!("{STUDY_JSONL}:{}: does not follow from the lines above", index + 1));
        match record {
            Record::Study(_) => return Err(place()),
            Record::Trial { trial, values } => {
                let values = values.iter().map(|text| parse(text)).collect::<Option<Vec<_>>>().with_context(place)?;
                if *trial != trials.len() || values.len() != plan.space.parameters.len() {
                    return Err(place());
                }
                trials.push(Trial { number: *trial, values, results: Vec::new() });
            }
            Record::Result(result) => {
                trials.get_mut(result.trial).with_context(place)?.results.push(result.clone());
            }
        }
    }
    Ok(trials)
}

fn parse(text: &str) -> Option<Value> {
    config::read_table(&format!("value = {text}")).ok()?.remove("value")
}

/// A search in progress.
struct Search<'a> {
    options: &'a StudyOptions,
    plan: Plan,
    dir: StudyDir,
    journal: Journal,
    trials: Vec<Trial>,
    runs: Runs<'a>,
}

impl Search<'_> {
    /// Trains until nothing is left to do; the signal that interrupted it.
    fn run(&mut self) -> Result<Option<i32>> {
        loop {
            if let Some(signal) = self.runs.signals.received() {
                return Ok(Some(signal));
            }
            let unfinished = self.trials.iter().find(|trial| trial.results.is_empty()).map(|trial| trial.number);
            let results = scored(&results(&self.journal));
            let (trial, rung) = match unfinished {
                Some(trial) => (trial, 0),
                None => match self.plan.ladder.decide(&results, self.trials.len(), self.options.trials) {
                    Decision::Finish => return Ok(None),
                    Decision::Promote { trial, rung } => (trial, rung),
                    Decision::Start => (self.start(&results)?, 0),
                },
            };
            if let Some(signal) = self.train(trial, rung)? {
                return Ok(Some(signal));
            }
        }
    }

    /// Chooses the values of a trial and records them.
    fn start(&mut self, results: &[Scored]) -> Result<usize> {
        let domains: Vec<&Domain> = self.plan.space.parameters.iter().map(|parameter| &parameter.domain).collect();
        let of_trial = |trial: &Trial| {
            let positions = domains.iter().zip(&trial.values).map(|(domain, value)| domain.position(value));
            positions.collect::<Option<Vec<f64>>>().with_context(|| {
                input(format!("{STUDY_JSONL}: a value of {} is not in the space", trial_name(trial.number)))
            })
        };
        let positions = self.trials.iter().map(of_trial).collect::<Result<Vec<_>>>()?;
        let number = self.trials.len();
        let sampled = self.options.sampler.sample(self.options.seed, number, &domains, &positions, results);
        let values: Vec<Value> = domains.iter().zip(sampled).map(|(domain, at)| domain.value(at)).collect();
        let texts = values.iter().map(Value::to_string).collect();
        self.journal.append(Record::Trial { trial: number, values: texts })?;
        self.trials.push(Trial { number, values, results: Vec::new() });
        Ok(number)
    }

    /// Trains a trial up to a rung and records the result; the signal that interrupted it.
    fn train(&mut self, number: usize, rung: usize) -> Result<Option<i32>> {
        let trial = self.trials.get(number).context("a trial of the study")?;
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
            Trained::Failed(error) => failure(number, rung, before, error),
            Trained::Done(summary) => match summary.best_monitor_value.filter(|score| score.is_finite()) {
                Some(score) => ResultRecord {
                    trial: number,
                    rung,
                    epochs: summary.epochs,
                    best_epoch: summary.best_epoch,
                    score: Some(score),
                    error: None,
                },
                None => failure(number, rung, summary.epochs, "has no finite metric".to_owned()),
            },
        };
        let line = match (&result.score, &result.error) {
            (Some(score), _) => {
                format!("{name}: {} {score:.4} after epoch {}", self.options.metric.monitor(), result.epochs)
            }
            (None, error) => format!("{name}: failed: {}", error.as_deref().unwrap_or_default()),
        };
        Console::default().line(&line)?;
        self.journal.append(Record::Result(result.clone()))?;
        if let Some(trial) = self.trials.get_mut(number) {
            trial.results.push(result);
        }
        Ok(None)
    }
}

fn failure(trial: usize, rung: usize, epochs: u32, error: String) -> ResultRecord {
    ResultRecord { trial, rung, epochs, best_epoch: None, score: None, error: Some(error) }
}
