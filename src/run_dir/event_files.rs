//! TensorBoard's event files in a run directory, known by their names: `events.out.tfevents.SECONDS.PROCESS.grimace`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

/// What TensorBoard looks for in a name.
const FIRST: &str = "events.out.tfevents.";
/// What tells ours from those of other programs.
const LAST: &str = ".grimace";

/// The event files in `folder` that trainings of ours wrote there, each with the seconds in its name, in their order.
///
/// # Errors
/// An I/O error with the path.
pub fn event_files(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(seconds) = entry.file_name().to_str().and_then(seconds_of) {
            found.push((seconds, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The name of an event file of this process.
pub fn event_file_name(seconds: u64) -> String {
    // In ten digits the order of names is that of times; TensorBoard reads event files in the order of their names.
    format!("{FIRST}{seconds:010}.{}{LAST}", std::process::id())
}

/// The seconds in a name that [`event_file_name`] gives.
fn seconds_of(name: &str) -> Option<u64> {
    let (seconds, process) = name.strip_prefix(FIRST)?.strip_suffix(LAST)?.split_once('.')?;
    process.parse::<u32>().ok()?;
    seconds.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_files_of_others_are_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let own = event_file_name(1_700_000_000);
        for name in [&own, "events.out.tfevents.1700000000.host.12.0", "events.out.tfevents.x.12.grimace", "log.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(event_files(folder.path()).unwrap(), [(1_700_000_000, folder.path().join(&own))]);
        assert!(event_file_name(7) < own, "names are in the order of their times");
    }
}
