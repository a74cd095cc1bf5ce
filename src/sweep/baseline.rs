//! The forest's row of a comparison: from a run that is there, or fitted for it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::plan::PlannedRun;
use super::runner::DatasetCache;
use super::sweep_dir::{self, SweepDir};
use crate::config;
use crate::forest::config::ForestConfig;
use crate::forest::run::{self, ForestRun};
use crate::report::Console;
use crate::run_dir::ForestSummary;
use crate::util::error::input;
use crate::util::signals::Signals;

/// Where the row comes from.
pub enum Source {
    /// A run that is there: its directory and figures.
    Run(PathBuf, Box<ForestSummary>),
    /// A config to fit.
    Config(Box<ForestConfig>),
}

/// A fitted forest.
#[derive(Debug)]
pub struct Baseline {
    /// Its run directory, seen from the sweep's where it lies within.
    pub folder: String,
    /// Its figures.
    pub summary: ForestSummary,
    /// The signal that stopped it before it was done.
    pub signal: Option<i32>,
}

impl Source {
    /// What `--forest` names: a run directory, or a config, over which the `sets` of a sweep are laid as far as a forest has
    /// those keys: `data.*` and `seed`.
    ///
    /// # Errors
    /// Those of a config; an input error for a directory that is no finished forest's, or a name that a planned_run has.
    pub fn of(path: &Path, sets: &[String], planned_runs: &[PlannedRun]) -> Result<Self> {
        if path.is_dir() {
            let summary = run::finished(path).ok_or_else(|| {
                input(format!("--forest {}: is not the run of a fitted forest; name one, or a config", path.display()))
            })?;
            return Ok(Self::Run(path.to_path_buf(), Box::new(summary)));
        }
        let own = |set: &&String| {
            let key = set.split('=').next().unwrap_or_default().trim();
            key == "seed" || key == "data" || key.starts_with("data.")
        };
        let sets: Vec<String> = sets.iter().filter(own).cloned().collect();
        let config: ForestConfig = config::load(path, &sets)?;
        if planned_runs.iter().any(|planned_run| planned_run.model == config.name) {
            return Err(input(format!(
                "{}: its name is {:?}, as that of a network in the sweep; a row of the comparison needs a name of its own",
                path.display(),
                config.name
            )));
        }
        Ok(Self::Config(Box::new(config)))
    }

    /// Tells what would keep the forest from being fitted, before anything takes time.
    ///
    /// # Errors
    /// DatasetCache that cannot be read, more folds than rows, a finished forest of another config.
    pub fn check(&self, dir: Option<&SweepDir>, datasets: &mut DatasetCache) -> Result<()> {
        let Self::Config(config) = self else { return Ok(()) };
        let data = datasets.of_data(&config.data, config.seed)?;
        run::check(config, data)?;
        let Some(run) = dir.map(|dir| dir.file(&folder_of(config))) else { return Ok(()) };
        let Some(summary) = run::finished(&run) else { return Ok(()) };
        sweep_dir::check_same(&run, &config.to_toml()?)?;
        if summary.provenance.split_hash != data.split_hash() {
            return Err(input(format!("{}: was fitted on other images; sweep into another --out", run.display())));
        }
        Ok(())
    }

    /// The forest, fitted in the sweep's directory unless it was before.
    ///
    /// # Errors
    /// As [`ForestRun::fit`].
    pub fn baseline(
        &self,
        dir: &SweepDir,
        signals: &Signals,
        datasets: &mut DatasetCache,
        command: &str,
    ) -> Result<Baseline> {
        let config = match self {
            Self::Run(path, summary) => {
                return Ok(Baseline { folder: path.display().to_string(), summary: (**summary).clone(), signal: None });
            }
            Self::Config(config) => config,
        };
        let folder = folder_of(config);
        let path = dir.file(&folder);
        if let Some(summary) = run::finished(&path) {
            return Ok(Baseline { folder, summary, signal: None });
        }
        let mut console = Console::default();
        console.line(&format!("forest: {}", path.display()))?;
        let data = datasets.of_data(&config.data, config.seed)?;
        signals.defer();
        let run = run::place(Some(&path), &config.name)?;
        let (signal, summary) = ForestRun { config, data, dir: &run, command, signals }.fit(&mut console)?;
        Ok(Baseline { folder, summary, signal })
    }
}

/// Named as a planned_run is, so that it is told from whatever else stands there.
fn folder_of(config: &ForestConfig) -> String {
    format!("{}-seed{}", config.name, config.seed)
}
