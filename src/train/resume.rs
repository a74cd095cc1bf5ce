//! Resuming a run: what may change, and what must be as before.

use anyhow::Result;

use super::snapshot::{evaluation_weights, is_network_tensor};
use crate::config::{self, Config, RawConfig};
use crate::data::config::Validation;
use crate::data::dataset::Dataset;
use crate::device::{self, Placement, Precision};
use crate::metrics::Monitor;
use crate::metrics::epoch::EpochMetrics;
use crate::run_dir::RunDir;
use crate::run_dir::checkpoint::{self, BestEpoch, Checkpoint, NamedTensors, State};
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
const RESUMABLE_KEYS: [&str; 18] = [
    "name",
    "train.epochs",
    "train.early_stop.patience",
    "train.checkpoint_every",
    "train.max_rollbacks",
    "train.cuda_graph",
    "train.timeout",
    "device",
    "threads",
    "data.train",
    "data.test",
    "data.validation",
    "data.split_seed",
    "data.soft_labels",
    "data.exclude",
    "data.on_bad_row",
    "data.resident",
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
        // Where `auto` may have become float32 since.
        (Precision::Auto, "bf16") if saved.device == "cpu" && device::cpu_has_bf16() => Precision::Bf16,
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
    // The monitor cannot change: `check_compatible` refuses it.
    let monitor = config::from_text::<Config>(&latest.config, &shown.to_string())?.train.early_stop.monitor;
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
                "warning: {shown} is missing: the weights of epoch {} ({best}) are lost; the best epoch from now on \
                 will be saved",
                best.epoch
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
            let is_news = |best: &BestEpoch| known != Some(*best) || best.monitor() != monitor;
            Ok(found.state.best.filter(is_news).map(|best| describe_best(&best, &shown.to_string(), monitor)))
        }
    }
}

/// The line for the log about a `best.safetensors` that differs from what the checkpoint or the
/// config suggests.
fn describe_best(best: &BestEpoch, shown: &str, monitor: Monitor) -> String {
    let (epoch, selected_by) = (best.epoch, best.monitor());
    if selected_by == monitor {
        return format!("{shown} holds epoch {epoch} ({best}), which is kept until a better one");
    }
    format!(
        "warning: {shown} holds epoch {epoch} ({best}), which an older version of Grimace selected by {selected_by}; it is \
         kept until an epoch with a better {monitor}"
    )
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
    if saved.state.split_hash != data.split_hash {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_best_epoch_selected_by_another_metric_is_a_warning() {
        let old = BestEpoch { epoch: 3, val_accuracy: 0.5, val_accuracy_dedup: None, monitored: None };
        let line = |best: &BestEpoch| describe_best(best, "best.safetensors", Monitor::ValLoss);
        let found = line(&old);
        assert!(
            found.starts_with("warning: best.safetensors holds epoch 3 (val_acc 0.5000), which an older"),
            "{found}"
        );
        assert!(found.contains("selected by val_accuracy") && found.ends_with("a better val_loss"), "{found}");
        let found = line(&BestEpoch { monitored: Some((Monitor::ValLoss, 1.25)), ..old });
        let expected =
            "best.safetensors holds epoch 3 (val_acc 0.5000, val_loss 1.2500), which is kept until a better one";
        assert_eq!(found, expected);
    }

    #[test]
    fn precision_and_threads_left_open_are_those_of_the_checkpoint() {
        let config = |keys: &str| {
            let text = format!("name = \"x\"\n{keys}\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n");
            crate::config::from_text(&text, "x").unwrap()
        };
        let saved = |precision: &str, device: &str, threads| State {
            precision: precision.to_owned(),
            device: device.to_owned(),
            threads,
            ..State::default()
        };
        let open = config("");
        assert_eq!(inherit_precision_and_threads(&open, &saved("f32", "cpu", 1)), (Precision::F32, 1));
        let bf16 = if device::cpu_has_bf16() { Precision::Bf16 } else { Precision::Auto };
        assert_eq!(inherit_precision_and_threads(&open, &saved("bf16", "cpu", 1)), (bf16, 1));
        assert_eq!(inherit_precision_and_threads(&open, &saved("bf16", "cuda:0", 1)), (Precision::Auto, 1));
        assert_eq!(inherit_precision_and_threads(&open, &saved("bf16", "cuda:0", 100_000)).1, 0);
        let given = config("precision = \"f32\"\nthreads = 2");
        assert_eq!(inherit_precision_and_threads(&given, &saved("bf16", "cpu", 1)), (Precision::F32, 2));
    }

    #[test]
    fn the_monitor_may_not_change() {
        assert!(may_change("train.early_stop.patience") && !may_change("train.early_stop.monitor"));
    }
}
