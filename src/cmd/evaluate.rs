//! `grimace evaluate`

use anyhow::Result;

use super::{print, print_json, read_faces};
use crate::cli::Evaluate;
use crate::data::columns::Labels;
use crate::data::split::seen_in;
use crate::error::{Outcome, input};
use crate::metrics::Evaluation;
use crate::report::table::{table, thousands};
use crate::rundir::TrainedRun;
use crate::submit;

pub fn run(args: &Evaluate) -> Result<Outcome> {
    let run = TrainedRun::open(&args.run)?;
    let classes = &run.data().classes;
    let wanted = if args.labels.is_some() { Labels::Ignored } else { Labels::IfPresent };
    let faces = read_faces(&args.data, &run, wanted, args.usage.as_deref())?;
    let labels = match (&args.labels, &faces.labels) {
        (Some(path), _) => {
            faces.check_ids(&args.data).and_then(|()| submit::read_labels(path, &faces.names(), classes.len()))?
        }
        (None, Some(labels)) => labels.clone(),
        (None, None) => {
            let shown = args.data.display();
            return Err(input(format!(
                "{shown}: has no column emotion, so there is nothing to compare with; give the labels with --labels CSV (id,emotion)"
            )));
        }
    };
    let seen = seen_in(&faces.hashes, &run.training_faces()?);
    let outputs = run.outputs(&faces, args.device)?;
    let evaluation = Evaluation::of(&outputs, &labels, &seen, classes);
    if args.json {
        print_json(&evaluation)?;
    } else {
        print(&describe(&evaluation, classes))?;
    }
    Ok(Outcome::Done)
}

fn describe(evaluation: &Evaluation, classes: &[String]) -> String {
    let e = evaluation;
    let without = match e.accuracy_without_copies {
        Some(accuracy) => format!("{accuracy:.4}"),
        None => "-".into(),
    };
    let copies = e.rows - e.rows_without_copies;
    let mut text = format!(
        "accuracy {:.4} on {} faces\n         {without} without the {} faces that also stand in the training rows\n\
         macro F1 {:.4}   ECE {:.4}   loss {:.4}\n\n",
        e.accuracy,
        thousands(e.rows),
        thousands(copies),
        e.macro_f1,
        e.ece,
        e.loss,
    );
    let header = ["class", "faces", "precision", "recall", "F1"].map(String::from).to_vec();
    let line = |c: &crate::metrics::PerClass| {
        let shown = [c.precision, c.recall, c.f1].map(|value| format!("{value:.4}"));
        [vec![c.class.clone(), thousands(c.rows as usize)], shown.to_vec()].concat()
    };
    text += &table(&[vec![header], e.per_class.iter().map(line).collect()].concat());
    text += "\nconfusion: rows are the true class, columns the predicted one\n";
    let mut rows = vec![[vec![String::new()], classes.to_vec()].concat()];
    for (class, counts) in classes.iter().zip(e.confusion.rows()) {
        rows.push([vec![class.clone()], counts.iter().map(ToString::to_string).collect()].concat());
    }
    text + &table(&rows)
}
