//! The runs of a sweep: every config at every point of the `--vary` grid with every seed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::vary::{Variation, grid, grid_size, run_name};
use crate::config::{self, Config, Override};
use crate::device::DeviceChoice;
use crate::util::error::input;

/// Runs of the largest sweep.
const MAX_RUNS: usize = 100_000;

/// A run of a sweep.
#[derive(Debug, Clone)]
pub struct PlannedRun {
    /// Name of its config, with its `--vary` values: its row of the comparison.
    pub model: String,
    /// Its config with its seed.
    pub config: Config,
    /// Name of its directory in the sweep's directory.
    pub folder: String,
}

impl PlannedRun {
    /// Selects `device` if the config leaves the choice open.
    ///
    /// # Errors
    /// Those of a config.
    pub fn place(&mut self, device: DeviceChoice) -> Result<()> {
        if self.config.device == DeviceChoice::Auto {
            let mut raw = (*self.config).clone();
            raw.device = device;
            self.config = raw.check().map_err(|problem| input(problem.to_string()))?;
        }
        Ok(())
    }
}

/// Plans a run for each config, point of the grid and seed, in this order. Seeds count up from the
/// config's own.
///
/// All seeds of a config share the split of its own seed, so they are validated on the same images.
///
/// # Errors
/// Those of a config; an input error for two models of one name, a seed out of range, or too many
/// runs.
pub fn plan_runs(
    configs: &[PathBuf],
    sets: &[String],
    variations: &[Variation],
    seeds: u32,
) -> Result<Vec<PlannedRun>> {
    let count = configs.len().saturating_mul(grid_size(variations)).saturating_mul(seeds as usize);
    if count > MAX_RUNS {
        return Err(input(format!(
            "the sweep has {count} runs; expected at most {MAX_RUNS}: give fewer --vary values"
        )));
    }
    let points = grid(variations);
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    let mut runs = Vec::with_capacity(count);
    for path in configs {
        for point in &points {
            let first = load(path, sets, point)?;
            let source = describe_source(path, point);
            if let Some(other) = sources.insert(first.name.clone(), source.clone()) {
                return Err(input(format!(
                    "{source}: name {:?} is already used by {other}; models are compared by name: rename one, or drop it",
                    first.name
                )));
            }
            for number in 0..seeds {
                runs.push(plan_run(&first, number, &source)?);
            }
        }
    }
    Ok(runs)
}

/// Loads a config with the sweep's overrides and those of a point of the grid, and names it after
/// both.
fn load(path: &Path, sets: &[String], point: &[String]) -> Result<Config> {
    let overrides: Vec<Override<'_>> = overrides("--set", sets).chain(overrides("--vary", point)).collect();
    let config: Config = config::load_with_overrides(path, &overrides)?;
    let mut raw = (*config).clone();
    raw.name = run_name(&config.name, point);
    raw.check().map_err(|problem| input(format!("{}: {problem}", describe_source(path, point))))
}

fn overrides<'a>(option: &'static str, texts: &'a [String]) -> impl Iterator<Item = Override<'a>> {
    texts.iter().map(move |text| Override { option, text })
}

/// `a.toml with --vary train.ema=0.998`, for error messages.
fn describe_source(path: &Path, point: &[String]) -> String {
    let point: Vec<String> = overrides("--vary", point).map(|item| item.to_string()).collect();
    if point.is_empty() { path.display().to_string() } else { format!("{} with {}", path.display(), point.join(" ")) }
}

fn plan_run(first: &Config, number: u32, source: &str) -> Result<PlannedRun> {
    let mut raw = (**first).clone();
    raw.seed = first.seed.saturating_add(u64::from(number));
    if number > 0 && raw.data.validation.is_sampled() {
        raw.data.split_seed = Some(raw.data.split_seed.unwrap_or(first.seed));
    }
    let config = raw.check().map_err(|problem| input(format!("{source}: {problem}")))?;
    let folder = format!("{}-seed{}", config.name, config.seed);
    Ok(PlannedRun { model: config.name.clone(), config, folder })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_places_only_runs_without_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let paths = configs(folder.path(), &["a"]);
        for (set, placed) in [("device=auto", "cuda:2"), ("device=cpu", "cpu"), ("device=cuda:1", "cuda:1")] {
            let mut runs = plan_runs(&paths, &[set.to_owned()], &[], 2).unwrap();
            runs.iter_mut().for_each(|run| run.place(DeviceChoice::Cuda(2)).unwrap());
            assert!(runs.iter().all(|run| run.config.device.to_string() == placed), "{set}");
        }
    }

    fn configs(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
        let write = |(number, name): (usize, &&str)| {
            let path = folder.join(format!("{number}.toml"));
            let text = format!("name = \"{name}\"\nseed = 7\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n");
            fs_err::write(&path, text).unwrap();
            path
        };
        names.iter().enumerate().map(write).collect()
    }

    fn variations(texts: &[&str]) -> Vec<Variation> {
        Variation::parse_all(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn folders(runs: &[PlannedRun]) -> Vec<&str> {
        runs.iter().map(|run| run.folder.as_str()).collect()
    }

    #[test]
    fn every_config_has_every_seed_and_one_split() {
        let folder = tempfile::tempdir().unwrap();
        let paths = configs(folder.path(), &["a", "b"]);
        let runs = plan_runs(&paths, &["train.batch=32".to_owned()], &[], 3).unwrap();
        assert_eq!(folders(&runs), ["a-seed7", "a-seed8", "a-seed9", "b-seed7", "b-seed8", "b-seed9"]);
        assert!(runs.iter().all(|run| run.config.train.batch == 32));
        let splits: Vec<u64> = runs.iter().map(|run| run.config.data.split_seed.unwrap_or(run.config.seed)).collect();
        assert_eq!(splits, [7; 6]);
        // A validation file needs no split seed.
        let runs = plan_runs(&paths, &["data.validation=v.csv".to_owned()], &[], 2).unwrap();
        assert!(runs.iter().all(|run| run.config.data.split_seed.is_none()));
    }

    #[test]
    fn every_config_has_every_point_of_the_grid() {
        let folder = tempfile::tempdir().unwrap();
        let paths = configs(folder.path(), &["a", "b"]);
        let varied = variations(&["train.ema=0,0.998", "train.batch=32,64"]);
        let runs = plan_runs(&paths, &["train.batch=16".to_owned()], &varied, 2).unwrap();
        assert_eq!(runs.len(), 16);
        assert_eq!(
            folders(&runs[..4]),
            [
                "a-train.ema-0-train.batch-32-seed7",
                "a-train.ema-0-train.batch-32-seed8",
                "a-train.ema-0-train.batch-64-seed7",
                "a-train.ema-0-train.batch-64-seed8",
            ]
        );
        let last = runs.last().unwrap();
        assert_eq!(last.model, "b-train.ema-0.998-train.batch-64");
        assert_eq!((&last.config.name, last.config.train.ema, last.config.train.batch), (&last.model, 0.998, 64));
    }

    #[test]
    fn bad_variations_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let paths = configs(folder.path(), &["a"]);
        let message = |texts: &[&str]| plan_runs(&paths, &[], &variations(texts), 1).unwrap_err().to_string();
        for (texts, parts) in [
            (&["train.ema=0,2"][..], &["0.toml with --vary train.ema=2: train.ema = 2", "below 1"][..]),
            (&["train.ama=0"], &["--vary train.ama=0: train.ama: unknown key"]),
            (&["train..ema=0"], &["--vary train..ema=0: the key is empty"]),
            (
                &["train.schedule={kind=\"cosine\",warmup=3}", "train.epochs=9,2"],
                &["--vary train.schedule={kind=\"cosine\",warmup=3}: train.schedule.warmup = 3"],
            ),
            (
                &["data.train=a b,a+b,a-b"],
                &["with --vary data.train=a-b: name \"a-data.train-a-b\" is already used by"],
            ),
        ] {
            let message = message(texts);
            assert!(parts.iter().all(|part| message.contains(part)), "{parts:?} are not in {message:?}");
        }
        let numbers: Vec<String> = (1..=400).map(|number| number.to_string()).collect();
        let many = format!("train.epochs={}", numbers.join(","));
        let message = message(&[&many, &many.replace("epochs", "batch")]);
        assert!(message.contains("the sweep has 160000 runs; expected at most 100000"), "{message}");
    }

    #[test]
    fn the_published_sweep_has_five_alternatives_on_one_split() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/sweep");
        let paths: Vec<PathBuf> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let runs = plan_runs(&paths, &[], &[], 1).unwrap();
        assert_eq!(runs.len(), 5);
        for (number, run) in runs.iter().enumerate() {
            assert_eq!(run.config.data, runs[0].config.data, "{}", run.model);
            let is_same = |other: &PlannedRun| {
                (&other.config.model, &other.config.train) == (&run.config.model, &run.config.train)
            };
            assert!(!runs[..number].iter().any(is_same), "{} equals another config", run.model);
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/notebook.toml");
        let notebook = config::load::<Config>(&path, &[]).unwrap();
        assert!(runs.iter().any(|run| run.config == notebook), "configs/notebook.toml is one of them");
    }

    #[test]
    fn names_must_be_unique_and_seeds_in_range() {
        let folder = tempfile::tempdir().unwrap();
        let message = |sets: &[String], names: &[&str]| {
            plan_runs(&configs(folder.path(), names), sets, &[], 2).unwrap_err().to_string()
        };
        let twice = message(&[], &["a", "b", "a"]);
        assert!(twice.contains("2.toml: name \"a\" is already used by") && twice.contains("0.toml"), "{twice}");
        let seed = message(&[format!("seed={}", i64::MAX)], &["a"]);
        assert!(seed.contains("0.toml: seed = 9223372036854775808"), "{seed}");
    }
}
