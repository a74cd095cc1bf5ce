//! Reading label files.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;

use super::advice::Advice;
use super::csv::records::Records;
use super::label_map::{LabelMap, LabelTarget};
use crate::util::error::input;
use crate::util::text::short;

/// Reads a CSV `id,emotion` and returns the labels of `ids`, in that order; `None` for an image
/// that the map leaves out. Rows with other ids are checked and dropped.
///
/// # Errors
/// Input errors with file and line: a missing column, an unknown label, a duplicate id, an id
/// without a label.
pub fn read_labels(path: &Path, ids: &[String], map: &LabelMap) -> Result<Vec<Option<u8>>> {
    let expected = "id,emotion";
    let mut records = Records::open(path, "a CSV of labels", expected, |header| {
        ["id", "emotion"].into_iter().try_for_each(|name| header.require(name, expected).map(drop))
    })?;
    let (id_column, label_column) = (records.column("id")?, records.column("emotion")?);
    let mut labels: HashMap<&str, Option<LabelTarget>> = ids.iter().map(|id| (id.as_str(), None)).collect();
    while records.advance()? {
        let (id, text) = (records.cell(id_column), records.cell(label_column));
        let Some(target) = map.resolve(text) else {
            let problem = format!(", column emotion: {}", map.describe_unknown(text, Advice::CommandLine));
            return Err(records.error(&problem));
        };
        if labels.get_mut(id).is_some_and(|slot| slot.replace(target).is_some()) {
            let problem = format!(", column id: duplicate id {:?}", short(id, 40));
            return Err(records.error(&problem));
        }
    }
    ids.iter()
        .map(|id| match labels.get(id.as_str()).copied().flatten() {
            Some(LabelTarget::Class(class)) => Ok(Some(class)),
            Some(LabelTarget::Skip) => Ok(None),
            None => Err(input(format!("{}: no label for id {:?}", records.name(), short(id, 40)))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::label_map::{CLASSES, LabelNames};

    #[test]
    fn labels_are_in_the_order_of_ids() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        let classes = CLASSES.map(String::from);
        let read_with = |text: &str, ids: &[&str], names: &str| {
            fs_err::write(&path, text).unwrap();
            let names = if names.is_empty() { LabelNames::Classes } else { LabelNames::parse(names).unwrap() };
            read_labels(
                &path,
                &ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>(),
                &LabelMap::new(&classes, &names),
            )
        };
        let read = |text: &str, ids: &[&str]| read_with(text, ids, "");
        assert_eq!(read("\u{feff}id, emotion\r\na,3\r\nb,6\r\n", &["b", "a"]).unwrap(), [Some(6), Some(3)]);
        assert_eq!(read("ID;Emotion\na;3.0\nb;Neutral\n", &["b", "a"]).unwrap(), [Some(6), Some(3)]);
        assert_eq!(read_with("id\temotion\na\tjoy\nb\t6\n", &["b", "a"], "joy=happy,6=skip").unwrap(), [None, Some(3)]);
        let message = |text: &str| read(text, &["a"]).unwrap_err().to_string();
        assert!(message("id,label\na,3\n").contains("line 1: no column emotion"));
        assert!(message("id,emotion\na,9\n").contains("line 2, column emotion: unknown label \"9\"; expected 0..6"));
        assert!(message("id,emotion\na,9\n").contains("--label-map '9=CLASS'"));
        assert!(message("id,emotion\na,1\na,2\n").contains("line 3, column id: duplicate id \"a\""));
        assert!(message("id,emotion\nb,1\n").contains("no label for id \"a\""));
    }
}
