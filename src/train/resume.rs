//! Going on with a run: what must be the same as before, and what may differ.

use anyhow::{Context, Result};

use crate::checkpoint::Checkpoint;
use crate::config::{self, Config};
use crate::data::dataset::Dataset;
use crate::device::{self, Placement};
use crate::error::input;

/// Keys that may change without changing what was trained so far. Paths are free because the faces themselves are compared.
const FREE: [&str; 10] = [
    "name",
    "train.epochs",
    "train.early_stop.patience",
    "train.checkpoint_every",
    "device",
    "threads",
    "data.train",
    "data.test",
    "data.validation",
    "data.on_bad_row",
];

/// Compares a checkpoint with what the run would go on with; what a reader of the log should know about it.
///
/// # Errors
/// An input error that names what differs and may not: the faces, the split, or a key that shapes the training so far.
pub fn compare(
    saved: &Checkpoint,
    config: &Config,
    data: &Dataset,
    placement: &Placement,
    shown: &str,
) -> Result<Vec<String>> {
    let refuse = |what: &str| Err(input(format!("{shown}: cannot go on: {what}; train into a new --out instead")));
    let old: toml::Table = toml::from_str(&saved.config).context("its config cannot be read")?;
    let new: toml::Table = toml::from_str(&config.to_toml()?)?;
    let mut notes = vec![match saved.state.step {
        0 => format!("going on after epoch {}", saved.state.epoch),
        step => format!("going on in epoch {} after step {step}", saved.state.epoch + 1),
    }];
    for key in config::differing_keys(&old, &new) {
        if !FREE.iter().any(|free| key == *free || key.starts_with(&format!("{free}."))) {
            return refuse(&format!(
                "{key} was {}, now it is {}",
                config::shown_key(&old, &key),
                config::shown_key(&new, &key)
            ));
        }
        notes.push(format!(
            "{key} changed from {} to {}",
            config::shown_key(&old, &key),
            config::shown_key(&new, &key)
        ));
    }
    if config.train.epochs < saved.state.epoch {
        return refuse(&format!(
            "{} epochs are done already, train.epochs is {}",
            saved.state.epoch, config.train.epochs
        ));
    }
    if saved.state.data_hash != data.data_hash {
        return refuse("the faces or labels differ from those it was trained on");
    }
    if saved.state.split_hash != data.split_hash() {
        return refuse("the split into training and validation differs");
    }
    let threads = device::threads();
    let (device, precision) = (placement.device_name(), placement.precision_name());
    if saved.state.device != device || saved.state.precision != precision {
        let before = format!("{}, {}", saved.state.device, saved.state.precision);
        notes.push(format!("warning: {before} before, {device}, {precision} now: figures may differ"));
    }
    if saved.state.threads != threads {
        notes.push(format!(
            "warning: {} threads before, {threads} now: figures may differ in the last digits",
            saved.state.threads
        ));
    }
    let kernels = device::kernels_in_words();
    if saved.state.kernels != kernels {
        notes.push(format!("warning: other CPU kernels before: figures may differ in the last digits (now {kernels})"));
    }
    Ok(notes)
}
