//! `grimace export`

use anyhow::Result;
use serde_json::json;

use super::{print, print_json};
use crate::cli::Export;
use crate::error::Outcome;
use crate::export::export;
use crate::files::check_output_file;
use crate::rundir::{RunDir, TrainedNet};

pub fn run(args: &Export) -> Result<Outcome> {
    check_output_file(&args.out)?;
    let run = TrainedNet::open(RunDir::open(&args.run)?)?;
    run.dir.check_foreign(&args.out)?;
    crate::device::place_for_inference(crate::config::DeviceChoice::Cpu, run.config.threads)?;
    let views = args.views.unwrap_or(run.config.predict.views);
    let done = export(&run, views, &args.out)?;
    if args.json {
        let (out, description) = (args.out.to_string_lossy(), done.description.to_string_lossy());
        let found = json!({"out": out, "description": description, "views": views, "checked_faces": done.faces, "greatest_difference": done.difference});
        print_json(&found)?;
    } else {
        print(&format!("{}\nviews {views}: {}\n", done.in_words(&args.out), views.in_words()))?;
    }
    Ok(Outcome::Done)
}
