//! Which runs a sweep is made of: every config with every seed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::{self, Config};
use crate::data::config::Validation;
use crate::util::error::input;

/// One run of a sweep.
#[derive(Debug, Clone)]
pub struct PlannedRun {
    /// Name of its config: the row of the comparison that it counts for.
    pub model: String,
    /// Its config, with its seed.
    pub config: Config,
    /// Name of its directory within the sweep's.
    pub folder: String,
}

/// Reads the configs, lays `sets` over each, and repeats each with `seeds` seeds: its own, and those that follow.
///
/// The split stays that of the config's own seed, so that all runs of a config are validated on the same images.
///
/// # Errors
/// Those of a config; an input error for two configs of one name, or a seed beyond the greatest.
pub fn planned_runs(configs: &[PathBuf], sets: &[String], seeds: u32) -> Result<Vec<PlannedRun>> {
    let mut known: BTreeMap<String, &Path> = BTreeMap::new();
    let mut all = Vec::new();
    for path in configs {
        let first: Config = config::load(path, sets)?;
        if let Some(other) = known.insert(first.name.clone(), path) {
            return Err(input(format!(
                "{}: its name is {:?}, as that of {}; a row of the comparison needs a name of its own: change one, or leave one out",
                path.display(),
                first.name,
                other.display()
            )));
        }
        for number in 0..seeds {
            all.push(planned_run(&first, number, path)?);
        }
    }
    Ok(all)
}

fn planned_run(first: &Config, number: u32, path: &Path) -> Result<PlannedRun> {
    let mut raw = (**first).clone();
    raw.seed = first.seed.saturating_add(u64::from(number));
    if number > 0 && matches!(raw.data.validation, Validation::Fraction(_)) {
        raw.data.split_seed = Some(raw.data.split_seed.unwrap_or(first.seed));
    }
    let config = raw.check().map_err(|problem| input(format!("{}: {problem}", path.display())))?;
    let folder = format!("{}-seed{}", config.name, config.seed);
    Ok(PlannedRun { model: config.name.clone(), config, folder })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
        let write = |(number, name): (usize, &&str)| {
            let path = folder.join(format!("{number}.toml"));
            let text = format!("name = \"{name}\"\nseed = 7\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n");
            fs_err::write(&path, text).unwrap();
            path
        };
        names.iter().enumerate().map(write).collect()
    }

    #[test]
    fn every_config_has_every_seed_and_one_split() {
        let folder = tempfile::tempdir().unwrap();
        let paths = configs(folder.path(), &["a", "b"]);
        let all = planned_runs(&paths, &["train.batch=32".to_owned()], 3).unwrap();
        let folders: Vec<&str> = all.iter().map(|planned_run| planned_run.folder.as_str()).collect();
        assert_eq!(folders, ["a-seed7", "a-seed8", "a-seed9", "b-seed7", "b-seed8", "b-seed9"]);
        assert!(all.iter().all(|planned_run| planned_run.config.train.batch == 32));
        let splits: Vec<u64> = all.iter().map(|m| m.config.data.split_seed.unwrap_or(m.config.seed)).collect();
        assert_eq!(splits, [7; 6]);
        // A validation file of its own needs no seed for the split.
        let all = planned_runs(&paths, &["data.validation=v.csv".to_owned()], 2).unwrap();
        assert!(all.iter().all(|planned_run| planned_run.config.data.split_seed.is_none()));
    }

    #[test]
    fn the_published_sweep_has_five_alternatives_on_one_split() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/sweep");
        let paths: Vec<PathBuf> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let all = planned_runs(&paths, &[], 1).unwrap();
        assert_eq!(all.len(), 5);
        for (number, planned_run) in all.iter().enumerate() {
            assert_eq!(planned_run.config.data, all[0].config.data, "{}", planned_run.model);
            let alike = |other: &PlannedRun| {
                (&other.config.model, &other.config.train) == (&planned_run.config.model, &planned_run.config.train)
            };
            assert!(!all[..number].iter().any(alike), "{} is no alternative", planned_run.model);
        }
        let own =
            config::load::<Config>(&Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/notebook.toml"), &[]).unwrap();
        assert!(all.iter().any(|planned_run| planned_run.config == own), "the seed is among them");
    }

    #[test]
    fn names_must_differ_and_seeds_fit() {
        let folder = tempfile::tempdir().unwrap();
        let message = |sets: &[String], names: &[&str]| {
            planned_runs(&configs(folder.path(), names), sets, 2).unwrap_err().to_string()
        };
        let twice = message(&[], &["a", "b", "a"]);
        assert!(twice.contains("2.toml: its name is \"a\", as that of") && twice.contains("0.toml"), "{twice}");
        let greatest = message(&[format!("seed={}", i64::MAX)], &["a"]);
        assert!(greatest.contains("0.toml: seed = 9223372036854775808"), "{greatest}");
    }
}
