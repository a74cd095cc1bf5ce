//! Training the planned_runs of a sweep in several processes, each on a device of its own or with its share of the cores.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::device;
use crate::report::Console;
use crate::util::signals::Signals;

/// How often workers are looked after.
const PAUSE: Duration = Duration::from_millis(50);

/// A worker and who passes its lines on.
struct Worker {
    number: usize,
    child: Child,
    reader: JoinHandle<()>,
}

/// How many processes to train in, where the user does not say: one for each CUDA device.
pub fn default_count() -> usize {
    match device::cuda() {
        Ok(()) => usize::try_from(tch::Cuda::device_count()).unwrap_or(1).max(1),
        Err(_) => 1,
    }
}

/// Runs `count` workers to their end: this program with `arguments` and a number each. A signal is passed on to them, once;
/// it comes back.
///
/// # Errors
/// A worker that cannot be started. One that dies is told; what it had not finished shows in the comparison.
pub fn run(count: usize, arguments: &[String], signals: &Signals) -> Result<Option<i32>> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let devices = device::cuda().map_or(0, |()| usize::try_from(tch::Cuda::device_count()).unwrap_or(0));
    signals.defer();
    let mut workers = Vec::new();
    for number in 0..count {
        let mut command = Command::new(&program);
        command.args(arguments).arg("--worker").arg(number.to_string());
        if devices > 0 {
            command.args(["--set", &format!("device=cuda:{}", number % devices)]);
        } else {
            command.env("OMP_NUM_THREADS", (device::cores() / count).max(1).to_string());
        }
        // In a group of its own, a worker hears of Ctrl-C from us, once, and not from the terminal as well. It notices by its
        // stdin when we are gone.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start worker {}", number + 1))?;
        let lines = BufReader::new(child.stderr.take().context("a worker has a stderr")?).lines();
        let reader = thread::spawn(move || {
            let mut console = Console::default();
            // The console drops a line only when its log cannot be written, and it has none.
            lines.map_while(Result::ok).for_each(|line| drop(console.line(&line)));
        });
        workers.push(Worker { number, child, reader });
    }
    let mut passed_on = None;
    let mut console = Console::default();
    while !workers.is_empty() {
        thread::sleep(PAUSE);
        if passed_on.is_none()
            && let Some(signal) = signals.received()
        {
            passed_on = Some(signal);
            for worker in &workers {
                send(&worker.child, signal);
            }
        }
        let mut running = Vec::new();
        for mut worker in workers {
            match worker.child.try_wait().context("cannot wait for a worker")? {
                None => running.push(worker),
                Some(status) => {
                    // A thread of ours that panicked has lost lines, not results.
                    drop(worker.reader.join());
                    if !status.success() && passed_on.is_none() {
                        console.line(&format!("worker {} ended with {status}", worker.number + 1))?;
                    }
                }
            }
        }
        workers = running;
    }
    Ok(passed_on)
}

fn send(child: &Child, signal: i32) {
    let signal = match signal {
        SIGHUP => Signal::HUP,
        SIGINT => Signal::INT,
        _ => Signal::TERM,
    };
    if let Some(process) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended just now.
        let _ = kill_process(process, signal);
    }
}

/// In a worker: ends the process as SIGTERM does when the process that started it is gone, which closes our stdin.
pub fn end_with_parent() {
    thread::spawn(|| {
        let mut line = String::new();
        while std::io::stdin().read_line(&mut line).is_ok_and(|read| read > 0) {
            line.clear();
        }
        drop(signal_hook::low_level::raise(SIGTERM));
    });
}
