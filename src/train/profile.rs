//! `grimace train --profile`: where the time of a run went.

use std::time::{Duration, Instant};

use anyhow::Result;
use tch::Device;

use crate::report::table::{table, thousands};

/// What a run is doing, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Order and maps of an epoch, drawn on the host.
    Plan,
    /// Gather, augment, scale.
    Input,
    /// Forward pass and loss.
    Forward,
    /// Backward pass.
    Backward,
    /// The optimizer.
    Update,
    /// Loss and correct: stored on the device, read back.
    Collect,
    /// Validation after an epoch.
    Validation,
    /// Checkpoints, metrics, log.
    Files,
}

const PHASES: [(Phase, &str); 8] = [
    (Phase::Plan, "plan of the epoch"),
    (Phase::Input, "gather and augment"),
    (Phase::Forward, "forward and loss"),
    (Phase::Backward, "backward"),
    (Phase::Update, "optimizer"),
    (Phase::Collect, "loss and correct"),
    (Phase::Validation, "validation"),
    (Phase::Files, "checkpoints and log"),
];

/// Operations in the report.
const SHOWN: usize = 20;

/// A stopwatch that charges the time since the last look to a phase.
#[derive(Debug)]
pub struct Profile {
    device: Device,
    last: Instant,
    seconds: [f64; PHASES.len()],
    steps: u64,
    first_step: Option<Duration>,
}

impl Profile {
    /// Begins, and has libtorch record its operations.
    ///
    /// # Errors
    /// libtorch's.
    pub fn start(device: Device) -> Result<Self> {
        torch_ext::profile::start()?;
        Ok(Self { device, last: Instant::now(), seconds: [0.0; PHASES.len()], steps: 0, first_step: None })
    }

    /// Charges the time since the last call to `phase`. Waits for a GPU, whose work would otherwise be charged to whoever waits.
    pub fn lap(&mut self, phase: Phase) {
        if let Device::Cuda(index) = self.device {
            tch::Cuda::synchronize(index as i64);
        }
        let now = Instant::now();
        if let Some(place) = PHASES.iter().position(|(known, _)| *known == phase) {
            let spent = (now - self.last).as_secs_f64();
            self.seconds.get_mut(place).into_iter().for_each(|seconds| *seconds += spent);
        }
        self.last = now;
        if phase == Phase::Collect {
            self.steps += 1;
            self.first_step = self.first_step.or_else(since_process_start);
        }
    }

    /// Ends, and says where the time went.
    ///
    /// # Errors
    /// libtorch's.
    pub fn finish(self) -> Result<String> {
        let operations = torch_ext::profile::stop()?;
        let total: f64 = self.seconds.iter().sum();
        let steps = self.steps.max(1) as f64;
        let row = |name: &str, seconds: f64, calls: String| {
            let (share, each) = (100.0 * seconds / total.max(1e-9), 1e3 * seconds / steps);
            vec![name.to_owned(), format!("{seconds:.2}"), format!("{share:.1}"), format!("{each:.3}"), calls]
        };
        let header = |name: &str, last: &str| [name, "seconds", "%", "ms a step", last].map(str::to_owned).to_vec();
        let mut phases = vec![header("phase", "")];
        phases.extend(PHASES.iter().zip(self.seconds).map(|((_, name), seconds)| row(name, seconds, String::new())));
        phases.push(row("all", total, String::new()));
        let mut list = vec![header("operation", "calls a step")];
        let calls = |calls: u64| format!("{:.1}", calls as f64 / steps);
        list.extend(operations.iter().take(SHOWN).map(|one| {
            // What the engine does around a backward function; its name for it would be half a line.
            let name = one.name.replace("autograd::engine::evaluate_function: ", "autograd around ");
            row(&name, one.seconds, calls(one.calls))
        }));
        let (others, rest) = operations
            .iter()
            .skip(SHOWN)
            .fold((0.0, 0), |(seconds, calls), one| (seconds + one.seconds, calls + one.calls));
        list.push(row("others", others, calls(rest)));
        let inside: f64 = operations.iter().map(|one| one.seconds).sum();
        list.push(row("outside of operations", total - inside, String::new()));
        let gpu = if self.device == Device::Cpu {
            ""
        } else {
            " On a GPU a phase is timed until the device is done, an operation until its work is handed over."
        };
        Ok(format!(
            "profile of {} steps; operations without what they call; libtorch's names.{gpu}\n\n{}\n{}{}",
            thousands(self.steps as usize),
            table(&phases),
            table(&list),
            self.first_step
                .map_or(String::new(), |time| format!("\nstart to first step: {:.2} s\n", time.as_secs_f64())),
        ))
    }
}

/// Since the system started this process, where Linux says it: loading libtorch's libraries comes before `main`.
fn since_process_start() -> Option<Duration> {
    /// The unit of /proc/self/stat, the same on every Linux.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs_err::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets, which may hold anything; the start time is the 22nd.
    let start: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let uptime: f64 = fs_err::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(uptime - start / TICKS_A_SECOND).ok()
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
        assert!(profile.seconds[2] >= 0.012 && profile.seconds[0] == 0.0);
        let report = profile.finish().unwrap();
        assert!(report.starts_with("profile of 3 steps") && report.contains("forward and loss"), "{report}");
    }

    #[test]
    fn this_process_started_a_little_while_ago() {
        if !std::path::Path::new("/proc/self/stat").exists() {
            println!("skipped: no /proc on this system");
            return;
        }
        assert!(since_process_start().unwrap() < Duration::from_secs(3600));
    }
}
