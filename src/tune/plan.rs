//! What a study searches: the base config, the space, the rungs and the metric.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use super::halving::Ladder;
use super::history::Trial;
use super::journal::StudyRecord;
use super::sampler::Sampler;
use super::space::Space;
use crate::config::{self, Config};
use crate::data::dataset::Dataset;
use crate::metrics::Monitor;
use crate::sweep::runner::DatasetCache;
use crate::train::resume;
use crate::util::error::input;

/// The part of the epochs of a full training at which trials are first compared, if not given. Earlier,
/// networks with less augmentation, less dropout and a learning rate that falls sooner are ahead, and are
/// behind in the end (docs/tuning.md has the measurement).
const FIRST_RUNG: u32 = 3;

/// Steps of the config before that. After fewer, most networks still answer with the most common
/// class, and scores say nothing of the end.
const FIRST_STEPS: usize = 500;

/// Keys that a run may change when it resumes, but that make other trials of a study.
const FIXED: [&str; 2] = ["train.early_stop.patience", "train.max_rollbacks"];

/// What a study maximizes on the validation images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Metric {
    /// Accuracy
    Accuracy,
    /// Macro-averaged F1
    MacroF1,
}

impl Metric {
    /// The metric of the training loop, which also selects the best weights of a run.
    pub fn monitor(self) -> Monitor {
        match self {
            Self::Accuracy => Monitor::ValAccuracy,
            Self::MacroF1 => Monitor::ValMacroF1,
        }
    }
}

/// What to search, how and where.
#[derive(Debug, Clone)]
pub struct StudyOptions {
    /// Config that the trials vary.
    pub config: PathBuf,
    /// `--set KEY=VALUE` for it.
    pub sets: Vec<String>,
    /// File of the space.
    pub space: PathBuf,
    /// Number of trials.
    pub trials: usize,
    /// Epochs of a full training \[default: the config's\].
    pub max_epochs: Option<u32>,
    /// Epochs of the first rung \[default: a third of those of a full training, or as many as 500 steps
    /// have, if these are more\].
    pub min_epochs: Option<u32>,
    /// One in `eta` trials goes on.
    pub eta: u32,
    /// How values are chosen.
    pub sampler: Sampler,
    /// Seed of the search; trials are trained with that of the config.
    pub seed: u64,
    /// What to maximize.
    pub metric: Metric,
    /// Fresh seeds of the best and the base config; 0 for none.
    pub confirm: u64,
    /// Directory \[default: a new one in `runs/`, or with `resume` the newest there\].
    pub out: Option<PathBuf>,
    /// Whether to resume the study in the directory.
    pub resume: bool,
    /// Whether other processes work on the study, too.
    pub join: bool,
    /// The command line, for the provenance of runs.
    pub command: String,
}

/// A checked plan.
#[derive(Debug)]
pub struct Plan {
    /// The config that trials vary, with the epochs, the metric and the split of all of them.
    pub base: Config,
    /// Keys and values.
    pub space: Space,
    /// Rungs.
    pub ladder: Ladder,
}

impl Plan {
    /// Reads and checks config, space and images. Nothing is written.
    ///
    /// # Errors
    /// Input errors that name the file, the line and the key, or the option.
    pub fn new(options: &StudyOptions, datasets: &mut DatasetCache) -> Result<Self> {
        let epochs = options.max_epochs.map(|epochs| format!("train.epochs={epochs}"));
        let overrides: Vec<config::Override<'_>> = options
            .sets
            .iter()
            .map(|text| config::Override { option: "--set", text })
            .chain(epochs.iter().map(|text| config::Override { option: "--max-epochs", text }))
            .collect();
        let config: Config = config::load_with_overrides(&options.config, &overrides)?;
        let mut raw = (*config).clone();
        raw.train.early_stop.monitor = options.metric.monitor();
        if raw.data.validation.is_sampled() {
            raw.data.split_seed = Some(raw.data.split_seed.unwrap_or(raw.seed));
        }
        let named =
            |problem: crate::util::validate::InvalidValue| input(format!("{}: {problem}", options.config.display()));
        let base = raw.check().map_err(named)?;
        let max = base.train.epochs;
        let given = options.min_epochs.map(|min| Ladder::new(min, max, options.eta)).transpose()?;
        let space = Space::load(&options.space, &base)?;
        let images = datasets.get(&base)?.train.len();
        let ladder = match given {
            Some(ladder) => ladder,
            None => Ladder::new(first_rung(max, images, base.train.batch), max, options.eta)?,
        };
        Ok(Self { base, space, ladder })
    }

    /// Number of the trial of the config itself, which is the first, unless the space lacks one of its
    /// values.
    pub fn reference(&self, trials: &[Trial]) -> Option<usize> {
        let values = self.space.values_of(&self.base).ok()?;
        trials.first().filter(|trial| trial.values == values).map(|trial| trial.number)
    }

    /// The first record of the journal. `data` has the images of the config.
    ///
    /// # Errors
    /// A config that cannot be written as TOML.
    pub fn record(&self, options: &StudyOptions, data: &Dataset) -> Result<StudyRecord> {
        Ok(StudyRecord {
            format: 1,
            sampler: options.sampler,
            seed: options.seed,
            metric: options.metric.monitor().name().to_owned(),
            rungs: self.ladder.epochs().to_vec(),
            eta: options.eta,
            space: self.space.lines(),
            data_hash: data.data_hash.clone(),
            split_hash: data.split_hash.clone(),
            config: self.base.to_toml()?,
        })
    }
}

/// The default epochs of the first rung, of `max`, for this many training images and batch size.
fn first_rung(max: u32, images: usize, batch: usize) -> u32 {
    let steps = images.div_ceil(batch.max(1)).max(1);
    let epochs = u32::try_from(FIRST_STEPS.div_ceil(steps)).unwrap_or(u32::MAX);
    max.div_ceil(FIRST_RUNG).max(epochs).min(max)
}

/// Refuses to resume a study with other options than it was started with.
///
/// # Errors
/// An input error with what differs.
pub fn check_same(old: &StudyRecord, new: &StudyRecord, shown: &str) -> Result<()> {
    let differs = |what: &str, before: String, now: String, advice: &str| {
        Err(input(format!(
            "{shown}: was started with {what} {before}, but is resumed with {now}; {advice}choose another --out"
        )))
    };
    let refuse = |what: &str, before: String, now: String| differs(what, before, now, "");
    if old.format != new.format {
        return refuse("format", old.format.to_string(), new.format.to_string());
    }
    let epochs = |rungs: &[u32]| format!("{rungs:?}");
    let metric = |record: &StudyRecord| record.metric.trim_start_matches("val_").to_owned();
    for (option, before, now) in [
        ("--sampler", old.sampler.name().to_owned(), new.sampler.name().to_owned()),
        ("--seed", old.seed.to_string(), new.seed.to_string()),
        ("--metric", metric(old), metric(new)),
        ("--eta", old.eta.to_string(), new.eta.to_string()),
    ] {
        if before != now {
            let advice = format!("give {option} {before}, or ");
            return differs(option, before, now, &advice);
        }
    }
    for (what, before, now) in [
        ("images of hash", old.data_hash.clone(), new.data_hash.clone()),
        ("a split of hash", old.split_hash.clone(), new.split_hash.clone()),
    ] {
        if before != now {
            return refuse(what, before, now);
        }
    }
    if old.space != new.space {
        let is_missing = |line: &&String, others: &[String]| !others.contains(line);
        let none = "nothing".to_owned();
        let before = old.space.iter().find(|line| is_missing(line, &new.space)).unwrap_or(&none);
        let now = new.space.iter().find(|line| is_missing(line, &old.space)).unwrap_or(&none);
        return refuse("the space", before.clone(), now.clone());
    }
    let (before, now) = (config::read_table(&config::with_defaults(&old.config))?, config::read_table(&new.config)?);
    let may_change = |key: &str| resume::may_change(key) && !FIXED.contains(&key);
    if let Some(key) = config::differing_keys(&before, &now).into_iter().find(|key| !may_change(key)) {
        return refuse(&key, config::format_value(&before, &key), config::format_value(&now, &key));
    }
    if old.rungs != new.rungs {
        let advice = old.rungs.first().map_or(String::new(), |first| format!("give --min-epochs {first}, or "));
        return differs("rungs at epochs", epochs(&old.rungs), epochs(&new.rungs), &advice);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rung_has_steps_enough_to_learn_something() {
        assert_eq!(first_rung(50, 28_709, 64), 17, "a third");
        assert_eq!(first_rung(3, 28_709, 64), 2, "449 steps an epoch");
        assert_eq!(first_rung(20, 3_200, 64), 10);
        assert_eq!(first_rung(12, 300, 64), 12, "no halving of a short training");
        assert_eq!(first_rung(1, 1, 1_000), 1);
    }

    fn record() -> StudyRecord {
        StudyRecord {
            format: 1,
            sampler: Sampler::Tpe,
            seed: 1,
            metric: "val_accuracy".to_owned(),
            rungs: vec![1, 3],
            eta: 3,
            space: vec!["train.batch = { int = [1, 2] }".to_owned()],
            data_hash: "d1".to_owned(),
            split_hash: "s1".to_owned(),
            config: "threads = 1\n[train]\nbatch = 3\nmax_rollbacks = 0\n".to_owned(),
        }
    }

    #[test]
    fn a_study_of_an_older_version_lacks_new_keys() {
        let config: Config =
            config::from_text("name = \"x\"\n[data]\ntrain = \"a.csv\"\n[model]\nkind = \"cnn\"\n", "x").unwrap();
        let new = StudyRecord { config: config.to_toml().unwrap(), ..record() };
        let method = "method = \"resize\"\n";
        assert!(new.config.contains(method), "{}", new.config);
        check_same(&StudyRecord { config: new.config.replace(method, ""), ..record() }, &new, "s").unwrap();
    }

    #[test]
    fn other_options_are_refused() {
        let record = record();
        check_same(&record, &record, "s").unwrap();
        let text = record.config.replace("threads = 1", "threads = 2");
        check_same(&record, &StudyRecord { config: text, ..record.clone() }, "s").unwrap();
        let changed = |change: fn(&mut StudyRecord)| {
            let mut other = record.clone();
            change(&mut other);
            check_same(&record, &other, "s").unwrap_err().to_string()
        };
        for (message, part) in [
            (
                changed(|r| r.sampler = Sampler::Random),
                "--sampler tpe, but is resumed with random; give --sampler tpe, or choose another",
            ),
            (changed(|r| r.seed = 2), "--seed 1, but is resumed with 2"),
            (changed(|r| r.eta = 2), "--eta 3, but"),
            (
                changed(|r| r.rungs = vec![1, 4]),
                "rungs at epochs [1, 3], but is resumed with [1, 4]; give --min-epochs 1, or",
            ),
            (
                changed(|r| r.metric = "val_macro_f1".to_owned()),
                "--metric accuracy, but is resumed with macro_f1; give --metric accuracy, or",
            ),
            (
                changed(|r| r.space = Vec::new()),
                "the space train.batch = { int = [1, 2] }, but is resumed with nothing",
            ),
            (changed(|r| r.data_hash = "d2".to_owned()), "images of hash d1, but is resumed with d2"),
            (changed(|r| r.split_hash = "s2".to_owned()), "a split of hash s1, but is resumed with s2"),
            (changed(|r| r.config = r.config.replace("= 3", "= 4")), "train.batch 3, but is resumed with 4"),
            (
                changed(|r| r.config = r.config.replace("rollbacks = 0", "rollbacks = 1")),
                "train.max_rollbacks 0, but is resumed with 1",
            ),
        ] {
            assert!(message.starts_with("s: was started with ") && message.contains(part), "{message}");
        }
    }
}
