//! The report of a finished run, from the predictions of its best weights for the validation
//! images.

use anyhow::Result;
use tch::Device;

use crate::config::Config;
use crate::data::config::describe_split;
use crate::data::dataset::Dataset;
use crate::data::device_images::DeviceImages;
use crate::inference::forward::predict;
use crate::inference::trained_run::TrainedNet;
use crate::metrics::Monitor;
use crate::report::html::RunReport;
use crate::report::tensorboard::EventFile;
use crate::report::text_table::thousands;
use crate::report::{provenance_facts, seconds};
use crate::run_dir::{RunDir, Summary, ValidationPredictions};

/// Writes `validation.csv`, plots and `report.html` of the run in `dir`.
pub fn write(dir: &RunDir, config: &Config, data: &Dataset, summary: &Summary, device: Device) -> Result<()> {
    let best = TrainedNet::open(RunDir::open(dir.path())?)?;
    let predictions = predict(&best.net_for_inference(device)?, &DeviceImages::new(&data.validation, device)?)?;
    ValidationPredictions::write(&dir.validation_csv(), data, &predictions, &config.data.classes)?;
    let facts = [
        ("best epoch", describe_best_epoch(summary)),
        ("last epoch accuracy", summary.last_val_accuracy.map_or("-".to_owned(), |value| format!("{value:.4}"))),
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
        caveat: "The best epoch was selected on these validation images, so its metrics are optimistic; expect lower \
                 ones on unseen images.",
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

/// Such as `12 of 40`; with the monitored metric unless it is accuracy.
fn describe_best_epoch(summary: &Summary) -> String {
    let Some(epoch) = summary.best_epoch else { return "-".to_owned() };
    let epochs = summary.epochs;
    match (summary.monitor, summary.best_monitor_value) {
        (Monitor::ValAccuracy, _) => format!("{epoch} of {epochs}"),
        (monitor, Some(value)) => format!("{epoch} of {epochs}, by {monitor} {value:.4}"),
        (monitor, None) => format!("{epoch} of {epochs}, by {monitor}"),
    }
}
