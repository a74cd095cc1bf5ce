//! `grimace sweep`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::common::{own_command, print, print_json};
use crate::device::DeviceChoice;
use crate::report::text_table::table;
use crate::sweep::driver::{Sweep, SweepOptions, SweepResult, Task};
use crate::sweep::many_machines::PartResult;
use crate::sweep::shard::ShardChoice;
use crate::util::error::Outcome;
use crate::util::signals::Signals;

/// `grimace sweep`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace sweep configs/sweep/*.toml --seeds 5 --forest configs/forest.toml --out runs/five\n  grimace sweep configs/sweep/*.toml --seeds 5 --forest configs/forest.toml --out runs/five --resume\n  grimace sweep configs/notebook.toml --vary train.ema=0,0.998 \\\n      --vary 'model.filters=[32,64,128],[64,128,256]'\n\nOver several machines that share a file system, with the same arguments each time (docs/many-machines.md):\n  grimace sweep configs/sweep/*.toml --seeds 5 --out runs/five --plan\n  grimace sweep configs/sweep/*.toml --seeds 5 --out runs/five --shard 0/2\n  grimace sweep configs/sweep/*.toml --seeds 5 --out runs/five --shard 1/2\n  grimace sweep configs/sweep/*.toml --seeds 5 --out runs/five --collect\n\nWrites a run directory for each config, value and seed, comparison.csv and .md, report.html, and model.pt and submission.csv of the best run.\nA failed run is reported in the comparison and does not end the sweep; the exit code is then 1."
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
    /// Only check the inputs, and write --out with the list of runs, for --shard or --join
    #[arg(long, group = "task", requires = "out")]
    pub plan: bool,
    /// Only train every N-th run of the plan from the I-th on, counted from 0; or auto: from the
    /// variables of an array of Slurm, Kubernetes or AWS Batch
    #[arg(long, value_name = "I/N|auto", group = "task", requires = "out")]
    pub shard: Option<ShardChoice>,
    /// Only train runs of the plan, one after another, that no other process is training; needs a
    /// file system with locks
    #[arg(long, group = "task", requires = "out")]
    pub join: bool,
    /// Only fit the forest, compare the runs of the plan and export the best one
    #[arg(long, group = "task", requires = "out")]
    pub collect: bool,
    /// Compare also if runs are missing
    #[arg(long, requires = "collect")]
    pub partial: bool,
    /// Print the comparison as JSON; with --plan, --shard or --join the runs
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
    // Schedulers signal all processes of a job.
    let is_forwarded = args.worker.is_some() && (args.shard.is_some() || args.join);
    let signals = if is_forwarded { Signals::watch_forwarded()? } else { Signals::watch()? };
    let options = SweepOptions {
        configs: args.configs.clone(),
        sets: args.sets.clone(),
        vary: args.vary.clone(),
        seeds: args.seeds,
        forest: args.forest.clone(),
        parallel: args.parallel,
        out: args.out.clone(),
        resume: args.resume,
        task: task(args)?,
        command: own_command()?,
    };
    let sweep = Sweep::plan(&options, &signals)?;
    if let (Some(number), Some(dir)) = (args.worker, &args.out) {
        return sweep.work(number, args.worker_device, dir);
    }
    let result = match options.task {
        Task::Whole => sweep.run()?,
        Task::Collect { partial } => sweep.collect(partial)?,
        Task::Plan => return print_part(args, sweep.write_plan()?),
        Task::Shard(_) | Task::Join => return print_part(args, sweep.train_part()?),
    };
    if args.json {
        print_json(&result.comparison)?;
    } else {
        print(&describe(&result))?;
    }
    result.into_outcome()
}

fn task(args: &SweepArgs) -> Result<Task> {
    Ok(match args.shard {
        Some(shard) => Task::Shard(shard.resolve(|name| std::env::var(name).ok())?),
        None if args.plan => Task::Plan,
        None if args.join => Task::Join,
        None if args.collect => Task::Collect { partial: args.partial },
        None => Task::Whole,
    })
}

/// Prints the runs of a plan, a name on each line for scripts, or those of a shard with their results.
fn print_part(args: &SweepArgs, result: PartResult) -> Result<Outcome> {
    if args.json {
        print_json(&result)?;
    } else if args.plan {
        print(&result.runs.iter().map(|run| format!("{}\n", run.folder)).collect::<String>())?;
    } else {
        let accuracy = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let header = ["Run", "State", "Best Accuracy", "Last Accuracy"].map(str::to_owned).to_vec();
        let rows = result.runs.iter();
        let rows = rows.map(|run| vec![run.folder.clone(), run.state.clone(), accuracy(run.best), accuracy(run.last)]);
        print(&table(&[header].into_iter().chain(rows).collect::<Vec<_>>()))?;
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
