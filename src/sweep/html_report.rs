//! Fills [`SweepReport`], the HTML report of a sweep, from a comparison.

use anyhow::Result;

use super::comparison::{Comparison, ModelRow};
use super::comparison_table::LEGEND;
use super::sweep_dir::SweepDir;
use crate::metrics::accuracy_cell;
use crate::report::html::{Fact, SweepReport, SweepRow, SweepRun};
use crate::report::plot::Bar;
use crate::report::text_table::thousands;

/// Writes `report.html` and the plot of the comparison.
///
/// # Errors
/// An I/O error with the path, or a plot that cannot be rasterized.
pub fn write(dir: &SweepDir, comparison: &Comparison, split: &str, provenance: Vec<Fact>) -> Result<()> {
    let (head, cells) = comparison.to_table();
    let rows = comparison.rows.iter().zip(cells).map(|(row, cells)| SweepRow {
        cells,
        bar: bar(row, is_best(row, comparison)),
        is_baseline: row.is_baseline,
        is_best: is_best(row, comparison),
    });
    let runs = comparison.runs.iter().map(|run| SweepRun {
        folder: run.folder.clone(),
        cells: vec![
            run.seed.to_string(),
            accuracy_cell(run.best, run.best_interval),
            accuracy_cell(run.last, run.last_interval),
            run.error.clone().unwrap_or_else(|| run.state.clone()),
        ],
        has_report: dir.file(&run.folder).join("report.html").is_file(),
    });
    let forest = comparison.rows.iter().filter(|row| row.is_baseline).filter_map(|row| {
        let folder = row.best_run.clone()?;
        let has_report = dir.file(&folder).join("report.html").is_file();
        let cells = vec!["-".to_owned(), accuracy_cell(row.best, row.best_interval), "-".to_owned(), row.state.clone()];
        Some(SweepRun { folder, cells, has_report })
    });
    let mut caveats = comparison.caveats();
    caveats.push(split.to_owned());
    SweepReport {
        folder: dir.path(),
        result: describe_result(comparison),
        caveats: &caveats,
        legend: &LEGEND,
        facts: facts(comparison),
        head,
        rows: rows.collect(),
        runs: runs.chain(forest).collect(),
        best_run: comparison.best_run.as_deref(),
        provenance,
    }
    .write()
}

fn is_best(row: &ModelRow, comparison: &Comparison) -> bool {
    row.best_run.is_some() && row.best_run == comparison.best_run
}

fn bar(row: &ModelRow, is_best: bool) -> Option<Bar> {
    Some(Bar {
        name: row.model.clone(),
        mean: row.mean?,
        deviation: row.deviation.filter(|_| row.values.len() > 1),
        values: row.values.clone(),
        is_best,
        is_baseline: row.is_baseline,
    })
}

/// The best run, its accuracy and that of its model and the forest.
fn describe_result(comparison: &Comparison) -> String {
    let best = comparison.rows.iter().find(|row| is_best(row, comparison));
    let (Some(row), Some(run), Some(accuracy)) = (best, &comparison.best_run, comparison.best_val_accuracy) else {
        return "No run has finished.".to_owned();
    };
    let percent = |fraction: f64| format!("{:.1}%", 100.0 * fraction);
    let dedup = comparison.best_val_accuracy_dedup.filter(|dedup| *dedup != accuracy);
    let dedup = dedup.map_or(String::new(), |dedup| format!(" ({} deduplicated)", percent(dedup)));
    let interval = comparison
        .best_val_accuracy_interval
        .map_or(String::new(), |(low, high)| format!(" (95% CI {} to {})", percent(low), percent(high)));
    let mut text = format!(
        "The best run is {run}: {}{interval} of {} validation images{dedup}.",
        percent(accuracy),
        thousands(comparison.validation_rows.unwrap_or(0))
    );
    if let Some(mean) = row.mean.filter(|_| row.values.len() > 1) {
        let deviation = row.deviation.unwrap_or(0.0);
        text += &format!(
            " Its model {} has {} +- {} over {} seeds.",
            row.model,
            percent(mean),
            percent(deviation),
            row.values.len()
        );
    }
    let baseline = comparison.rows.iter().find(|row| row.is_baseline);
    let differs =
        baseline.is_some_and(|row| row.best_run.as_ref().is_some_and(|run| comparison.on_other_images.contains(run)));
    if let Some(forest) = baseline.and_then(|row| row.best).filter(|_| !differs) {
        let points = 100.0 * (accuracy - forest);
        let than = if points < 0.0 { "more" } else { "less" };
        text += &format!(" The forest has {}: {:.1} points {than}.", percent(forest), points.abs());
    }
    text
}

fn facts(comparison: &Comparison) -> Vec<Fact> {
    let count = |value: Option<usize>| value.map_or("-".to_owned(), thousands);
    let done = comparison.runs.iter().filter(|run| run.best.is_some()).count();
    [
        ("runs", format!("{done} of {}", comparison.runs.len())),
        ("models", comparison.rows.iter().filter(|row| !row.is_baseline).count().to_string()),
        ("training images", count(comparison.train_rows)),
        ("validation images", count(comparison.validation_rows)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
