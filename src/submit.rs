//! Prediction files: `id,emotion` as Kaggle takes it, or with a probability for each class; and reading labels for scoring.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result};

use crate::data::bounds;
use crate::data::columns::parse_label;
use crate::data::faces::Faces;
use crate::data::lines::{Lines, without_bom};
use crate::error::input;
use crate::files::{check_regular_file, write_atomically};
use crate::model::infer::Outputs;
use crate::text::short;

/// The ids of faces: their `id` column, or else their 0-based row numbers.
pub fn ids(faces: &Faces) -> Vec<String> {
    faces.ids.clone().unwrap_or_else(|| faces.rows.iter().map(ToString::to_string).collect())
}

/// Refuses faces of which two have one id: a file of predictions with an id twice is of no use.
///
/// # Errors
/// An input error with the id.
pub fn check_ids(faces: &Faces, path: &Path) -> Result<()> {
    let mut known = HashSet::new();
    match faces.ids.iter().flatten().find(|id| !known.insert(id.as_str())) {
        Some(id) => Err(input(format!("{}: column id: {:?} stands there twice", path.display(), short(id, 40)))),
        None => Ok(()),
    }
}

/// Writes one row a face to `path`, atomically: `id,emotion`, and with `classes` a column per class, named as the class.
///
/// # Errors
/// An I/O error with the path.
pub fn write(path: &Path, faces: &Faces, outputs: &Outputs, classes: Option<&[String]>) -> Result<()> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let names = classes.unwrap_or_default();
    writer.write_record(["id", "emotion"].into_iter().chain(names.iter().map(String::as_str)))?;
    let rows = outputs.probabilities.chunks(outputs.classes.max(1));
    for ((id, label), row) in ids(faces).into_iter().zip(outputs.predicted()).zip(rows) {
        let shown = if classes.is_some() { row } else { &[] };
        let cells = [id, label.to_string()].into_iter().chain(shown.iter().map(ToString::to_string));
        writer.write_record(cells)?;
    }
    let bytes = writer.into_inner().context("writing CSV to memory")?;
    write_atomically(path, &bytes)
}

/// Reads `id,emotion` and gives the label of each of `wanted`, in that order. Rows of other ids are read, but not kept.
///
/// # Errors
/// Input errors that name file and line: a missing column, an unknown label, an id twice, an id without a label.
pub fn read_labels(path: &Path, wanted: &[String], classes: usize) -> Result<Vec<u8>> {
    let shown = path.display();
    check_regular_file(path, "a CSV of labels")?;
    bounds::check(path)?;
    let (file, mark) = without_bom(std::fs::File::open(path)?)?;
    let mut reader = ::csv::ReaderBuilder::new().trim(::csv::Trim::All).from_reader(file);
    let mut lines = Lines::new(path)?;
    let header = reader.headers().map_err(|error| input(format!("{shown}: line 1: {error}")))?.clone();
    if header.is_empty() {
        return Err(input(format!("{shown}: is empty; expected a CSV with the columns id and emotion")));
    }
    let find = |name: &str| {
        let mut places = header.iter().enumerate().filter(|(_, column)| *column == name).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (None, _) => Err(input(format!("{shown}: line 1: no column {name}; expected id,emotion"))),
            _ => Err(input(format!("{shown}: line 1: two columns are named {name}"))),
        }
    };
    let (id_place, label_place) = (find("id")?, find("emotion")?);
    let mut labels: HashMap<&str, Option<u8>> = wanted.iter().map(|id| (id.as_str(), None)).collect();
    let mut record = ::csv::StringRecord::new();
    loop {
        let start = mark + reader.position().byte();
        let mut refuse = |problem: String| match lines.of(start) {
            Ok(line) => input(format!("{shown}: line {line}{problem}")),
            Err(error) => error,
        };
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Err(refuse(format!(": {}", in_words(&error)))),
        }
        let (id, text) = (record.get(id_place).unwrap_or_default(), record.get(label_place).unwrap_or_default());
        let Some(label) = parse_label(text, classes) else {
            let (text, most) = (short(text, 40), classes.saturating_sub(1));
            return Err(refuse(format!(", column emotion: unknown label {text:?}; expected 0..{most}")));
        };
        if labels.get_mut(id).is_some_and(|known| known.replace(label).is_some()) {
            return Err(refuse(format!(", column id: {:?} stands there twice", short(id, 40))));
        }
    }
    wanted
        .iter()
        .map(|id| {
            labels
                .get(id.as_str())
                .copied()
                .flatten()
                .ok_or_else(|| input(format!("{shown}: no label for id {:?}", short(id, 40))))
        })
        .collect()
}

/// What is wrong with a record, without the place that the csv crate gives, which is not a line.
fn in_words(error: &::csv::Error) -> String {
    match error.kind() {
        ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields; the header has {expected_len}")
        }
        ::csv::ErrorKind::Utf8 { err, .. } => format!("field {}: not UTF-8", err.field() + 1),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_back_in_the_order_of_ids() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        let read = |text: &str, ids: &[&str]| {
            fs_err::write(&path, text).unwrap();
            read_labels(&path, &ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>(), 7)
        };
        assert_eq!(read("\u{feff}id, emotion\r\na,3\r\nb,6\r\n", &["b", "a"]).unwrap(), [6, 3]);
        let message = |text: &str| read(text, &["a"]).unwrap_err().to_string();
        assert!(message("id,label\na,3\n").contains("line 1: no column emotion"));
        assert!(message("id,emotion\na,9\n").contains("line 2, column emotion: unknown label \"9\"; expected 0..6"));
        assert!(message("id,emotion\na,1\na,2\n").contains("line 3, column id: \"a\" stands there twice"));
        assert!(message("id,emotion\nb,1\n").contains("no label for id \"a\""));
    }

    #[test]
    fn predictions_are_written_with_and_without_probabilities() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let faces = Faces { rows: vec![0, 2], ..Faces::default() };
        let outputs =
            Outputs { logits: vec![0.0, 1.0, 3.0, 1.0], probabilities: vec![0.25, 0.75, 0.9, 0.1], classes: 2 };
        write(&path, &faces, &outputs, None).unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "id,emotion\n0,1\n2,0\n");
        write(&path, &faces, &outputs, Some(&["sad".into(), "happy".into()])).unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "id,emotion,sad,happy\n0,1,0.25,0.75\n2,0,0.9,0.1\n");
    }
}
