//! TensorBoard event files in a run directory: `events.out.tfevents.SECONDS.PROCESS.grimace`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

/// The prefix that TensorBoard looks for.
const PREFIX: &str = "events.out.tfevents.";
/// The suffix that distinguishes our files from those of other programs.
const SUFFIX: &str = ".grimace";

/// Lists the event files that Grimace wrote to `folder`, each with the seconds in its name, oldest
/// first.
///
/// # Errors
/// An I/O error with the path.
pub fn event_files(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(seconds) = entry.file_name().to_str().and_then(parse_seconds) {
            found.push((seconds, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The name of an event file of this process, started `seconds` after the Unix epoch.
pub fn event_file_name(seconds: u64) -> String {
    // TensorBoard reads event files in the order of their names. Ten digits make that
    // chronological.
    format!("{PREFIX}{seconds:010}.{}{SUFFIX}", std::process::id())
}

/// Parses the seconds in a name made by [`event_file_name`].
fn parse_seconds(name: &str) -> Option<u64> {
    let (seconds, process) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('.')?;
    process.parse::<u32>().ok()?;
    seconds.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_files_of_other_programs_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let own = event_file_name(1_700_000_000);
        for name in [&own, "events.out.tfevents.1700000000.host.12.0", "events.out.tfevents.x.12.grimace", "log.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(event_files(folder.path()).unwrap(), [(1_700_000_000, folder.path().join(&own))]);
        assert!(event_file_name(7) < own, "names sort chronologically");
    }
}
