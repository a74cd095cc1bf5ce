//! `grimace runs`

use anyhow::Result;

use super::{print, print_json};
use crate::cli::Runs;
use crate::error::Outcome;
use crate::report::table::table;
use crate::rundir::listing::{self, Listed};
use crate::text::escaped;

pub fn run(args: &Runs) -> Result<Outcome> {
    let found = listing::list(&args.folder)?;
    if args.json {
        print_json(&found)?;
    } else if found.is_empty() {
        print(&format!("{}: no runs\n", args.folder.display()))?;
    } else {
        let head = ["run", "name", "changed (UTC)", "epochs", "best", "state"].map(String::from).to_vec();
        print(&table(&[vec![head], found.iter().map(line).collect()].concat()))?;
    }
    Ok(Outcome::Done)
}

fn line(run: &Listed) -> Vec<String> {
    vec![
        escaped(&run.path),
        escaped(&run.name),
        run.changed.get(..19).unwrap_or(&run.changed).replace('T', " "),
        run.epochs.map_or("-".to_owned(), |epochs| epochs.to_string()),
        run.best.map_or("-".to_owned(), |best| format!("{best:.4}")),
        run.state.clone(),
    ]
}
