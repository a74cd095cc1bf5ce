//! The report of a finished run, from the predictions of its best weights for the validation
//! images.

use anyhow::Result;
use tch::Device;

use crate::config::Config;
use crate::data::config::describe_split;
use crate::data::dataset::Dataset;
use crate::data::device_images::DeviceImages;
use crate::inference::explain::Explainer;
use crate::inference::forward::{predict, predict_with_tta};
use crate::inference::trained_run::TrainedNet;
use crate::metrics::{
    FittedTemperature, Monitor, Predictions, ViewPredictions, accuracy_cell, most_confident_mistakes,
};
use crate::model::Net;
use crate::report::html::{MAX_MISTAKES, MistakeHeat, RunReport};
use crate::report::tensorboard::EventFile;
use crate::report::text_table::thousands;
use crate::report::{provenance_facts, seconds};
use crate::run_dir::calibration::Calibration;
use crate::run_dir::{RunDir, Summary, ValidationPredictions};
use crate::transforms::tta::Tta;
use crate::util::rng::{Rng, Stream};

/// Most validation images for the temperatures of test-time augmentation, which takes 12 predictions
/// of each; one number is precise enough with that many.
const MAX_TTA_IMAGES: usize = 1_500;

/// Writes `validation.csv`, `calibration.json`, plots and `report.html` of the run in `dir`.
pub fn write(dir: &RunDir, config: &Config, data: &Dataset, summary: &Summary, device: Device) -> Result<()> {
    let best = TrainedNet::open(RunDir::open(dir.path())?)?;
    let net = best.net_for_inference(device)?;
    let predictions = predict(&net, &DeviceImages::place(&data.validation, device, config.data.resident)?)?;
    let calibration = match summary.best_epoch {
        Some(epoch) => Some(calibrate(&net, &predictions, data, epoch, device)?),
        None => None,
    };
    ValidationPredictions::write(&dir.validation_csv(), data, &predictions, &config.data.classes)?;
    // Last: its epoch is also that of validation.csv.
    if let Some(calibration) = &calibration {
        dir.write_calibration(calibration)?;
    }
    let facts = [
        (if summary.monitor.selects() { "best epoch" } else { "epoch of the weights" }, describe_best_epoch(summary)),
        ("last epoch accuracy", accuracy_cell(summary.last_val_accuracy, summary.last_val_accuracy_interval)),
        ("parameters", thousands(summary.parameters)),
        ("training images", thousands(summary.train_rows)),
        ("time", seconds(summary.seconds)),
        ("images/s", summary.train_images_per_second.map_or("-".to_owned(), |speed| thousands(speed as usize))),
        ("device", format!("{}, {}, {} threads", summary.device, summary.precision, summary.threads)),
    ];
    let provenance = &summary.provenance;
    let report = RunReport {
        dir,
        name: &config.name,
        kind: "network",
        data,
        split: describe_split(&config.data, config.seed),
        classes: &config.data.classes,
        predictions: &predictions,
        mistake_heat: Some(explain_mistakes(&net, data, &predictions)?),
        calibration,
        caveat: if summary.monitor.selects() {
            "The best epoch was selected on these validation images, so its metrics are optimistic; expect lower ones on \
             unseen images."
        } else {
            "These are the metrics of the last epoch. These validation images did not select it."
        },
        facts: facts.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        warnings: &summary.warnings,
        records: &dir.read_metrics()?,
        best_epoch: summary.best_epoch.map(|epoch| (epoch, summary.monitor)),
        plots: Vec::new(),
        config: config.to_toml()?,
        provenance: provenance_facts(
            &[
                ("version", &provenance.version),
                ("libtorch", &provenance.libtorch),
                ("CPU kernels", &provenance.kernels),
            ],
            config.seed,
            (&provenance.data_hash, &provenance.split_hash),
            &provenance.command,
        ),
    };
    let plots = report.write()?;
    let now = jiff::Timestamp::now().as_duration().as_secs_f64();
    if let Some(mut events) = EventFile::reopen(dir.path(), now)? {
        for (name, png) in &plots {
            events.image(name, png, i64::from(summary.epochs))?;
        }
    }
    Ok(())
}

/// Fits the temperatures of the weights of `epoch`, whose predictions for the validation images are
/// `predictions`.
fn calibrate(net: &Net, predictions: &Predictions, data: &Dataset, epoch: u32, device: Device) -> Result<Calibration> {
    let plain = FittedTemperature::fit(&ViewPredictions(vec![predictions.clone()]), data.validation_labels())?;
    let count = data.validation.len();
    // Sampled: files in a folder may alternate between classes.
    let order = Rng::new(&[Stream::Calibration as u64, count as u64]).permutation(count);
    let rows = order.into_iter().take(MAX_TTA_IMAGES).filter_map(|row| usize::try_from(row).ok());
    let sample = data.validation.select(&rows.collect::<Vec<_>>());
    let (images, labels) = (DeviceImages::new(&sample, device)?, sample.labels.unwrap_or_default());
    let fit = |tta| -> Result<Option<FittedTemperature>> {
        Ok(Some(FittedTemperature::fit(&predict_with_tta(net, &images, tta)?, &labels)?))
    };
    Ok(Calibration { epoch, plain, flip: fit(Tta::Flip)?, ten_crop: fit(Tta::TenCrop)? })
}

/// The heat map of each of the most confident mistakes, for the class that was predicted.
fn explain_mistakes(net: &Net, data: &Dataset, predictions: &Predictions) -> Result<MistakeHeat> {
    let (labels, classes) = (data.validation_labels(), predictions.classes);
    let mistakes = most_confident_mistakes(&predictions.probabilities, classes, labels, MAX_MISTAKES);
    let (rows, classes): (Vec<usize>, Vec<u8>) = mistakes.into_iter().map(|(row, class, _)| (row, class)).unzip();
    let images = DeviceImages::new(&data.validation.select(&rows), net.device())?;
    let explainer = Explainer::new(net);
    let maps = explainer.explain(net, &images, &classes)?.into_iter().map(|map| map.values).collect();
    Ok(MistakeHeat { method: explainer.method.describe(), maps })
}

/// Such as `12 of 40`; with the monitored metric unless it is accuracy.
fn describe_best_epoch(summary: &Summary) -> String {
    let Some(epoch) = summary.best_epoch else { return "-".to_owned() };
    let epochs = summary.epochs;
    match (summary.monitor, summary.best_monitor_value) {
        (Monitor::ValAccuracy, _) => format!("{epoch} of {epochs}"),
        (Monitor::LastEpoch, _) => format!("{epoch} of {epochs}, the last"),
        (monitor, Some(value)) => format!("{epoch} of {epochs}, by {}", monitor.describe(value)),
        (monitor, None) => format!("{epoch} of {epochs}, by {monitor}"),
    }
}
