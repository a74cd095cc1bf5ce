//! The comparison of a sweep as `comparison.csv`, `comparison.md` and a text table.

use anyhow::Result;

use super::comparison::{Comparison, ModelRow, NextBest};
use crate::metrics::{accuracy_cell, describe_accuracy, describe_interval};
use crate::report::text_table::thousands;

/// Explains the columns of the table, one line each.
pub const LEGEND: [&str; 11] = [
    "Mean Accuracy: the mean over seeds of the validation accuracy after the last epoch; for the forest, the mean over its folds.",
    "Std Deviation: the population standard deviation of the same values.",
    "95% CI: the confidence interval of the mean (Student's t).",
    "Best Accuracy: the accuracy of the best epoch (by train.early_stop.monitor, which is val_accuracy by default), maximum over seeds; for the forest, the accuracy of the one fitted on all training rows. In parentheses: its 95% interval over the validation images (Wilson's).",
    "Best (Deduplicated): the same without validation images that are exact duplicates of training images.",
    "Mean Best: the mean and standard deviation over seeds of the best epoch's accuracy.",
    "Runs: the finished runs of the model.",
    "Epochs: the mean number of epochs of a run.",
    "Parameters: the number of parameters; for the forest, of nodes.",
    "Seconds: the mean time of a run; for the forest, the time of one fit.",
    "Images/s: the median over runs of training images per second.",
];

const CSV_HEADER: [&str; 17] = [
    "Model",
    "Mean Accuracy",
    "Std Deviation",
    "Best Accuracy",
    "Best Accuracy (Deduplicated)",
    "CI Low",
    "CI High",
    "Mean Best Accuracy",
    "Std Best Accuracy",
    "Epochs",
    "Parameters",
    "Seconds",
    "Images Per Second",
    "Best Run",
    "State",
    "Best CI Low",
    "Best CI High",
];

const TABLE_HEADER: [&str; 12] = [
    "Model",
    "Mean Accuracy",
    "Std Deviation",
    "95% CI",
    "Best Accuracy",
    "Best (Deduplicated)",
    "Mean Best",
    "Runs",
    "Epochs",
    "Parameters",
    "Seconds",
    "Images/s",
];

impl Comparison {
    /// `comparison.csv`; the first four columns are the notebook's. Missing values are empty.
    ///
    /// # Errors
    /// Those of the CSV writer.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record(CSV_HEADER)?;
        for row in &self.rows {
            writer.write_record(csv_cells(row))?;
        }
        Ok(writer.into_inner()?)
    }

    /// `comparison.md`.
    pub fn to_markdown(&self) -> String {
        let (header, rows) = self.to_table();
        let line = |cells: &[String]| {
            format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
        };
        let mut text = line(&header) + &line(&vec!["---".to_owned(); header.len()]);
        rows.iter().for_each(|row| text += &line(row));
        text.push('\n');
        let legend = LEGEND.map(|line| format!("- {line}")).join("\n");
        let notes = [vec![legend], self.caveats()].concat();
        notes.iter().for_each(|note| text += &format!("{note}\n\n"));
        text.trim_end().to_owned() + "\n"
    }

    /// The table for people: its header, and a row for each model.
    pub fn to_table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        (TABLE_HEADER.map(String::from).to_vec(), self.rows.iter().map(table_cells).collect())
    }

    /// What a reader of the table must know: how the best run was chosen, its significance, the
    /// warnings of the runs, and what is missing.
    pub fn caveats(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let (Some(run), Some(best)) = (&self.best_run, self.best_val_accuracy) {
            notes.push(format!(
                "Best run: {run}, validation accuracy {}; deduplicated {}. It was selected among all runs, and among \
                 their epochs unless they keep the last, on the images it is scored on, which makes its accuracy optimistic: expect less on new images.",
                describe_accuracy(best, self.best_val_accuracy_interval),
                self.best_val_accuracy_dedup.map_or("-".to_owned(), |accuracy| {
                    describe_accuracy(accuracy, self.best_val_accuracy_dedup_interval)
                })
            ));
        }
        notes.extend(self.against_next.as_ref().and_then(describe_significance));
        if !self.on_other_images.is_empty() {
            notes.push(format!(
                "Trained or validated on other images than the best run, so the accuracies cannot be compared: {}.",
                self.on_other_images.join(", ")
            ));
        }
        notes.extend(self.warnings.iter().cloned());
        if let Some(error) = &self.baseline_error {
            notes.push(format!("The forest failed: {error}"));
        }
        let failed = self.runs.iter().filter_map(|run| Some((run, run.error.as_ref()?)));
        notes.extend(failed.map(|(run, error)| format!("{} failed: {error}", run.folder)));
        let unfinished = self.runs.iter().filter(|run| run.state == "unfinished");
        let unfinished: Vec<&str> = unfinished.map(|run| run.folder.as_str()).collect();
        if !unfinished.is_empty() {
            notes.push(format!("Unfinished: {}.", unfinished.join(", ")));
        }
        notes
    }
}

fn describe_significance(next: &NextBest) -> Option<String> {
    let run = &next.run;
    if let Some(found) = &next.difference {
        return Some(format!(
            "Against {run}, the best run of another model, on the same {} images: {:+.4}, 95% CI {:+.4} to {:+.4} by a paired \
             bootstrap; in {:.1}% of resamples it is not better{}.",
            thousands(found.rows),
            found.difference,
            found.low,
            found.high,
            100.0 * found.not_better,
            if found.low > 0.0 { "" } else { ", so the difference is not significant" },
        ));
    }
    next.why_not.as_ref().map(|reason| format!("Not compared with {run} image by image: {reason}."))
}

/// A number with this many digits, or a text if it is missing.
fn number(value: Option<f64>, digits: usize, missing: &str) -> String {
    value.map_or(missing.to_owned(), |value| format!("{value:.digits$}"))
}

fn csv_cells(row: &ModelRow) -> [String; CSV_HEADER.len()] {
    let number = |value: Option<f64>, digits: usize| number(value, digits, "");
    [
        row.model.clone(),
        number(row.mean, 6),
        number(row.deviation, 6),
        number(row.best, 6),
        number(row.best_dedup, 6),
        number(row.interval.map(|(low, _)| low), 6),
        number(row.interval.map(|(_, high)| high), 6),
        number(row.mean_of_bests, 6),
        number(row.deviation_of_bests, 6),
        number(row.epochs, 1),
        row.parameters.map_or(String::new(), |count| count.to_string()),
        number(row.seconds, 1),
        number(row.images_per_second, 1),
        row.best_run.clone().unwrap_or_default(),
        row.state.clone(),
        number(row.best_interval.map(|(low, _)| low), 6),
        number(row.best_interval.map(|(_, high)| high), 6),
    ]
}

fn table_cells(row: &ModelRow) -> Vec<String> {
    let number = |value: Option<f64>, digits: usize| number(value, digits, "-");
    // The deviation of one value is 0 and says nothing.
    let deviation = |value: Option<f64>| value.filter(|_| row.values.len() > 1);
    let mean_best = match (row.mean_of_bests, deviation(row.deviation_of_bests)) {
        (Some(mean), Some(deviation)) => format!("{mean:.4} +- {deviation:.4}"),
        (mean, _) => number(mean, 4),
    };
    vec![
        row.model.clone(),
        number(row.mean, 4),
        number(deviation(row.deviation), 4),
        row.interval.map_or("-".to_owned(), describe_interval),
        accuracy_cell(row.best, row.best_interval),
        accuracy_cell(row.best_dedup, row.best_dedup_interval),
        mean_best,
        row.state.clone(),
        number(row.epochs, 1),
        row.parameters.map_or("-".to_owned(), thousands),
        number(row.seconds, if row.seconds.is_some_and(|seconds| seconds < 10.0) { 1 } else { 0 }),
        number(row.images_per_second, 0),
    ]
}
