//! The end of a finished training: what its best weights make of the validation faces, in a report.

use anyhow::Result;
use tch::Device;

use crate::config::{Config, DataConfig, SplitKind, Validation};
use crate::data::batches::DeviceFaces;
use crate::data::dataset::Dataset;
use crate::model::infer::Outputs;
use crate::report::page::{Figure, RunReport};
use crate::report::seconds;
use crate::report::table::thousands;
use crate::report::tensorboard::EventFile;
use crate::rundir::{RunDir, Summary, TrainedNet};

/// Writes `validation.csv`, pictures and `report.html` of the run in `dir`.
///
/// # Errors
/// libtorch's; I/O errors with their path; a picture that cannot be drawn.
pub fn report(dir: &RunDir, config: &Config, data: &Dataset, summary: &Summary, device: Device) -> Result<()> {
    let best = TrainedNet::open(RunDir::open(dir.path())?)?;
    let outputs = Outputs::of(&best.net_for_inference(device)?, &DeviceFaces::new(&data.validation, device)?)?;
    let facts = [
        ("best epoch", summary.best_epoch.map_or("-".to_owned(), |epoch| format!("{epoch} of {}", summary.epochs))),
        ("last epoch's accuracy", summary.last_val_accuracy.map_or("-".to_owned(), |value| format!("{value:.4}"))),
        ("parameters", thousands(summary.parameters)),
        ("training faces", thousands(summary.train_rows)),
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
        split: split_in_words(&config.data, config.seed),
        classes: &config.data.classes,
        outputs: &outputs,
        caveat: "The best epoch was chosen by these very faces, which flatters it: on faces that nobody chose by, expect less.",
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

/// How the validation faces were divided off.
pub fn split_in_words(data: &DataConfig, seed: u64) -> String {
    let shown =
        |path: &std::path::Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let train = shown(&data.train);
    match &data.validation {
        Validation::Path(path) => {
            format!("The validation faces are those of {}, the training faces those of {train}.", shown(path))
        }
        Validation::Usage(usage) => format!("The validation faces are the rows of {train} with Usage {usage}."),
        Validation::Fraction(fraction) => {
            let kind = match data.split {
                SplitKind::Stratified => "the same share of every class",
                SplitKind::Random => "regardless of class",
            };
            let copies =
                if data.keep_copies_together { "copies of a face kept together" } else { "copies of a face ignored" };
            let seed = data.split_seed.unwrap_or(seed);
            format!(
                "The validation faces are {}% of {train}, drawn with seed {seed}, {kind}, {copies}.",
                100.0 * fraction
            )
        }
    }
}

/// Where figures come from, for the report.
pub(super) fn provenance_figures(
    versions: &[(&str, &String)],
    seed: u64,
    (data_hash, split_hash): (&str, &str),
    command: &str,
) -> Vec<Figure> {
    let short = |hash: &str| hash.get(..16).unwrap_or(hash).to_owned();
    let mut figures: Vec<Figure> =
        versions.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect();
    figures.push(("seed".to_owned(), seed.to_string()));
    figures.push(("faces (hash)".to_owned(), short(data_hash)));
    figures.push(("split (hash)".to_owned(), short(split_hash)));
    figures.push(("command".to_owned(), command.to_owned()));
    figures
}
