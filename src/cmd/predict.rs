//! `grimace predict`

use anyhow::Result;
use serde_json::json;

use super::{print, print_json, read_faces};
use crate::cli::Predict;
use crate::data::columns::Labels;
use crate::error::Outcome;
use crate::files::check_output_beside;
use crate::report::table::thousands;
use crate::rundir::TrainedRun;
use crate::submit;

pub fn run(args: &Predict) -> Result<Outcome> {
    check_output_beside(&args.out, &[&args.data])?;
    let run = TrainedRun::open(&args.run)?;
    run.dir().check_foreign(&args.out)?;
    let views = run.views(args.views)?;
    let classes = &run.data().classes;
    let faces = read_faces(&args.data, run.data(), Labels::Ignored, args.usage.as_deref())?;
    faces.check_ids(&args.data)?;
    let outputs = run.outputs(&faces, args.device, views)?;
    submit::write(&args.out, &faces, &outputs, args.probabilities.then_some(&classes[..]))?;
    if args.json {
        print_json(
            &json!({"out": args.out.to_string_lossy(), "rows": faces.len(), "probabilities": args.probabilities, "views": views}),
        )?;
    } else {
        print(&format!("{} predictions written to {}\n", thousands(faces.len()), args.out.display()))?;
    }
    Ok(Outcome::Done)
}
