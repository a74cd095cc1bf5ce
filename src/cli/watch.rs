//! `grimace watch`

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Result;
use clap::Args;

use super::common::print;
use crate::util::error::Outcome;
use crate::watch::{has_terminal, look, snapshot_text, watch};

/// `grimace watch`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace watch\n  grimace watch runs/mine\n  grimace watch runs/five --once\n\nq, Esc or Ctrl-C quits; up and down select a run of a sweep. Of a folder of runs, the one that changed last is shown, and a newer one as soon as it starts. Without a terminal, or with --once, plain text is printed once. NO_COLOR turns colors off."
)]
pub struct WatchArgs {
    /// Run directory, sweep, or folder of both; it may not exist yet
    #[arg(default_value = "runs", value_name = "RUN")]
    pub path: PathBuf,
    /// Print plain text once
    #[arg(long)]
    pub once: bool,
}

pub fn run(args: &WatchArgs) -> Result<Outcome> {
    if !args.once && has_terminal() {
        return watch(&args.path);
    }
    print(&snapshot_text(&look(&args.path)?, SystemTime::now()))?;
    Ok(Outcome::Done)
}
