//! Two trained runs on the same labeled images.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::trained_run::TrainedRun;
use crate::data::config::DataConfig;
use crate::data::duplicates::duplicate_mask;
use crate::data::images::{ImageHash, Images};
use crate::data::split_csv::SplitHashes;
use crate::device::DeviceChoice;
use crate::metrics::{Evaluation, PairedComparison, Predictions};
use crate::report::text_table::thousands;
use crate::run_dir::ValidationPredictions;
use crate::transforms::tta::Tta;
use crate::util::error::input;

/// One of the two runs.
#[derive(Debug)]
pub struct ComparedRun {
    run: TrainedRun,
    tta: Tta,
    temperature: f64,
    split: SplitHashes,
}

/// Two runs with the same classes.
#[derive(Debug)]
pub struct ComparedRuns {
    runs: [ComparedRun; 2],
    is_calibrated: bool,
}

/// What the runs are compared on, and the result.
#[derive(Debug)]
pub struct RunComparison {
    /// Metrics of each run. Deduplicated ones are without training images of either.
    pub evaluations: [Evaluation; 2],
    /// The second run minus the first.
    pub paired: PairedComparison,
    /// What makes the comparison mean less, without the prefix `warning: `.
    pub warnings: Vec<String>,
}

impl ComparedRun {
    /// Display of its directory.
    pub fn path(&self) -> String {
        self.run.dir().path().display().to_string()
    }

    /// `name` of its config, its seed, and whether it is a network or a forest.
    pub fn describe(&self) -> String {
        match &self.run {
            TrainedRun::Net(run) => format!("network {:?}, seed {}", run.config.name, run.config.seed),
            TrainedRun::Forest(run) => format!("forest {:?}, seed {}", run.config.name, run.config.seed),
        }
    }

    /// Its test-time augmentation.
    pub fn tta(&self) -> Tta {
        self.tta
    }

    /// What its logits are divided by.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    fn seed(&self) -> u64 {
        match &self.run {
            TrainedRun::Net(run) => run.config.seed,
            TrainedRun::Forest(run) => run.config.seed,
        }
    }
}

impl ComparedRuns {
    /// Opens two runs; `tta` overrides the `predict.tta` of both. With `is_calibrated`, probabilities
    /// have the temperature of their run.
    ///
    /// # Errors
    /// Input errors: a run that cannot be opened, the same run twice, different classes, TTA for a
    /// forest.
    pub fn open(paths: [&Path; 2], tta: Option<Tta>, is_calibrated: bool) -> Result<Self> {
        let open = |path: &Path| -> Result<ComparedRun> {
            let run = TrainedRun::open(path)?;
            let (tta, split) = (run.tta(tta)?, run.split_hashes()?);
            let temperature = if is_calibrated { run.temperature(tta)? } else { 1.0 };
            Ok(ComparedRun { run, tta, temperature, split })
        };
        let [first, second] = paths;
        if is_same_folder(first, second) {
            let shown = first.display();
            return Err(input(format!("{shown}: is given twice; expected two runs to compare with each other")));
        }
        let runs = [open(first)?, open(second)?];
        let [a, b] = runs.each_ref().map(|run| &run.run.data().classes);
        if a != b {
            return Err(input(format!(
                "{} has the classes {}, {} has {}; a comparison needs the same classes in the same order. Evaluate each on images of its own \
                 classes: grimace evaluate RUN --data DATA",
                first.display(),
                a.join(","),
                second.display(),
                b.join(",")
            )));
        }
        Ok(Self { runs, is_calibrated })
    }

    /// Both runs.
    pub fn runs(&self) -> &[ComparedRun; 2] {
        &self.runs
    }

    /// Whether probabilities have the temperature of their run.
    pub fn is_calibrated(&self) -> bool {
        self.is_calibrated
    }

    /// `[data]` of the first run, which controls how images are read.
    pub fn data(&self) -> &DataConfig {
        let [first, _] = &self.runs;
        first.run.data()
    }

    /// Checks that both runs read the labels of a file in the same way.
    ///
    /// # Errors
    /// An input error if their `data.labels` differ.
    pub fn check_label_maps(&self) -> Result<()> {
        let [first, second] = &self.runs;
        if first.run.data().labels == second.run.data().labels {
            return Ok(());
        }
        Err(input(format!(
            "data.labels is not the same in {} and {}; give the class of every label in the data with --label-map",
            first.path(),
            second.path()
        )))
    }

    /// Compares the runs on labeled images.
    ///
    /// # Errors
    /// Input errors: no image that neither run was trained on, a device that is not available.
    pub fn compare(&self, images: &Images, labels: &[u8], device: DeviceChoice) -> Result<RunComparison> {
        self.check_unseen(&images.hashes)?;
        let predict = |run: &ComparedRun| run.run.predict(images, device, run.tta)?.mean(run.temperature);
        let [first, second] = &self.runs;
        let predictions = [predict(first)?, predict(second)?];
        self.evaluate(&predictions, labels, &images.hashes)
    }

    /// Compares the predictions that both runs stored for their validation images, which are without
    /// TTA: the runs must be opened so.
    ///
    /// # Errors
    /// Input errors: a run without them, other validation images or other labels of them.
    pub fn compare_validation(&self) -> Result<RunComparison> {
        let [first, second] = &self.runs;
        let read = |run: &ComparedRun| -> Result<ValidationPredictions> {
            let path = run.run.dir().validation_csv();
            let found = match &run.run {
                TrainedRun::Net(run) => run.validation_predictions()?,
                TrainedRun::Forest(_) if path.exists() => Some(ValidationPredictions::read(&path)?),
                TrainedRun::Forest(_) => None,
            };
            found.ok_or_else(|| {
                input(format!(
                    "{}: has no predictions for the validation images, because it has not been trained to its end; give \
                     images with --data",
                    run.path()
                ))
            })
        };
        let (a, b) = (read(first)?, read(second)?);
        if a.hashes != b.hashes || a.labels != b.labels {
            return Err(input(format!(
                "{} and {} were validated on different images or labels, so their validation accuracies cannot be compared; \
                 give images that neither was trained on with --data",
                first.path(),
                second.path()
            )));
        }
        let hash = |text: &String| ImageHash::from_hex(text);
        let hashes: Option<Vec<ImageHash>> = a.hashes.iter().map(hash).collect();
        let hashes = hashes.with_context(|| format!("{}: has an image hash that is none", first.path()))?;
        self.check_unseen(&hashes)?;
        let classes = self.data().classes.len();
        let predictions = [(&a, first), (&b, second)]
            .map(|(found, run)| found.predictions(classes).with_temperature(run.temperature));
        self.evaluate(&predictions, &a.labels, &hashes)
    }

    /// Refuses images that were all trained on.
    fn check_unseen(&self, hashes: &[ImageHash]) -> Result<()> {
        for run in &self.runs {
            if !hashes.is_empty() && hashes.iter().all(|hash| run.split.train.contains(hash)) {
                return Err(input(format!(
                    "{} was trained on all of these images, so the comparison would say nothing; give other images with --data",
                    run.path()
                )));
            }
        }
        Ok(())
    }

    fn evaluate(&self, predictions: &[Predictions; 2], labels: &[u8], hashes: &[ImageHash]) -> Result<RunComparison> {
        let [first, second] = &self.runs;
        let training: HashSet<ImageHash> = first.split.train.union(&second.split.train).copied().collect();
        let seen = duplicate_mask(hashes, &training);
        let classes = &self.data().classes;
        let [a, b] = predictions;
        let paired = PairedComparison::new([a, b], labels, &seen, classes, first.seed())
            .ok_or_else(|| input("there are no images to compare the runs on"))?;
        Ok(RunComparison {
            evaluations: predictions.each_ref().map(|found| Evaluation::new(found, labels, &seen, classes)),
            warnings: self.warnings(hashes, &seen, &paired),
            paired,
        })
    }

    fn warnings(&self, hashes: &[ImageHash], seen: &[bool], paired: &PairedComparison) -> Vec<String> {
        let mut warnings = Vec::new();
        let [first, second] = &self.runs;
        for (run, other) in [(first, second), (second, first)] {
            let own = duplicate_mask(hashes, &run.split.train);
            let theirs = duplicate_mask(hashes, &other.split.train);
            let alone = own.iter().zip(&theirs).filter(|(own, theirs)| **own && !**theirs).count();
            if alone > 0 {
                let (alone, run, other) = (thousands(alone), run.path(), other.path());
                warnings.push(format!(
                    "{run} was trained on {alone} of these images that {other} was not trained on, which favors it; compare the accuracy \
                     without duplicates of training images"
                ));
            }
        }
        if seen.iter().all(|seen| *seen) {
            warnings.push("each image is a training image of one of the runs".to_owned());
        }
        let is_selected = |run: &&ComparedRun| match &run.run {
            TrainedRun::Net(net) => net.config.train.early_stop.monitor.selects(),
            TrainedRun::Forest(_) => false,
        };
        let selected = self.runs.iter().filter(is_selected).filter_map(|run| {
            let found = duplicate_mask(hashes, &run.split.validation).into_iter().filter(|found| *found).count();
            (found > 0).then(|| (run.path(), found))
        });
        for (run, found) in selected {
            let (found, all) = (thousands(found), thousands(hashes.len()));
            warnings.push(format!(
                "{run} was validated on {found} of these {all} images, which selected its epoch, so its metrics are optimistic"
            ));
        }
        if paired.agreement == 1.0 {
            warnings.push("the runs predict the same class for every image".to_owned());
        }
        warnings
    }
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}
