//! The comparison of a sweep: a row for each model, as the notebook has it and more, and whether the best is better than the next.

use anyhow::Result;
use serde::Serialize;

use super::baseline::Baseline;
use super::plan::PlannedRun;
use super::significance::{PairedDifference, half_interval, paired_bootstrap};
use super::sweep_dir::{Progress, SweepDir};
use crate::report::table::thousands;
use crate::run_dir::{ForestSummary, RunDir, Summary, ValidationPredictions};
use crate::util::stats::{mean_and_deviation, median};

/// What the columns of the table are.
pub const LEGEND: &str = "Mean and population standard deviation over seeds of the last epoch's validation accuracy; over folds of the \
     cross-validation for the forest, whose best is that of the forest fitted on all training rows and whose parameters are \
     nodes. The interval is Student's, for the mean. \"Without copies\" leaves out validation images that are exact copies of \
     training images. Seconds are those of a run, of one fit for the forest.";

/// A row: a model, over its seeds; the forest, over its folds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the config.
    pub model: String,
    /// Mean over seeds of the last epoch's validation accuracy, as the notebook; over folds for the forest.
    pub mean: Option<f64>,
    /// Its population standard deviation, as numpy's `std`.
    pub deviation: Option<f64>,
    /// The greatest validation accuracy of any epoch of any seed; for the forest that of the one fitted on all training rows.
    pub best: Option<f64>,
    /// The same without images that also stand among the training rows.
    pub best_dedup: Option<f64>,
    /// The 95% interval of the mean (Student's t), as far as it lies between 0 and 1; absent for one value.
    pub interval: Option<(f64, f64)>,
    /// Mean over seeds of each one's best accuracy.
    pub mean_of_bests: Option<f64>,
    /// Mean number of epochs.
    pub epochs: Option<f64>,
    /// Trainable values of the network; nodes of the forest.
    pub parameters: Option<usize>,
    /// Mean seconds of a run.
    pub seconds: Option<f64>,
    /// Median over runs of images a second in training.
    pub images_per_second: Option<f64>,
    /// What the mean is over.
    pub values: Vec<f64>,
    /// Whether it is the forest.
    pub is_baseline: bool,
    /// Directory of the best run within the sweep's.
    pub best_run: Option<String>,
    /// `2 runs`, or what is missing: `1 of 2 runs; 1 failed`.
    pub state: String,
}

/// A planned_run and how it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Its directory within the sweep's.
    pub folder: String,
    /// Name of its config.
    pub model: String,
    /// `early stop`, `done`, `failed` or `unfinished`.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Its seed.
    pub seed: u64,
    /// Best validation accuracy.
    pub best: Option<f64>,
    /// Validation accuracy of the last epoch.
    pub last: Option<f64>,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The forest last, the others from the best mean to the least.
    pub rows: Vec<Row>,
    /// Every planned_run.
    pub runs: Vec<Run>,
    /// Directory of the run with the greatest validation accuracy.
    pub best_run: Option<String>,
    /// Its validation accuracy.
    pub best_val_accuracy: Option<f64>,
    /// The same without copies.
    pub best_val_accuracy_dedup: Option<f64>,
    /// The best run against the best run of the next model, on the same validation images.
    pub against_next: Option<Next>,
    /// Runs that were trained and validated on other rows than the best one.
    pub on_other_images: Vec<String>,
    /// Why there is no forest, where there should be one.
    pub baseline_error: Option<String>,
    /// Validation images.
    pub validation_rows: Option<usize>,
    /// Training images.
    pub train_rows: Option<usize>,
}

/// What the best run was compared with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Next {
    /// Directory of the other run.
    pub run: String,
    /// The difference.
    pub difference: Option<PairedDifference>,
    /// Why there is none.
    pub why_not: Option<String>,
}

/// Gathers what the planned_runs' files say.
///
/// # Errors
/// As [`SweepDir::progress`].
pub fn gather(dir: &SweepDir, planned_runs: &[PlannedRun], forest: Option<&Baseline>) -> Result<Comparison> {
    let mut runs = Vec::new();
    let mut finished: Vec<(&PlannedRun, Summary)> = Vec::new();
    for planned_run in planned_runs {
        let (state, error, summary) = match dir.progress(planned_run)? {
            Progress::Finished(summary) => (summary.state().to_owned(), None, Some(*summary)),
            Progress::Failed(error) => ("failed".to_owned(), Some(error), None),
            Progress::Open => ("unfinished".to_owned(), None, None),
        };
        runs.push(Run {
            folder: planned_run.folder.clone(),
            model: planned_run.model.clone(),
            state,
            error,
            seed: planned_run.config.seed,
            best: summary.as_ref().and_then(|summary| summary.best_val_accuracy),
            last: summary.as_ref().and_then(|summary| summary.last_val_accuracy),
        });
        finished.extend(summary.map(|summary| (planned_run, summary)));
    }
    let mut models: Vec<&str> = planned_runs.iter().map(|planned_run| planned_run.model.as_str()).collect();
    models.dedup();
    let mut rows: Vec<Row> = models.iter().map(|model| row(model, &runs, &finished)).collect();
    rows.sort_by(|a, b| b.mean.unwrap_or(-1.0).total_cmp(&a.mean.unwrap_or(-1.0)));
    rows.extend(forest.map(|forest| forest_row(&forest.folder, &forest.summary)));

    let best = best_of(finished.iter());
    let next = best
        .and_then(|(planned_run, _)| best_of(finished.iter().filter(|(other, _)| other.model != planned_run.model)));
    let against_next = best.zip(next).map(|((best, _), (next, _))| {
        let (difference, why_not) = match compare(dir, best, next) {
            Ok(difference) => (Some(difference), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Next { run: next.folder.clone(), difference, why_not }
    });
    // Other rows, another split: their accuracies are no comparison.
    let split = best.map(|(_, summary)| summary.provenance.split_hash.as_str());
    let is_other = |hash: &str| split.is_some_and(|split| split != hash);
    let others = finished.iter().filter(|(_, summary)| is_other(&summary.provenance.split_hash));
    let forest_differs = forest.is_some_and(|forest| is_other(&forest.summary.provenance.split_hash));
    let on_other_images = others.map(|(planned_run, _)| planned_run.folder.clone());
    let on_other_images = on_other_images.chain(forest.filter(|_| forest_differs).map(|forest| forest.folder.clone()));
    Ok(Comparison {
        rows,
        runs,
        best_run: best.map(|(planned_run, _)| planned_run.folder.clone()),
        best_val_accuracy: best.and_then(|(_, summary)| summary.best_val_accuracy),
        best_val_accuracy_dedup: best.and_then(|(_, summary)| summary.best_val_accuracy_dedup),
        against_next,
        on_other_images: on_other_images.collect(),
        baseline_error: None,
        validation_rows: best.map(|(_, summary)| summary.validation_rows),
        train_rows: best.map(|(_, summary)| summary.train_rows),
    })
}

/// The run with the greatest validation accuracy; of equals the first, in the order of the configs on the command line.
fn best_of<'a, 'b: 'a>(
    runs: impl Iterator<Item = &'a (&'b PlannedRun, Summary)>,
) -> Option<&'a (&'b PlannedRun, Summary)> {
    runs.fold(None, |best: Option<&(&PlannedRun, Summary)>, found| match best {
        Some(best) if best.1.best_val_accuracy >= found.1.best_val_accuracy => Some(best),
        _ => Some(found),
    })
}

fn row(model: &str, runs: &[Run], finished: &[(&PlannedRun, Summary)]) -> Row {
    let own: Vec<&(&PlannedRun, Summary)> =
        finished.iter().filter(|(planned_run, _)| planned_run.model == model).collect();
    let summaries = || own.iter().map(|(_, summary)| summary);
    let values: Vec<f64> = summaries().filter_map(|summary| summary.last_val_accuracy).collect();
    let bests: Vec<f64> = summaries().filter_map(|summary| summary.best_val_accuracy).collect();
    let mean = |values: &[f64]| (!values.is_empty()).then(|| mean_and_deviation(values).0);
    let best = best_of(own.iter().copied());
    Row {
        model: model.to_owned(),
        mean: mean(&values),
        deviation: (!values.is_empty()).then(|| mean_and_deviation(&values).1),
        best: best.and_then(|(_, summary)| summary.best_val_accuracy),
        best_dedup: best.and_then(|(_, summary)| summary.best_val_accuracy_dedup),
        interval: interval(&values),
        mean_of_bests: mean(&bests),
        epochs: mean(&summaries().map(|summary| f64::from(summary.epochs)).collect::<Vec<_>>()),
        parameters: summaries().next().map(|summary| summary.parameters),
        seconds: mean(&summaries().map(|summary| summary.seconds).collect::<Vec<_>>()),
        images_per_second: median(summaries().filter_map(|summary| summary.train_images_per_second).collect()),
        values,
        is_baseline: false,
        best_run: best.map(|(planned_run, _)| planned_run.folder.clone()),
        state: state(runs.iter().filter(|run| run.model == model)),
    }
}

/// The 95% interval of the mean of accuracies.
fn interval(values: &[f64]) -> Option<(f64, f64)> {
    let half = half_interval(values)?;
    let (mean, _) = mean_and_deviation(values);
    Some(((mean - half).max(0.0), (mean + half).min(1.0)))
}

/// `5 runs`, or `3 of 5 runs; 1 failed; 1 unfinished`.
fn state<'a>(runs: impl Iterator<Item = &'a Run>) -> String {
    let states: Vec<&str> = runs.map(|run| run.state.as_str()).collect();
    let count = |state: &str| states.iter().filter(|own| **own == state).count();
    let (failed, unfinished) = (count("failed"), count("unfinished"));
    let word = if states.len() == 1 { "run" } else { "runs" };
    if failed + unfinished == 0 {
        return format!("{} {word}", states.len());
    }
    let missing = [(failed, "failed"), (unfinished, "unfinished")];
    let missing: String =
        missing.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("; {count} {what}")).collect();
    format!("{} of {} {word}{missing}", states.len() - failed - unfinished, states.len())
}

fn forest_row(folder: &str, summary: &ForestSummary) -> Row {
    let values = summary.cv_accuracies.clone();
    let whole = summary.cv_mean.is_some();
    let state = match (summary.fit_seconds, summary.folds) {
        (None, _) => "unfinished".to_owned(),
        (_, 0) => "fitted".to_owned(),
        (_, folds) => format!("{folds} folds"),
    };
    Row {
        model: summary.name.clone(),
        mean: summary.cv_mean,
        deviation: summary.cv_std,
        best: summary.val_accuracy,
        best_dedup: summary.val_accuracy_dedup,
        interval: if whole { interval(&values) } else { None },
        mean_of_bests: None,
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

/// The paired difference of two runs on their validation images.
fn compare(dir: &SweepDir, first: &PlannedRun, second: &PlannedRun) -> Result<PairedDifference> {
    let answers = |planned_run: &PlannedRun| {
        let run = RunDir::open(&dir.run_path(planned_run))?;
        ValidationPredictions::read(&run.validation_csv())
    };
    let (a, b) = (answers(first)?, answers(second)?);
    anyhow::ensure!(a.images == b.images, "they were not validated on the same images");
    paired_bootstrap(&a.right, &b.right, first.config.seed)
        .ok_or_else(|| anyhow::anyhow!("there are no validation images"))
}

impl Comparison {
    /// Whether every planned_run came to its end.
    pub fn is_complete(&self) -> bool {
        self.baseline_error.is_none() && self.runs.iter().all(|run| run.error.is_none() && run.state != "unfinished")
    }

    /// `comparison.csv`, the notebook's columns first.
    ///
    /// # Errors
    /// Only the CSV writer's, which memory does not cause.
    pub fn csv(&self) -> Result<Vec<u8>> {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record([
            "Model",
            "Mean Accuracy",
            "Std Deviation",
            "Best Accuracy",
            "Best Without Copies",
            "Interval Low",
            "Interval High",
            "Mean Of Bests",
            "Epochs",
            "Parameters",
            "Seconds",
            "Images Per Second",
            "Best Run",
            "State",
        ])?;
        for row in &self.rows {
            let number =
                |value: Option<f64>, digits: usize| value.map_or(String::new(), |value| format!("{value:.digits$}"));
            writer.write_record([
                row.model.clone(),
                number(row.mean, 6),
                number(row.deviation, 6),
                number(row.best, 6),
                number(row.best_dedup, 6),
                number(row.interval.map(|(low, _)| low), 6),
                number(row.interval.map(|(_, high)| high), 6),
                number(row.mean_of_bests, 6),
                number(row.epochs, 1),
                row.parameters.map_or(String::new(), |count| count.to_string()),
                number(row.seconds, 1),
                number(row.images_per_second, 1),
                row.best_run.clone().unwrap_or_default(),
                row.state.clone(),
            ])?;
        }
        Ok(writer.into_inner()?)
    }

    /// `comparison.md`.
    pub fn markdown(&self) -> String {
        let (head, rows) = self.table();
        let line = |cells: &[String]| {
            format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
        };
        let mut text = line(&head) + &line(&vec!["---".to_owned(); head.len()]);
        rows.iter().for_each(|row| text += &line(row));
        text.push('\n');
        self.notes().iter().for_each(|note| text += &format!("{note}\n\n"));
        text.trim_end().to_owned() + "\n"
    }

    /// The table for people: its head, and a row for each model.
    pub fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let head = [
            "Model",
            "Mean Accuracy",
            "Std Deviation",
            "95% interval",
            "Best Accuracy",
            "without copies",
            "Runs",
            "Epochs",
            "Parameters",
            "Seconds",
            "Images/s",
        ];
        let number =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        let cells = |row: &Row| {
            vec![
                row.model.clone(),
                number(row.mean, 4),
                // Of one run it is 0, and says nothing.
                number(row.deviation.filter(|_| row.values.len() > 1), 4),
                row.interval.map_or("-".to_owned(), |(low, high)| format!("{low:.4} to {high:.4}")),
                number(row.best, 4),
                number(row.best_dedup, 4),
                row.state.clone(),
                number(row.epochs, 1),
                row.parameters.map_or("-".to_owned(), thousands),
                number(row.seconds, if row.seconds.is_some_and(|seconds| seconds < 10.0) { 1 } else { 0 }),
                number(row.images_per_second, 0),
            ]
        };
        (head.map(String::from).to_vec(), self.rows.iter().map(cells).collect())
    }

    /// What must be said beside the table, what its columns are first.
    pub fn notes(&self) -> Vec<String> {
        [vec![LEGEND.to_owned()], self.caveats()].concat()
    }

    /// What must be said of the best run.
    pub fn caveats(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let (Some(run), Some(best)) = (&self.best_run, self.best_val_accuracy) {
            let without = self.best_val_accuracy_dedup.map_or("-".to_owned(), |value| format!("{value:.4}"));
            notes.push(format!(
                "Best run: {run}, validation accuracy {best:.4} ({without} without copies). It was chosen among all epochs of all runs by \
                 the very images it is scored on, which flatters it: on images that nobody chose by, expect less."
            ));
        }
        if let Some(Next { run, difference: Some(found), .. }) = &self.against_next {
            notes.push(format!(
                "Against {run}, the best run of another model, on the same {} images: {:+.4}, 95% interval {:+.4} to {:+.4} by a \
                 paired bootstrap; in {:.1}% of resamples it is not better{}.",
                thousands(found.rows),
                found.difference,
                found.low,
                found.high,
                100.0 * found.not_better,
                if found.low > 0.0 { "" } else { ", so that the difference may be chance" },
            ));
        }
        if let Some(Next { run, why_not: Some(why), .. }) = &self.against_next {
            notes.push(format!("Not compared with {run} image by image: {why}."));
        }
        if !self.on_other_images.is_empty() {
            notes.push(format!(
                "Trained or validated on other images than the best run, so that accuracies do not compare: {}.",
                self.on_other_images.join(", ")
            ));
        }
        if let Some(error) = &self.baseline_error {
            notes.push(format!("The forest failed: {error}"));
        }
        let failed = self.runs.iter().filter_map(|run| Some((run, run.error.as_ref()?)));
        notes.extend(failed.map(|(run, error)| format!("{} failed: {error}", run.folder)));
        let open: Vec<&str> =
            self.runs.iter().filter(|run| run.state == "unfinished").map(|run| run.folder.as_str()).collect();
        if !open.is_empty() {
            notes.push(format!("Unfinished: {}.", open.join(", ")));
        }
        notes
    }
}

#[cfg(test)]
mod tests;
