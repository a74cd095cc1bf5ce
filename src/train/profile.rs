//! `grimace train --profile`: time per phase of training and per libtorch operator.

use std::time::{Duration, Instant};

use anyhow::Result;
use tch::Device;

use crate::report::text_table::{table, thousands};

/// A phase of training, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Sampling the epoch schedule on the host.
    Schedule,
    /// Gathering, augmenting and scaling images.
    Input,
    /// Forward pass and loss.
    Forward,
    /// Backward pass.
    Backward,
    /// Optimizer update.
    Update,
    /// Reading back losses and correct predictions.
    Collect,
    /// Validation after an epoch.
    Validation,
    /// Writing checkpoints, metrics and log.
    Files,
}

const PHASES: [(Phase, &str); 8] = [
    (Phase::Schedule, "epoch schedule"),
    (Phase::Input, "gather and augment"),
    (Phase::Forward, "forward and loss"),
    (Phase::Backward, "backward"),
    (Phase::Update, "optimizer"),
    (Phase::Collect, "loss and accuracy"),
    (Phase::Validation, "validation"),
    (Phase::Files, "checkpoints and log"),
];

/// Number of operators in the report.
const MAX_OPERATORS: usize = 20;

/// Measures the wall time of phases.
#[derive(Debug)]
pub struct Profile {
    device: Device,
    last: Instant,
    seconds: [f64; PHASES.len()],
    steps: u64,
    first_step: Option<Duration>,
}

impl Profile {
    /// Starts measuring, and libtorch's profiler.
    pub fn start(device: Device) -> Result<Self> {
        torch_ext::op_profile::start()?;
        Ok(Self { device, last: Instant::now(), seconds: [0.0; PHASES.len()], steps: 0, first_step: None })
    }

    /// Adds the time since the last call to `phase`. Waits for the GPU, whose work would otherwise
    /// count for a later phase.
    pub fn lap(&mut self, phase: Phase) {
        if let Device::Cuda(index) = self.device {
            // An error of the device is also one of its next operation, which reports it.
            drop(torch_ext::cuda::synchronize(index));
        }
        let now = Instant::now();
        let elapsed = (now - self.last).as_secs_f64();
        let seconds = PHASES.iter().zip(&mut self.seconds).find(|((other, _), _)| *other == phase);
        if let Some((_, seconds)) = seconds {
            *seconds += elapsed;
        }
        self.last = now;
        if phase == Phase::Collect {
            self.steps += 1;
            self.first_step = self.first_step.or_else(since_process_start);
        }
    }

    /// Stops, and formats the report.
    pub fn finish(self) -> Result<String> {
        let operators = torch_ext::op_profile::stop()?;
        let total: f64 = self.seconds.iter().sum();
        let steps = self.steps.max(1) as f64;
        let row = |name: &str, seconds: f64, calls: String| {
            let (percent, per_step) = (100.0 * seconds / total.max(1e-9), 1e3 * seconds / steps);
            vec![name.to_owned(), format!("{seconds:.2}"), format!("{percent:.1}"), format!("{per_step:.3}"), calls]
        };
        let header = |name: &str, last: &str| [name, "seconds", "%", "ms/step", last].map(str::to_owned).to_vec();
        let mut phases = vec![header("phase", "")];
        phases.extend(PHASES.iter().zip(self.seconds).map(|((_, name), seconds)| row(name, seconds, String::new())));
        phases.push(row("total", total, String::new()));
        let mut list = vec![header("operator", "calls/step")];
        let calls = |calls: u64| format!("{:.1}", calls as f64 / steps);
        list.extend(operators.iter().take(MAX_OPERATORS).map(|one| {
            // Autograd's overhead around a backward function, under a shorter name.
            let name = one.name.replace("autograd::engine::evaluate_function: ", "autograd around ");
            row(&name, one.seconds, calls(one.calls))
        }));
        let (others, rest) = operators
            .iter()
            .skip(MAX_OPERATORS)
            .fold((0.0, 0), |(seconds, calls), one| (seconds + one.seconds, calls + one.calls));
        list.push(row("others", others, calls(rest)));
        let inside: f64 = operators.iter().map(|one| one.seconds).sum();
        list.push(row("outside operators", total - inside, String::new()));
        let gpu = if self.device == Device::Cpu {
            ""
        } else {
            " On a GPU, phases include device time; operators only the time to launch their kernels."
        };
        Ok(format!(
            "profile of {} steps; operators by self time, with libtorch's names.{gpu}\n\n{}\n{}{}",
            thousands(self.steps as usize),
            table(&phases),
            table(&list),
            self.first_step
                .map_or(String::new(), |time| format!("\nstart to first step: {:.2} s\n", time.as_secs_f64())),
        ))
    }
}

/// Time since this process was started, if `/proc` exists. `main` is too late: the libraries of
/// libtorch are loaded before it.
fn since_process_start() -> Option<Duration> {
    /// The unit of times in /proc/self/stat (`USER_HZ`), the same on every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs_err::read_to_string("/proc/self/stat").ok()?;
    // Field 2 is the program name in parentheses and may contain anything; field 22 is the start
    // time.
    let start: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let uptime: f64 = fs_err::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(uptime - start / TICKS_PER_SECOND).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_add_up_and_are_reported() {
        let mut profile = Profile::start(Device::Cpu).unwrap();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(4));
            profile.lap(Phase::Forward);
            profile.lap(Phase::Collect);
        }
        assert!(profile.seconds[2] > 0.0 && profile.seconds[0] == 0.0, "{:?}", profile.seconds);
        let report = profile.finish().unwrap();
        assert!(report.starts_with("profile of 3 steps") && report.contains("forward and loss"), "{report}");
    }

    #[test]
    fn time_since_process_start_is_plausible() {
        if !std::path::Path::new("/proc/self/stat").exists() {
            println!("skipped: this system has no /proc");
            return;
        }
        assert!(since_process_start().unwrap() < Duration::from_secs(3600));
    }
}
