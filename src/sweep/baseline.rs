//! The forest's row of a comparison: an existing run, or a forest fitted for the sweep.

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

/// Where the baseline comes from.
pub enum BaselineSource {
    /// An existing run: its directory and results.
    Run(PathBuf, Box<ForestSummary>),
    /// A config to fit.
    Config(Box<ForestConfig>),
}

/// A fitted forest.
#[derive(Debug)]
pub struct Baseline {
    /// Its run directory, relative to the sweep's if it is inside.
    pub folder: String,
    /// Its results.
    pub summary: ForestSummary,
    /// The signal that interrupted the fit.
    pub signal: Option<i32>,
}

impl BaselineSource {
    /// Opens the argument of `--forest`: a run directory, or a config. Of the `sets` of the sweep,
    /// a forest's config takes `data.*` and `seed`.
    ///
    /// # Errors
    /// Those of a config; an input error for a directory that is not the run of a fitted forest, or
    /// a name that a planned run has.
    pub fn open(path: &Path, sets: &[String], runs: &[PlannedRun]) -> Result<Self> {
        if path.is_dir() {
            let summary = run::read_finished(path).ok_or_else(|| {
                input(format!("--forest {}: is not the run of a fitted forest; give one, or a config", path.display()))
            })?;
            return Ok(Self::Run(path.to_path_buf(), Box::new(summary)));
        }
        let applies = |set: &&String| {
            let key = set.split('=').next().unwrap_or_default().trim();
            key == "seed" || key == "data" || key.starts_with("data.")
        };
        let sets: Vec<String> = sets.iter().filter(applies).cloned().collect();
        let config: ForestConfig = config::load(path, &sets)?;
        if runs.iter().any(|run| run.model == config.name) {
            return Err(input(format!(
                "{}: name {:?} is already used by a network in the sweep; models are compared by name: rename one",
                path.display(),
                config.name
            )));
        }
        Ok(Self::Config(Box::new(config)))
    }

    /// Checks what would stop the fit, before any training.
    ///
    /// # Errors
    /// Images that cannot be read, more folds than rows, a finished forest of another config or
    /// other images.
    pub fn check(&self, dir: Option<&SweepDir>, datasets: &mut DatasetCache) -> Result<()> {
        let Self::Config(config) = self else { return Ok(()) };
        let data = datasets.get_data(&config.data, config.seed)?;
        run::check_folds(config, data)?;
        let Some(run) = dir.map(|dir| dir.file(&folder_of(config))) else { return Ok(()) };
        let Some(summary) = run::read_finished(&run) else { return Ok(()) };
        sweep_dir::check_same_config(&run, &config.to_toml()?)?;
        if summary.provenance.split_hash != data.split_hash {
            return Err(input(format!("{}: was fitted on other images; choose another --out", run.display())));
        }
        Ok(())
    }

    /// Fits the forest in the sweep's directory, or reads the results of one that is already
    /// fitted.
    ///
    /// # Errors
    /// As [`ForestRun::fit`].
    pub fn fit(
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
        if let Some(summary) = run::read_finished(&path) {
            return Ok(Baseline { folder, summary, signal: None });
        }
        let mut console = Console::default();
        console.line(&format!("forest: {}", path.display()))?;
        let data = datasets.get_data(&config.data, config.seed)?;
        signals.defer();
        let run = run::create_dir(Some(&path), &config.name)?;
        let (signal, summary) = ForestRun { config, data, dir: &run, command, signals }.fit(&mut console)?;
        Ok(Baseline { folder, summary, signal })
    }
}

/// The folder of the forest, named like that of a planned run.
fn folder_of(config: &ForestConfig) -> String {
    format!("{}-seed{}", config.name, config.seed)
}
