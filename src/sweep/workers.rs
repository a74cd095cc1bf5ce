//! Trains the runs of a sweep in several processes, each on its own CUDA device or its part of the
//! cores.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::device;
use crate::report::Console;
use crate::util::signals::Signals;

/// Interval at which workers are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A worker process and the thread that prints its lines.
struct Worker {
    number: usize,
    child: Child,
    reader: JoinHandle<()>,
}

/// Default number of worker processes: one for each CUDA device, or 1, also if all runs are on the
/// CPU (`only_cpu`).
pub fn default_count(only_cpu: bool) -> usize {
    if only_cpu { 1 } else { device::cuda_count().max(1) }
}

/// Starts `count` workers, this program with `arguments` and a number each, and waits for all of
/// them. With `uses_cpu`, a run is on the CPU, so they share the cores. Returns the signal that
/// interrupted them; it is forwarded once.
///
/// # Errors
/// A worker that cannot be started. One that dies is reported; the comparison shows what it left
/// unfinished.
pub fn run(count: usize, arguments: &[String], signals: &Signals, uses_cpu: bool) -> Result<Option<i32>> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let devices = device::cuda_count();
    signals.defer();
    let spawn = |number| Worker::spawn(&program, arguments, number, (count, uses_cpu), devices);
    let mut workers = (0..count).map(spawn).collect::<Result<Vec<_>>>()?;
    let mut forwarded = None;
    let mut console = Console::default();
    while !workers.is_empty() {
        thread::sleep(POLL_INTERVAL);
        if forwarded.is_none()
            && let Some(signal) = signals.received()
        {
            forwarded = Some(signal);
            for worker in &workers {
                send(&worker.child, signal);
            }
        }
        let mut running = Vec::new();
        for mut worker in workers {
            match worker.child.try_wait().context("cannot wait for a worker")? {
                None => running.push(worker),
                Some(status) => {
                    // A panic in the thread loses lines, not results.
                    drop(worker.reader.join());
                    if !status.success() && forwarded.is_none() {
                        console.line(&format!("worker {} failed: {status}", worker.number + 1))?;
                    }
                }
            }
        }
        workers = running;
    }
    Ok(forwarded)
}

impl Worker {
    /// Starts worker `number` of `count`, which may train on the CPU if `uses_cpu`.
    fn spawn(
        program: &Path,
        arguments: &[String],
        number: usize,
        (count, uses_cpu): (usize, bool),
        devices: usize,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).arg("--worker").arg(number.to_string());
        if devices > 0 {
            command.args(["--worker-device", &format!("cuda:{}", number % devices)]);
        }
        if devices == 0 || uses_cpu {
            command.env("OMP_NUM_THREADS", (device::cores() / count).max(1).to_string());
        }
        // In its own process group a worker gets Ctrl-C once, from this process, and not from the
        // terminal too. Its stdin closes when this process ends.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start worker {}", number + 1))?;
        let lines = BufReader::new(child.stderr.take().context("cannot read the stderr of a worker")?).lines();
        let reader = thread::spawn(move || {
            let mut console = Console::default();
            // A line only fails with a log file, and this console has none.
            lines.map_while(Result::ok).for_each(|line| drop(console.line(&line)));
        });
        Ok(Self { number, child, reader })
    }
}

fn send(child: &Child, signal: i32) {
    let signal = match signal {
        SIGHUP => Signal::HUP,
        SIGINT => Signal::INT,
        SIGUSR1 => Signal::USR1,
        SIGUSR2 => Signal::USR2,
        _ => Signal::TERM,
    };
    if let Some(process) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have exited already.
        let _ = kill_process(process, signal);
    }
}

/// In a worker: raises SIGTERM when the parent process is gone, which closes stdin.
pub fn end_with_parent() {
    thread::spawn(|| {
        let mut line = String::new();
        while std::io::stdin().read_line(&mut line).is_ok_and(|read| read > 0) {
            line.clear();
        }
        drop(signal_hook::low_level::raise(SIGTERM));
    });
}
