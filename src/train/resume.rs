//! Going on with a run: what must be the same as before, and what may differ.

use anyhow::Result;

use super::step::{evaluation_weights, is_weight};
use crate::config::{self, Config, RawConfig};
use crate::data::config::Validation;
use crate::data::dataset::Dataset;
use crate::device::{self, Placement, Precision};
use crate::metrics::epoch::EpochMetrics;
use crate::run_dir::RunDir;
use crate::run_dir::checkpoint::{self, Checkpoint, NamedTensors, State};
use crate::util::error::input;

/// What was kept of a run that goes on.
#[derive(Debug)]
pub struct Resumed {
    /// The newest checkpoint.
    pub checkpoint: Checkpoint,
    /// Records of epochs that were finished after it: they will be trained again, and should come out the same.
    pub ahead: Vec<EpochMetrics>,
}

/// Keys that may change without changing what was trained so far. Paths are free because the images themselves are compared.
const FREE: [&str; 14] = [
    "name",
    "train.epochs",
    "train.early_stop.patience",
    "train.checkpoint_every",
    "train.max_rollbacks",
    "device",
    "threads",
    "data.train",
    "data.test",
    "data.validation",
    "data.split_seed",
    "data.soft_labels",
    "data.on_bad_row",
    "predict",
];

/// Whether a key may change without changing what was trained so far.
pub fn is_free(key: &str) -> bool {
    FREE.iter().any(|free| key.strip_prefix(free).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Number format and CPU threads to go on with: what the config says, and where it leaves the choice, what the run had
/// before, if this machine has it too. Results are bit-identical only with both unchanged.
pub fn as_before(config: &Config, saved: &State) -> (Precision, usize) {
    let threads = match config.threads {
        0 if saved.threads <= device::cores() => saved.threads,
        threads => threads,
    };
    let precision = match (config.precision, saved.precision.as_str()) {
        (Precision::Auto, "f32") => Precision::F32,
        (precision, _) => precision,
    };
    (precision, threads)
}

/// Makes a checkpoint's state agree with `best.safetensors`, which may be newer (a run that died between the two), older or
/// gone; what a reader of the log should know about it. What counts is what is on disk: only better weights replace it.
///
/// # Errors
/// An input error when it is damaged or of another run; an I/O error when it has to be written again and cannot.
pub fn settle_best(dir: &RunDir, newest: &mut Checkpoint) -> Result<Option<String>> {
    let shown = dir.best().display().to_string();
    let advice = || format!("to go on without the best weights so far, delete {shown}");
    let state = &mut newest.state;
    let found = dir.best_checkpoint().map_err(|error| input(format!("{error:#}; {}", advice())))?;
    match (found, state.best) {
        (None, None) => Ok(None),
        (None, Some(best)) if best.epoch == state.epoch && state.step == 0 => {
            checkpoint::save(&dir.best(), &newest.config, state, &evaluation_weights(&newest.tensors))?;
            Ok(Some(format!(
                "{shown} was missing: written again from the newest checkpoint, which holds the same weights"
            )))
        }
        (None, Some(best)) => {
            state.best = None;
            Ok(Some(format!(
                "warning: {shown} is missing: the weights of epoch {} (val_acc {:.4}) are lost, the best from here on will be kept",
                best.epoch, best.val_accuracy
            )))
        }
        (Some(found), known) => {
            if (&found.state.data_hash, &found.state.split_hash) != (&state.data_hash, &state.split_hash) {
                return Err(input(format!("{shown}: belongs to a run on other data or another split; {}", advice())));
            }
            let weights = |tensors: &NamedTensors| -> Vec<(String, Vec<i64>)> {
                let own = tensors.iter().filter(|(name, _)| is_weight(name));
                own.map(|(name, tensor)| (name.clone(), tensor.size())).collect()
            };
            if weights(&found.tensors) != weights(&newest.tensors) {
                return Err(input(format!("{shown}: belongs to a run with another network; {}", advice())));
            }
            state.best = found.state.best;
            let note = |best: checkpoint::Best| {
                format!(
                    "{shown} holds epoch {} (val_acc {:.4}), which stays until a better one",
                    best.epoch, best.val_accuracy
                )
            };
            Ok(found.state.best.filter(|_| known != found.state.best).map(note))
        }
    }
}

/// Writes `best.safetensors` again with the tta that the config now wants, where they differ: whoever uses the run reads them
/// there. All else about it stays.
///
/// # Errors
/// An input error when it is damaged; an I/O error when it cannot be written.
pub fn follow_tta(dir: &RunDir, config: &Config) -> Result<()> {
    let Some(best) = dir.best_checkpoint()? else { return Ok(()) };
    let was: Config = config::from_text(&best.config, &dir.best().display().to_string())?;
    if was.predict == config.predict {
        return Ok(());
    }
    let now = RawConfig { predict: config.predict.clone(), ..RawConfig::clone(&was) }.check().map_err(input)?;
    checkpoint::save(&dir.best(), &now.to_toml()?, &best.state, &best.tensors)
}

/// Compares a checkpoint with what the run would go on with; what a reader of the log should know about it.
///
/// # Errors
/// An input error that names what differs and may not: the images, the split, or a key that shapes the training so far.
pub fn compare(
    saved: &Checkpoint,
    config: &Config,
    data: &Dataset,
    placement: &Placement,
    shown: &str,
) -> Result<Vec<String>> {
    let refuse = |what: &str| Err(input(format!("{shown}: cannot go on: {what}; train into a new --out instead")));
    // Read as a config: one of an older version has no line for what has been added since, which is then as it was.
    let was: Config = config::from_text(&saved.config, shown)?;
    let old = config::read_table(&was.to_toml()?)?;
    let new = config::read_table(&config.to_toml()?)?;
    let mut notes = vec![match saved.state.step {
        0 => format!("going on after epoch {}", saved.state.epoch),
        step => format!("going on in epoch {} after step {step}", saved.state.epoch + 1),
    }];
    for key in config::differing_keys(&old, &new) {
        let change =
            format!("{key} was {}, now it is {}", config::shown_key(&old, &key), config::shown_key(&new, &key));
        if key == "train.epochs" && config.train.depends_on_epochs() {
            return refuse(&format!("{change}, and the learning rate or the size of images went by that number"));
        }
        if !is_free(&key) {
            return refuse(&change);
        }
        notes.push(format!(
            "{key} changed from {} to {}",
            config::shown_key(&old, &key),
            config::shown_key(&new, &key)
        ));
    }
    let steps = data.train.len().div_ceil(config.train.batch) as u64;
    if saved.state.step > steps {
        return refuse(&format!("it stands at step {} of an epoch of {steps}", saved.state.step));
    }
    if config.train.epochs < saved.state.epoch {
        return refuse(&format!(
            "{} epochs are done already, train.epochs is {}",
            saved.state.epoch, config.train.epochs
        ));
    }
    if saved.state.data_hash != data.data_hash {
        return refuse(&format!("the images or labels of {} differ from those it was trained on", data_files(config)));
    }
    if saved.state.split_hash != data.split_hash() {
        return refuse("the split into training and validation differs");
    }
    if saved.state.soft_labels_hash != data.soft_labels_hash() {
        let now = match &config.data.soft_labels {
            Some(path) => format!("the soft labels of {} are not those it was trained on", path.display()),
            None => "it was trained on soft labels, and data.soft_labels names none".to_owned(),
        };
        return refuse(&now);
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
    let kernels = device::describe_kernels();
    if saved.state.kernels != kernels {
        notes.push(format!("warning: other CPU kernels before: figures may differ in the last digits (now {kernels})"));
    }
    Ok(notes)
}

/// The files that images were read from.
fn data_files(config: &Config) -> String {
    let train = config.data.train.display();
    match &config.data.validation {
        Validation::Path(path) => format!("{train} or {}", path.display()),
        _ => train.to_string(),
    }
}
