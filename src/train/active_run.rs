//! What the training loop works on, and the outcome of an epoch.

use anyhow::Result;

use super::checkpoint_interval::CheckpointInterval;
use super::checkpoint_writer::{CheckpointWriter, Write};
use super::early_stopping;
use super::step::{NonFinite, Trainer};
use crate::config::Config;
use crate::data::device_images::DeviceImages;
use crate::data::sampler::Sampler;
use crate::metrics::epoch::EpochMetrics;
use crate::run_dir::checkpoint::State;
use crate::transforms::Augment;

/// Outcome of training and validating an epoch.
pub enum EpochOutcome {
    /// The epoch is finished.
    Finished(EpochMetrics),
    /// Received this signal; a checkpoint was saved.
    Interrupted(i32),
    /// A value is not finite: which, and in which step.
    Diverged(String),
}

/// A run in progress.
pub struct ActiveRun<'a> {
    /// Network, optimizer and EMA on the device.
    pub trainer: Trainer,
    /// Validation images on the device.
    pub validation: DeviceImages,
    /// Order of the training images.
    pub sampler: Sampler,
    /// Transform parameters of the training images.
    pub augment: Augment,
    /// What a checkpoint holds besides tensors.
    pub state: State,
    /// Metrics of epochs that were finished before but are in no checkpoint: they are trained
    /// again.
    pub replayed: Vec<EpochMetrics>,
    /// When `last.safetensors` is due.
    pub checkpoint_interval: CheckpointInterval<'a>,
    /// Writes checkpoints and metrics; `None` in a process of a group that writes nothing.
    pub writer: Option<CheckpointWriter>,
    /// Steps per epoch.
    pub steps: u64,
}

impl ActiveRun<'_> {
    /// Whether `last.safetensors` is due. `epochs` is the number of finished epochs, only if one
    /// has just ended.
    pub fn is_checkpoint_due(&self, epochs: Option<u32>) -> bool {
        self.checkpoint_interval.is_due(u64::from(self.state.epoch) * self.steps + self.state.step, epochs)
    }

    /// Writes the checkpoints, the best one too if `is_best`: before `last.safetensors`, whose state
    /// refers to it.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn save(&mut self, is_best: bool) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let snapshot = self.trainer.snapshot()?;
        if is_best {
            writer.submit(Write::Best(self.state.clone(), snapshot.evaluation_weights()))?;
        }
        writer.submit(Write::Last(self.state.clone(), snapshot.all()))?;
        self.checkpoint_interval.reset();
        Ok(())
    }

    /// Writes a file, or has it written, in the process that writes.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn submit(&mut self, write: Write) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.submit(write))
    }

    /// Waits until all files are on disk.
    ///
    /// # Errors
    /// The first I/O error, with the path.
    pub fn flush(&self) -> Result<()> {
        self.writer.as_ref().map_or(Ok(()), CheckpointWriter::flush)
    }

    /// Writes the metrics of finished epochs to `metrics.jsonl` and TensorBoard. Unless `is_last`,
    /// `metrics.jsonl` keeps the epochs still to be replayed.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write_metrics(&mut self, is_last: bool) -> Result<()> {
        let replayed = if is_last { Vec::new() } else { self.replayed.clone() };
        let state = self.state.clone();
        self.submit(Write::Metrics(state, replayed))
    }

    /// Whether early stopping ends the run after its last finished epoch.
    pub fn should_stop_early(&self, config: &Config) -> bool {
        let best_epoch = self.state.monitor.map_or(0, |(_, epoch)| epoch);
        self.state.epoch > 0 && early_stopping::should_stop(&config.train.early_stop, self.state.epoch, best_epoch)
    }
}

/// What is not finite after an epoch, if anything.
pub fn divergence(trainer: &Trainer, metrics: &EpochMetrics) -> Result<Option<String>> {
    let epoch = metrics.epoch;
    if !metrics.val_loss.is_finite() {
        return Ok(Some(format!("the validation loss after epoch {epoch} is not a finite number")));
    }
    if !trainer.is_finite()? {
        return Ok(Some(format!("a weight or the optimizer's state after epoch {epoch} is not a finite number")));
    }
    Ok(None)
}

/// The outcome for a value that is not finite in a step.
pub fn diverged_at(NonFinite { what, step }: NonFinite, epoch: u32) -> EpochOutcome {
    EpochOutcome::Diverged(format!("{what} not a finite number in epoch {}, step {step}", epoch + 1))
}
