//! The report of a sweep: the comparison as a page, the answer first.

use anyhow::Result;

use super::comparison::{Comparison, LEGEND, Row};
use super::sweep_dir::SweepDir;
use crate::report::page::{Figure, SweepReport, SweepRow, SweepRun};
use crate::report::plot::Bar;
use crate::report::table::thousands;

/// Writes `report.html` and the picture of the comparison.
///
/// # Errors
/// An I/O error with the path; a picture that cannot be drawn.
pub fn write(dir: &SweepDir, found: &Comparison, split: &str, provenance: Vec<Figure>) -> Result<()> {
    let (head, cells) = found.table();
    let rows = found.rows.iter().zip(cells).map(|(row, cells)| SweepRow {
        cells,
        bar: bar(row, is_best(row, found)),
        is_baseline: row.is_baseline,
        is_best: is_best(row, found),
    });
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    let runs = found.runs.iter().map(|run| SweepRun {
        folder: run.folder.clone(),
        cells: vec![
            run.seed.to_string(),
            number(run.best),
            number(run.last),
            run.error.clone().unwrap_or_else(|| run.state.clone()),
        ],
        has_report: dir.file(&run.folder).join("report.html").is_file(),
    });
    let forest = found.rows.iter().filter(|row| row.is_baseline).filter_map(|row| {
        let folder = row.best_run.clone()?;
        let has_report = dir.file(&folder).join("report.html").is_file();
        let cells = vec!["-".to_owned(), number(row.best), "-".to_owned(), row.state.clone()];
        Some(SweepRun { folder, cells, has_report })
    });
    let mut caveats = found.caveats();
    caveats.push(split.to_owned());
    SweepReport {
        folder: dir.path(),
        answer: answer(found),
        caveats: &caveats,
        legend: LEGEND,
        facts: facts(found),
        head,
        rows: rows.collect(),
        runs: runs.chain(forest).collect(),
        best_run: found.best_run.as_deref(),
        provenance,
    }
    .write()
}

fn is_best(row: &Row, found: &Comparison) -> bool {
    row.best_run.is_some() && row.best_run == found.best_run
}

fn bar(row: &Row, is_best: bool) -> Option<Bar> {
    Some(Bar {
        name: row.model.clone(),
        mean: row.mean?,
        deviation: row.deviation.filter(|_| row.values.len() > 1),
        values: row.values.clone(),
        is_best,
        is_baseline: row.is_baseline,
    })
}

/// Which model, how good, against what.
fn answer(found: &Comparison) -> String {
    let best = found.rows.iter().find(|row| is_best(row, found));
    let (Some(row), Some(run), Some(accuracy)) = (best, &found.best_run, found.best_val_accuracy) else {
        return "No run has come to its end.".to_owned();
    };
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    let without = found.best_val_accuracy_dedup;
    let copies = without
        .filter(|without| *without != accuracy)
        .map_or(String::new(), |without| format!(" ({} without exact copies of training images)", percent(without)));
    let mut text = format!(
        "The best run is {run}: {} of {} validation images{copies}.",
        percent(accuracy),
        thousands(found.validation_rows.unwrap_or(0))
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
    let baseline = found.rows.iter().find(|row| row.is_baseline);
    let differs =
        baseline.is_some_and(|row| row.best_run.as_ref().is_some_and(|run| found.on_other_images.contains(run)));
    if let Some(forest) = baseline.and_then(|row| row.best).filter(|_| !differs) {
        let points = 100.0 * (accuracy - forest);
        let than = if points < 0.0 { "more" } else { "less" };
        text += &format!(" The forest has {}: {:.1} points {than}.", percent(forest), points.abs());
    }
    text
}

fn facts(found: &Comparison) -> Vec<Figure> {
    let count = |value: Option<usize>| value.map_or("-".to_owned(), thousands);
    let done = found.runs.iter().filter(|run| run.best.is_some()).count();
    [
        ("runs", format!("{done} of {}", found.runs.len())),
        ("models", found.rows.iter().filter(|row| !row.is_baseline).count().to_string()),
        ("training images", count(found.train_rows)),
        ("validation images", count(found.validation_rows)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
