//! Progress and time left, from the epochs so far.

use std::time::{Duration, SystemTime};

use super::run_status::{RunState, RunStatus};
use super::source::SweepStatus;
use crate::util::stats::median;

/// Epochs whose median time is that of the next ones.
const RECENT: usize = 5;

impl RunStatus {
    /// Fraction of the planned epochs that are finished, the current one by the time that epochs take;
    /// `None` if it is not known.
    pub fn progress(&self, now: SystemTime) -> Option<f64> {
        let total = f64::from(self.max_epochs?);
        let done = self.records.len() as f64 + self.part_of_epoch(now).unwrap_or(0.0);
        Some((done / total).clamp(0.0, 1.0))
    }

    /// Seconds of a recent epoch.
    fn epoch_seconds(&self) -> Option<f64> {
        let recent = self.records.iter().rev().take(RECENT).map(|record| record.seconds);
        median(recent.filter(|seconds| seconds.is_finite() && *seconds > 0.0).collect())
    }

    /// Seconds since the last epoch ended, in training.
    fn since_epoch(&self, now: SystemTime) -> Option<f64> {
        if self.state != RunState::Training {
            return None;
        }
        Some(now.duration_since(self.changed?).unwrap_or(Duration::ZERO).as_secs_f64())
    }

    /// Fraction of the current epoch, below 1: it has not ended.
    fn part_of_epoch(&self, now: SystemTime) -> Option<f64> {
        Some((self.since_epoch(now)? / self.epoch_seconds()?).min(0.99))
    }

    /// Seconds trained so far.
    pub fn elapsed(&self, now: SystemTime) -> f64 {
        self.records.iter().map(|record| record.seconds).sum::<f64>() + self.since_epoch(now).unwrap_or(0.0)
    }

    /// Seconds until all planned epochs are done, if none stops it early; `None` unless it trains and
    /// an epoch is finished.
    pub fn seconds_left(&self, now: SystemTime) -> Option<f64> {
        let epochs = f64::from(self.max_epochs?) - self.records.len() as f64;
        let left = self.epoch_seconds()? * (epochs - self.part_of_epoch(now)?);
        Some(left.max(0.0))
    }

    /// Epochs since the best one.
    pub fn epochs_without_improvement(&self) -> Option<usize> {
        Some(self.records.len().saturating_sub(self.best()?.epoch as usize))
    }

    /// Training images per second: of the last epoch, and the median of all.
    pub fn speed(&self) -> Option<(f64, f64)> {
        let last = self.records.last()?.images_per_second;
        Some((last, median(self.records.iter().map(|record| record.images_per_second).collect())?))
    }
}

impl SweepStatus {
    /// Mean over the runs of their progress; ended and failed ones are done, waiting ones have not begun.
    pub fn progress(&self, now: SystemTime) -> f64 {
        let of_run = |run: &RunStatus| match run.state {
            RunState::Ended(_) | RunState::Failed(_) => 1.0,
            _ => run.progress(now).unwrap_or(0.0),
        };
        self.runs.iter().map(of_run).sum::<f64>() / self.runs.len().max(1) as f64
    }

    /// Seconds until all runs are done: waiting ones take as long as the finished ones did on average,
    /// and as many train at a time as do now. `None` before a run has finished, or while none trains.
    pub fn seconds_left(&self, now: SystemTime) -> Option<f64> {
        let finished: Vec<f64> = self
            .runs
            .iter()
            .filter(|run| matches!(run.state, RunState::Ended(_)) && !run.records.is_empty())
            .map(|run| run.elapsed(now))
            .collect();
        let training = self.count(|state| *state == RunState::Training);
        if training == 0 {
            return None;
        }
        let waiting = self.count(|state| *state == RunState::Waiting) as f64;
        let mean = finished.iter().sum::<f64>() / finished.len() as f64;
        let mean = (!finished.is_empty()).then_some(mean);
        let current: f64 = self
            .runs
            .iter()
            .filter(|run| run.state == RunState::Training)
            .map(|run| run.seconds_left(now).or(mean).unwrap_or(f64::NAN))
            .sum();
        let ahead = if waiting > 0.0 { mean? * waiting } else { 0.0 };
        Some((current + ahead) / training as f64).filter(|left| left.is_finite())
    }
}
