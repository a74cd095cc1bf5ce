//! The training loop: epochs, validation, checkpoints, early stopping, rollback after a divergence.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::active_run::{ActiveRun, EpochOutcome, diverged_at, divergence};
use super::checkpoint_interval::CheckpointInterval;
use super::checkpoint_writer::{CheckpointWriter, Write};
use super::early_stopping::StopReason;
use super::epoch_schedule::{EpochPlan, EpochSchedule};
use super::initial_weights::InitialNet;
use super::profile::{Phase, Profile};
use super::progress::{epoch_text, progress_text};
use super::resume::ResumePoint;
use super::state::{
    advance_epoch, build_summary, compute_epoch_metrics, epoch_scalars, initial_state, learning_rate_at,
};
use super::step::{NonFinite, Trainer};
use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::data::device_images::DeviceImages;
use crate::data::sampler::Sampler;
use crate::device::{Placement, ProcessGroup};
use crate::metrics::epoch::EpochMetrics;
use crate::model::Net;
use crate::report::Console;
use crate::run_dir::checkpoint::{InitRecord, State};
use crate::run_dir::{RunDir, Summary};
use crate::transforms::Augment;
use crate::transforms::resize::side_at_epoch;
use crate::util::error::input;
use crate::util::signals::{self, Signals};

/// Steps of a group on GPUs after which results are read back: a process that is gone is noticed on the
/// host, so its steps must not be far ahead of the GPU's.
const GROUP_READ_STEPS: u64 = 64;

/// The training loop of a run, with what it needs from outside.
pub struct TrainingLoop<'a> {
    /// The validated config.
    pub config: &'a Config,
    /// Training and validation images.
    pub data: &'a Dataset,
    /// Device and precision.
    pub placement: &'a Placement,
    /// The run directory; `None` in a process of a group that writes nothing.
    pub dir: Option<&'a RunDir>,
    /// The processes that train together.
    pub group: Option<Arc<ProcessGroup>>,
    /// Progress and log.
    pub console: &'a mut Console,
    /// Whether to print a profile.
    pub profile: bool,
    /// The epoch to stop after, if training would go on.
    pub stop_after: Option<u32>,
    /// The command line, for the provenance.
    pub command: String,
    /// Signals that stop the run.
    pub signals: Signals,
    /// The network that a new run starts from, if not random weights.
    pub initial: Option<InitialNet>,
}

impl<'a> TrainingLoop<'a> {
    /// Trains until all epochs are finished, early stopping ends the run, or a signal arrives.
    ///
    /// # Errors
    /// A divergence beyond `train.max_rollbacks`; the last good checkpoint is kept.
    pub fn train(&mut self, resume_point: Option<ResumePoint>) -> Result<(StopReason, Summary)> {
        let mut run = self.start(resume_point)?;
        let ended = self.run_epochs(&mut run);
        // Whatever happened, files that wait are written.
        let (stopped, has_trained) = match (ended, run.flush()) {
            (Ok(ended), Ok(())) => ended,
            (Ok(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
            (Err(error), Err(unwritten)) => return Err(error.context(format!("{unwritten:#}"))),
        };
        let summary = self.summary(&run, Some(stopped));
        // Resuming a finished run changes nothing: keep its summary.
        if let Some(dir) = self.dir.filter(|dir| has_trained || !dir.has_summary(&summary)) {
            dir.write_summary(&summary)?;
        }
        // No process ends before the files are on disk: a launcher may then end the others.
        if let Some(group) = &self.group {
            group.barrier()?;
        }
        Ok((stopped, summary))
    }

    /// Trains the remaining epochs. Returns why it stopped, and whether it has trained at all.
    fn run_epochs(&mut self, run: &mut ActiveRun) -> Result<(StopReason, bool)> {
        let config = self.config;
        let mut has_trained = false;
        let stopped = loop {
            if run.state.step == 0 && run.should_stop_early(config) {
                break StopReason::EarlyStop;
            }
            if run.state.epoch >= config.train.epochs {
                break StopReason::Epochs;
            }
            let is_due = self.stop_after.is_some_and(|epochs| run.state.epoch >= epochs);
            if is_due && run.state.step == 0 {
                break StopReason::Paused;
            }
            if !has_trained {
                // Replaces the summary of an earlier end, which no longer holds if this process
                // dies.
                self.write_summary(run, None)?;
                has_trained = true;
            }
            let metrics = match self.run_epoch(run)? {
                EpochOutcome::Finished(metrics) => metrics,
                EpochOutcome::Interrupted(signal) => break StopReason::Interrupted(signal),
                EpochOutcome::Diverged(what) => {
                    self.roll_back(&what, run)?;
                    continue;
                }
            };
            let is_best = self.finish_epoch(run, metrics)?;
            let is_last = run.state.epoch >= config.train.epochs || run.should_stop_early(config);
            let signal = self.agree(false)?.signal;
            let pauses = self.stop_after.is_some_and(|epochs| run.state.epoch >= epochs);
            let may_roll_back = config.train.max_rollbacks > 0;
            // Also after a new best epoch: the checkpoint to resume from should refer to it.
            let is_asked = pauses || signal.is_some();
            if is_last || is_best || may_roll_back || is_asked || run.is_checkpoint_due(Some(run.state.epoch)) {
                run.save(is_best)?;
            }
            if may_roll_back {
                run.submit(Write::KeepForRollback)?;
            }
            run.write_metrics(is_last)?;
            run.trainer.lap(Phase::Files);
            if let Some(signal) = signal.filter(|_| !is_last) {
                break StopReason::Interrupted(signal);
            }
        };
        if let Some(profile) = run.trainer.profile.take() {
            self.console.line(profile.finish()?.trim_end())?;
        }
        if matches!(stopped, StopReason::Epochs | StopReason::EarlyStop) {
            run.submit(Write::Finish)?;
        }
        Ok((stopped, has_trained))
    }

    /// The network with the initial weights of a new run, and where they are from; frozen as in the
    /// config.
    fn build_net(&mut self) -> Result<(Net, Option<InitRecord>)> {
        let (config, device) = (self.config, self.placement.device);
        let (net, init) = match self.initial.take() {
            Some(InitialNet { net, record, .. }) => (net, Some(record)),
            None => (Net::new(&config.model, config.data.classes.len(), config.seed, device)?, None),
        };
        net.freeze(&config.train.freeze)?;
        if !config.train.freeze.is_empty() {
            let (frozen, all) = (net.frozen_count(), net.parameter_count());
            let names = config.train.freeze.join(", ");
            self.console.line(&format!("frozen: {names}, {frozen} of {all} parameters"))?;
        }
        Ok((net, init))
    }

    /// Creates the network, new or from a checkpoint, and saves a checkpoint of a new run.
    fn start(&mut self, resume_point: Option<ResumePoint>) -> Result<ActiveRun<'a>> {
        let (config, device) = (self.config, self.placement.device);
        let (net, init) = self.build_net()?;
        let soft = self.data.soft_labels.as_ref();
        let resident = config.data.resident;
        let images = DeviceImages::place(&self.data.train, device, resident)?
            .with_soft_labels(soft, config.train.soft_label_weight)?;
        let is_mixed = config.augment.mixup > 0.0 || config.augment.cutmix > 0.0;
        let images = if is_mixed { images.with_one_hot(config.data.classes.len())? } else { images };
        let plan = EpochPlan::new(self.data.train.len(), config.train.batch);
        let mut trainer = Trainer::new(net, images, &config.train, self.placement, config.seed, plan)?;
        trainer.use_group(self.group.clone())?;
        if self.profile {
            trainer.start_profile(Profile::start(device)?);
        }
        let initial = State { init, ..initial_state(self.data, self.placement, &self.command) };
        let is_new = resume_point.is_none();
        let (state, replayed) = match resume_point {
            None => (initial, Vec::new()),
            Some(ResumePoint { checkpoint, replayed }) => {
                trainer.load(checkpoint.tensors).map_err(|error| match self.dir {
                    Some(dir) => input(format!("{}: {error:#}", dir.last_safetensors().display())),
                    None => error,
                })?;
                // The state describes this process; the log has the changes.
                let State { threads, precision, device, kernels, .. } = initial;
                let mut state = State { threads, precision, device, kernels, ..checkpoint.state };
                state.commands.push(self.command.clone());
                (state, replayed)
            }
        };
        let state = self.share(state, &mut trainer)?;
        let writer = self.dir.map(|dir| CheckpointWriter::new(dir, config, device)).transpose()?;
        let mut run = ActiveRun {
            trainer,
            validation: DeviceImages::place(&self.data.validation, device, resident)?,
            sampler: Sampler::new(config.train.sampling, self.data.train_labels()),
            augment: Augment::new(&config.augment, config.seed, config.train.epochs),
            state,
            replayed,
            checkpoint_interval: CheckpointInterval::new(&config.train.checkpoint_every),
            writer,
            steps: plan.steps(),
        };
        if is_new {
            run.save(false)?;
            // Until then the directory is one that a new run may use.
            run.flush()?;
        }
        // Also when resuming: the run may have died just before this.
        if config.train.max_rollbacks > 0 && run.state.step == 0 {
            run.submit(Write::KeepForRollback)?;
        }
        run.write_metrics(false)?;
        Ok(run)
    }

    /// Trains the rest of the current epoch, and validates.
    fn run_epoch(&mut self, run: &mut ActiveRun) -> Result<EpochOutcome> {
        let config = self.config;
        let (epoch, rows) = (run.state.epoch, self.data.train.len());
        // The metrics report the learning rate of the first step.
        let first_lr = learning_rate_at(config, &run.state, run.steps, 0);
        let (seconds_before, start) = (run.state.epoch_seconds, Instant::now());
        let scalars = epoch_scalars(config, &run.state, run.steps);
        let (sampler, images) = (&run.sampler, run.trainer.images());
        let schedule =
            EpochSchedule::new(config.seed, epoch, sampler, config.train.batch, &run.augment, scalars, images)?;
        let plan = schedule.plan();
        let side = side_at_epoch(&config.train.progressive, epoch, config.train.epochs);
        run.trainer.remove_drift()?;
        run.trainer.begin_epoch(schedule, run.state.step, side)?;
        run.trainer.lap(Phase::Schedule);
        let title = format!("epoch {:>3}/{}", epoch + 1, config.train.epochs);
        self.console.begin(&title, plan.steps(), run.state.step);
        if let Some(outcome) = self.train_steps(run, plan, (seconds_before, start))? {
            return Ok(outcome);
        }
        let images_per_second = rows as f64 / run.state.epoch_seconds;

        let predictions = run.trainer.predict_interruptible(&run.validation, &self.signals)?;
        run.trainer.lap(Phase::Validation);
        let predictions = match predictions {
            Ok(predictions) => predictions,
            Err(signal) => return self.interrupt(run, plan, signal),
        };
        let seconds = seconds_before + start.elapsed().as_secs_f64();
        let state = &run.state;
        let metrics =
            compute_epoch_metrics(self.data, state, &predictions, epoch + 1, first_lr, seconds, images_per_second);
        match divergence(&run.trainer, &metrics)? {
            Some(what) => Ok(EpochOutcome::Diverged(what)),
            None => Ok(EpochOutcome::Finished(metrics)),
        }
    }

    /// Trains the remaining steps of an epoch; the outcome if it does not get to its end.
    /// `(seconds_before, start)`: seconds spent in it by earlier processes, and when this one
    /// started.
    fn train_steps(
        &mut self,
        run: &mut ActiveRun,
        plan: EpochPlan,
        (seconds_before, start): (f64, Instant),
    ) -> Result<Option<EpochOutcome>> {
        let epoch = run.state.epoch;
        let mut agreed = self.agree(false)?;
        while run.state.step < plan.steps() {
            if let Some(signal) = agreed.signal {
                return self.interrupt(run, plan, signal).map(Some);
            }
            run.writer.as_ref().map_or(Ok(()), CheckpointWriter::check)?;
            run.trainer.step(epoch, run.state.step)?;
            run.trainer.take_notes().iter().try_for_each(|note| self.console.line(note))?;
            run.state.step += 1;
            run.state.epoch_seconds = seconds_before + start.elapsed().as_secs_f64();
            // Reading back is free on the CPU. A GPU must not be synchronized within the epoch.
            let is_read = self.placement.device == tch::Device::Cpu
                || self.group.is_some() && run.state.step.is_multiple_of(GROUP_READ_STEPS);
            if is_read {
                if let Some(found) = run.trainer.collect(&mut run.state)? {
                    return Ok(Some(diverged_at(found, epoch)));
                }
                self.console.advance(run.state.step, || progress_text(plan, &run.state));
            } else {
                let last =
                    || run.state.records.last().map(|last| format!("last epoch: val_acc {:.4}", last.val_accuracy));
                self.console.advance(run.state.step, || last().unwrap_or_default());
            }
            run.trainer.lap(Phase::Collect);
            let is_due = run.state.step < plan.steps() && run.is_checkpoint_due(None);
            agreed = self.agree(is_due)?;
            if agreed.checkpoint
                && let Some(diverged) = self.save_within_epoch(run)?
            {
                return Ok(Some(diverged));
            }
        }
        self.console.end();
        if let Some(found) = run.trainer.collect(&mut run.state)? {
            return Ok(Some(diverged_at(found, epoch)));
        }
        run.state.epoch_seconds = seconds_before + start.elapsed().as_secs_f64();
        Ok(None)
    }

    /// Writes `last.safetensors` within an epoch, unless the run diverged.
    fn save_within_epoch(&mut self, run: &mut ActiveRun) -> Result<Option<EpochOutcome>> {
        let epoch = run.state.epoch;
        if let Some(found) = run.trainer.collect(&mut run.state)? {
            return Ok(Some(diverged_at(found, epoch)));
        }
        if !run.trainer.is_finite()? {
            let found = NonFinite { what: "a weight or the optimizer's state is", step: run.state.step };
            return Ok(Some(diverged_at(found, epoch)));
        }
        run.save(false)?;
        run.trainer.lap(Phase::Files);
        Ok(None)
    }

    /// Saves a checkpoint because of a signal.
    fn interrupt(&mut self, run: &mut ActiveRun, plan: EpochPlan, signal: i32) -> Result<EpochOutcome> {
        self.console.end();
        let diverged = self.save_within_epoch(run)?;
        let (name, step, epoch) = (signals::name(signal), run.state.step, run.state.epoch + 1);
        self.console.line(&format!("{name}: stopped in epoch {epoch} after step {step} of {}", plan.steps()))?;
        Ok(diverged.unwrap_or(EpochOutcome::Interrupted(signal)))
    }

    /// Advances the state past an epoch and logs it. Returns whether it is the best so far by
    /// `train.early_stop.monitor`.
    fn finish_epoch(&mut self, run: &mut ActiveRun, mut metrics: EpochMetrics) -> Result<bool> {
        match run.replayed.iter().find(|before| before.epoch == metrics.epoch) {
            // Keep the times of the first run, so that the line in metrics.jsonl stays the same.
            Some(before) if before.equals_except_time(&metrics) => metrics = before.clone(),
            Some(before) => {
                let (epoch, old, new) = (metrics.epoch, before.val_accuracy, metrics.val_accuracy);
                self.console.line(&format!(
                    "warning: epoch {epoch} differs from when it was trained before (val_acc {old:.4} then, {new:.4} \
                     now); check for other threads, device or kernels"
                ))?;
                run.replayed.clear();
            }
            None => {}
        }
        run.replayed.retain(|before| before.epoch > metrics.epoch);
        let is_best = advance_epoch(&mut run.state, &metrics, self.config.train.early_stop.monitor);
        self.console.line(&epoch_text(&metrics, &run.state, self.config.train.epochs))?;
        run.state.records.push(metrics);
        Ok(is_best)
    }

    /// Rolls back to the last good checkpoint with half the learning rate, up to
    /// `train.max_rollbacks` times.
    fn roll_back(&mut self, what: &str, run: &mut ActiveRun) -> Result<()> {
        self.console.end();
        let limit = self.config.train.max_rollbacks;
        if run.state.rollbacks >= limit {
            return Err(self.divergence_error(what, run));
        }
        run.flush()?;
        let good = self.load_rollback(run)?;
        // These describe the process and best.safetensors, which are not rolled back.
        let State { rollbacks, best, threads, precision, device, kernels, commands, .. } =
            std::mem::take(&mut run.state);
        let rollbacks = rollbacks + 1;
        run.state = State { rollbacks, best, threads, precision, device, kernels, commands, ..good };
        run.replayed.clear();
        let (number, lr) = (run.state.rollbacks, learning_rate_at(self.config, &run.state, run.steps, run.state.step));
        let target = match (run.state.epoch, run.state.step) {
            (0, 0) => "the start".to_owned(),
            (epoch, 0) => format!("the state after epoch {epoch}"),
            (epoch, step) => format!("the state in epoch {} after step {step}", epoch + 1),
        };
        self.console.line(&format!(
            "{what}: training diverged; rolled back to {target} with half the learning rate, {lr:.2e} (rollback {number} \
             of {limit})"
        ))?;
        run.write_metrics(false)?;
        run.save(false)
    }

    pub(super) fn summary(&self, run: &ActiveRun, stopped: Option<StopReason>) -> Summary {
        let parameters = run.trainer.net.parameter_count();
        build_summary(self.config, self.data, self.placement, &run.state, parameters, stopped)
    }
}
