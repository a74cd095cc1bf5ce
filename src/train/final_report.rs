//! The end of a finished training: what its best weights make of the validation images, in a report.

use anyhow::Result;
use tch::Device;

use crate::config::Config;
use crate::data::config::describe_split;
use crate::data::dataset::Dataset;
use crate::data::device_images::DeviceImages;
use crate::inference::forward::predict;
use crate::inference::trained_run::TrainedNet;
use crate::report::page::RunReport;
use crate::report::table::thousands;
use crate::report::tensorboard::EventFile;
use crate::report::{provenance_figures, seconds};
use crate::run_dir::{RunDir, Summary};

/// Writes `validation.csv`, pictures and `report.html` of the run in `dir`.
///
/// # Errors
/// libtorch's; I/O errors with their path; a picture that cannot be drawn.
pub fn report(dir: &RunDir, config: &Config, data: &Dataset, summary: &Summary, device: Device) -> Result<()> {
    let best = TrainedNet::open(RunDir::open(dir.path())?)?;
    let predictions = predict(&best.net_for_inference(device)?, &DeviceImages::new(&data.validation, device)?)?;
    let facts = [
        ("best epoch", summary.best_epoch.map_or("-".to_owned(), |epoch| format!("{epoch} of {}", summary.epochs))),
        ("last epoch's accuracy", summary.last_val_accuracy.map_or("-".to_owned(), |value| format!("{value:.4}"))),
        ("parameters", thousands(summary.parameters)),
        ("training images", thousands(summary.train_rows)),
        ("time", seconds(summary.seconds)),
        ("images a second", summary.train_images_per_second.map_or("-".to_owned(), |speed| thousands(speed as usize))),
        ("computed on", format!("{}, {}, {} threads", summary.device, summary.precision, summary.threads)),
    ];
    let provenance = &summary.provenance;
    let report = RunReport {
        dir,
        name: &config.name,
        kind: "network",
        data,
        split: describe_split(&config.data, config.seed),
        classes: &config.data.classes,
        outputs: &predictions,
        caveat: "The best epoch was chosen by these very images, which flatters it: on images that nobody chose by, expect less.",
        facts: facts.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        records: &dir.read_metrics()?,
        best_epoch: summary.best_epoch,
        pictures: Vec::new(),
        config: config.to_toml()?,
        provenance: provenance_figures(
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
    let pictures = report.write()?;
    let now = jiff::Timestamp::now().as_duration().as_secs_f64();
    if let Some(mut events) = EventFile::reopen(dir.path(), now)? {
        for (name, png) in &pictures {
            events.image(name, png, i64::from(summary.epochs))?;
        }
    }
    Ok(())
}
