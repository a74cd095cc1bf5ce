//! `trials.csv` and `best.toml`, and the rows of the table on the terminal.

use anyhow::Result;
use serde_json::{Value as Json, json};

use super::domain::plain;
use super::history::Trial;
use super::journal::JournalLock;
use super::plan::StudyOptions;
use super::study::StudyResult;
use super::study_dir::trial_name;
use crate::util::files::write_atomically;

/// The config of the best trial.
pub const BEST_TOML: &str = "best.toml";

/// Columns of `trials.csv` before those of the keys.
const HEADER: [&str; 6] = ["trial", "state", "rung", "epochs", "best_epoch", "score"];

/// Writes both files; `best.toml` only if there is a best trial.
///
/// # Errors
/// I/O errors with their path.
pub fn write(result: &StudyResult, options: &StudyOptions, _lock: &JournalLock) -> Result<()> {
    write_atomically(&result.dir.file("trials.csv"), &to_csv(result)?)?;
    match best_toml(result, options)? {
        Some(text) => write_atomically(&result.dir.file(BEST_TOML), text.as_bytes()),
        None => Ok(()),
    }
}

/// What a trial came to: `full` (trained to the end), `stopped` at a lower rung, `failed`, or
/// `unfinished`.
pub fn state(result: &StudyResult, trial: &Trial) -> &'static str {
    match trial.last() {
        None => "unfinished",
        Some(last) if last.score.is_none() => "failed",
        Some(last) if last.rung == result.plan.ladder.top() => "full",
        Some(_) => "stopped",
    }
}

fn to_csv(result: &StudyResult) -> Result<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let keys = result.plan.space.parameters.iter().map(|parameter| parameter.key.as_str());
    writer.write_record(HEADER.into_iter().chain(keys))?;
    for trial in &result.trials {
        let last = trial.last();
        let cells = [
            trial_name(trial.number),
            state(result, trial).to_owned(),
            last.map_or(String::new(), |last| last.rung.to_string()),
            trial.epochs().to_string(),
            last.and_then(|last| last.best_epoch).map_or(String::new(), |epoch| epoch.to_string()),
            trial.score().map_or(String::new(), |score| score.to_string()),
        ];
        writer.write_record(cells.into_iter().chain(trial.values.iter().map(plain)))?;
    }
    Ok(writer.into_inner()?)
}

/// The config of the best trial, with where it is from.
fn best_toml(result: &StudyResult, options: &StudyOptions) -> Result<Option<String>> {
    let Some((trial, score)) = result.best_trial().and_then(|trial| Some((trial, trial.score()?))) else {
        return Ok(None);
    };
    let base = &result.recorded;
    let mut raw = (*result.recorded_config(trial)?).clone();
    raw.name = format!("{}-tuned", base.name);
    // A name that would be too long stays as it is.
    let config = raw.check().or_else(|_| result.recorded_config(trial))?;
    let varied = result.plan.space.assignments(&trial.values);
    let varied: String = varied.iter().map(|line| format!("#   {}\n", line.replace(['\n', '\r'], " "))).collect();
    let (epochs, trained) = (trial.epochs(), result.epochs());
    let text = format!(
        "# The best of {count} trials of a search with {sampler}{halving} (grimace tune):\n\
         # {name} of {dir}, {metric} {score:.4} in epoch {best_epoch} of {epochs}.\n\
         # Seed of the search {seed}, of the training {run_seed}; {trained} epochs in all trials.\n\
         # The score selected the trial, so it is optimistic. --confirm trains it with fresh seeds; an\n\
         # unbiased accuracy needs test images. A search that starts here needs another --seed: with\n\
         # {seed} it begins with the same random values.\n\
         # What was varied:\n{varied}",
        count = result.trials.len(),
        sampler = options.sampler.name(),
        halving = if result.plan.ladder.top() > 0 { " and successive halving" } else { "" },
        name = trial_name(trial.number),
        // Processes may know the directory by other paths.
        dir = result.dir.path().file_name().unwrap_or_default().display(),
        metric = options.metric.monitor(),
        best_epoch = trial.last().and_then(|last| last.best_epoch).unwrap_or(0),
        seed = options.seed,
        run_seed = base.seed,
    );
    Ok(Some(text + &config.to_toml()?))
}

/// Header and rows of the table on the terminal, the best first.
pub fn rows(result: &StudyResult) -> Vec<Vec<String>> {
    let keys = result.plan.space.parameters.iter().map(|parameter| parameter.key.clone());
    let head = ["Trial", "State", "Epochs", "Score"].map(str::to_owned).into_iter().chain(keys);
    let row = |trial: &Trial| {
        let score = trial.score().map_or("-".to_owned(), |score| format!("{score:.4}"));
        let cells = [trial_name(trial.number), state(result, trial).to_owned(), trial.epochs().to_string(), score];
        cells.into_iter().chain(trial.values.iter().map(plain)).collect()
    };
    [head.collect()].into_iter().chain(ranked(result).into_iter().map(row)).collect()
}

/// The trials, those at higher rungs first, then by score.
fn ranked(result: &StudyResult) -> Vec<&Trial> {
    let mut trials: Vec<&Trial> = result.trials.iter().collect();
    let key = |trial: &Trial| {
        let rung = trial.last().filter(|last| last.score.is_some()).map_or(-1, |last| last.rung as i64);
        (rung, trial.score().unwrap_or(f64::NEG_INFINITY))
    };
    trials.sort_by(|a, b| {
        let ((rung, score), (other_rung, other)) = (key(a), key(b));
        other_rung.cmp(&rung).then(other.total_cmp(&score)).then(a.number.cmp(&b.number))
    });
    trials
}

/// The result as JSON.
pub fn to_json(result: &StudyResult) -> Json {
    let values = |trial: &Trial| -> serde_json::Map<String, Json> {
        let keys = result.plan.space.parameters.iter().map(|parameter| parameter.key.clone());
        keys.zip(trial.values.iter().map(|value| json!(value))).collect()
    };
    let trials: Vec<Json> = result
        .trials
        .iter()
        .map(|trial| {
            json!({
                "trial": trial_name(trial.number),
                "state": state(result, trial),
                "rung": trial.last().map(|last| last.rung),
                "epochs": trial.epochs(),
                "best_epoch": trial.last().and_then(|last| last.best_epoch),
                "score": trial.score(),
                "error": trial.last().and_then(|last| last.error.clone()),
                "values": values(trial),
            })
        })
        .collect();
    json!({
        "study": result.dir.path(),
        "interrupted": result.signal.is_some(),
        "metric": result.plan.base.train.early_stop.monitor.name(),
        "rungs": result.plan.ladder.epochs(),
        "epochs": result.epochs(),
        "reference": result.reference().map(|trial| trial_name(trial.number)),
        "best": result.best.map(trial_name),
        "best_config": result.best.map(|_| result.dir.file(BEST_TOML)),
        "score": result.best_trial().and_then(Trial::score),
        "trials": trials,
        "confirmation": result.confirmation,
    })
}
