//! `grimace sweep`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::common::{own_command, print, print_json};
use crate::device::DeviceChoice;
use crate::report::text_table::table;
use crate::sweep::driver::{Sweep, SweepOptions, SweepResult};
use crate::util::error::Outcome;
use crate::util::signals::Signals;

/// `grimace sweep`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace sweep configs/sweep/*.toml --seeds 5 --forest configs/forest.toml --out runs/five\n  grimace sweep configs/sweep/*.toml --seeds 5 --forest configs/forest.toml --out runs/five --resume\n  grimace sweep configs/notebook.toml --vary train.ema=0,0.998 \\\n      --vary 'model.filters=[32,64,128],[64,128,256]'\n\nWrites a run directory for each config, value and seed, comparison.csv and .md, report.html, and model.pt and submission.csv of the best run.\nA failed run is reported in the comparison and does not end the sweep; the exit code is then 1."
)]
pub struct SweepArgs {
    /// Config files (TOML) with distinct names
    #[arg(required = true, value_name = "CONFIG")]
    pub configs: Vec<PathBuf>,
    /// Seeds of each config, counting up from its own; all share one split
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub seeds: u32,
    /// Train every config with each of these values of a key; with several --vary, with all
    /// combinations
    #[arg(long, value_name = "KEY=V1,V2")]
    pub vary: Vec<String>,
    /// Random-forest baseline: its config, or its run directory
    #[arg(long, value_name = "CONFIG")]
    pub forest: Option<PathBuf>,
    /// Override a key in every config, and data.* and seed in the forest's; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Number of training processes [default: one per CUDA device, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub parallel: Option<u32>,
    /// Directory of the sweep [default: runs/sweep-TIME, in UTC]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Resume the sweep in --out, or the newest one; finished runs are kept
    #[arg(long)]
    pub resume: bool,
    /// Print the comparison as JSON
    #[arg(long)]
    pub json: bool,
    /// Number of a worker process of --parallel
    #[arg(long, hide = true)]
    pub worker: Option<u32>,
    /// Device of that process for runs with device = "auto"
    #[arg(long, hide = true)]
    pub worker_device: Option<DeviceChoice>,
}

pub fn run(args: &SweepArgs) -> Result<Outcome> {
    let signals = Signals::watch()?;
    let options = SweepOptions {
        configs: args.configs.clone(),
        sets: args.sets.clone(),
        vary: args.vary.clone(),
        seeds: args.seeds,
        forest: args.forest.clone(),
        parallel: args.parallel,
        out: args.out.clone(),
        resume: args.resume,
        command: own_command()?,
    };
    let sweep = Sweep::plan(&options, &signals)?;
    if let (Some(number), Some(dir)) = (args.worker, &args.out) {
        return sweep.work(number, args.worker_device, dir);
    }
    let result = sweep.run()?;
    if args.json {
        print_json(&result.comparison)?;
    } else {
        print(&describe(&result))?;
    }
    result.into_outcome()
}

fn describe(result: &SweepResult) -> String {
    let (header, rows) = result.comparison.to_table();
    let mut text = table(&[vec![header], rows].concat()) + "\n";
    result.comparison.caveats().iter().for_each(|note| text += &format!("{note}\n"));
    result.exported.as_deref().unwrap_or_default().iter().for_each(|line| text += &format!("{line}\n"));
    text + &format!(
        "comparison: {}\nreport: {}\n",
        result.dir.file("comparison.md").display(),
        result.dir.file("report.html").display()
    )
}
