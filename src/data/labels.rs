//! Labels: parsing class numbers and reading label files.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;

use super::csv::records::Records;
use crate::util::error::input;
use crate::util::text::short;

/// Parses the cell of a column `emotion`; `None` unless it is a number below `classes`.
pub fn parse_label(text: &str, classes: usize) -> Option<u8> {
    let digits = text.trim();
    let label = digits.parse::<u8>().ok().filter(|label| usize::from(*label) < classes);
    label.filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Reads a CSV `id,emotion` and returns the labels of `ids`, in that order. Rows with other ids are
/// checked and dropped.
///
/// # Errors
/// Input errors with file and line: a missing column, an unknown label, a duplicate id, an id
/// without a label.
pub fn read_labels(path: &Path, ids: &[String], classes: usize) -> Result<Vec<u8>> {
    let mut records = Records::open(path, "a CSV of labels", "id,emotion")?;
    let (id_column, label_column) = (records.column("id")?, records.column("emotion")?);
    let mut labels: HashMap<&str, Option<u8>> = ids.iter().map(|id| (id.as_str(), None)).collect();
    while records.advance()? {
        let (id, text) = (records.cell(id_column), records.cell(label_column));
        let Some(label) = parse_label(text, classes) else {
            let (text, max) = (short(text, 40), classes.saturating_sub(1));
            let problem = format!(", column emotion: unknown label {text:?}; expected 0..{max}");
            return Err(records.error(&problem));
        };
        if labels.get_mut(id).is_some_and(|slot| slot.replace(label).is_some()) {
            let problem = format!(", column id: duplicate id {:?}", short(id, 40));
            return Err(records.error(&problem));
        }
    }
    ids.iter()
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
    fn labels_are_in_the_order_of_ids() {
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
        assert!(message("id,emotion\na,1\na,2\n").contains("line 3, column id: duplicate id \"a\""));
        assert!(message("id,emotion\nb,1\n").contains("no label for id \"a\""));
    }
}
