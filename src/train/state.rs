//! The state of a run: its initial value, its update after an epoch, and the summary made from it.

use super::early_stopping::{self, StopReason};
use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::device::{self, Placement};
use crate::metrics::epoch::EpochMetrics;
use crate::metrics::predictions::Predictions;
use crate::metrics::{self, Monitor};
use crate::optim::schedule::{SchedulePosition, learning_rate};
use crate::run_dir::checkpoint::{BestEpoch, State};
use crate::run_dir::{Provenance, RUNNING, Summary};
use crate::util::stats::{median, round};

/// The state of a new run.
pub fn initial_state(data: &Dataset, placement: &Placement, command: &str) -> State {
    State {
        data_hash: data.data_hash.clone(),
        split_hash: data.split_hash(),
        soft_labels_hash: data.soft_labels_hash(),
        threads: device::threads(),
        precision: placement.precision_name().to_owned(),
        device: placement.device_name(),
        kernels: device::describe_kernels().to_owned(),
        commands: vec![command.to_owned()],
        ..State::default()
    }
}

/// Metrics of an epoch (from 1), from the training sums in `state` and the validation predictions.
pub fn compute_epoch_metrics(
    data: &Dataset,
    state: &State,
    predictions: &Predictions,
    epoch: u32,
    lr: f64,
    seconds: f64,
    images_per_second: f64,
) -> EpochMetrics {
    let (labels, predicted) = (data.validation_labels(), predictions.predicted());
    let rows = data.train.len() as f64;
    EpochMetrics {
        epoch,
        lr,
        loss: state.loss_sum / rows,
        accuracy: state.correct as f64 / rows,
        val_loss: metrics::cross_entropy(&predictions.logits, predictions.classes, labels),
        val_accuracy: metrics::accuracy(labels, &predicted),
        val_accuracy_dedup: metrics::accuracy_excluding(labels, &predicted, &data.validation_duplicates),
        seconds: round(seconds, 3),
        images_per_second: round(images_per_second, 1),
    }
}

/// The summary of a run in `state`, which has not stopped if `stopped` is `None`.
pub fn build_summary(
    config: &Config,
    data: &Dataset,
    placement: &Placement,
    state: &State,
    parameters: usize,
    stopped: Option<StopReason>,
) -> Summary {
    Summary {
        name: config.name.clone(),
        parameters,
        device: placement.device_name(),
        precision: placement.precision_name().to_owned(),
        threads: device::threads(),
        seed: config.seed,
        epochs: state.epoch,
        best_epoch: state.best.map(|best| best.epoch),
        best_val_accuracy: state.best.map(|best| best.val_accuracy),
        best_val_accuracy_dedup: state.best.and_then(|best| best.val_accuracy_dedup),
        last_val_accuracy: state.records.last().map(|record| record.val_accuracy),
        train_rows: data.train.len(),
        validation_rows: data.validation.len(),
        stopped: stopped.map_or(RUNNING, StopReason::as_str).to_owned(),
        rollbacks: state.rollbacks,
        seconds: round(state.seconds + state.epoch_seconds, 3),
        train_images_per_second: median(state.records.iter().map(|record| record.images_per_second).collect()),
        provenance: Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: torch_ext::torch_version().to_owned(),
            kernels: state.kernels.clone(),
            command: state.commands.first().cloned().unwrap_or_default(),
            resumed: state.commands.get(1..).unwrap_or_default().to_vec(),
            data_hash: state.data_hash.clone(),
            split_hash: state.split_hash.clone(),
        },
    }
}

/// Advances `state` past a finished epoch. Returns whether it is the best so far by validation
/// accuracy. Does not add to `state.records`.
pub fn advance_epoch(state: &mut State, metrics: &EpochMetrics, monitor: Monitor) -> bool {
    let value = metrics.monitored_value(monitor);
    if early_stopping::improves(monitor, value, state.monitor.map(|(best, _)| best)) {
        state.monitor = Some((value, metrics.epoch));
    }
    let is_best = state.best.is_none_or(|best| metrics.val_accuracy > best.val_accuracy);
    if is_best {
        state.best = Some(BestEpoch {
            epoch: metrics.epoch,
            val_accuracy: metrics.val_accuracy,
            val_accuracy_dedup: metrics.val_accuracy_dedup,
        });
    }
    state.epoch = metrics.epoch;
    state.seconds += metrics.seconds;
    (state.step, state.loss_sum, state.correct, state.epoch_seconds) = (0, 0.0, 0, 0.0);
    is_best
}

/// Learning rate of `step` of the current epoch of `steps` steps: the schedule's, halved per
/// rollback.
pub fn learning_rate_at(config: &Config, state: &State, steps: u64, step: u64) -> f64 {
    let factor = 0.5f64.powi(i32::try_from(state.rollbacks).unwrap_or(i32::MAX));
    let position =
        SchedulePosition { epoch: state.epoch, step, steps, epochs: config.train.epochs, records: &state.records };
    learning_rate(&config.train.schedule, config.train.optimizer.lr(), &position) * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_best_epoch_is_strictly_better_and_the_epoch_is_reset() {
        let mut state = State { step: 9, loss_sum: 3.0, correct: 4, ..State::default() };
        let metrics = |epoch, val_accuracy, val_loss| EpochMetrics {
            epoch,
            lr: 0.1,
            loss: 1.0,
            accuracy: 0.5,
            val_loss,
            val_accuracy,
            val_accuracy_dedup: None,
            seconds: 1.5,
            images_per_second: 10.0,
        };
        assert!(advance_epoch(&mut state, &metrics(1, 0.5, 1.0), Monitor::ValLoss));
        assert_eq!((state.step, state.loss_sum, state.correct), (0, 0.0, 0));
        assert!(!advance_epoch(&mut state, &metrics(2, 0.5, 0.9), Monitor::ValLoss), "equal is not better");
        assert_eq!(state.best.map(|best| best.epoch), Some(1));
        assert_eq!(state.monitor, Some((0.9, 2)), "the monitored metric is tracked separately");
        assert_eq!((state.epoch, state.seconds), (2, 3.0));
    }
}
