//! Prediction files: `id,emotion` as Kaggle takes it, or with a probability for each class; and reading labels for scoring.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::data::columns::parse_label;
use crate::data::faces::Faces;
use crate::data::table::Table;
use crate::error::input;
use crate::files::write_atomically;
use crate::model::infer::Outputs;
use crate::text::short;

/// Writes one row a face to `path`, atomically: `id,emotion`, and with `classes` a column per class, named as the class.
///
/// # Errors
/// An I/O error with the path.
pub fn write(path: &Path, faces: &Faces, outputs: &Outputs, classes: Option<&[String]>) -> Result<()> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let names = classes.unwrap_or_default();
    writer.write_record(["id", "emotion"].into_iter().chain(names.iter().map(String::as_str)))?;
    let rows = outputs.probabilities.chunks(outputs.classes.max(1));
    for ((id, label), row) in faces.names().into_iter().zip(outputs.predicted()).zip(rows) {
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
    let mut table = Table::open(path, "a CSV of labels", "id,emotion")?;
    let (id_place, label_place) = (table.column("id")?, table.column("emotion")?);
    let mut labels: HashMap<&str, Option<u8>> = wanted.iter().map(|id| (id.as_str(), None)).collect();
    while table.advance()? {
        let (id, text) = (table.cell(id_place), table.cell(label_place));
        let Some(label) = parse_label(text, classes) else {
            let (text, most) = (short(text, 40), classes.saturating_sub(1));
            let problem = format!(", column emotion: unknown label {text:?}; expected 0..{most}");
            return Err(table.refuse(&problem));
        };
        if labels.get_mut(id).is_some_and(|known| known.replace(label).is_some()) {
            let problem = format!(", column id: {:?} stands there twice", short(id, 40));
            return Err(table.refuse(&problem));
        }
    }
    wanted
        .iter()
        .map(|id| {
            labels
                .get(id.as_str())
                .copied()
                .flatten()
                .ok_or_else(|| input(format!("{}: no label for id {:?}", path.display(), short(id, 40))))
        })
        .collect()
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
