//! What is watched as plain text, once: for a pipe or a file.

use std::time::SystemTime;

use super::run_status::{RunState, RunStatus};
use super::screen::facts;
use super::source::{SweepStatus, Watched};
use super::sweep_panel::{HEADER, cells, describe_counts};
use crate::report::seconds;
use crate::report::text_table::{table, table_with_text};
use crate::util::text::escaped;

/// Epochs in the table.
const EPOCHS: usize = 10;

/// Describes what is watched.
pub fn snapshot_text(watched: &Watched, now: SystemTime) -> String {
    match watched {
        Watched::Nothing { path } => format!("{}: no run yet\n", escaped(&path.display().to_string())),
        Watched::Run(run) => describe_run(run, now),
        Watched::Sweep(sweep) => describe_sweep(sweep, now),
    }
}

fn describe_run(run: &RunStatus, now: SystemTime) -> String {
    let path = escaped(&run.path.display().to_string());
    let mut text = format!("{path}: {}, {}\n", escaped(&run.name), run.state.describe());
    if !run.is_forest {
        let done = run.records.len();
        let epochs = run.max_epochs.map_or(format!("{done}"), |all| format!("{done} of {all}"));
        let progress = run.progress(now).map_or(String::new(), |part| format!(" ({:.0}%)", 100.0 * part));
        text += &format!("epochs   {epochs}{progress}\n");
    }
    facts(run, now).iter().for_each(|(name, fact)| text += &format!("{name:<9}{fact}\n"));
    if !run.records.is_empty() {
        let header =
            ["epoch", "loss", "acc", "val_loss", "val_acc", "lr", "images/s", "time"].map(String::from).to_vec();
        let skipped = run.records.len().saturating_sub(EPOCHS);
        let rows = run.records.iter().skip(skipped).map(|record| {
            let decimals = [record.loss, record.accuracy, record.val_loss, record.val_accuracy];
            let [loss, accuracy, val_loss, val_accuracy] = decimals.map(|value| format!("{value:.4}"));
            let (lr, speed) = (format!("{:.2e}", record.lr), format!("{:.0}", record.images_per_second));
            vec![record.epoch.to_string(), loss, accuracy, val_loss, val_accuracy, lr, speed, seconds(record.seconds)]
        });
        text += &format!("\n{}", table(&[vec![header], rows.collect()].concat()));
    }
    text
}

fn describe_sweep(sweep: &SweepStatus, now: SystemTime) -> String {
    let path = escaped(&sweep.path.display().to_string());
    let left = sweep.seconds_left(now).map_or(String::new(), |left| format!("; {} left at most", seconds(left)));
    let mut text = format!("{path}: {}{left}\n\n", describe_counts(sweep));
    let mut rows = vec![HEADER.map(String::from).to_vec()];
    rows.extend(sweep.runs.iter().map(|run| cells(run, now).to_vec()));
    text += &table_with_text(&rows, &[0, 1]);
    for run in &sweep.runs {
        if let RunState::Failed(error) = &run.state {
            text += &format!("\n{} failed: {}\n", escaped(&run.name), escaped(error));
        }
    }
    text
}
