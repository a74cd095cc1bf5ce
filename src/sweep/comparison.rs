//! Gathers the results of a sweep: a row for each model with its statistics over seeds, and the
//! significance of the best.

use anyhow::{Result, anyhow, ensure};
use serde::Serialize;

use super::baseline::Baseline;
use super::plan::PlannedRun;
use super::significance::confidence_half_width;
use super::sweep_dir::{Progress, SweepDir};
use crate::metrics::accuracy_interval;
use crate::metrics::paired_bootstrap::{PairedDifference, paired_bootstrap};
use crate::run_dir::{ForestSummary, RunDir, Summary, ValidationPredictions};
use crate::util::stats::{mean_and_deviation, median};

/// A row of the comparison: a model over its seeds, or the forest over its folds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelRow {
    /// Name of the config.
    pub model: String,
    /// Mean of `values`.
    pub mean: Option<f64>,
    /// Population standard deviation of `values`, as numpy's `std`.
    pub deviation: Option<f64>,
    /// Validation accuracy of the best epoch, by `train.early_stop.monitor`, maximum over seeds.
    /// For the forest, that of the one fitted on all training rows.
    pub best: Option<f64>,
    /// `best` without duplicates of training images.
    pub best_dedup: Option<f64>,
    /// 95% Wilson interval of `best`, over the validation images.
    pub best_interval: Option<(f64, f64)>,
    /// 95% Wilson interval of `best_dedup`.
    pub best_dedup_interval: Option<(f64, f64)>,
    /// 95% confidence interval of the mean (Student's t), clipped to 0..1; `None` for one value.
    pub interval: Option<(f64, f64)>,
    /// Mean over seeds of the best epoch's validation accuracy.
    pub mean_of_bests: Option<f64>,
    /// Population standard deviation over seeds of the best epoch's validation accuracy.
    pub deviation_of_bests: Option<f64>,
    /// Mean number of epochs.
    pub epochs: Option<f64>,
    /// Trainable parameters of the network; nodes of the forest.
    pub parameters: Option<usize>,
    /// Mean seconds of a run; seconds of one fit for the forest.
    pub seconds: Option<f64>,
    /// Median over runs of training images per second.
    pub images_per_second: Option<f64>,
    /// Validation accuracy of each seed's last epoch; accuracy of each fold for the forest.
    pub values: Vec<f64>,
    /// Whether it is the forest.
    pub is_baseline: bool,
    /// Directory of the best run in the sweep's directory.
    pub best_run: Option<String>,
    /// `2 runs`, or `1 of 2 runs; 1 failed`.
    pub state: String,
}

/// A planned run and its result.
#[derive(Debug, Clone, Serialize)]
pub struct RunResult {
    /// Its directory in the sweep's directory.
    pub folder: String,
    /// Name of its config.
    pub model: String,
    /// `early stop`, `done`, `failed` or `unfinished`.
    pub state: String,
    /// Its error, if it failed.
    pub error: Option<String>,
    /// Its seed.
    pub seed: u64,
    /// Validation accuracy of the best epoch, by `train.early_stop.monitor`.
    pub best: Option<f64>,
    /// Its 95% Wilson interval, over the validation images.
    pub best_interval: Option<(f64, f64)>,
    /// Validation accuracy of the last epoch.
    pub last: Option<f64>,
    /// Its 95% Wilson interval.
    pub last_interval: Option<(f64, f64)>,
}

/// The comparison of a sweep.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Models by descending mean, the forest last.
    pub rows: Vec<ModelRow>,
    /// All planned runs.
    pub runs: Vec<RunResult>,
    /// Directory of the run whose best epoch has the maximum validation accuracy.
    pub best_run: Option<String>,
    /// Its validation accuracy.
    pub best_val_accuracy: Option<f64>,
    /// Its 95% Wilson interval, over the validation images.
    pub best_val_accuracy_interval: Option<(f64, f64)>,
    /// Its validation accuracy without duplicates of training images.
    pub best_val_accuracy_dedup: Option<f64>,
    /// Its 95% Wilson interval.
    pub best_val_accuracy_dedup_interval: Option<(f64, f64)>,
    /// The best run against the best run of any other model, on the same validation images.
    pub against_next: Option<NextBest>,
    /// Runs that were trained and validated on other rows than the best one.
    pub on_other_images: Vec<String>,
    /// Error of the forest.
    pub baseline_error: Option<String>,
    /// The warnings of all runs and the forest, each once, with the directories of its runs.
    pub warnings: Vec<String>,
    /// Number of validation images.
    pub validation_rows: Option<usize>,
    /// Number of training images.
    pub train_rows: Option<usize>,
}

/// The best run of any other model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NextBest {
    /// Its directory.
    pub run: String,
    /// Accuracy of the best run minus its accuracy.
    pub difference: Option<PairedDifference>,
    /// Why the two cannot be compared.
    pub why_not: Option<String>,
}

struct Finished<'a> {
    run: &'a PlannedRun,
    summary: Summary,
}

/// Gathers the results of planned runs from their files.
///
/// # Errors
/// As [`SweepDir::progress`].
pub fn gather(dir: &SweepDir, planned: &[PlannedRun], forest: Option<&Baseline>) -> Result<Comparison> {
    let mut runs = Vec::with_capacity(planned.len());
    let mut finished: Vec<Finished<'_>> = Vec::new();
    for run in planned {
        let progress = dir.progress(run)?;
        runs.push(RunResult::new(run, &progress));
        if let Progress::Finished(summary) = progress {
            finished.push(Finished { run, summary: *summary });
        }
    }
    let mut models: Vec<&str> = planned.iter().map(|run| run.model.as_str()).collect();
    models.dedup();
    let mut rows: Vec<ModelRow> = models.iter().map(|model| model_row(model, &runs, &finished)).collect();
    rows.sort_by(|a, b| b.mean.unwrap_or(-1.0).total_cmp(&a.mean.unwrap_or(-1.0)));
    rows.extend(forest.map(|forest| forest_row(&forest.folder, &forest.summary)));

    let best = best_of(finished.iter());
    let next = best.and_then(|best| best_of(finished.iter().filter(|other| other.run.model != best.run.model)));
    let against_next = best.zip(next).map(|(best, next)| against_next(dir, best.run, next.run));
    let on_other_images = best.map_or_else(Vec::new, |best| on_other_images(best, &finished, forest));
    Ok(Comparison {
        rows,
        runs,
        best_run: best.map(|best| best.run.folder.clone()),
        best_val_accuracy: best.and_then(|best| best.summary.best_val_accuracy),
        best_val_accuracy_interval: best.and_then(|best| best.summary.best_interval()),
        best_val_accuracy_dedup: best.and_then(|best| best.summary.best_val_accuracy_dedup),
        best_val_accuracy_dedup_interval: best.and_then(|best| best.summary.best_val_accuracy_dedup_interval),
        against_next,
        on_other_images,
        baseline_error: None,
        warnings: collect_warnings(&finished, forest),
        validation_rows: best.map(|best| best.summary.validation_rows),
        train_rows: best.map(|best| best.summary.train_rows),
    })
}

impl RunResult {
    /// The result of a run from its progress.
    pub fn new(run: &PlannedRun, progress: &Progress) -> Self {
        let (state, error, summary) = match progress {
            Progress::Finished(summary) => (summary.state(), None, Some(summary)),
            Progress::Failed(error) => ("failed", Some(error.clone()), None),
            Progress::Open => ("unfinished", None, None),
        };
        Self {
            folder: run.folder.clone(),
            model: run.model.clone(),
            state: state.to_owned(),
            error,
            seed: run.config.seed,
            best: summary.and_then(|summary| summary.best_val_accuracy),
            best_interval: summary.and_then(|summary| summary.best_interval()),
            last: summary.and_then(|summary| summary.last_val_accuracy),
            last_interval: summary.and_then(|summary| summary.last_interval()),
        }
    }
}

/// The run whose best epoch has the maximum validation accuracy; of equals the first in the order
/// of the command line.
fn best_of<'a, 'b: 'a>(runs: impl Iterator<Item = &'a Finished<'b>>) -> Option<&'a Finished<'b>> {
    runs.fold(None, |best: Option<&'a Finished<'b>>, run| match best {
        Some(best) if best.summary.best_val_accuracy >= run.summary.best_val_accuracy => Some(best),
        _ => Some(run),
    })
}

/// Folders of runs with another split than the best run: their accuracies cannot be compared.
fn on_other_images(best: &Finished<'_>, finished: &[Finished<'_>], forest: Option<&Baseline>) -> Vec<String> {
    let split = &best.summary.provenance.split_hash;
    let runs = finished.iter().map(|run| (&run.summary.provenance.split_hash, &run.run.folder));
    let forest = forest.map(|forest| (&forest.summary.provenance.split_hash, &forest.folder));
    runs.chain(forest).filter(|(hash, _)| *hash != split).map(|(_, folder)| folder.clone()).collect()
}

/// Such as `Warning of a-seed1, b-seed1: ...`, in the order of the runs.
fn collect_warnings(finished: &[Finished<'_>], forest: Option<&Baseline>) -> Vec<String> {
    let runs = finished.iter().map(|run| (&run.run.folder, &run.summary.warnings));
    let all = runs.chain(forest.map(|forest| (&forest.folder, &forest.summary.warnings)));
    let mut found: Vec<(&String, Vec<&str>)> = Vec::new();
    for (folder, warnings) in all {
        for warning in warnings {
            match found.iter_mut().find(|(known, _)| *known == warning) {
                Some((_, folders)) => folders.push(folder),
                None => found.push((warning, vec![folder])),
            }
        }
    }
    found.into_iter().map(|(warning, folders)| format!("Warning of {}: {warning}.", folders.join(", "))).collect()
}

fn model_row(model: &str, runs: &[RunResult], finished: &[Finished<'_>]) -> ModelRow {
    let of_model: Vec<&Finished<'_>> = finished.iter().filter(|run| run.run.model == model).collect();
    let summaries = || of_model.iter().map(|run| &run.summary);
    let values: Vec<f64> = summaries().filter_map(|summary| summary.last_val_accuracy).collect();
    let bests: Vec<f64> = summaries().filter_map(|summary| summary.best_val_accuracy).collect();
    let moments = |values: &[f64]| (!values.is_empty()).then(|| mean_and_deviation(values));
    let mean = |values: Vec<f64>| moments(&values).map(|(mean, _)| mean);
    let best = best_of(of_model.iter().copied());
    ModelRow {
        model: model.to_owned(),
        mean: moments(&values).map(|(mean, _)| mean),
        deviation: moments(&values).map(|(_, deviation)| deviation),
        best: best.and_then(|best| best.summary.best_val_accuracy),
        best_dedup: best.and_then(|best| best.summary.best_val_accuracy_dedup),
        best_interval: best.and_then(|best| best.summary.best_interval()),
        best_dedup_interval: best.and_then(|best| best.summary.best_val_accuracy_dedup_interval),
        interval: confidence_interval(&values),
        mean_of_bests: moments(&bests).map(|(mean, _)| mean),
        deviation_of_bests: moments(&bests).map(|(_, deviation)| deviation),
        epochs: mean(summaries().map(|summary| f64::from(summary.epochs)).collect()),
        parameters: summaries().next().map(|summary| summary.parameters),
        seconds: mean(summaries().map(|summary| summary.seconds).collect()),
        images_per_second: median(summaries().filter_map(|summary| summary.train_images_per_second).collect()),
        values,
        is_baseline: false,
        best_run: best.map(|best| best.run.folder.clone()),
        state: describe_runs(runs.iter().filter(|run| run.model == model)),
    }
}

fn forest_row(folder: &str, summary: &ForestSummary) -> ModelRow {
    let values = summary.cv_accuracies.clone();
    let state = match (summary.fit_seconds, summary.folds) {
        (None, _) => "unfinished".to_owned(),
        (_, 0) => "fitted".to_owned(),
        (_, folds) => format!("{folds} folds"),
    };
    ModelRow {
        model: summary.name.clone(),
        mean: summary.cv_mean,
        deviation: summary.cv_std,
        best: summary.val_accuracy,
        best_dedup: summary.val_accuracy_dedup,
        best_interval: summary.val_accuracy_interval.or_else(|| {
            // Older versions lack it.
            accuracy_interval(summary.val_accuracy?, summary.validation_rows)
        }),
        best_dedup_interval: summary.val_accuracy_dedup_interval,
        // Without a mean the cross-validation was interrupted.
        interval: summary.cv_mean.and_then(|_| confidence_interval(&values)),
        mean_of_bests: None,
        deviation_of_bests: None,
        epochs: None,
        parameters: summary.nodes,
        seconds: summary.fit_seconds,
        images_per_second: None,
        values,
        is_baseline: true,
        best_run: summary.val_accuracy.map(|_| folder.to_owned()),
        state,
    }
}

/// The 95% confidence interval of the mean of accuracies.
fn confidence_interval(values: &[f64]) -> Option<(f64, f64)> {
    let half = confidence_half_width(values)?;
    let (mean, _) = mean_and_deviation(values);
    Some(((mean - half).max(0.0), (mean + half).min(1.0)))
}

/// `5 runs`, or `3 of 5 runs; 1 failed; 1 unfinished`.
fn describe_runs<'a>(runs: impl Iterator<Item = &'a RunResult>) -> String {
    let states: Vec<&str> = runs.map(|run| run.state.as_str()).collect();
    let count = |state: &str| states.iter().filter(|other| **other == state).count();
    let (failed, unfinished) = (count("failed"), count("unfinished"));
    let word = if states.len() == 1 { "run" } else { "runs" };
    if failed + unfinished == 0 {
        return format!("{} {word}", states.len());
    }
    let missing = [(failed, "failed"), (unfinished, "unfinished")];
    let missing: String =
        missing.iter().filter(|(count, _)| *count > 0).map(|(count, state)| format!("; {count} {state}")).collect();
    format!("{} of {} {word}{missing}", states.len() - failed - unfinished, states.len())
}

fn against_next(dir: &SweepDir, best: &PlannedRun, next: &PlannedRun) -> NextBest {
    let (difference, why_not) = match paired_difference(dir, best, next) {
        Ok(difference) => (Some(difference), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    NextBest { run: next.folder.clone(), difference, why_not }
}

/// The paired difference of two runs on their validation images.
fn paired_difference(dir: &SweepDir, first: &PlannedRun, second: &PlannedRun) -> Result<PairedDifference> {
    let predictions = |run: &PlannedRun| {
        let run = RunDir::open(&dir.run_path(run))?;
        ValidationPredictions::read(&run.validation_csv())
    };
    let (a, b) = (predictions(first)?, predictions(second)?);
    ensure!(a.hashes == b.hashes, "they were not validated on the same images");
    paired_bootstrap(&a.correct(), &b.correct(), first.config.seed)
        .ok_or_else(|| anyhow!("there are no validation images"))
}

impl Comparison {
    /// Whether every planned run finished and the forest did not fail.
    pub fn is_complete(&self) -> bool {
        self.baseline_error.is_none() && self.runs.iter().all(|run| run.error.is_none() && run.state != "unfinished")
    }
}

#[cfg(test)]
mod tests;
