//! Fresh seeds of the best config and of the base config.
//!
//! The best of many scores is partly the luckiest, so it says too much about its config. Seeds that
//! selected nothing say how much.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::journal::Journal;
use super::plan::StudyOptions;
use super::search::POLL_INTERVAL;
use super::study::StudyResult;
use super::study_dir::trial_name;
use super::trial::{Runs, Trained};
use crate::config::Config;
use crate::report::Console;
use crate::run_dir::RunDir;
use crate::sweep::significance::confidence_half_width;
use crate::util::error::input;

/// Fewest values with an interval.
const MIN_VALUES: usize = 3;

/// The name of the base config in the folders of its runs.
const BASE: &str = "base";

/// What the names of these folders begin with.
const CONFIRM: &str = "confirm-";

/// Most fresh seeds.
pub const MAX_SEEDS: u64 = 100;

/// A mean over seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mean {
    /// The value of each seed; `None` for a run that failed.
    pub values: Vec<Option<f64>>,
    /// The mean of those that did not fail, if there are any.
    pub mean: Option<f64>,
    /// Half the width of its 95% interval (Student's t); `None` for fewer than 3 values, of which it would
    /// be wider than the range of the metric.
    pub half_width: Option<f64>,
}

impl Mean {
    fn new(values: Vec<Option<f64>>) -> Self {
        let present: Vec<f64> = values.iter().flatten().copied().collect();
        let mean = (!present.is_empty()).then(|| present.iter().sum::<f64>() / present.len() as f64);
        let half_width = (present.len() >= MIN_VALUES).then(|| confidence_half_width(&present)).flatten();
        Self { mean, half_width, values }
    }

    /// Such as `0.5012 +- 0.0034`.
    pub fn describe(&self) -> String {
        let half = self.half_width.map_or(String::new(), |half| format!(" +- {half:.4}"));
        self.mean.map_or("none".to_owned(), |mean| format!("{mean:.4}{half}"))
    }
}

/// What fresh seeds say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confirmation {
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The best metric of the best trial's config, by seed.
    pub best: Mean,
    /// That of the base config.
    pub base: Mean,
    /// Differences of pairs of equal seed, best minus base; `None` if the best is the base.
    pub difference: Option<Mean>,
    /// The score of the search minus the mean of the same config over fresh seeds.
    pub optimism: Option<f64>,
    /// Runs that failed, and why. They are not part of the means.
    pub failures: Vec<String>,
}

impl Confirmation {
    /// `base` is `None` if the best trial is the base config.
    fn new(seeds: Vec<u64>, score: f64, best: &[Fresh], base: Option<&[Fresh]>) -> Self {
        let values = |runs: &[Fresh]| runs.iter().map(Fresh::value).collect::<Vec<_>>();
        let difference = |(best, base): (&Fresh, &Fresh)| Some(best.value()? - base.value()?);
        let failures = best.iter().chain(base.unwrap_or_default()).filter_map(Fresh::failure).collect();
        let difference = base.map(|base| Mean::new(best.iter().zip(base).map(difference).collect()));
        let (best, base) = (Mean::new(values(best)), Mean::new(values(base.unwrap_or(best))));
        let optimism = best.mean.map(|mean| score - mean);
        Self { seeds, best, base, difference, optimism, failures }
    }

    /// A few lines for the terminal.
    pub fn describe(&self) -> String {
        let best = self.best.describe();
        let means = match &self.difference {
            None => format!("{best}; the best trial is the base config itself"),
            Some(difference) => {
                format!("best {best}, base {}, difference {}", self.base.describe(), difference.describe())
            }
        };
        let of = if self.best.half_width.is_some() { " (mean +- half of its 95% interval)" } else { "" };
        let mut text = format!("fresh seeds {:?}{of}: {means}\n", self.seeds);
        if let Some(optimism) = self.optimism {
            let direction = if optimism < 0.0 { "below" } else { "above" };
            text += &format!("the score of the search is {:.4} {direction} the mean of fresh seeds\n", optimism.abs());
        }
        self.failures.iter().for_each(|failure| text += &format!("failed: {failure}\n"));
        text
    }
}

/// A run to train.
struct Fresh {
    config: Config,
    folder: String,
    /// Its best metric, or why it failed; `None` until it is trained.
    result: Option<Result<f64, String>>,
}

/// Trains the best and the base config with fresh seeds, counting up from the config's own. The
/// validation images stay the same. Processes that share the study share the runs. The error within
/// is the signal that interrupted it.
///
/// # Errors
/// Files that cannot be read or written, a device that fails.
pub fn run(
    result: &StudyResult,
    options: &StudyOptions,
    journal: &mut Journal,
    runs: &mut Runs<'_>,
) -> Result<Result<Confirmation, i32>> {
    let best = result.best_trial().context("a best trial")?;
    let seeds: Vec<u64> = (1..=seed_count(result, options)?).map(|number| fresh_seed(result, number)).collect();
    let best_config = result.config(best)?;
    let fresh = |(name, config): (&str, &Config)| -> Result<Vec<Fresh>> {
        let with_folder =
            |seed: &u64| Ok(Fresh { config: with_seed(config, *seed)?, folder: folder(name, *seed), result: None });
        seeds.iter().map(with_folder).collect()
    };
    let name = best_name(result)?.context("a best trial")?;
    let mut best_runs = fresh((&name, &best_config))?;
    let mut base_runs = if name == BASE { None } else { Some(fresh((BASE, &result.plan.base))?) };
    loop {
        let mut is_waiting = false;
        for run in best_runs.iter_mut().chain(base_runs.iter_mut().flatten()).filter(|run| run.result.is_none()) {
            if let Some(signal) = runs.signals.received() {
                return Ok(Err(signal));
            }
            let lock = journal.lock()?;
            let claim = result.dir.claim(&run.folder, &lock)?;
            drop(lock);
            let Some(claim) = claim else {
                is_waiting = true;
                continue;
            };
            if let Some(signal) = run.train(result, runs)? {
                return Ok(Err(signal));
            }
            claim.release(&journal.lock()?)?;
        }
        if !is_waiting {
            break;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    let score = best.score().context("a score")?;
    Ok(Ok(Confirmation::new(seeds, score, &best_runs, base_runs.as_deref())))
}

/// The name of the best trial in the folders of its runs: that of the base config if it is the same.
fn best_name(result: &StudyResult) -> Result<Option<String>> {
    let Some(best) = result.best_trial() else { return Ok(None) };
    let is_base = result.config(best)? == result.plan.base;
    Ok(Some(if is_base { BASE.to_owned() } else { trial_name(best.number) }))
}

/// Number of fresh seeds: those that are asked for, or else those that an earlier command has trained to
/// the end, so that a study that is resumed without the option keeps them.
///
/// # Errors
/// Those of the best trial's config.
pub fn seed_count(result: &StudyResult, options: &StudyOptions) -> Result<u64> {
    let Some(best) = best_name(result)? else { return Ok(0) };
    if options.confirm > 0 {
        return Ok(options.confirm);
    }
    let has_ended = |name: &str, number: u64| {
        let path = result.dir.file(&folder(name, fresh_seed(result, number)));
        ended(&path, &result.plan.base).is_some()
    };
    let has_both_ended = |number: &u64| has_ended(&best, *number) && has_ended(BASE, *number);
    Ok((1..=MAX_SEEDS).take_while(has_both_ended).count() as u64)
}

/// If there are runs with fresh seeds and none are kept: why.
///
/// # Errors
/// A directory that cannot be read, or those of the best trial's config.
pub fn note(result: &StudyResult) -> Result<Option<&'static str>> {
    let Some(best) = best_name(result)? else { return Ok(None) };
    let entries = fs_err::read_dir(result.dir.path())?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<Result<Vec<String>>>()?;
    let has = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    Ok(if has(&format!("{CONFIRM}{best}-")) {
        Some("note: the fresh seeds of the best trial are not all trained; --confirm K trains the rest")
    } else if has(CONFIRM) {
        Some("note: the best trial is not the one that fresh seeds have confirmed; --confirm K confirms it")
    } else {
        None
    })
}

fn fresh_seed(result: &StudyResult, number: u64) -> u64 {
    result.plan.base.seed.saturating_add(number)
}

/// The run directory of a config with a fresh seed.
fn folder(name: &str, seed: u64) -> String {
    format!("{CONFIRM}{name}-seed{seed}")
}

impl Fresh {
    /// Trains it unless it is finished; the signal that interrupted it.
    fn train(&mut self, result: &StudyResult, runs: &mut Runs<'_>) -> Result<Option<i32>> {
        let folder = &self.folder;
        let path = result.dir.file(folder);
        if let Some(result) = ended(&path, &self.config) {
            self.result = Some(result);
            return Ok(None);
        }
        match runs.train(&self.config, &path, self.config.train.epochs)? {
            Trained::Interrupted(signal) => return Ok(Some(signal)),
            Trained::Failed(error) => {
                Console::default().line(&format!("{folder}: failed: {error}"))?;
                self.result = Some(Err(error));
            }
            Trained::Done(summary) => {
                self.result = Some(summary.best_monitor_value.ok_or_else(|| "has no finite metric".to_owned()));
            }
        }
        Ok(None)
    }

    fn value(&self) -> Option<f64> {
        self.result.as_ref().and_then(|result| result.as_ref().ok()).copied()
    }

    fn failure(&self) -> Option<String> {
        let error = self.result.as_ref()?.as_ref().err()?;
        Some(format!("{}: {error}", self.folder))
    }
}

/// The result of the run at `path`, if it has been trained to its end or has diverged.
fn ended(path: &Path, config: &Config) -> Option<Result<f64, String>> {
    let summary = RunDir::open(path).ok()?.read_summary()?;
    match summary.best_monitor_value {
        _ if summary.stopped == "diverged" => Some(Err("training diverged".to_owned())),
        Some(value) if summary.is_finished(config) => Some(Ok(value)),
        _ => None,
    }
}

fn with_seed(config: &Config, seed: u64) -> Result<Config> {
    let mut raw = (**config).clone();
    raw.seed = seed;
    raw.check().map_err(|problem| input(format!("--confirm: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn runs(values: &[Option<f64>]) -> Vec<Fresh> {
        let config: Config =
            config::from_text("name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n", "x").unwrap();
        let run = |(number, value): (usize, &Option<f64>)| Fresh {
            config: config.clone(),
            folder: folder("base", number as u64),
            result: Some(value.ok_or_else(|| "training diverged".to_owned())),
        };
        values.iter().enumerate().map(run).collect()
    }

    fn confirmation(score: f64, best: &[Option<f64>], base: &[Option<f64>]) -> Confirmation {
        Confirmation::new((43..).take(best.len()).collect(), score, &runs(best), Some(&runs(base)))
    }

    #[test]
    fn a_confirmation_compares_with_the_base_and_the_search() {
        let found = confirmation(0.7, &[Some(0.6), Some(0.64), Some(0.62)], &[Some(0.5), Some(0.56), Some(0.53)]);
        assert!(
            (found.optimism.unwrap() - 0.08).abs() < 1e-12
                && (found.difference.clone().unwrap().mean.unwrap() - 0.09).abs() < 1e-12
        );
        // Student's quantile for 2 degrees of freedom times the standard error.
        assert!((found.best.half_width.unwrap() - 4.303 * 0.02 / 3f64.sqrt()).abs() < 1e-4);
        let text = found.describe();
        let own = "score of the search is 0.0800 above the mean of fresh seeds";
        let means = "fresh seeds [43, 44, 45] (mean +- half of its 95% interval): best 0.6200 +- 0.0497, base 0.5300";
        for part in [means, own] {
            assert!(text.contains(part), "{text}");
        }
        let one = confirmation(0.5, &[Some(0.6)], &[Some(0.5)]);
        assert_eq!(one.best.half_width, None);
        assert!(one.describe().contains("best 0.6000, base 0.5000") && one.describe().contains("0.1000 below the"));
    }

    #[test]
    fn runs_that_failed_are_named_and_not_part_of_means() {
        let found = confirmation(0.7, &[None, Some(0.6)], &[Some(0.5), Some(0.4)]);
        assert_eq!(
            (found.best.mean, found.difference.as_ref().unwrap().values.as_slice()),
            (Some(0.6), &[None, Some(0.6 - 0.4)][..])
        );
        assert!(found.describe().contains("failed: confirm-base-seed0: training diverged"), "{}", found.describe());
        let none = confirmation(0.7, &[None], &[Some(0.5)]);
        assert_eq!((none.best.mean, none.optimism, none.difference.as_ref().unwrap().mean), (None, None, None));
        assert!(none.describe().starts_with("fresh seeds [43]: best none, base 0.5000, difference none\nfailed: "));
    }

    #[test]
    fn the_config_itself_may_be_the_best() {
        let found = Confirmation::new(vec![43, 44], 0.7, &runs(&[None, Some(0.6)]), None);
        assert_eq!((found.base.mean, &found.difference, found.failures.len()), (Some(0.6), &None, 1));
        let text = found.describe();
        assert!(text.starts_with("fresh seeds [43, 44]: 0.6000; the best trial is the base config itself\n"), "{text}");
    }
}
