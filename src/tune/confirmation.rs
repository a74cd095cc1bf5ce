//! Fresh seeds of the best config and of the base config.
//!
//! The best of many scores is partly the luckiest, so it says too much about its config. Seeds that
//! selected nothing say how much.

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;

use super::journal::Journal;
use super::plan::StudyOptions;
use super::search::POLL_INTERVAL;
use super::study::StudyResult;
use super::study_dir::trial_name;
use super::trial::{Runs, Trained};
use crate::config::Config;
use crate::report::Console;
use crate::sweep::significance::confidence_half_width;
use crate::util::error::input;

/// A mean over seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mean {
    /// The value of each seed.
    pub values: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Half the width of its 95% interval (Student's t); `None` for one seed.
    pub half_width: Option<f64>,
}

impl Mean {
    fn new(values: Vec<f64>) -> Self {
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        Self { mean, half_width: confidence_half_width(&values), values }
    }

    /// Such as `0.5012 +- 0.0034`.
    pub fn describe(&self) -> String {
        let half = self.half_width.map_or(String::new(), |half| format!(" +- {half:.4}"));
        format!("{:.4}{half}", self.mean)
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
    /// Differences of pairs of equal seed, best minus base.
    pub difference: Mean,
    /// The score of the search minus the mean of the same config over fresh seeds.
    pub optimism: f64,
}

impl Confirmation {
    fn new(seeds: Vec<u64>, score: f64, best: Vec<f64>, base: Vec<f64>) -> Self {
        let differences = best.iter().zip(&base).map(|(best, base)| best - base).collect();
        let best = Mean::new(best);
        let optimism = score - best.mean;
        Self { seeds, base: Mean::new(base), difference: Mean::new(differences), optimism, best }
    }

    /// A few lines for the terminal.
    pub fn describe(&self) -> String {
        let direction = if self.optimism < 0.0 { "too low" } else { "too high" };
        format!(
            "fresh seeds {:?}: best {}, base {}, difference {}\nthe search's own score was {:.4} {direction}\n",
            self.seeds,
            self.best.describe(),
            self.base.describe(),
            self.difference.describe(),
            self.optimism.abs()
        )
    }
}

/// A run to train.
struct Fresh {
    config: Config,
    folder: String,
    /// Its best metric, once trained.
    value: Option<f64>,
}

/// Trains the best and the base config with fresh seeds, counting up from the config's own. The
/// validation images stay the same. Processes that share the study share the runs. The error within
/// is the signal that interrupted it.
///
/// # Errors
/// A run that fails; files that cannot be read or written.
pub fn run(
    result: &StudyResult,
    options: &StudyOptions,
    journal: &mut Journal,
    runs: &mut Runs<'_>,
) -> Result<Result<Confirmation, i32>> {
    let best = result.best_trial().context("a best trial")?;
    let seeds: Vec<u64> = (1..=options.confirm).map(|number| result.plan.base.seed.saturating_add(number)).collect();
    let best_config = result.config(best)?;
    let fresh = |(name, config): (&str, &Config)| -> Result<Vec<Fresh>> {
        let with_folder = |seed: &u64| {
            let folder = format!("confirm-{name}-seed{seed}");
            Ok(Fresh { config: with_seed(config, *seed)?, folder, value: None })
        };
        seeds.iter().map(with_folder).collect()
    };
    let name = trial_name(best.number);
    let (mut best_runs, mut base_runs) = (fresh((&name, &best_config))?, fresh(("base", &result.plan.base))?);
    loop {
        let mut is_waiting = false;
        for run in best_runs.iter_mut().chain(&mut base_runs).filter(|run| run.value.is_none()) {
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
    let values = |runs: &[Fresh]| runs.iter().filter_map(|run| run.value).collect();
    let score = best.score().context("a score")?;
    Ok(Ok(Confirmation::new(seeds, score, values(&best_runs), values(&base_runs))))
}

impl Fresh {
    /// Trains it unless it is finished; the signal that interrupted it.
    fn train(&mut self, result: &StudyResult, runs: &mut Runs<'_>) -> Result<Option<i32>> {
        let folder = &self.folder;
        Console::default().line(&format!("{folder}: training"))?;
        match runs.train(&self.config, &result.dir.file(folder), self.config.train.epochs)? {
            Trained::Interrupted(signal) => return Ok(Some(signal)),
            Trained::Failed(error) => return Err(anyhow!("{folder}: {error}")),
            Trained::Done(summary) => {
                let value = summary.best_monitor_value;
                self.value = Some(value.with_context(|| format!("{folder}: has no finite metric"))?);
            }
        }
        Ok(None)
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

    #[test]
    fn a_confirmation_compares_with_the_base_and_the_search() {
        let found = Confirmation::new(vec![43, 44], 0.7, vec![0.6, 0.64], vec![0.5, 0.56]);
        assert!((found.optimism - 0.08).abs() < 1e-12 && (found.difference.mean - 0.09).abs() < 1e-12);
        // Two values: half the width is 12.706 times half their distance.
        assert!((found.best.half_width.unwrap() - 12.706 * 0.02).abs() < 1e-9);
        let text = found.describe();
        for part in ["fresh seeds [43, 44]: best 0.6200 +- 0.2541, base 0.5300", "own score was 0.0800 too high"] {
            assert!(text.contains(part), "{text}");
        }
        let one = Confirmation::new(vec![43], 0.5, vec![0.6], vec![0.5]);
        assert_eq!(one.best.half_width, None);
        assert!(one.describe().contains("best 0.6000, base 0.5000") && one.describe().contains("0.1000 too low"));
    }
}
