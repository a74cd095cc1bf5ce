//! The forest's row of a comparison: from a run that is there, or fitted for it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::folder::SweepDir;
use super::train::Faces;
use crate::config::{self, ForestConfig};
use crate::error::input;
use crate::files::{read_small_text, write_atomically};
use crate::report::Console;
use crate::rundir::{ForestSummary, RunDir};
use crate::signals::Signals;
use crate::train::forest::ForestRun;

/// Where the row comes from.
pub enum Source {
    /// A run that is there.
    Run(PathBuf),
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
    /// Those of a config.
    pub fn of(path: &Path, sets: &[String]) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Run(path.to_path_buf()));
        }
        let own = |set: &&String| {
            let key = set.split('=').next().unwrap_or_default().trim();
            key == "seed" || key == "data" || key.starts_with("data.")
        };
        let sets: Vec<String> = sets.iter().filter(own).cloned().collect();
        Ok(Self::Config(Box::new(config::load(path, &sets)?)))
    }

    /// The forest, fitted in the sweep's directory unless it was before.
    ///
    /// # Errors
    /// As [`ForestRun::fit`]; an input error for a run that is no forest's.
    pub fn baseline(&self, dir: &SweepDir, signals: &Signals, faces: &mut Faces, command: &str) -> Result<Baseline> {
        let config = match self {
            Self::Run(path) => return finished(path, path.display().to_string()),
            Self::Config(config) => config,
        };
        let path = dir.file(&config.name);
        if path.join("forest.safetensors").exists() {
            return finished(&path, config.name.clone());
        }
        let mut console = Console::default();
        console.line(&format!("forest: {}", path.display()))?;
        let data = faces.of_data(&config.data, config.seed)?;
        signals.defer();
        // What an interrupted fit left behind has no forest and is of no use.
        let run = if RunDir::is_free(&path)? { RunDir::create(&path)? } else { RunDir::open_to_go_on(&path)? };
        console.log_to(&run.log_txt())?;
        write_atomically(&run.split_csv(), data.split_csv.as_bytes())?;
        write_atomically(&run.config_toml(), config.to_toml()?.as_bytes())?;
        let mut fitting = ForestRun {
            config,
            data,
            dir: &run,
            console: &mut console,
            command: command.to_owned(),
            signals: signals.clone(),
        };
        let (signal, summary) = fitting.fit()?;
        Ok(Baseline { folder: config.name.clone(), summary, signal })
    }
}

fn finished(run: &Path, folder: String) -> Result<Baseline> {
    let path = run.join("summary.json");
    let text = read_small_text(&path, 1 << 22, "the summary of a forest's run")?;
    let summary = serde_json::from_str(&text)
        .map_err(|error| input(format!("{}: is not the summary of a forest's run: {error}", path.display())))?;
    Ok(Baseline { folder, summary, signal: None })
}
