//! The state of a run: its initial value, its update after an epoch, and the summary made from it.

use super::early_stopping::StopReason;
use super::warnings::run_warnings;
use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::device::{self, Placement};
use crate::metrics::epoch::EpochMetrics;
use crate::metrics::predictions::Predictions;
use crate::metrics::{self, ConfusionMatrix, Monitor, accuracy_interval};
use crate::optim::ema::weight_at;
use crate::optim::schedule::{SchedulePosition, learning_rate};
use crate::optim::step_scalars::StepScalars;
use crate::run_dir::checkpoint::{BestEpoch, State};
use crate::run_dir::{Provenance, RUNNING, Summary};
use crate::util::stats::{median, round};

/// The state of a new run.
pub fn initial_state(data: &Dataset, placement: &Placement, command: &str) -> State {
    State {
        data_hash: data.data_hash.clone(),
        split_hash: data.split_hash.clone(),
        soft_labels_hash: data.soft_labels_hash(),
        threads: device::threads(),
        precision: placement.precision_name().to_owned(),
        device: placement.device_name(),
        kernels: device::describe_kernels(),
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
    let confusion = ConfusionMatrix::new(labels, &predicted, predictions.classes);
    let rows = data.train.len() as f64;
    EpochMetrics {
        epoch,
        lr,
        loss: state.loss_sum / rows,
        accuracy: state.correct as f64 / rows,
        val_loss: metrics::cross_entropy(&predictions.logits, predictions.classes, labels),
        val_accuracy: metrics::accuracy(labels, &predicted),
        val_accuracy_dedup: metrics::accuracy_excluding(labels, &predicted, &data.validation_duplicates),
        val_macro_f1: Some(metrics::macro_f1(&confusion)),
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
    let rows = data.validation.len();
    let rows_dedup = data.validation_duplicates.iter().filter(|duplicate| !**duplicate).count();
    let interval = |accuracy: Option<f64>, rows| accuracy.and_then(|accuracy| accuracy_interval(accuracy, rows));
    let best_val_accuracy = state.best.map(|best| best.val_accuracy);
    let best_val_accuracy_dedup = state.best.and_then(|best| best.val_accuracy_dedup);
    let last_val_accuracy = state.records.last().map(|record| record.val_accuracy);
    Summary {
        name: config.name.clone(),
        parameters,
        device: placement.device_name(),
        precision: placement.precision_name().to_owned(),
        threads: device::threads(),
        seed: config.seed,
        epochs: state.epoch,
        monitor: state.best.map_or(config.train.early_stop.monitor, |best| best.monitor()),
        best_epoch: state.best.map(|best| best.epoch),
        best_monitor_value: state.best.map(|best| best.monitored_value()),
        best_val_accuracy,
        best_val_accuracy_interval: interval(best_val_accuracy, rows),
        best_val_accuracy_dedup,
        best_val_accuracy_dedup_interval: interval(best_val_accuracy_dedup, rows_dedup),
        last_val_accuracy,
        last_val_accuracy_interval: interval(last_val_accuracy, rows),
        train_rows: data.train.len(),
        validation_rows: rows,
        stopped: stopped.map_or(RUNNING, StopReason::as_str).to_owned(),
        rollbacks: state.rollbacks,
        seconds: round(state.seconds + state.epoch_seconds, 3),
        train_images_per_second: median(state.records.iter().map(|record| record.images_per_second).collect()),
        warnings: run_warnings(config, data, state.init.as_ref()),
        provenance: Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: torch_ext::torch_version().to_owned(),
            kernels: state.kernels.clone(),
            command: state.commands.first().cloned().unwrap_or_default(),
            resumed: state.commands.get(1..).unwrap_or_default().to_vec(),
            data_hash: state.data_hash.clone(),
            split_hash: state.split_hash.clone(),
            init: state.init.clone(),
        },
    }
}

/// Advances `state` past a finished epoch. Returns whether it is the best so far by `monitor`. Does
/// not add to `state.records`.
pub fn advance_epoch(state: &mut State, metrics: &EpochMetrics, monitor: Monitor) -> bool {
    let value = metrics.monitored_value(monitor);
    if monitor.is_better(value, state.monitor.map(|(best, _)| best)) {
        state.monitor = Some((value, metrics.epoch));
    }
    // In a run by an older version, the best epoch so far was selected by accuracy.
    let known = state.best.and_then(|best| best.value_of(monitor, &state.records));
    let is_best = monitor.is_better(value, known);
    if is_best {
        state.best = Some(BestEpoch {
            epoch: metrics.epoch,
            val_accuracy: metrics.val_accuracy,
            val_accuracy_dedup: metrics.val_accuracy_dedup,
            monitored: Some((monitor, value)),
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

/// The scalars of each step of the current epoch, of `steps` steps.
pub fn epoch_scalars(config: &Config, state: &State, steps: u64) -> Vec<StepScalars> {
    let scalars = |step| {
        let number = u64::from(state.epoch) * steps + step + 1;
        let ema_weight = if config.train.ema > 0.0 { weight_at(config.train.ema, number) } else { 0.0 };
        StepScalars::on_host(learning_rate_at(config, state, steps, step), number, ema_weight)
    };
    (0..steps).map(scalars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An epoch with these validation metrics: accuracy, loss, macro F1.
    fn metrics(epoch: u32, [val_accuracy, val_loss, val_macro_f1]: [f64; 3]) -> EpochMetrics {
        EpochMetrics {
            epoch,
            lr: 0.1,
            loss: 1.0,
            accuracy: 0.5,
            val_loss,
            val_accuracy,
            val_accuracy_dedup: None,
            val_macro_f1: Some(val_macro_f1),
            seconds: 1.5,
            images_per_second: 10.0,
        }
    }

    /// The epochs that were the best so far by `monitor`, from epoch 1.
    fn best_epochs(state: &mut State, monitor: Monitor, values: &[[f64; 3]]) -> Vec<u32> {
        let epochs = (1..).zip(values).map(|(epoch, values)| metrics(epoch, *values));
        epochs.filter(|epoch| advance_epoch(state, epoch, monitor)).map(|epoch| epoch.epoch).collect()
    }

    #[test]
    fn a_best_epoch_is_strictly_better_by_the_monitored_metric() {
        let values = [
            [0.5, 1.0, 0.3],
            [0.6, 1.0, f64::NAN],
            [0.6, 0.9, 0.3],
            [0.5, f64::NAN, 0.4],
            [f64::NAN, 0.9, 0.2],
            [0.4, 1.1, 0.4],
        ];
        for (monitor, expected, best) in [
            (Monitor::ValAccuracy, &[1, 2][..], (2, 0.6, 0.6)),
            (Monitor::ValLoss, &[1, 3], (3, 0.9, 0.6)),
            (Monitor::ValMacroF1, &[1, 4], (4, 0.4, 0.5)),
        ] {
            let mut state = State::default();
            assert_eq!(best_epochs(&mut state, monitor, &values), expected, "{monitor}");
            let found = state.best.unwrap();
            assert_eq!((found.epoch, found.monitored_value(), found.val_accuracy), best, "{monitor}");
            assert_eq!(found.monitor(), monitor);
            assert_eq!(state.monitor, Some((best.1, best.0)), "early stopping follows the same metric");
        }
    }

    #[test]
    fn an_epoch_that_is_not_a_number_is_never_the_best() {
        for monitor in [Monitor::ValAccuracy, Monitor::ValLoss, Monitor::ValMacroF1] {
            let mut state = State::default();
            assert_eq!(best_epochs(&mut state, monitor, &[[f64::NAN; 3], [0.5; 3], [f64::NAN; 3]]), [2], "{monitor}");
        }
    }

    /// A checkpoint of an older version, whose best epoch followed accuracy under any monitor.
    #[test]
    fn values_of_different_metrics_are_never_compared() {
        let old: BestEpoch =
            serde_json::from_str(r#"{"epoch":1,"val_accuracy":0.5,"val_accuracy_dedup":null}"#).unwrap();
        assert_eq!((old.monitor(), old.monitored_value()), (Monitor::ValAccuracy, 0.5));
        let state = |records: &[EpochMetrics]| State { best: Some(old), records: records.to_vec(), ..State::default() };
        let records = [metrics(1, [0.5, 1.5, 0.3])];
        for (val_loss, is_better) in [(1.5, false), (1.6, false), (1.4, true)] {
            let mut state = state(&records);
            assert_eq!(advance_epoch(&mut state, &metrics(2, [0.4, val_loss, 0.3]), Monitor::ValLoss), is_better);
            let best = state.best.unwrap();
            let expected = if is_better { (2, Monitor::ValLoss, val_loss) } else { (1, Monitor::ValAccuracy, 0.5) };
            assert_eq!((best.epoch, best.monitor(), best.monitored_value()), expected);
        }
        assert!(
            advance_epoch(&mut state(&[]), &metrics(2, [0.4, 9.0, 0.3]), Monitor::ValLoss),
            "0.5 is not a loss, and the loss of epoch 1 is unknown"
        );
        assert!(!advance_epoch(&mut state(&[]), &metrics(2, [0.4, 0.1, 0.9]), Monitor::ValAccuracy));
        assert!(advance_epoch(&mut state(&[]), &metrics(2, [0.6, 2.0, 0.1]), Monitor::ValAccuracy));
    }

    #[test]
    fn the_step_is_reset_after_an_epoch() {
        let mut state = State { step: 9, loss_sum: 3.0, correct: 4, ..State::default() };
        advance_epoch(&mut state, &metrics(1, [0.5, 1.0, 0.5]), Monitor::ValLoss);
        assert_eq!((state.step, state.loss_sum, state.correct), (0, 0.0, 0));
        advance_epoch(&mut state, &metrics(2, [0.5, 0.9, 0.5]), Monitor::ValLoss);
        assert_eq!((state.epoch, state.seconds), (2, 3.0));
    }
}
