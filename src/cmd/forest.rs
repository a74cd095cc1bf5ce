//! `grimace forest`

use anyhow::Result;

use super::{own_command, print, print_json};
use crate::cli::Forest;
use crate::config::{self, ForestConfig};
use crate::data::dataset;
use crate::error::Outcome;
use crate::files::write_atomically;
use crate::report::{Console, seconds};
use crate::rundir::{ForestSummary, RunDir};
use crate::signals::Signals;
use crate::train::forest::ForestRun;

pub fn run(args: &Forest) -> Result<Outcome> {
    let signals = Signals::watch()?;
    let config: ForestConfig = config::load(&args.config.config, &args.config.sets)?;
    if let Some(path) = &args.out {
        RunDir::check_free(path)?;
    }
    let data = dataset::load(&config.data, config.seed)?;
    // From here on a signal finds something to save.
    signals.defer();
    let dir = args.out.as_ref().map_or_else(|| RunDir::create_default(&config.name), |path| RunDir::create(path))?;
    let mut console = Console::default();
    console.log_to(&dir.log_txt())?;
    write_atomically(&dir.split_csv(), data.split_csv.as_bytes())?;
    write_atomically(&dir.config_toml(), config.to_toml()?.as_bytes())?;
    console.announce(&config.data.train, &data)?;
    console.line(&format!("run: {}", dir.path().display()))?;
    let run =
        ForestRun { config: &config, data: &data, dir: &dir, console: &mut console, command: own_command(), signals };
    let (signal, summary) = { run }.fit()?;
    if args.json {
        print_json(&summary)?;
    } else {
        print(&describe(&summary, &dir))?;
    }
    Ok(signal.map_or(Outcome::Done, Outcome::Interrupted))
}

fn describe(summary: &ForestSummary, dir: &RunDir) -> String {
    let shown = dir.path().display();
    let accuracy = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    let mut text = String::new();
    if let (Some(mean), Some(deviation)) = (summary.cv_mean, summary.cv_std) {
        let without = accuracy(summary.cv_mean_without_copies);
        text += &format!(
            "cross-validation accuracy {mean:.4} +- {deviation:.4} over {} folds ({without} without faces that also stand in a \
             fold's training rows), {}\n",
            summary.folds,
            seconds(summary.cv_seconds.unwrap_or(0.0)),
        );
    }
    let Some(fit) = summary.fit_seconds else {
        let done = summary.cv_accuracies.len();
        return text + &format!("{shown}: interrupted after {done} of {} folds; no forest was fitted\n", summary.folds);
    };
    let (all, without) = (accuracy(summary.val_accuracy), accuracy(summary.val_accuracy_without_copies));
    text + &format!(
        "validation accuracy {all} ({without} without faces that also stand in the training rows); {} trees fitted in {}; \
         forest: {}\n",
        summary.trees,
        seconds(fit),
        dir.forest().display(),
    )
}
