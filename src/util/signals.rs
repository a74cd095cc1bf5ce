//! SIGHUP, SIGINT and SIGTERM: at once while there is nothing to save, noted while there is, at once again when repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

/// The signals that ask the process to stop.
#[derive(Debug, Clone)]
pub struct Signals {
    /// Number of the last one that came; 0 for none.
    received: Arc<AtomicUsize>,
    /// Whether there is nothing to save yet, so that the first one ends the process.
    starting: Arc<AtomicBool>,
}

impl Signals {
    /// From here on each of the signals ends the process at once, with exit code 128 + its number.
    ///
    /// SIGHUP stays ignored where it was when the process began: that is what `nohup` asks for.
    ///
    /// # Errors
    /// When the system refuses to have them watched.
    pub fn watch() -> Result<Self> {
        // A file larger than `ulimit -f` allows is then an error of its write, which has a path, not the end of the process.
        flag::register(SIGXFSZ, Arc::default()).context("cannot watch signals")?;
        let signals = Self { received: Arc::default(), starting: Arc::new(AtomicBool::new(true)) };
        let again = Arc::new(AtomicBool::new(false));
        for number in [SIGHUP, SIGINT, SIGTERM] {
            if number == SIGHUP && is_ignored(number) {
                continue;
            }
            let ends_if = |flag: &Arc<AtomicBool>| {
                flag::register_conditional_shutdown(number, 128 + number, Arc::clone(flag))
                    .context("cannot watch signals")
            };
            ends_if(&signals.starting)?;
            flag::register_usize(number, Arc::clone(&signals.received), number as usize)?;
            // A shell whose terminal was closed sends SIGHUP more than once, without a person asking twice.
            if number != SIGHUP {
                ends_if(&again)?;
                flag::register(number, Arc::clone(&again))?;
            }
        }
        Ok(signals)
    }

    /// From here on there is something to save: the first signal is noted, a second SIGINT or SIGTERM ends the process.
    pub fn defer(&self) {
        self.starting.store(false, Ordering::SeqCst);
    }

    /// The number of the signal that came.
    pub fn received(&self) -> Option<i32> {
        match self.received.load(Ordering::SeqCst) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }
}

/// What a person calls the signal.
pub fn name(number: i32) -> &'static str {
    match number {
        SIGHUP => "SIGHUP",
        SIGINT => "SIGINT",
        SIGTERM => "SIGTERM",
        _ => "a signal",
    }
}

/// Whether the process was started with this signal ignored. Only Linux tells without unsafe code.
fn is_ignored(number: i32) -> bool {
    fs_err::read_to_string("/proc/self/status").is_ok_and(|status| mask_has(&status, number))
}

/// Whether the line SigIgn of `/proc/PID/status` names the signal: a hexadecimal mask, bit 0 for signal 1.
fn mask_has(status: &str, number: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_counts_from_bit_0() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000000001\n";
        assert!(mask_has(status, SIGHUP) && !mask_has(status, SIGINT));
        assert!(!mask_has("Name:\tx\n", SIGHUP));
    }
}
