//! The loop, top to bottom: epochs of steps, validation, checkpoints, early stopping, going back after a divergence.

use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use super::checkpoint_interval::CheckpointInterval;
use super::early_stopping::{self, Stopped};
use super::epoch_schedule::EpochSchedule;
use super::event_log::Events;
use super::profile::{Phase, Profile};
use super::progress::{epoch_text, progress_text};
use super::resume::Resumed;
use super::state::{epoch_metrics, finish_epoch, fresh_state, rate, summary};
use super::step::{NonFinite, Trainer};
use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::data::device_images::DeviceImages;
use crate::data::sampler::Sampler;
use crate::device::Placement;
use crate::metrics::epoch::EpochMetrics;
use crate::model::Net;
use crate::report::Console;
use crate::run_dir::checkpoint::{self, State};
use crate::run_dir::{RunDir, Summary};
use crate::transforms::Augment;
use crate::transforms::resize::side;
use crate::util::error::input;
use crate::util::signals::{self, Signals};

/// What a run works with.
pub struct Run<'a> {
    /// The checked config.
    pub config: &'a Config,
    /// Training and validation images.
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
    /// Those that ask to stop.
    pub signals: Signals,
}

/// How the work on an epoch ended.
enum Ended {
    /// Trained and validated.
    Finished(EpochMetrics),
    /// By this signal, after saving.
    Interrupted(i32),
    /// What is not a finite number, and where.
    Diverged(String),
}

/// What the loop works on.
struct Progress<'a> {
    trainer: Trainer,
    validation: DeviceImages,
    sampler: Sampler,
    augment: Augment,
    state: State,
    /// Records of epochs that were finished before and will be trained again, since no checkpoint has them.
    ahead: Vec<EpochMetrics>,
    checkpoint_interval: CheckpointInterval<'a>,
    /// What TensorBoard is told.
    events: Events,
    /// Steps of an epoch.
    steps: u64,
    /// The resolved config, for checkpoints.
    config_toml: String,
}

impl Progress<'_> {
    /// Whether `last.safetensors` is due; `epochs` finished ones when an epoch has just ended.
    fn is_due(&self, epochs: Option<u32>) -> bool {
        self.checkpoint_interval.is_due(u64::from(self.state.epoch) * self.steps + self.state.step, epochs)
    }

    /// Whether early stopping ends the run after the epochs that it has.
    fn is_over(&self, config: &Config) -> bool {
        let best_epoch = self.state.monitor.map_or(0, |(_, epoch)| epoch);
        self.state.epoch > 0 && early_stopping::is_over(&config.train.early_stop, self.state.epoch, best_epoch)
    }
}

impl<'a> Run<'a> {
    /// Trains until the epochs are done, early stopping says so, or a signal comes.
    ///
    /// # Errors
    /// A divergence beyond `train.max_rollbacks` (the last good checkpoint stays), libtorch's errors, I/O errors with
    /// their path.
    pub fn train(&mut self, resumed: Option<Resumed>) -> Result<(Stopped, Summary)> {
        let config = self.config;
        let mut p = self.prepare(resumed)?;
        let mut trained = false;
        let stopped = loop {
            if p.state.step == 0 && p.is_over(config) {
                break Stopped::EarlyStop;
            }
            if p.state.epoch >= config.train.epochs {
                break Stopped::Epochs;
            }
            trained = true;
            let record = match self.epoch(&mut p)? {
                Ended::Finished(record) => record,
                Ended::Interrupted(signal) => break Stopped::Interrupted(signal),
                Ended::Diverged(what) => {
                    self.roll_back(&what, &mut p)?;
                    continue;
                }
            };
            let is_best = self.finish(&mut p, record)?;
            if is_best {
                checkpoint::save(&self.dir.best(), &p.config_toml, &p.state, &p.trainer.evaluation_weights()?)?;
            }
            let ends = p.state.epoch >= config.train.epochs || p.is_over(config);
            let signal = self.signals.received();
            // Whenever there is a new best, too: the checkpoint to go on from should know of it.
            let may_go_back = config.train.max_rollbacks > 0;
            if ends || is_best || may_go_back || signal.is_some() || p.is_due(Some(p.state.epoch)) {
                self.save_last(&mut p)?;
            }
            if may_go_back {
                self.dir.keep_for_rollback()?;
            }
            self.write_metrics(&mut p, ends)?;
            p.trainer.lap(Phase::Files);
            if let Some(signal) = signal.filter(|_| !ends) {
                break Stopped::Interrupted(signal);
            }
        };
        if let Some(profile) = p.trainer.profile.take() {
            self.console.line(profile.finish()?.trim_end())?;
        }
        let summary = summary(self.config, self.data, self.placement, &p.state, p.trainer.net.parameters(), stopped);
        // A finished run that was asked to go on and had nothing to do keeps its record.
        if trained || !self.dir.has_summary(&summary) {
            self.dir.write_summary(&summary)?;
        }
        if matches!(stopped, Stopped::Epochs | Stopped::EarlyStop) {
            p.events.end()?;
        }
        Ok((stopped, summary))
    }

    /// The network on its device, fresh or as it was, and a checkpoint to go back to.
    fn prepare(&mut self, resumed: Option<Resumed>) -> Result<Progress<'a>> {
        let (config, device) = (self.config, self.placement.device);
        let net = Net::new(&config.model, config.data.classes.len(), config.seed, device)?;
        let soft = self.data.soft_labels.as_ref();
        let images =
            DeviceImages::new(&self.data.train, device)?.with_soft_labels(soft, config.train.soft_label_weight)?;
        let steps = self.data.train.len().div_ceil(config.train.batch) as u64;
        let mut trainer = Trainer::new(net, images, &config.train, self.placement.kind, config.seed, steps)?;
        trainer.profile = if self.profile { Some(Profile::start(device)?) } else { None };
        let (fresh, is_fresh) = (fresh_state(self.data, self.placement, &self.command), resumed.is_none());
        let (state, ahead) = match resumed {
            None => (fresh, Vec::new()),
            Some(Resumed { checkpoint, ahead }) => {
                let shown = self.dir.last().display().to_string();
                trainer.load(checkpoint.tensors).map_err(|error| input(format!("{shown}: {error:#}")))?;
                // What it goes on with is recorded; what it went on from is in the log.
                let State { threads, precision, device, kernels, .. } = fresh;
                let mut state = State { threads, precision, device, kernels, ..checkpoint.state };
                state.commands.push(self.command.clone());
                (state, ahead)
            }
        };
        let mut p = Progress {
            trainer,
            validation: DeviceImages::new(&self.data.validation, device)?,
            sampler: Sampler::new(config.train.sampling, self.data.train_labels()),
            augment: Augment::new(&config.augment, config.seed),
            state,
            ahead,
            checkpoint_interval: CheckpointInterval::new(&config.train.checkpoint_every),
            events: Events::default(),
            steps,
            config_toml: config.to_toml()?,
        };
        if is_fresh {
            self.save_last(&mut p)?;
        }
        // A run that died may have done so before this.
        if config.train.max_rollbacks > 0 && p.state.step == 0 {
            self.dir.keep_for_rollback()?;
        }
        self.write_metrics(&mut p, false)?;
        Ok(p)
    }

    /// Trains what is left of the running epoch, and validates it.
    fn epoch(&mut self, p: &mut Progress) -> Result<Ended> {
        let (config, device) = (self.config, self.placement.device);
        let (epoch, rows) = (p.state.epoch, self.data.train.len());
        // The record's learning rate is that of an epoch's first step.
        let first_lr = rate(config, &p.state, p.steps, 0);
        let (already, began) = (p.state.epoch_seconds, Instant::now());
        let plan = EpochSchedule::new(config.seed, epoch, &p.sampler, config.train.batch, &p.augment, device)?;
        p.trainer.begin_epoch(p.state.step, side(&config.train.progressive, epoch, config.train.epochs));
        p.trainer.lap(Phase::Plan);
        self.console.begin(&format!("epoch {:>3}/{}", epoch + 1, config.train.epochs), plan.steps(), p.state.step);
        while p.state.step < plan.steps() {
            if let Some(signal) = self.signals.received() {
                return self.interrupt(p, &plan, signal);
            }
            let lr = rate(config, &p.state, p.steps, p.state.step);
            p.trainer.step(&plan, epoch, p.state.step, lr)?;
            p.state.step += 1;
            p.state.epoch_seconds = already + began.elapsed().as_secs_f64();
            // Waiting for a CPU costs nothing; a GPU is left alone until the epoch ends.
            if device == tch::Device::Cpu {
                if let Some(found) = p.trainer.collect(&plan, &mut p.state)? {
                    return Ok(diverged_at(found, epoch));
                }
                self.console.advance(p.state.step, || progress_text(&plan, &p.state));
            } else {
                let last =
                    || p.state.records.last().map(|last| format!("last epoch: val_acc {:.4}", last.val_accuracy));
                self.console.advance(p.state.step, || last().unwrap_or_default());
            }
            p.trainer.lap(Phase::Collect);
            if p.state.step < plan.steps()
                && p.is_due(None)
                && let Some(diverged) = self.checkpoint(p, &plan)?
            {
                return Ok(diverged);
            }
        }
        self.console.end();
        if let Some(found) = p.trainer.collect(&plan, &mut p.state)? {
            return Ok(diverged_at(found, epoch));
        }
        p.state.epoch_seconds = already + began.elapsed().as_secs_f64();
        let speed = rows as f64 / p.state.epoch_seconds;

        let predictions = p.trainer.predictions_unless(&p.validation, || self.signals.received().is_some())?;
        p.trainer.lap(Phase::Validation);
        let Some(predictions) = predictions else {
            let signal = self.signals.received().context("validation was stopped by nothing")?;
            return self.interrupt(p, &plan, signal);
        };
        let seconds = already + began.elapsed().as_secs_f64();
        let record = epoch_metrics(self.data, &p.state, &predictions, epoch + 1, first_lr, seconds, speed);
        if !record.val_loss.is_finite() {
            return Ok(Ended::Diverged(format!(
                "the validation loss after epoch {} is not a finite number",
                epoch + 1
            )));
        }
        if !p.trainer.is_finite()? {
            let what = format!("a weight or the optimizer's state after epoch {} is not a finite number", epoch + 1);
            return Ok(Ended::Diverged(what));
        }
        Ok(Ended::Finished(record))
    }

    /// Writes `last.safetensors` in the middle of an epoch, unless what it would hold is no state to go on from.
    fn checkpoint(&mut self, p: &mut Progress, plan: &EpochSchedule) -> Result<Option<Ended>> {
        let epoch = p.state.epoch;
        if let Some(found) = p.trainer.collect(plan, &mut p.state)? {
            return Ok(Some(diverged_at(found, epoch)));
        }
        if !p.trainer.is_finite()? {
            let found = NonFinite { what: "a weight or the optimizer's state is", step: p.state.step };
            return Ok(Some(diverged_at(found, epoch)));
        }
        self.save_last(p)?;
        p.trainer.lap(Phase::Files);
        Ok(None)
    }

    /// Saves where the run stands, for a signal.
    fn interrupt(&mut self, p: &mut Progress, plan: &EpochSchedule, signal: i32) -> Result<Ended> {
        self.console.end();
        let saved = self.checkpoint(p, plan)?;
        let (name, step, epoch) = (signals::name(signal), p.state.step, p.state.epoch + 1);
        self.console.line(&format!("{name}: stopped in epoch {epoch} after step {step} of {}", plan.steps()))?;
        Ok(saved.unwrap_or(Ended::Interrupted(signal)))
    }

    /// Moves the state past an epoch; whether it is the best so far by validation accuracy.
    fn finish(&mut self, p: &mut Progress, mut record: EpochMetrics) -> Result<bool> {
        match p.ahead.iter().find(|before| before.epoch == record.epoch) {
            // It took what it took the first time, so that the line in metrics.jsonl stays as it was.
            Some(before) if before.agrees_with(&record) => record = before.clone(),
            Some(before) => {
                let (epoch, then, now) = (record.epoch, before.val_accuracy, record.val_accuracy);
                self.console.line(&format!(
                    "warning: epoch {epoch} came out otherwise than when it was trained before (val_acc {then:.4} then, {now:.4} now): \
                     other threads, device or kernels?"
                ))?;
                p.ahead.clear();
            }
            None => {}
        }
        p.ahead.retain(|before| before.epoch > record.epoch);
        let is_best = finish_epoch(&mut p.state, &record, self.config.train.early_stop.monitor);
        self.console.line(&epoch_text(&record, &p.state, self.config.train.epochs))?;
        p.state.records.push(record);
        Ok(is_best)
    }

    /// Goes back to the last good checkpoint with half the learning rate, where `train.max_rollbacks` allows it.
    fn roll_back(&mut self, what: &str, p: &mut Progress) -> Result<()> {
        self.console.end();
        let limit = self.config.train.max_rollbacks;
        if p.state.rollbacks >= limit {
            return Err(self.diverged(what, p));
        }
        let newest = self.dir.rollback_checkpoint()?.context("there is no checkpoint to go back to")?;
        if let Some(warning) = newest.warning {
            self.console.line(&warning)?;
        }
        p.trainer.load(newest.checkpoint.tensors)?;
        // What is about this process and about the best on disk holds on.
        let State { rollbacks, best, threads, precision, device, kernels, commands, .. } = std::mem::take(&mut p.state);
        let rollbacks = rollbacks + 1;
        p.state = State { rollbacks, best, threads, precision, device, kernels, commands, ..newest.checkpoint.state };
        p.ahead.clear();
        let (number, lr) = (p.state.rollbacks, rate(self.config, &p.state, p.steps, p.state.step));
        let place = match (p.state.epoch, p.state.step) {
            (0, 0) => "the start".to_owned(),
            (epoch, 0) => format!("the state after epoch {epoch}"),
            (epoch, step) => format!("the state in epoch {} after step {step}", epoch + 1),
        };
        self.console.line(&format!(
            "{what}: training diverged; back to {place} with half the learning rate, {lr:.2e} (rollback {number} of {limit})"
        ))?;
        self.write_metrics(p, false)?;
        self.save_last(p)
    }

    /// The error of a run that diverged; writes the summary and leaves the last good checkpoint alone.
    fn diverged(&mut self, what: &str, p: &Progress) -> anyhow::Error {
        if let Err(error) = self.dir.write_summary(&summary(
            self.config,
            self.data,
            self.placement,
            &p.state,
            p.trainer.net.parameters(),
            Stopped::Diverged,
        )) {
            return error.context(what.to_owned());
        }
        let tried = match p.state.rollbacks {
            0 => {
                "with --resume --set train.max_rollbacks=3 it goes back and halves the learning rate; or try".to_owned()
            }
            count => format!("{count} rollbacks did not help: try"),
        };
        anyhow!(
            "{what}: training diverged; {tried} a smaller train.optimizer.lr (now {:e}, scheduled and rolled back {:.2e}) in a new --out, \
             or there precision = \"f32\"; {} keeps the last good state",
            self.config.train.optimizer.lr(),
            rate(self.config, &p.state, p.steps, p.state.step),
            self.dir.last().display()
        )
    }

    fn save_last(&self, p: &mut Progress) -> Result<()> {
        self.dir.save_last(&p.config_toml, &p.state, &p.trainer.all_tensors()?)?;
        p.checkpoint_interval.saved();
        Ok(())
    }

    /// Writes the records of finished epochs, and unless the run `ends`, of those that will be trained again; tells TensorBoard of
    /// the former.
    fn write_metrics(&self, p: &mut Progress, ends: bool) -> Result<()> {
        let ahead = if ends { &[] } else { &p.ahead[..] };
        self.dir.write_metrics(p.state.records.iter().chain(ahead))?;
        p.events.follow(self.dir.path(), self.config, &p.state)
    }
}

fn diverged_at(NonFinite { what, step }: NonFinite, epoch: u32) -> Ended {
    Ended::Diverged(format!("{what} not a finite number in epoch {}, step {step}", epoch + 1))
}
