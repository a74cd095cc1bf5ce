//! A run of the baseline: cross-validation, a fit on all training rows, validation, files.

use std::cell::Cell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use linfa::dataset::{DatasetBase, DatasetView};
use linfa::traits::Fit;
use ndarray::{Array1, Array2, ArrayView2, Ix1};

use super::config::ForestConfig;
use super::warnings::forest_warnings;
use super::{FitCallback, Forest, ForestError, ForestParams, Origin, stratified_folds};
use crate::data::config::describe_split;
use crate::data::dataset::Dataset;
use crate::data::duplicates::duplicate_mask;
use crate::data::images::PIXELS;
use crate::metrics::predictions::Predictions;
use crate::report::html::RunReport;
use crate::report::text_table::thousands;
use crate::report::{Console, heat_map, provenance_facts, seconds};
use crate::run_dir::{ForestProvenance, ForestSummary, MAX_SUMMARY, RunDir, ValidationPredictions};
use crate::util::error::input;
use crate::util::files::{read_small_text, write_atomically};
use crate::util::signals::{self, Signals};
use crate::util::stats::{mean_and_deviation, round};
use crate::util::text::count;
use crate::{device, forest, metrics};

/// Inputs of a forest's run.
pub struct ForestRun<'a> {
    /// The validated config.
    pub config: &'a ForestConfig,
    /// Training and validation images.
    pub data: &'a Dataset,
    /// Run directory.
    pub dir: &'a RunDir,
    /// The command line, for the provenance.
    pub command: &'a str,
    /// Signals that ask to stop.
    pub signals: &'a Signals,
}

/// Creates the directory of a forest's run at `path`, or in the default place. The directory of an
/// interrupted fit is reused; the fit starts over.
///
/// # Errors
/// An input error if the directory holds something else.
pub fn create_dir(path: Option<&Path>, name: &str) -> Result<RunDir> {
    match path {
        None => RunDir::create_default(name),
        Some(path) if RunDir::is_available(path)? => RunDir::create(path),
        Some(path) => {
            check_dir(path)?;
            RunDir::open_for_resume(path)
        }
    }
}

/// Checks that [`create_dir`] can use a path.
///
/// # Errors
/// An input error if the directory holds something else.
pub fn check_dir(path: &Path) -> Result<()> {
    RunDir::check_folder(path)?;
    let is_unfinished = || RunDir::open(path).is_ok_and(|run| run.is_forest()) && read_finished(path).is_none();
    if RunDir::is_available(path)? || is_unfinished() {
        return Ok(());
    }
    Err(input(format!("{}: exists and is not empty; choose another --out", path.display())))
}

/// The summary of a finished forest's run; `None` for any other folder.
pub fn read_finished(run: &Path) -> Option<ForestSummary> {
    let dir = RunDir::open(run).ok().filter(|dir| dir.forest_safetensors().exists())?;
    let text = read_small_text(&dir.summary_json(), MAX_SUMMARY, "the summary of a forest's run").ok()?;
    let summary: ForestSummary = serde_json::from_str(&text).ok()?;
    (summary.stopped == "done").then_some(summary)
}

/// Checks that there is a training row for each fold.
///
/// # Errors
/// An input error for more folds than rows.
pub fn check_folds(config: &ForestConfig, data: &Dataset) -> Result<()> {
    let (folds, rows) = (config.forest.folds, data.train.len());
    if folds > rows {
        let rows_text = count(rows, "training row");
        return Err(input(format!("forest.folds = {folds}: more than the {rows_text}; expected at most {rows}")));
    }
    Ok(())
}

/// Validation accuracy of a fold.
#[derive(Debug, Clone, Copy)]
struct FoldScore {
    accuracy: f64,
    /// Without duplicates of the fold's training images.
    dedup: Option<f64>,
}

/// Advances the progress bar with each tree, and stops on signals.
struct Progress<'a> {
    console: &'a Console,
    signals: &'a Signals,
    fitted: AtomicU64,
}

impl FitCallback for Progress<'_> {
    fn on_tree_fitted(&self) {
        self.console.advance(self.fitted.fetch_add(1, Ordering::Relaxed) + 1, || "trees".to_owned());
    }

    fn should_stop(&self) -> bool {
        self.signals.received().is_some()
    }
}

impl ForestRun<'_> {
    /// Cross-validates, fits and evaluates the forest, and writes its files. Returns the signal
    /// that interrupted it and the results so far.
    ///
    /// # Errors
    /// An input error for more folds than rows; I/O errors with their path.
    pub fn fit(&self, console: &mut Console) -> Result<(Option<i32>, ForestSummary)> {
        let (config, dir) = (self.config, self.dir);
        let folds = config.forest.folds;
        check_folds(config, self.data)?;
        console.log_to(&dir.log_txt())?;
        self.data.split_csv().write(&dir.split_csv())?;
        write_atomically(&dir.config_toml(), config.to_toml()?.as_bytes())?;
        console.announce(&config.data.train, self.data)?;
        console.line(&format!("run: {}", dir.path().display()))?;
        let threads = if config.threads == 0 { device::cores() } else { config.threads };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
        let mut summary = self.summary(threads);
        summary.warnings.iter().try_for_each(|warning| console.line(&format!("warning: {warning}")))?;
        if folds > 0 {
            let began = Instant::now();
            let scores = pool.install(|| self.cross_validate(console))?;
            summary.cv_seconds = Some(round(began.elapsed().as_secs_f64(), 3));
            self.report_folds(&scores, &mut summary, console)?;
        }
        let began = Instant::now();
        if let Some(forest) = pool.install(|| self.fit_all(console))? {
            summary.fit_seconds = Some(round(began.elapsed().as_secs_f64(), 3));
            self.report_fit(&forest, &mut summary, console)?;
            self.save(&forest)?;
            let pixels = self.data.validation.pixels.all()?;
            let predictions = pool.install(|| forest.predictions(&pixels));
            self.evaluate(&predictions, &mut summary);
            self.write_report(&forest, &predictions, &summary)?;
        }
        let signal = self.signals.received().filter(|_| summary.fit_seconds.is_none());
        if let Some(signal) = signal {
            summary.stopped = "interrupted".to_owned();
            if folds == 0 || summary.cv_mean.is_some() {
                console.line(&format!("{}: stopped during the fit on all training rows", signals::name(signal)))?;
            }
        }
        self.dir.write_summary(&summary)?;
        Ok((signal, summary))
    }

    /// The scores of the folds; fewer than in the config after a signal.
    fn cross_validate(&self, console: &mut Console) -> Result<Vec<FoldScore>> {
        let table = &self.config.forest;
        let (folds, train) = (table.folds, &self.data.train);
        let labels = self.data.train_labels();
        let order = stratified_folds(labels, &train.hashes, folds, self.config.data.group_duplicates);
        let sorted = train.select(&order);
        let hashes = sorted.hashes;
        let records = Array2::from_shape_vec((order.len(), PIXELS), sorted.pixels.all()?.into_owned())?;
        let targets: Array1<usize> = sorted.labels.iter().flatten().map(|label| usize::from(*label)).collect();
        let mut dataset = DatasetBase::new(records, targets);

        console.begin("cross-validation", (folds * table.trees) as u64, 0);
        let progress = Progress { console, signals: self.signals, fitted: AtomicU64::new(0) };
        let params = ForestParams::from_config(self.config, &progress);
        let failed = Cell::new(None);
        let fit = |fold: &DatasetView<'_, u8, usize, Ix1>| match params.fit(fold) {
            Ok(forest) => Some(forest),
            Err(error) => {
                failed.set(Some(error));
                None
            }
        };
        let size = order.len() / folds;
        let mut scores = Vec::new();
        for (number, (forest, validation)) in dataset.iter_fold(folds, fit).enumerate() {
            let Some(forest) = forest else { continue };
            let records = validation.records().as_standard_layout();
            let predicted = forest.predictions(records.as_slice().unwrap_or_default()).predicted();
            let labels: Vec<u8> = validation.targets().iter().map(|label| *label as u8).collect();
            let (start, end) = (number * size, (number + 1) * size);
            let training: HashSet<_> = hashes.iter().take(start).chain(hashes.iter().skip(end)).copied().collect();
            let duplicates = duplicate_mask(hashes.get(start..end).unwrap_or_default(), &training);
            scores.push(FoldScore {
                accuracy: metrics::accuracy(&labels, &predicted),
                dedup: metrics::accuracy_excluding(&labels, &predicted, &duplicates),
            });
        }
        console.end();
        match failed.take() {
            None | Some(ForestError::Stopped) => Ok(scores),
            Some(error) => Err(error.into()),
        }
    }

    /// The forest fitted on all training rows; `None` after a signal.
    fn fit_all(&self, console: &mut Console) -> Result<Option<Forest>> {
        let train = &self.data.train;
        let pixels = train.pixels.all()?;
        let records = ArrayView2::from_shape((train.len(), PIXELS), &pixels)?;
        let targets: Array1<usize> = self.data.train_labels().iter().map(|label| usize::from(*label)).collect();
        console.begin("fit", self.config.forest.trees as u64, 0);
        let progress = Progress { console, signals: self.signals, fitted: AtomicU64::new(0) };
        let fitted = ForestParams::from_config(self.config, &progress).fit(&DatasetBase::new(records, targets));
        console.end();
        match fitted {
            Ok(forest) => Ok(Some(forest)),
            Err(ForestError::Stopped) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn report_folds(&self, scores: &[FoldScore], summary: &mut ForestSummary, console: &mut Console) -> Result<()> {
        let table = &self.config.forest;
        summary.cv_accuracies = scores.iter().map(|score| score.accuracy).collect();
        let accuracies: Vec<String> = summary.cv_accuracies.iter().map(|accuracy| format!("{accuracy:.4}")).collect();
        let accuracies = accuracies.join(" ");
        if scores.len() < table.folds {
            let name = self.signals.received().map_or("stopped", signals::name);
            let (done, all) = (scores.len(), table.folds);
            return console.line(&match done {
                0 => format!("{name}: stopped in the first of {all} folds"),
                _ => format!("{name}: stopped after {done} of {all} folds; partial result, accuracies {accuracies}"),
            });
        }
        let (mean, deviation) = mean_and_deviation(&summary.cv_accuracies);
        (summary.cv_mean, summary.cv_std) = (Some(mean), Some(deviation));
        let dedup: Option<Vec<f64>> = scores.iter().map(|score| score.dedup).collect();
        // Folds have equal sizes; the remaining rows are scored in none.
        let scored = self.data.train.len() / table.folds.max(1) * table.folds;
        summary.cv_interval = metrics::accuracy_interval(mean, scored);
        summary.cv_mean_dedup = dedup.map(|dedup| mean_and_deviation(&dedup).0);
        let time = seconds(summary.cv_seconds.unwrap_or(0.0));
        console.line(&format!("cross-validation: {} folds in {time}: accuracies {accuracies}", table.folds))
    }

    fn report_fit(&self, forest: &Forest, summary: &mut ForestSummary, console: &mut Console) -> Result<()> {
        summary.nodes = Some(forest.nodes());
        let (trees, nodes) = (forest.trees().len(), forest.nodes());
        let time = seconds(summary.fit_seconds.unwrap_or(0.0));
        console.line(&format!("fit: {trees} trees in {time}, {} nodes each on average", nodes / trees.max(1)))
    }

    fn evaluate(&self, predictions: &Predictions, summary: &mut ForestSummary) {
        let predicted = predictions.predicted();
        let labels = self.data.validation_labels();
        summary.val_accuracy = Some(metrics::accuracy(labels, &predicted));
        let duplicates = &self.data.validation_duplicates;
        summary.val_accuracy_dedup = metrics::accuracy_excluding(labels, &predicted, duplicates);
        let rows_dedup = duplicates.iter().filter(|duplicate| !**duplicate).count();
        let interval =
            |accuracy: Option<f64>, rows| accuracy.and_then(|accuracy| metrics::accuracy_interval(accuracy, rows));
        summary.val_accuracy_interval = interval(summary.val_accuracy, labels.len());
        summary.val_accuracy_dedup_interval = interval(summary.val_accuracy_dedup, rows_dedup);
    }

    fn save(&self, forest: &Forest) -> Result<()> {
        let origin = Origin { data_hash: self.data.data_hash.clone(), split_hash: self.data.split_hash.clone() };
        forest::save(&self.dir.forest_safetensors(), forest, &self.config.to_toml()?, &origin)
    }

    /// Writes `validation.csv`, `importance.png` and the HTML report.
    fn write_report(&self, forest: &Forest, predictions: &Predictions, summary: &ForestSummary) -> Result<()> {
        let (config, data) = (self.config, self.data);
        ValidationPredictions::write(&self.dir.validation_csv(), data, predictions, &config.data.classes)?;
        let importance = heat_map::render(forest.importance(), &data.train.mean()?)?;
        write_atomically(&self.dir.importance_png(), &importance)?;
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let interval = summary
            .cv_interval
            .map_or(String::new(), |interval| format!(" ({})", metrics::describe_interval(interval)));
        let cross = summary.cv_mean.zip(summary.cv_std);
        let cross = cross.map_or("-".to_owned(), |(mean, deviation)| format!("{mean:.4} +- {deviation:.4}{interval}"));
        let facts = [
            ("cross-validation", cross),
            ("cross-validation (deduplicated)", number(summary.cv_mean_dedup)),
            ("trees", thousands(summary.trees)),
            ("nodes", thousands(forest.nodes())),
            ("training images", thousands(summary.train_rows)),
            ("fit time", seconds(summary.fit_seconds.unwrap_or(0.0))),
        ];
        let caption =
            "Left: the mean training image. Right: the feature importance of each pixel (mean decrease in impurity).";
        let provenance = &summary.provenance;
        let report = RunReport {
            mistake_heat: None,
            calibration: None,
            dir: self.dir,
            name: &config.name,
            kind: "forest",
            data,
            split: describe_split(&config.data, config.seed),
            classes: &config.data.classes,
            predictions,
            caveat: "Nothing was selected on the validation images, so no selection makes these metrics optimistic.",
            facts: facts.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            warnings: &summary.warnings,
            records: &[],
            best_epoch: None,
            plots: vec![(importance, caption.to_owned())],
            config: config.to_toml()?,
            provenance: provenance_facts(
                &[("version", &provenance.version)],
                config.seed,
                (&provenance.data_hash, &provenance.split_hash),
                &provenance.command,
            ),
        };
        report.write().map(drop)
    }

    fn summary(&self, threads: usize) -> ForestSummary {
        let (config, table) = (self.config, &self.config.forest);
        ForestSummary {
            name: config.name.clone(),
            seed: config.seed,
            threads,
            trees: table.trees,
            max_features: table.max_features.resolve(PIXELS),
            finder: table.finder.name().to_owned(),
            nodes: None,
            folds: table.folds,
            cv_accuracies: Vec::new(),
            cv_mean: None,
            cv_std: None,
            cv_interval: None,
            cv_mean_dedup: None,
            val_accuracy: None,
            val_accuracy_interval: None,
            val_accuracy_dedup: None,
            val_accuracy_dedup_interval: None,
            cv_seconds: None,
            fit_seconds: None,
            train_rows: self.data.train.len(),
            validation_rows: self.data.validation.len(),
            stopped: "done".to_owned(),
            warnings: forest_warnings(config, self.data),
            provenance: ForestProvenance {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                command: self.command.to_owned(),
                data_hash: self.data.data_hash.clone(),
                split_hash: self.data.split_hash.clone(),
            },
        }
    }
}
