//! SIGHUP, SIGINT, SIGTERM, SIGUSR1 and SIGUSR2: exit at once while there is nothing to save; after
//! that the first signal is recorded, and a second SIGINT or SIGTERM exits at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::flag;

/// Exit code after SIGUSR1 or SIGUSR2, with which schedulers announce that a job has to end: to be
/// resumed. `EX_TEMPFAIL` of sysexits.h.
pub const EXIT_REQUEUE: i32 = 75;

/// Handlers of the signals that ask the process to stop.
#[derive(Debug, Clone)]
pub struct Signals {
    /// Number of the last signal received; 0 for none.
    received: Arc<AtomicUsize>,
    /// Whether there is nothing to save yet: the first signal then ends the process.
    starting: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers. Until [`defer`](Self::defer), each signal ends the process at once
    /// with its [`exit_code`].
    ///
    /// A SIGHUP that the parent process ignores stays ignored, as `nohup` requires.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn watch() -> Result<Self> {
        Self::install(true)
    }

    /// [`watch`](Self::watch) for a process whose parent passes signals on: a scheduler may send them
    /// to both, so that each arrives twice. A second one then does not end the process.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    pub fn watch_forwarded() -> Result<Self> {
        Self::install(false)
    }

    fn install(second_exits: bool) -> Result<Self> {
        // A write beyond `ulimit -f` then returns an error with a path instead of killing the
        // process.
        flag::register(SIGXFSZ, Arc::default()).context("cannot watch signals")?;
        let signals = Self { received: Arc::default(), starting: Arc::new(AtomicBool::new(true)) };
        let repeated = Arc::new(AtomicBool::new(false));
        for number in [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2] {
            if number == SIGHUP && is_ignored(number) {
                continue;
            }
            let exit_if = |flag: &Arc<AtomicBool>| {
                flag::register_conditional_shutdown(number, exit_code(number), Arc::clone(flag))
                    .context("cannot watch signals")
            };
            exit_if(&signals.starting)?;
            flag::register_usize(number, Arc::clone(&signals.received), number as usize)?;
            // A shell whose terminal was closed sends SIGHUP more than once, and a scheduler may send
            // SIGUSR1 and SIGTERM in turn: that is no second request.
            if second_exits && matches!(number, SIGINT | SIGTERM) {
                exit_if(&repeated)?;
                flag::register(number, Arc::clone(&repeated))?;
            }
        }
        Ok(signals)
    }

    /// From now on the first signal is only recorded; a second SIGINT or SIGTERM ends the process.
    pub fn defer(&self) {
        self.starting.store(false, Ordering::SeqCst);
    }

    /// From now on, a SIGINT or SIGTERM ends the process at once.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    pub fn exit_at_next(&self) -> Result<()> {
        [SIGINT, SIGTERM].into_iter().try_for_each(|number| {
            let always = Arc::new(AtomicBool::new(true));
            flag::register_conditional_shutdown(number, exit_code(number), always).context("cannot watch signals")?;
            Ok(())
        })
    }

    /// The number of the last signal received.
    pub fn received(&self) -> Option<i32> {
        match self.received.load(Ordering::SeqCst) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }
}

/// The exit code of a process that a signal ended, after saving if there was something to save:
/// [`EXIT_REQUEUE`], or 128 + signal.
pub fn exit_code(number: i32) -> i32 {
    match number {
        SIGUSR1 | SIGUSR2 => EXIT_REQUEUE,
        _ => 128 + number,
    }
}

/// The name of a signal, such as `SIGINT`.
pub fn name(number: i32) -> &'static str {
    match number {
        SIGHUP => "SIGHUP",
        SIGINT => "SIGINT",
        SIGTERM => "SIGTERM",
        SIGUSR1 => "SIGUSR1",
        SIGUSR2 => "SIGUSR2",
        _ => "a signal",
    }
}

/// Whether the process was started with this signal ignored. Without unsafe code only Linux reports
/// it.
fn is_ignored(number: i32) -> bool {
    fs_err::read_to_string("/proc/self/status").is_ok_and(|status| mask_has(&status, number))
}

/// Whether `SigIgn` in `/proc/PID/status` has the signal: a hexadecimal mask, bit 0 for signal 1.
fn mask_has(status: &str, number: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signals_of_schedulers_have_the_exit_code_to_requeue() {
        for (number, code) in [(SIGHUP, 129), (SIGINT, 130), (SIGTERM, 143), (SIGUSR1, 75), (SIGUSR2, 75)] {
            assert_eq!(exit_code(number), code, "{}", name(number));
        }
    }

    #[test]
    fn ignored_signal_mask_starts_at_bit_0() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000000001\n";
        assert!(mask_has(status, SIGHUP) && !mask_has(status, SIGINT));
        assert!(!mask_has("Name:\tx\n", SIGHUP));
    }
}
