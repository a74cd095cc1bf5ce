//! The loop, top to bottom: epochs of steps, validation, checkpoints, early stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::cadence::Cadence;
use super::plan::EpochPlan;
use super::profile::{Phase, Profile};
use super::schedule::learning_rate;
use super::step::{NonFinite, Trainer};
use super::stop;
use crate::augment::Augment;
use crate::checkpoint::{self, Best, State};
use crate::config::{Config, Monitor};
use crate::data::batches::DeviceFaces;
use crate::data::dataset::Dataset;
use crate::device::{self, Placement};
use crate::metrics;
use crate::model::Net;
use crate::model::infer::Outputs;
use crate::report::{Console, duration};
use crate::rundir::{EpochRecord, Provenance, RunDir, Summary};

/// What a run works with.
pub struct Run<'a> {
    /// The checked config.
    pub config: &'a Config,
    /// Training and validation faces.
    pub data: &'a Dataset,
    /// Device and number format.
    pub placement: &'a Placement,
    /// Where its files go.
    pub dir: &'a RunDir,
    /// Where its lines go.
    pub console: &'a mut Console,
    /// Whether to say where the time went.
    pub profile: bool,
    /// The command line, for the record.
    pub command: String,
    /// Number of the signal that asks to stop; 0 for none.
    pub signal: Arc<AtomicUsize>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// All epochs are done.
    Epochs,
    /// No improvement for `patience` epochs.
    EarlyStop,
    /// By this signal, after saving.
    Interrupted(i32),
    /// A loss was not a finite number.
    Diverged,
}

impl Stopped {
    /// As `summary.json` says it.
    fn word(self) -> &'static str {
        match self {
            Self::Epochs => "epochs",
            Self::EarlyStop => "early_stop",
            Self::Interrupted(_) => "interrupted",
            Self::Diverged => "diverged",
        }
    }
}

/// What was kept of earlier epochs when a run goes on.
pub struct Resumed {
    /// The newest checkpoint.
    pub checkpoint: checkpoint::Checkpoint,
    /// The records of its finished epochs.
    pub records: Vec<EpochRecord>,
}

impl Run<'_> {
    /// Trains until the epochs are done, early stopping says so, or a signal comes.
    ///
    /// # Errors
    /// A loss that is not a number (the last good checkpoint stays), libtorch's errors, I/O errors with their path.
    pub fn train(&mut self, resumed: Option<Resumed>) -> Result<(Stopped, Summary)> {
        let config = self.config;
        let device = self.placement.device;
        let epochs = config.train.epochs;
        let augment = Augment::new(&config.augment, config.seed);
        let rows = self.data.train.len();
        let steps = rows.div_ceil(config.train.batch) as u64;
        let config_toml = config.to_toml()?;

        let net = Net::new(&config.model, config.data.classes.len(), config.seed, device)?;
        let parameters = net.parameters();
        let faces = DeviceFaces::new(&self.data.train, device)?;
        let validation = DeviceFaces::new(&self.data.validation, device)?;
        let mut trainer = Trainer::new(net, faces, &config.train.optimizer, self.placement.kind, config.seed, steps)?;
        trainer.profile = if self.profile { Some(Profile::start(device)?) } else { None };
        let (mut state, mut records) = match resumed {
            None => (self.fresh_state(), Vec::new()),
            Some(resumed) => {
                trainer.load(resumed.checkpoint.tensors)?;
                // What it goes on with is recorded; what it went on from is in the log.
                let State { threads, precision, device, kernels, .. } = self.fresh_state();
                let mut state = State { threads, precision, device, kernels, ..resumed.checkpoint.state };
                state.commands.push(self.command.clone());
                (state, resumed.records)
            }
        };
        let mut trained = false;
        let mut cadence = Cadence::new(&config.train.checkpoint_every);

        let stopped = loop {
            let best_epoch = state.monitor.map_or(0, |(_, epoch)| epoch);
            if state.step == 0 && state.epoch > 0 && stop::is_over(&config.train.early_stop, state.epoch, best_epoch) {
                break Stopped::EarlyStop;
            }
            if state.epoch >= epochs {
                break Stopped::Epochs;
            }
            trained = true;
            let epoch = state.epoch;
            let lr = learning_rate(&config.train.schedule, config.train.optimizer.lr(), epoch);
            let (already, began) = (state.epoch_seconds, Instant::now());
            let plan = EpochPlan::new(config.seed, epoch, rows, config.train.batch, &augment, device)?;
            trainer.begin_epoch(state.step);
            trainer.lap(Phase::Plan);
            self.console.begin(&format!("epoch {:>3}/{epochs}", epoch + 1), plan.steps(), state.step);
            while state.step < plan.steps() {
                trainer.step(&plan, epoch, state.step, lr)?;
                state.step += 1;
                state.epoch_seconds = already + began.elapsed().as_secs_f64();
                // Waiting for a CPU costs nothing; a GPU is left alone until the epoch ends.
                if device == tch::Device::Cpu {
                    self.check(trainer.collect(&plan, &mut state)?, &state, &records, parameters)?;
                    self.console.advance(state.step, || progress_text(&plan, &state));
                } else {
                    self.console.advance(state.step, || {
                        records
                            .last()
                            .map_or(String::new(), |last| format!("last epoch: val_acc {:.4}", last.val_accuracy))
                    });
                }
                trainer.lap(Phase::Collect);
                let stops = self.signal.load(Ordering::Relaxed) != 0;
                if state.step == plan.steps() || !(stops || cadence.is_due(u64::from(epoch) * steps + state.step, None))
                {
                    continue;
                }
                self.check(trainer.collect(&plan, &mut state)?, &state, &records, parameters)?;
                checkpoint::save(&self.dir.last(), &config_toml, &state, &trainer.all_tensors()?)?;
                cadence.saved();
                trainer.lap(Phase::Files);
                if stops {
                    break;
                }
            }
            self.console.end();
            if state.step < plan.steps() {
                break Stopped::Interrupted(self.signal.load(Ordering::Relaxed) as i32);
            }
            self.check(trainer.collect(&plan, &mut state)?, &state, &records, parameters)?;
            state.epoch_seconds = already + began.elapsed().as_secs_f64();
            let speed = rows as f64 / state.epoch_seconds;

            let outputs = Outputs::of(&trainer.net, &validation)?;
            trainer.lap(Phase::Validation);
            let seconds = already + began.elapsed().as_secs_f64();
            let record = self.record(&state, &outputs, epoch + 1, lr, seconds, speed);
            if !record.val_loss.is_finite() {
                let found = format!("the validation loss after epoch {} is not a finite number", epoch + 1);
                return Err(self.diverged(&found, &state, &records, parameters));
            }
            let is_best = finish_epoch(&mut state, &record, config.train.early_stop.monitor);
            self.console.line(&epoch_text(&record, &state, epochs))?;
            records.push(record);
            self.dir.write_metrics(&records)?;
            if is_best {
                checkpoint::save(&self.dir.best(), &config_toml, &state, &trainer.weights())?;
            }
            let signal = self.signal.load(Ordering::Relaxed);
            let best_epoch = state.monitor.map_or(0, |(_, epoch)| epoch);
            let ends = state.epoch >= epochs || stop::is_over(&config.train.early_stop, state.epoch, best_epoch);
            // Whenever there is a new best, too: a resumed run must know of every best that is on disk.
            if ends || is_best || signal != 0 || cadence.is_due(u64::from(state.epoch) * steps, Some(state.epoch)) {
                checkpoint::save(&self.dir.last(), &config_toml, &state, &trainer.all_tensors()?)?;
                cadence.saved();
            }
            trainer.lap(Phase::Files);
            if signal != 0 && !ends {
                break Stopped::Interrupted(signal as i32);
            }
        };
        if let Some(profile) = trainer.profile.take() {
            self.console.line(profile.finish()?.trim_end())?;
        }
        let summary = self.summary(&state, &records, parameters, stopped);
        // A finished run that was asked to go on and had nothing to do keeps its record.
        if trained || !self.dir.summary_json().exists() {
            self.dir.write_summary(&summary)?;
        }
        Ok((stopped, summary))
    }

    fn fresh_state(&self) -> State {
        State {
            data_hash: self.data.data_hash.clone(),
            split_hash: self.data.split_hash(),
            threads: device::threads(),
            precision: self.placement.precision_name().to_owned(),
            device: self.placement.device_name(),
            kernels: device::kernels_in_words().to_owned(),
            commands: vec![self.command.clone()],
            ..State::default()
        }
    }

    /// Ends the run where a training loss is not a number.
    fn check(
        &mut self,
        found: Option<NonFinite>,
        state: &State,
        records: &[EpochRecord],
        parameters: usize,
    ) -> Result<()> {
        let Some(NonFinite { step }) = found else { return Ok(()) };
        let what = format!("the loss is not a finite number in epoch {}, step {step}", state.epoch + 1);
        Err(self.diverged(&what, state, records, parameters))
    }

    /// The error of a run that diverged; writes the summary and leaves the last good checkpoint alone.
    fn diverged(&mut self, what: &str, state: &State, records: &[EpochRecord], parameters: usize) -> anyhow::Error {
        self.console.end();
        let summary = self.summary(state, records, parameters, Stopped::Diverged);
        if let Err(error) = self.dir.write_summary(&summary) {
            return error.context(what.to_owned());
        }
        let kept = if self.dir.last().exists() {
            format!("{} keeps the last good state", self.dir.last().display())
        } else {
            "no epoch was finished, so there is no checkpoint".to_owned()
        };
        anyhow!(
            "{what}: training diverged; try a smaller train.optimizer.lr (now {:e}) or precision = \"f32\"; {kept}",
            self.config.train.optimizer.lr()
        )
    }

    fn record(&self, state: &State, outputs: &Outputs, epoch: u32, lr: f64, seconds: f64, speed: f64) -> EpochRecord {
        let (labels, predicted) = (self.data.validation_labels(), outputs.predicted());
        let rows = self.data.train.len() as f64;
        EpochRecord {
            epoch,
            lr,
            loss: state.loss_sum / rows,
            accuracy: state.hits as f64 / rows,
            val_loss: metrics::cross_entropy(&outputs.logits, outputs.classes, labels),
            val_accuracy: metrics::accuracy(labels, &predicted),
            val_accuracy_without_copies: metrics::accuracy_without(labels, &predicted, &self.data.validation_seen),
            seconds: round(seconds, 3),
            images_per_second: round(speed, 1),
        }
    }

    fn summary(&self, state: &State, records: &[EpochRecord], parameters: usize, stopped: Stopped) -> Summary {
        Summary {
            name: self.config.name.clone(),
            parameters,
            device: self.placement.device_name(),
            precision: self.placement.precision_name().to_owned(),
            threads: device::threads(),
            seed: self.config.seed,
            epochs: state.epoch,
            best_epoch: state.best.map(|best| best.epoch),
            best_val_accuracy: state.best.map(|best| best.val_accuracy),
            best_val_accuracy_without_copies: state.best.and_then(|best| best.val_accuracy_without_copies),
            last_val_accuracy: state.last_val_accuracy,
            train_rows: self.data.train.len(),
            validation_rows: self.data.validation.len(),
            stopped: stopped.word().to_owned(),
            seconds: round(state.seconds + state.epoch_seconds, 3),
            train_images_per_second: median(records.iter().map(|record| record.images_per_second).collect()),
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
}

/// Moves `state` past a finished epoch; whether it is the best so far by validation accuracy.
fn finish_epoch(state: &mut State, record: &EpochRecord, monitor: Monitor) -> bool {
    let watched = match monitor {
        Monitor::ValAccuracy => record.val_accuracy,
        Monitor::ValLoss => record.val_loss,
    };
    if stop::improves(monitor, watched, state.monitor.map(|(value, _)| value)) {
        state.monitor = Some((watched, record.epoch));
    }
    let is_best = state.best.is_none_or(|best| record.val_accuracy > best.val_accuracy);
    if is_best {
        state.best = Some(Best {
            epoch: record.epoch,
            val_accuracy: record.val_accuracy,
            val_accuracy_without_copies: record.val_accuracy_without_copies,
        });
    }
    state.epoch = record.epoch;
    state.seconds += record.seconds;
    state.last_val_accuracy = Some(record.val_accuracy);
    (state.step, state.loss_sum, state.hits, state.epoch_seconds) = (0, 0.0, 0, 0.0);
    is_best
}

fn progress_text(plan: &EpochPlan, state: &State) -> String {
    let done = (0..state.step).map(|step| plan.faces(step)).sum::<i64>() as f64;
    let speed = done / state.epoch_seconds;
    format!("loss {:.4}  acc {:.4}  {speed:.0} images/s", state.loss_sum / done, state.hits as f64 / done)
}

fn epoch_text(record: &EpochRecord, state: &State, epochs: u32) -> String {
    let best = state.best.map_or(String::new(), |best| {
        if best.epoch == record.epoch {
            "  best".to_owned()
        } else {
            format!("  best {:.4} (epoch {})", best.val_accuracy, best.epoch)
        }
    });
    format!(
        "epoch {:>3}/{epochs}  loss {:.4}  acc {:.4}  val_loss {:.4}  val_acc {:.4}  lr {:.2e}  {:.0} images/s  {}{best}",
        record.epoch,
        record.loss,
        record.accuracy,
        record.val_loss,
        record.val_accuracy,
        record.lr,
        record.images_per_second,
        duration(Duration::from_secs_f64(record.seconds)),
    )
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => values.get(middle).copied(),
        _ => Some(f64::midpoint(*values.get(middle - 1)?, *values.get(middle)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_epoch_is_strictly_better_and_the_rest_is_reset() {
        let mut state = State { step: 9, loss_sum: 3.0, hits: 4, ..State::default() };
        let record = |epoch, val_accuracy, val_loss| EpochRecord {
            epoch,
            lr: 0.1,
            loss: 1.0,
            accuracy: 0.5,
            val_loss,
            val_accuracy,
            val_accuracy_without_copies: None,
            seconds: 1.5,
            images_per_second: 10.0,
        };
        assert!(finish_epoch(&mut state, &record(1, 0.5, 1.0), Monitor::ValLoss));
        assert_eq!((state.step, state.loss_sum, state.hits), (0, 0.0, 0));
        assert!(!finish_epoch(&mut state, &record(2, 0.5, 0.9), Monitor::ValLoss), "equal is not better");
        assert_eq!(state.best.map(|best| best.epoch), Some(1));
        assert_eq!(state.monitor, Some((0.9, 2)), "the monitored figure goes its own way");
        assert_eq!((state.epoch, state.seconds), (2, 3.0));
    }

    #[test]
    fn median_of_few() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
