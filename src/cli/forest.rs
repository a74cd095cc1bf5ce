//! `grimace forest`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::ConfigArgs;
use super::common::{own_command, print, print_json};
use crate::config;
use crate::data::dataset;
use crate::forest::config::ForestConfig;
use crate::forest::run::{self, ForestRun};
use crate::metrics::{describe_accuracy, describe_interval};
use crate::report::{Console, seconds};
use crate::run_dir::{ForestSummary, RunDir};
use crate::util::error::Outcome;
use crate::util::signals::Signals;

/// `grimace forest`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace forest configs/forest.toml --out runs/forest\n  grimace forest configs/forest.toml --set forest.trees=500 --set forest.folds=0\n\nevaluate and predict accept the run directory like a network's. importance.png in it shows the feature importance of each pixel."
)]
pub struct ForestArgs {
    /// Config and overrides
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Run directory [default: runs/NAME-TIME, in UTC]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &ForestArgs) -> Result<Outcome> {
    let signals = Signals::watch()?;
    let config: ForestConfig = config::load(&args.config.config, &args.config.sets)?;
    args.out.as_deref().map_or(Ok(()), run::check_dir)?;
    let data = dataset::load(&config.data, config.seed)?;
    run::check_folds(&config, &data)?;
    // From here on a signal saves a partial result.
    signals.defer();
    let dir = run::create_dir(args.out.as_deref(), &config.name)?;
    let command = own_command()?;
    let run = ForestRun { config: &config, data: &data, dir: &dir, command: &command, signals: &signals };
    let (signal, summary) = run.fit(&mut Console::default())?;
    if args.json {
        print_json(&summary)?;
    } else {
        print(&describe(&summary, &dir))?;
    }
    Ok(signal.map_or(Outcome::Done, Outcome::Interrupted))
}

fn describe(summary: &ForestSummary, dir: &RunDir) -> String {
    let display = dir.path().display();
    let describe = |accuracy: Option<f64>, interval| {
        accuracy.map_or("-".to_owned(), |accuracy| describe_accuracy(accuracy, interval))
    };
    let mut text = String::new();
    if let (Some(mean), Some(deviation)) = (summary.cv_mean, summary.cv_std) {
        let dedup = describe(summary.cv_mean_dedup, None);
        let interval = summary
            .cv_interval
            .map_or(String::new(), |interval| format!(", 95% CI {} over the images", describe_interval(interval)));
        text += &format!(
            "cross-validation accuracy {mean:.4} +- {deviation:.4} over {} folds{interval} ({dedup} without duplicates of a fold's training \
             images), {}\n",
            summary.folds,
            seconds(summary.cv_seconds.unwrap_or(0.0)),
        );
    }
    let Some(fit) = summary.fit_seconds else {
        let done = summary.cv_accuracies.len();
        let progress = match summary.folds {
            0 => "interrupted".to_owned(),
            folds => format!("interrupted after {done} of {folds} folds"),
        };
        return text + &format!("{display}: {progress}; no forest was fitted\n");
    };
    let all = describe(summary.val_accuracy, summary.val_accuracy_interval);
    let dedup = describe(summary.val_accuracy_dedup, summary.val_accuracy_dedup_interval);
    text + &format!(
        "validation accuracy {all}; without duplicates of training images {dedup}; {} trees fitted in {}; forest: {}\n",
        summary.trees,
        seconds(fit),
        dir.forest_safetensors().display(),
    )
}
