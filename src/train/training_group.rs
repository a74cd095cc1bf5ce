//! The parts of the training loop in which the processes of a group meet, and its end in a divergence.

use std::time::Duration;

use anyhow::{Context, Result};

use super::active_run::ActiveRun;
use super::early_stopping::{Diverged, StopReason};
use super::state::learning_rate_at;
use super::step::Trainer;
use super::training_loop::TrainingLoop;
use crate::device::{Agreed, EndedElsewhere};
use crate::run_dir::checkpoint::State;

impl TrainingLoop<'_> {
    /// The signal and the checkpoint that all processes agree on; without a group, those of this one.
    pub(super) fn agree(&self, is_checkpoint_due: bool) -> Result<Agreed> {
        let signal = self.signals.received();
        match &self.group {
            Some(group) => group.agree(signal, is_checkpoint_due),
            None => Ok(Agreed { signal, checkpoint: is_checkpoint_due }),
        }
    }

    /// In a group: the state of rank 0, whose tensors `trainer` takes over. Before it, processes may take
    /// long, as they read data.
    pub(super) fn share(&self, state: State, trainer: &mut Trainer) -> Result<State> {
        let Some(group) = &self.group else { return Ok(state) };
        let text = group.broadcast_text(&serde_json::to_string(&state)?)?;
        group.begin(self.placement.device, Duration::from_secs_f64(self.config.train.timeout))?;
        trainer.broadcast()?;
        if group.is_main() { Ok(state) } else { Ok(serde_json::from_str(&text)?) }
    }

    pub(super) fn write_summary(&self, run: &ActiveRun, stopped: Option<StopReason>) -> Result<()> {
        self.dir.map_or(Ok(()), |dir| dir.write_summary(&self.summary(run, stopped)))
    }

    /// Loads the last good checkpoint, in a group that of rank 0. Returns its state.
    pub(super) fn load_rollback(&mut self, run: &mut ActiveRun) -> Result<State> {
        let mut state = State::default();
        if let Some(dir) = self.dir {
            let good = dir.rollback_checkpoint()?.context("there is no checkpoint to roll back to")?;
            if let Some(warning) = good.warning {
                self.console.line(&warning)?;
            }
            run.trainer.load(good.checkpoint.tensors)?;
            state = good.checkpoint.state;
        }
        let Some(group) = &self.group else { return Ok(state) };
        let text = group.broadcast_text(&serde_json::to_string(&state)?)?;
        run.trainer.broadcast()?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The error of a run that diverged. Writes the summary; the last good checkpoint is kept.
    pub(super) fn divergence_error(&self, what: &str, run: &ActiveRun) -> anyhow::Error {
        // All processes of a group have diverged; rank 0 tells.
        let Some(dir) = self.dir else { return EndedElsewhere.into() };
        let written = run.flush();
        if let Err(error) = written.and_then(|()| self.write_summary(run, Some(StopReason::Diverged))) {
            return error.context(what.to_owned());
        }
        let advice = match run.state.rollbacks {
            0 => "use --resume --set train.max_rollbacks=3 to roll back and halve the learning rate, or".to_owned(),
            count => format!("{count} rollbacks did not help:"),
        };
        let advice = format!(
            "{advice} start a new run with another --out and a smaller train.optimizer.lr \
             (now {:e}, scheduled and rolled back {:.2e}) or precision = \"f32\"; {} holds the last good state",
            self.config.train.optimizer.lr(),
            learning_rate_at(self.config, &run.state, run.steps, run.state.step),
            dir.last_safetensors().display()
        );
        Diverged { what: what.to_owned(), advice }.into()
    }
}
