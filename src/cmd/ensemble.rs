//! `grimace ensemble`

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{print, print_json, read_labelled_faces};
use crate::cli::Ensemble as Args;
use crate::config::DeviceChoice;
use crate::device::place_for_inference;
use crate::ensemble::{Ensemble, Scores};
use crate::error::{Outcome, input};
use crate::export::Exported;
use crate::files::check_output_beside;
use crate::metrics::Evaluation;
use crate::report::Console;
use crate::report::table::{table, thousands};

pub fn run(args: &Args) -> Result<Outcome> {
    if args.out.is_none() && args.data.is_none() {
        return Err(input(
            "there is nothing to do: give --out FILE to write the ensemble, --data CSV to score it, or both",
        ));
    }
    if let Some(out) = &args.out {
        let inputs: Vec<&Path> = [&args.data, &args.labels].into_iter().flatten().map(AsRef::as_ref).collect();
        check_output_beside(out, &inputs)?;
    }
    let ensemble = Ensemble::open(&args.runs, args.views)?;
    if let Some(out) = &args.out {
        ensemble.members().try_for_each(|run| run.dir.check_foreign(out))?;
    }
    let mut console = Console::default();
    ensemble.warnings()?.iter().try_for_each(|warning| console.line(warning))?;
    let faces = match &args.data {
        Some(data) => Some(read_labelled_faces(data, args.labels.as_deref(), args.usage.as_deref(), ensemble.data())?),
        None => None,
    };
    let exported = match &args.out {
        Some(out) => {
            place_for_inference(DeviceChoice::Cpu, 0)?;
            Some((out.as_path(), ensemble.export(out)?))
        }
        None => None,
    };
    let scores = match &faces {
        Some((faces, labels)) => Some(ensemble.score(faces, labels, args.device)?),
        None => None,
    };
    if args.json {
        print_json(&as_json(&ensemble, exported.as_ref(), scores.as_ref()))?;
    } else {
        print(&in_words(&ensemble, exported.as_ref(), scores.as_ref()))?;
    }
    Ok(Outcome::Done)
}

fn as_json(ensemble: &Ensemble, exported: Option<&(&Path, Exported)>, scores: Option<&Scores>) -> Value {
    let mut alone = scores.map(|scores| scores.members.iter()).into_iter().flatten();
    let members: Vec<Value> = ensemble
        .members()
        .map(|run| {
            json!({
                "run": run.dir.path().to_string_lossy(),
                "name": run.config.name,
                "seed": run.config.seed,
                "evaluation": alone.next(),
            })
        })
        .collect();
    json!({
        "views": ensemble.views(),
        "members": members,
        "one_split": ensemble.has_one_split(),
        "evaluation": scores.map(|scores| &scores.ensemble),
        "out": exported.map(|(out, _)| out.to_string_lossy()),
        "description": exported.map(|(_, done)| done.description.to_string_lossy()),
        "checked_faces": exported.map(|(_, done)| done.faces),
        "greatest_difference": exported.map(|(_, done)| done.difference),
    })
}

fn in_words(ensemble: &Ensemble, exported: Option<&(&Path, Exported)>, scores: Option<&Scores>) -> String {
    let count = ensemble.members().count();
    let views = ensemble.views();
    let mut text = format!("{count} networks; views {views}: {}\n", views.in_words());
    text += if ensemble.has_one_split() {
        "all were validated on one split, and their best epochs chosen on it\n"
    } else {
        "they were validated on different splits: validation faces of one may be training faces of another\n"
    };
    match scores {
        Some(scores) => text += &figures(ensemble, scores),
        None => text += "not scored; --data CSV scores the ensemble and its members\n",
    }
    if let Some((out, done)) = exported {
        text += &format!("{}\n", done.in_words(out));
    }
    text
}

fn figures(ensemble: &Ensemble, scores: &Scores) -> String {
    let line = |name: String, e: &Evaluation| {
        let without = e.accuracy_without_copies.map_or("-".to_owned(), |accuracy| format!("{accuracy:.4}"));
        vec![name, format!("{:.4}", e.accuracy), without, format!("{:.4}", e.ece), format!("{:.4}", e.loss)]
    };
    let mut rows = vec![["", "accuracy", "without copies", "ECE", "loss"].map(String::from).to_vec()];
    rows.push(line("ensemble".to_owned(), &scores.ensemble));
    for (run, evaluation) in ensemble.members().zip(&scores.members) {
        rows.push(line(run.dir.path().display().to_string(), evaluation));
    }
    let e = &scores.ensemble;
    format!(
        "\n{}\n{} faces; without copies: without the {} that also stand in a member's training rows\n",
        table(&rows),
        thousands(e.rows),
        thousands(e.rows - e.rows_without_copies)
    )
}
