//! A program that trains while a test waits and sends signals.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::common::text;

/// Sends a signal by its name, such as `TERM`.
pub fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
    assert!(sent.unwrap().success(), "{signal} cannot be sent");
}

/// The epochs that a run has finished.
pub fn epochs(run: &Path) -> usize {
    let path = run.join("metrics.jsonl");
    if path.exists() { text(&path).lines().count() } else { 0 }
}

/// Waits until the run has finished `epochs` epochs.
pub fn wait_for_epochs(run: &Path, epochs: usize) {
    let start = Instant::now();
    while self::epochs(run) < epochs {
        assert!(start.elapsed() < Duration::from_secs(60), "{epochs} epochs take more than a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}
