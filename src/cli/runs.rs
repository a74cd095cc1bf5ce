//! `grimace runs`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::common::{print, print_json};
use crate::metrics::describe_interval;
use crate::report::text_table::table_with_text;
use crate::run_dir::listing::{self, RunEntry};
use crate::util::error::Outcome;
use crate::util::text::escaped;

/// `grimace runs`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  grimace runs\n  grimace runs runs/five --json")]
pub struct RunsArgs {
    /// Folder of run directories and sweeps
    #[arg(default_value = "runs", value_name = "DIR")]
    pub folder: PathBuf,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Columns of the table that are text: run, name, changed and state.
const TEXT_COLUMNS: [usize; 4] = [0, 1, 2, 5];

pub fn run(args: &RunsArgs) -> Result<Outcome> {
    let found = listing::list_runs(&args.folder)?;
    if args.json {
        print_json(&found)?;
    } else if found.is_empty() {
        print(&format!("{}: no runs\n", args.folder.display()))?;
    } else {
        let head = ["run", "name", "changed (UTC)", "epochs", "best (95% CI)", "state"].map(String::from).to_vec();
        let rows = [vec![head], found.iter().map(line).collect()].concat();
        print(&table_with_text(&rows, &TEXT_COLUMNS))?;
    }
    Ok(Outcome::Done)
}

fn line(run: &RunEntry) -> Vec<String> {
    vec![
        escaped(&run.path),
        escaped(&run.name),
        run.changed.get(..19).unwrap_or(&run.changed).replace('T', " "),
        run.epochs.map_or("-".to_owned(), |epochs| epochs.to_string()),
        run.best.map_or("-".to_owned(), |best| {
            let interval = run.best_interval.map_or(String::new(), |found| format!(" ({})", describe_interval(found)));
            format!("{best:.4}{interval}")
        }),
        run.state.clone(),
    ]
}
