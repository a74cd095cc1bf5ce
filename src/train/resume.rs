//! Resuming a run: what may change, and what must be as before.

use anyhow::Result;

use super::step::{evaluation_weights, is_network_tensor};
use crate::config::{self, Config, RawConfig};
use crate::data::config::Validation;
use crate::data::dataset::Dataset;
use crate::device::{self, Placement, Precision};
use crate::metrics::epoch::EpochMetrics;
use crate::run_dir::RunDir;
use crate::run_dir::checkpoint::{self, Checkpoint, NamedTensors, State};
use crate::util::error::input;

/// Where a run is resumed from.
#[derive(Debug)]
pub struct ResumePoint {
    /// The newest checkpoint.
    pub checkpoint: Checkpoint,
    /// Metrics of epochs that were finished after the checkpoint. They are trained again and should
    /// come out the same.
    pub replayed: Vec<EpochMetrics>,
}

/// Config keys, or tables of keys, that may change when a run is resumed: none affects the epochs
/// so far. Paths may change because the images themselves are compared.
const RESUMABLE_KEYS: [&str; 14] = [
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

/// Whether a config key may change when a run is resumed.
pub fn may_change(key: &str) -> bool {
    RESUMABLE_KEYS
        .iter()
        .any(|prefix| key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Precision and CPU threads to resume with: those of the config, or if it leaves them open those
/// of the checkpoint, if available on this machine. Results are bit-identical only if both are
/// unchanged.
pub fn inherit_precision_and_threads(config: &Config, saved: &State) -> (Precision, usize) {
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

/// Reconciles the state of a checkpoint with `best.safetensors`, which may be newer (a run that
/// died between writing the two), older or missing. The file takes precedence: only better weights
/// replace it. Returns a line for the log.
///
/// # Errors
/// An input error if `best.safetensors` is unusable or belongs to another run.
pub fn reconcile_best(dir: &RunDir, latest: &mut Checkpoint) -> Result<Option<String>> {
    let path = dir.best_safetensors();
    let shown = path.display();
    let advice = format!("to resume without the best weights so far, delete {shown}");
    let state = &mut latest.state;
    let found = dir.best_checkpoint().map_err(|error| input(format!("{error:#}; {advice}")))?;
    match (found, state.best) {
        (None, None) => Ok(None),
        (None, Some(best)) if best.epoch == state.epoch && state.step == 0 => {
            checkpoint::save(&path, &latest.config, state, &evaluation_weights(&latest.tensors))?;
            Ok(Some(format!("{shown} was missing: restored from the newest checkpoint, which has the same weights")))
        }
        (None, Some(best)) => {
            state.best = None;
            Ok(Some(format!(
                "warning: {shown} is missing: the weights of epoch {} (val_acc {:.4}) are lost; the best epoch from \
                 now on will be saved",
                best.epoch, best.val_accuracy
            )))
        }
        (Some(found), known) => {
            if (&found.state.data_hash, &found.state.split_hash) != (&state.data_hash, &state.split_hash) {
                return Err(input(format!("{shown}: belongs to a run on other data or another split; {advice}")));
            }
            let shapes = |tensors: &NamedTensors| -> Vec<(String, Vec<i64>)> {
                let weights = tensors.iter().filter(|(name, _)| is_network_tensor(name));
                weights.map(|(name, tensor)| (name.clone(), tensor.size())).collect()
            };
            if shapes(&found.tensors) != shapes(&latest.tensors) {
                return Err(input(format!("{shown}: belongs to a run with another network; {advice}")));
            }
            state.best = found.state.best;
            let note = |best: checkpoint::BestEpoch| {
                format!(
                    "{shown} holds epoch {} (val_acc {:.4}), which is kept until a better one",
                    best.epoch, best.val_accuracy
                )
            };
            Ok(found.state.best.filter(|_| known != found.state.best).map(note))
        }
    }
}

/// Rewrites `best.safetensors` if `predict.tta` changed: commands that use the run read it from
/// there.
///
/// # Errors
/// An input error if the file is unusable; an I/O error if it cannot be written.
pub fn update_best_tta(dir: &RunDir, config: &Config) -> Result<()> {
    let path = dir.best_safetensors();
    let Some(best) = dir.best_checkpoint()? else { return Ok(()) };
    let old: Config = config::from_text(&best.config, &path.display().to_string())?;
    if old.predict == config.predict {
        return Ok(());
    }
    let new = RawConfig { predict: config.predict.clone(), ..RawConfig::clone(&old) }.check();
    let new = new.map_err(|error| input(error.to_string()))?;
    checkpoint::save(&path, &new.to_toml()?, &best.state, &best.tensors)
}

/// Checks that a run can be resumed from a checkpoint with this config and data. Returns lines for
/// the log, such as changed keys.
///
/// # Errors
/// An input error that names a difference that is not allowed: images, split, or a config key.
pub fn check_compatible(
    saved: &Checkpoint,
    config: &Config,
    data: &Dataset,
    placement: &Placement,
    shown: &str,
) -> Result<Vec<String>> {
    let refuse = |what: &str| Err(input(format!("{shown}: cannot resume: {what}; start a new run with another --out")));
    // Parsed as a config, which fills in defaults for keys that an older version did not have.
    let old: Config = config::from_text(&saved.config, shown)?;
    let old = config::read_table(&old.to_toml()?)?;
    let new = config::read_table(&config.to_toml()?)?;
    let mut notes = vec![match saved.state.step {
        0 => format!("resuming after epoch {}", saved.state.epoch),
        step => format!("resuming in epoch {} after step {step}", saved.state.epoch + 1),
    }];
    for key in config::differing_keys(&old, &new) {
        let change =
            format!("{key} was {}, now it is {}", config::format_value(&old, &key), config::format_value(&new, &key));
        if key == "train.epochs" && config.train.depends_on_epochs() {
            return refuse(&format!("{change}, and the learning rate or the image size depends on it"));
        }
        if !may_change(&key) {
            return refuse(&change);
        }
        notes.push(format!(
            "{key} changed from {} to {}",
            config::format_value(&old, &key),
            config::format_value(&new, &key)
        ));
    }
    let steps = data.train.len().div_ceil(config.train.batch) as u64;
    if saved.state.step > steps {
        return refuse(&format!("it is at step {} of an epoch of {steps}", saved.state.step));
    }
    if config.train.epochs < saved.state.epoch {
        return refuse(&format!(
            "{} epochs are finished, and train.epochs is {}",
            saved.state.epoch, config.train.epochs
        ));
    }
    if saved.state.data_hash != data.data_hash {
        return refuse(&format!("the images or labels in {} differ from those it was trained on", data_files(config)));
    }
    if saved.state.split_hash != data.split_hash() {
        return refuse("the split into training and validation differs");
    }
    if saved.state.soft_labels_hash != data.soft_labels_hash() {
        let now = match &config.data.soft_labels {
            Some(path) => format!("the soft labels in {} differ from those it was trained on", path.display()),
            None => "it was trained on soft labels, and data.soft_labels is not set".to_owned(),
        };
        return refuse(&now);
    }
    notes.extend(environment_warnings(&saved.state, placement));
    Ok(notes)
}

/// Warnings about what affects the digits of results: device, precision, threads, CPU kernels.
fn environment_warnings(saved: &State, placement: &Placement) -> Vec<String> {
    let mut notes = Vec::new();
    let threads = device::threads();
    let (device, precision) = (placement.device_name(), placement.precision_name());
    if saved.device != device || saved.precision != precision {
        let before = format!("{}, {}", saved.device, saved.precision);
        notes.push(format!("warning: {before} before, {device}, {precision} now: results may differ"));
    }
    if saved.threads != threads {
        notes.push(format!(
            "warning: {} threads before, {threads} now: results may differ in the last digits",
            saved.threads
        ));
    }
    let kernels = device::describe_kernels();
    if saved.kernels != kernels {
        notes.push(format!("warning: other CPU kernels before, {kernels} now: results may differ in the last digits"));
    }
    notes
}

/// The files that the images were read from.
fn data_files(config: &Config) -> String {
    let train = config.data.train.display();
    match &config.data.validation {
        Validation::Path(path) => format!("{train} or {}", path.display()),
        _ => train.to_string(),
    }
}
