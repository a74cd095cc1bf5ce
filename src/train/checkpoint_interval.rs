//! When to write `last.safetensors`: `train.checkpoint_every`.

use std::time::Instant;

use crate::config::CheckpointEvery;

/// Decides when `last.safetensors` is due.
#[derive(Debug)]
pub struct CheckpointInterval<'a> {
    every: &'a CheckpointEvery,
    last: Instant,
}

impl<'a> CheckpointInterval<'a> {
    /// Starts counting seconds now.
    pub fn new(every: &'a CheckpointEvery) -> Self {
        Self { every, last: Instant::now() }
    }

    /// Whether a checkpoint is due after `steps` steps of the whole run. `epochs` is the number of
    /// finished epochs, only if one has just ended.
    pub fn is_due(&self, steps: u64, epochs: Option<u32>) -> bool {
        self.every.steps.is_some_and(|every| steps.is_multiple_of(every))
            || self.every.seconds.is_some_and(|every| self.last.elapsed().as_secs_f64() >= every)
            || self.every.epochs.zip(epochs).is_some_and(|(every, epochs)| epochs.is_multiple_of(every))
    }

    /// Restarts counting seconds, after a checkpoint was written.
    pub fn reset(&mut self) {
        self.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_due_by_steps_epochs_or_seconds() {
        let every = |epochs, steps, seconds| CheckpointEvery { epochs, steps, seconds };
        let due = |every: &CheckpointEvery, steps, epochs| CheckpointInterval::new(every).is_due(steps, epochs);
        let by_steps = every(None, Some(10), None);
        assert!(due(&by_steps, 20, None) && !due(&by_steps, 21, None) && !due(&by_steps, 21, Some(3)));
        let by_epochs = every(Some(2), None, None);
        assert!(due(&by_epochs, 21, Some(4)) && !due(&by_epochs, 21, Some(3)) && !due(&by_epochs, 20, None));
        assert!(!due(&every(None, None, Some(3600.0)), 20, Some(2)) && due(&every(None, None, Some(1e-12)), 21, None));
    }
}
