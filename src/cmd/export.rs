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
    let done = export(&run, &args.out)?;
    if args.json {
        let (out, description) = (args.out.to_string_lossy(), done.description.to_string_lossy());
        let found = json!({"out": out, "description": description, "checked_faces": done.faces, "greatest_difference": done.difference});
        print_json(&found)?;
    } else {
        print(&format!(
            "{} written, {} beside it; read back and compared on {} faces: probabilities differ by {} at most\n",
            args.out.display(),
            done.description.display(),
            done.faces,
            if done.difference == 0.0 { "0".to_owned() } else { format!("{:.0e}", done.difference) },
        ))?;
    }
    Ok(Outcome::Done)
}
