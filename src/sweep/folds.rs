//! `grimace train --folds K`: a cross-validation, as K ordinary runs in one directory, and the
//! out-of-fold prediction of every image.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;

use super::plan::PlannedRun;
use super::runner::{DatasetCache, Sharing, Trainer};
use super::sweep_dir::{Progress, SweepDir};
use super::sweep_json::SweepJson;
use crate::config::{self, Config};
use crate::data::config::{Fold, Validation};
use crate::data::images::Images;
use crate::device::{self, DeviceChoice};
use crate::inference::out_of_fold::OutOfFold;
use crate::inference::submission;
use crate::metrics::{Predictions, accuracy, accuracy_interval};
use crate::report::Console;
use crate::run_dir::{FOLD, RunDir, SWEEP_JSON};
use crate::util::error::input;
use crate::util::files::write_atomically;
use crate::util::signals::Signals;
use crate::util::stats::mean_and_deviation;

/// The out-of-fold predictions, in the directory of a cross-validation.
const OUT_OF_FOLD: &str = "out_of_fold.csv";

/// What to cross-validate and where.
#[derive(Debug)]
pub struct FoldOptions<'a> {
    /// Config file.
    pub config: &'a Path,
    /// `--set KEY=VALUE`.
    pub sets: &'a [String],
    /// Number of folds, 2 to [`crate::data::config::MAX_FOLDS`].
    pub folds: u32,
    /// The directory [default: a new one in `runs/`, or with `resume` the newest there].
    pub out: Option<&'a Path>,
    /// Whether to resume the cross-validation in the directory.
    pub resume: bool,
    /// The command line, for the provenance of runs.
    pub command: &'a str,
}

/// `summary.json` of a cross-validation.
#[derive(Debug, Clone, Serialize)]
pub struct FoldsSummary {
    /// Name of the config.
    pub name: String,
    /// Number of folds.
    pub folds: u32,
    /// Number of images, each predicted by the network that did not train on it.
    pub rows: usize,
    /// Mean over folds of the validation accuracy.
    pub mean_accuracy: f64,
    /// Its population standard deviation over folds.
    pub std_accuracy: f64,
    /// Fraction of all images that are predicted right.
    pub accuracy: f64,
    /// Its 95% Wilson interval.
    pub accuracy_interval: Option<(f64, f64)>,
    /// Each fold.
    pub per_fold: Vec<FoldSummary>,
    /// Hash of the images and labels.
    pub data_hash: String,
    /// Grimace's version.
    pub version: String,
    /// The command.
    pub command: String,
}

/// A fold in `summary.json`.
#[derive(Debug, Clone, Serialize)]
pub struct FoldSummary {
    /// Its run directory in that of the cross-validation.
    pub run: String,
    /// Validation images.
    pub rows: usize,
    /// Their accuracy.
    pub accuracy: f64,
    /// Its 95% Wilson interval.
    pub accuracy_interval: Option<(f64, f64)>,
    /// The epoch of its best weights.
    pub best_epoch: Option<u32>,
}

/// How a cross-validation ended. It holds the lock of the directory.
pub struct FoldsResult {
    /// Its directory.
    pub dir: SweepDir,
    /// The result; `None` if it was interrupted.
    pub summary: Option<FoldsSummary>,
    /// The signal that interrupted it.
    pub signal: Option<i32>,
    /// The command that resumes it.
    pub resume_command: String,
}

/// The runs: the config with each fold in turn as its validation images.
///
/// # Errors
/// Those of a config.
pub fn plan(options: &FoldOptions<'_>) -> Result<Vec<PlannedRun>> {
    let config: Config = config::load(options.config, options.sets)?;
    let run = |fold: u32| {
        let mut raw = (*config).clone();
        raw.data.validation = Validation::Fold(Fold { fold, folds: options.folds });
        let config = raw.check().map_err(|problem| input(format!("{}: {problem}", options.config.display())))?;
        Ok(PlannedRun { model: config.name.clone(), config, folder: format!("{FOLD}{fold}") })
    };
    (1..=options.folds).map(run).collect()
}

/// Trains every fold that is not finished, and writes `out_of_fold.csv` and `summary.json`.
///
/// # Errors
/// Those of a config and of its data, before anything is written; a directory that cannot be used; a
/// fold that failed, once all others are trained.
pub fn cross_validate(options: &FoldOptions<'_>, signals: &Signals) -> Result<FoldsResult> {
    let runs = plan(options)?;
    let first = runs.first().context("a cross-validation has folds")?;
    if first.config.device != DeviceChoice::Cpu {
        // A run that needs it reports why it is not available.
        drop(device::init_cuda());
    }
    let mut datasets = DatasetCache::default();
    datasets.get(&first.config)?;
    let path = directory(options, &first.config.name)?;
    let resume_command = options.resume_command(&path)?;
    let dir = SweepDir::open(&path, options.resume)?.locked()?;
    let mark = SweepJson::new(&runs, &[], options.command)?.with_folds(options.folds);
    mark.check_replaces(&dir)?;
    runs.iter().try_for_each(|run| dir.progress(run).map(drop))?;
    runs.iter().try_for_each(|run| dir.clear_failure(run))?;
    mark.write(&dir)?;
    let mut console = Console::default();
    console.line(&format!("cross-validation: {} folds in {}", options.folds, path.display()))?;
    if let Some(note) = unused_validation(options)? {
        console.line(&note)?;
    }
    if let Some(reason) = dir.unlocked_reason() {
        console.line(&format!("warning: it cannot be locked ({reason}): let no other process train in it"))?;
    }
    let trainer = Trainer {
        dir: &dir,
        signals,
        command: options.command,
        resume_command: &resume_command,
        sharing: Sharing::Alone,
    };
    let signal = trainer.train(&runs, &mut datasets)?;
    if signal.is_some() {
        return Ok(FoldsResult { dir, summary: None, signal, resume_command });
    }
    trainer.write_missing_reports(&runs, &mut datasets)?;
    check_finished(&dir, &runs, &resume_command)?;
    let summary = summarize(&dir, &runs, &mut datasets, options)?;
    Ok(FoldsResult { dir, summary: Some(summary), signal: None, resume_command })
}

/// What to know if the config names validation images of its own, which folds replace.
fn unused_validation(options: &FoldOptions<'_>) -> Result<Option<String>> {
    let config: Config = config::load(options.config, options.sets)?;
    let unused = match &config.data.validation {
        Validation::Path(path) => path.display().to_string(),
        Validation::Usage(usage) => format!("the rows of Usage {usage}"),
        Validation::Fraction(_) | Validation::Fold(_) => return Ok(None),
    };
    Ok(Some(format!(
        "note: each fold is validated on a part of the training rows; data.validation ({unused}) is not used"
    )))
}

impl FoldOptions<'_> {
    /// The command that resumes the cross-validation in `path`, with the program as it was started.
    fn resume_command(&self, path: &Path) -> Result<String> {
        let started = shlex::split(self.command).unwrap_or_default();
        let mut words = vec![started.into_iter().next().unwrap_or_else(|| "grimace".to_owned()), "train".to_owned()];
        words.push(self.config.display().to_string());
        self.sets.iter().for_each(|set| words.extend(["--set".to_owned(), set.clone()]));
        words.extend(["--folds".to_owned(), self.folds.to_string(), "--out".to_owned()]);
        words.extend([path.display().to_string(), "--resume".to_owned()]);
        Ok(shlex::try_join(words.iter().map(String::as_str))?)
    }
}

/// The directory; a new one in the default place is created.
fn directory(options: &FoldOptions<'_>, name: &str) -> Result<PathBuf> {
    let name = format!("{name}-folds");
    match options.out {
        Some(path) => Ok(path.to_path_buf()),
        None if options.resume => RunDir::find_latest(&name, |path| path.join(SWEEP_JSON).exists()),
        None => RunDir::create_default_folder(&name),
    }
}

/// Fails if a fold has failed or diverged.
fn check_finished(dir: &SweepDir, runs: &[PlannedRun], resume_command: &str) -> Result<()> {
    let mut failed = Vec::new();
    for run in runs {
        if !matches!(dir.progress(run)?, Progress::Finished(_)) {
            failed.push(run.folder.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(anyhow!(
        "{} of {} folds did not finish: {}; to retry: {resume_command}",
        failed.len(),
        runs.len(),
        failed.join(", ")
    ))
}

/// Writes `out_of_fold.csv` and `summary.json`.
fn summarize(
    dir: &SweepDir,
    runs: &[PlannedRun],
    datasets: &mut DatasetCache,
    options: &FoldOptions<'_>,
) -> Result<FoldsSummary> {
    let found = OutOfFold::open(dir.path())?;
    let per_fold: Vec<FoldSummary> = found
        .folds
        .iter()
        .map(|fold| {
            let rows = fold.validation.rows.len();
            let accuracy = accuracy(&fold.validation.labels, &fold.validation.predicted);
            FoldSummary {
                run: fold.run.dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
                rows,
                accuracy,
                accuracy_interval: accuracy_interval(accuracy, rows),
                best_epoch: fold.run.checkpoint.state.best.map(|best| best.epoch),
            }
        })
        .collect();
    let (mean_accuracy, std_accuracy) =
        mean_and_deviation(&per_fold.iter().map(|fold| fold.accuracy).collect::<Vec<_>>());
    let rows: usize = per_fold.iter().map(|fold| fold.rows).sum();
    let right: f64 = per_fold.iter().map(|fold| fold.accuracy * fold.rows as f64).sum();
    let config = found.folds.first().map(|fold| &fold.run.config).context("a cross-validation has folds")?;
    let ids = row_ids(&found, runs, datasets)?;
    write_atomically(&dir.file(OUT_OF_FOLD), &out_of_fold_csv(&found, &ids, &config.data.classes)?)?;
    let accuracy = right / rows.max(1) as f64;
    let summary = FoldsSummary {
        name: config.name.clone(),
        folds: options.folds,
        rows,
        mean_accuracy,
        std_accuracy,
        accuracy,
        accuracy_interval: accuracy_interval(accuracy, rows),
        per_fold,
        data_hash: found.data_hash(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: options.command.to_owned(),
    };
    write_atomically(&dir.file("summary.json"), (serde_json::to_string_pretty(&summary)? + "\n").as_bytes())?;
    Ok(summary)
}

/// The id of each row that is validated on.
///
/// The data of one fold has all rows, unless training rows are left out for want of a vote for a
/// soft label. Such a row is among the validation images of its own fold.
fn row_ids(found: &OutOfFold, runs: &[PlannedRun], datasets: &mut DatasetCache) -> Result<HashMap<u32, String>> {
    let mut ids = HashMap::new();
    for (run, fold) in runs.iter().zip(&found.folds) {
        if fold.validation.rows.iter().all(|row| ids.contains_key(row)) {
            continue;
        }
        let data = datasets.get(&run.config)?;
        for part in [&data.validation, &data.train] {
            ids.extend(part.rows.iter().copied().zip(part.row_ids()));
        }
    }
    Ok(ids)
}

/// The calibrated prediction for each image, in the order of the file and in the format of `grimace
/// predict --probabilities`.
fn out_of_fold_csv(found: &OutOfFold, ids: &HashMap<u32, String>, classes: &[String]) -> Result<Vec<u8>> {
    let mut rows: Vec<(u32, &[f32])> = Vec::new();
    for fold in &found.folds {
        rows.extend(fold.validation.rows.iter().copied().zip(fold.probabilities.chunks(classes.len().max(1))));
    }
    rows.sort_by_key(|(row, _)| *row);
    let ids = rows.iter().map(|(row, _)| ids.get(row).cloned().with_context(|| format!("row {row} has no id")));
    let images = Images {
        ids: Some(ids.collect::<Result<_>>()?),
        rows: rows.iter().map(|(row, _)| *row).collect(),
        ..Images::default()
    };
    let probabilities: Vec<f32> = rows.iter().flat_map(|(_, row)| row.iter().copied()).collect();
    let logits = probabilities.clone();
    submission::to_csv(&images, &Predictions { logits, probabilities, classes: classes.len() }, Some(classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fold_is_validated_on_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        fs_err::write(&path, "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n").unwrap();
        let sets = ["train.batch=32".to_owned()];
        let options = FoldOptions {
            config: &path,
            sets: &sets,
            folds: 3,
            out: None,
            resume: false,
            command: "bin/grimace train",
        };
        let runs = plan(&options).unwrap();
        let found: Vec<_> = runs.iter().map(|run| (run.folder.as_str(), run.config.data.validation.clone())).collect();
        let fold = |fold| Validation::Fold(Fold { fold, folds: 3 });
        assert_eq!(found, [("fold1", fold(1)), ("fold2", fold(2)), ("fold3", fold(3))]);
        assert!(runs.iter().all(|run| run.config.train.batch == 32));
        // The config of a run, as it is stored, is that of its fold.
        let text = runs[1].config.to_toml().unwrap();
        assert_eq!(config::from_text::<Config>(&text, "").unwrap(), runs[1].config);
        let command = options.resume_command(Path::new("a b")).unwrap();
        assert!(command.starts_with("bin/grimace train ") && command.ends_with("--folds 3 --out 'a b' --resume"));
        let message = plan(&FoldOptions { folds: 1, ..options }).unwrap_err().to_string();
        assert!(message.contains("data.validation.folds = 1") && message.contains("2 to 100"), "{message}");
    }
}
