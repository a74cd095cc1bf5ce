//! `sweep.json`: marks the directory of a sweep and lists its runs, so that processes on other
//! machines can check that they train the same sweep.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::plan::PlannedRun;
use super::sweep_dir::SweepDir;
use crate::run_dir::SWEEP_JSON;
use crate::util::error::input;
use crate::util::files::{read_small_text, write_atomically};

/// Bytes of the largest `sweep.json`: 100,000 runs with names of 100 characters fit.
const MAX_SWEEP_JSON: u64 = 1 << 26;

/// Hexadecimal digits of a config's hash.
const HASH_DIGITS: usize = 16;

/// The content of `sweep.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SweepJson {
    command: String,
    version: String,
    /// Directories of the runs in the order of the plan.
    runs: Vec<String>,
    /// Arguments of `--vary`; older versions did not write them.
    #[serde(default)]
    vary: Option<Vec<String>>,
    /// Number of folds, of a cross-validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folds: Option<u32>,
    /// Hashes of the resolved configs in the order of the runs; older versions did not write them.
    #[serde(default)]
    configs: Option<Vec<String>>,
}

impl SweepJson {
    /// The content for these runs.
    ///
    /// # Errors
    /// A config that cannot be written as TOML.
    pub fn new(runs: &[PlannedRun], vary: &[String], command: &str) -> Result<Self> {
        let hash = |run: &PlannedRun| {
            let hash = blake3::hash(run.config.to_toml()?.as_bytes()).to_hex();
            Ok(hash.get(..HASH_DIGITS).unwrap_or_default().to_owned())
        };
        Ok(Self {
            command: command.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            runs: runs.iter().map(|run| run.folder.clone()).collect(),
            vary: Some(vary.to_vec()),
            folds: None,
            configs: Some(runs.iter().map(hash).collect::<Result<_>>()?),
        })
    }

    /// The content for a cross-validation with this number of folds.
    pub fn with_folds(self, folds: u32) -> Self {
        Self { folds: Some(folds), ..self }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write(&self, dir: &SweepDir) -> Result<()> {
        write_atomically(&dir.file(SWEEP_JSON), (serde_json::to_string_pretty(self)? + "\n").as_bytes())
    }

    fn read(dir: &SweepDir) -> Result<Self> {
        let path = dir.file(SWEEP_JSON);
        let text = read_small_text(&path, MAX_SWEEP_JSON, "the list of a sweep's runs")?;
        serde_json::from_str(&text).map_err(|error| {
            input(format!("{}: is no list of runs ({error}); write it again with --plan --resume", path.display()))
        })
    }

    /// Refuses to replace the file of a sweep with other `--vary` if runs of that sweep would no longer
    /// be in the comparison. A file that cannot be read is replaced.
    ///
    /// # Errors
    /// An input error with both.
    pub fn check_replaces(&self, dir: &SweepDir) -> Result<()> {
        let Some(old) = dir.file(SWEEP_JSON).is_file().then(|| Self::read(dir).ok()).flatten() else { return Ok(()) };
        if old.folds != self.folds {
            return Err(input(format!(
                "{}: is {}, but is resumed as {}; choose another --out",
                dir.path().display(),
                describe_kind(old.folds),
                describe_kind(self.folds)
            )));
        }
        let (Some(before), Some(now)) = (&old.vary, &self.vary) else { return Ok(()) };
        let kept: BTreeSet<&String> = self.runs.iter().collect();
        let lost = old.runs.iter().find(|run| !kept.contains(run));
        match lost {
            Some(lost) if before != now => Err(input(format!(
                "{}: is a sweep with {}, but is resumed with {}; {lost} would no longer be compared: keep all values (new \
                 ones may be added), or choose another --out",
                dir.path().display(),
                describe_vary(before),
                describe_vary(now),
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses a plan in the directory with other runs or configs than this one.
    ///
    /// # Errors
    /// An input error with the first run that differs.
    pub fn check_planned(&self, dir: &SweepDir) -> Result<()> {
        let planned = Self::read(dir)?;
        let refuse = |problem: String| {
            let path = dir.file(SWEEP_JSON);
            Err(input(format!(
                "{}: {problem}; use the arguments and configs of its --plan, or plan again with --plan --resume",
                path.display()
            )))
        };
        if planned.runs != self.runs {
            let differs =
                |(old, new): (Option<&String>, Option<&String>)| (old != new).then(|| describe_pair(old, new));
            let longer = planned.runs.len().max(self.runs.len());
            let pairs = (0..longer).map(|index| (planned.runs.get(index), self.runs.get(index)));
            let first = pairs.filter_map(differs).next().unwrap_or_default();
            return refuse(format!(
                "lists {} runs, but these arguments give {}: {first}",
                planned.runs.len(),
                self.runs.len()
            ));
        }
        let (Some(before), Some(now)) = (&planned.configs, &self.configs) else { return Ok(()) };
        let changed = self.runs.iter().zip(before.iter().zip(now)).find(|(_, (old, new))| old != new);
        match changed {
            Some((run, _)) => refuse(format!("{run} was planned with another config")),
            None => Ok(()),
        }
    }
}

/// Such as `the run a-seed1 instead of b-seed1`.
fn describe_pair(old: Option<&String>, new: Option<&String>) -> String {
    match (old, new) {
        (Some(old), Some(new)) => format!("{new} instead of {old}"),
        (Some(old), None) => format!("{old} is missing"),
        (None, Some(new)) => format!("{new} is not in the list"),
        (None, None) => String::new(),
    }
}

/// Such as `a cross-validation with 5 folds`.
fn describe_kind(folds: Option<u32>) -> String {
    folds.map_or_else(|| "a sweep".to_owned(), |folds| format!("a cross-validation with {folds} folds"))
}

/// Such as `--vary train.ema=0,0.9`, or `no --vary`.
fn describe_vary(vary: &[String]) -> String {
    match vary {
        [] => "no --vary".to_owned(),
        _ => vary.iter().map(|text| format!("--vary {text}")).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(runs: &[&str], configs: &[&str], vary: &[&str]) -> SweepJson {
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        SweepJson {
            command: "grimace sweep".to_owned(),
            version: "0".to_owned(),
            runs: strings(runs),
            vary: Some(strings(vary)),
            folds: None,
            configs: Some(strings(configs)),
        }
    }

    #[test]
    fn a_sweep_with_other_values_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let dir = SweepDir::open(&folder.path().join("s"), false).unwrap();
        let first = list(&["a-1-seed0", "a-2-seed0"], &["x", "y"], &["k=1,2"]);
        first.check_replaces(&dir).unwrap();
        first.write(&dir).unwrap();
        first.check_replaces(&dir).unwrap();
        let more = list(&["a-1-seed0", "a-2-seed0", "a-3-seed0"], &["x", "y", "z"], &["k=1,2,3"]);
        more.check_replaces(&dir).unwrap();
        for (other, part) in [
            (
                list(&["a-2-seed0", "a-3-seed0"], &[], &["k=2,3"]),
                "--vary k=1,2, but is resumed with --vary k=2,3; a-1-seed0",
            ),
            (list(&["a-seed0"], &[], &[]), "--vary k=1,2, but is resumed with no --vary"),
        ] {
            let message = other.check_replaces(&dir).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        // Fewer seeds of the same values are not refused.
        list(&["a-1-seed0"], &["x"], &["k=1,2"]).check_replaces(&dir).unwrap();
        // Neither the list of an older version nor an unreadable one keeps a sweep from being resumed.
        for text in [r#"{"command": "", "version": "0", "runs": ["b-seed0"]}"#, "{"] {
            fs_err::write(dir.file(SWEEP_JSON), text).unwrap();
            first.check_replaces(&dir).unwrap();
        }
    }

    #[test]
    fn other_runs_or_configs_than_planned_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dir = SweepDir::open(&folder.path().join("s"), false).unwrap();
        list(&["a", "b"], &["x", "y"], &[]).write(&dir).unwrap();
        list(&["a", "b"], &["x", "y"], &[]).check_planned(&dir).unwrap();
        for (other, part) in [
            (list(&["a"], &["x"], &[]), "lists 2 runs, but these arguments give 1: b is missing"),
            (list(&["a", "c"], &["x", "y"], &[]), "c instead of b"),
            (list(&["a", "b", "c"], &["x", "y", "z"], &[]), "give 3: c is not in the list"),
            (list(&["a", "b"], &["x", "z"], &[]), "b was planned with another config; use the arguments"),
        ] {
            let message = other.check_planned(&dir).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        fs_err::write(dir.file(SWEEP_JSON), "{").unwrap();
        let message = list(&["a"], &["x"], &[]).check_planned(&dir).unwrap_err().to_string();
        assert!(message.contains("sweep.json: is no list of runs") && message.contains("--plan --resume"), "{message}");
    }
}
