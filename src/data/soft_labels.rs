//! `data.soft_labels`: a weight per training image and class, such as the probabilities of a
//! teacher network (Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network") or
//! the votes of annotators (Barsoum, Zhang, Canton Ferrer, Zhang 2016, FER+).

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;

use super::images::Images;
use crate::data::csv::records::Records;
use crate::util::error::input;
use crate::util::text::short;

/// Maximum of a vote, so that no sum overflows.
const MAX_WEIGHT: f64 = 1e9;

/// Class weights of the training images.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftLabels {
    /// float32 [N, classes], row-major, in image order; each row sums to 1.
    pub weights: Vec<f32>,
    /// Number of classes.
    pub classes: usize,
}

impl SoftLabels {
    /// Hash of the weights, independent of the layout of their file.
    pub fn hash(&self) -> String {
        let bytes: Vec<u8> = self.weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        blake3::hash(&bytes).to_hex().to_string()
    }
}

/// Reads the soft labels of `images`, the training images of the file `train`, from the CSV at
/// `path`.
///
/// The CSV has the column `id` as written by `grimace predict` (the `id` in `train`, or the row
/// index from 0) and one column per class name with votes or probabilities, 0 to 1e9. Rows are
/// normalized to sum to 1. Other columns are ignored; rows with other ids are checked and dropped.
///
/// # Errors
/// Input errors with file and line: a missing column, an invalid number, a row that sums to 0, a
/// duplicate id, a training image without a row.
pub fn read(path: &Path, classes: &[String], images: &Images, train: &Path) -> Result<SoftLabels> {
    images.check_ids(train)?;
    let mut records = Records::open(path, "a CSV of soft labels", &format!("id,{}", classes.join(",")))?;
    let id_column = records.column("id")?;
    let class_columns = classes.iter().map(|class| records.column(class)).collect::<Result<Vec<usize>>>()?;
    let ids = images.row_ids();
    let positions: HashMap<&str, usize> = ids.iter().map(String::as_str).zip(0..).collect();
    let mut rows: Vec<Option<Vec<f32>>> = vec![None; ids.len()];
    while records.advance()? {
        let mut votes = Vec::with_capacity(classes.len());
        for (class, column) in classes.iter().zip(&class_columns) {
            let text = records.cell(*column);
            let Some(vote) = text.parse::<f64>().ok().filter(|vote| (0.0..=MAX_WEIGHT).contains(vote)) else {
                let problem =
                    format!(", column {class}: {:?}; expected a vote or a probability, 0 to 1e9", short(text, 40));
                return Err(records.error(&problem));
            };
            votes.push(vote);
        }
        let sum: f64 = votes.iter().sum();
        if sum <= 0.0 {
            return Err(records.error(": all votes are 0; expected at least one above 0"));
        }
        let id = records.cell(id_column);
        let Some(row) = positions.get(id).and_then(|position| rows.get_mut(*position)) else { continue };
        if row.replace(votes.iter().map(|vote| (vote / sum) as f32).collect()).is_some() {
            let problem = format!(", column id: duplicate id {:?}", short(id, 40));
            return Err(records.error(&problem));
        }
    }
    let mut weights = Vec::with_capacity(ids.len() * classes.len());
    for (row, id) in rows.into_iter().zip(&ids) {
        weights.extend(row.ok_or_else(|| {
            let (display, id, train) = (path.display(), short(id, 40), train.display());
            input(format!(
                "{display}: no row for id {id:?}, a training image of {train}; expected one row per training image, \
                 as written by grimace predict RUN --data {train} --out FILE --probabilities"
            ))
        })?);
    }
    Ok(SoftLabels { weights, classes: classes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, images: &Images) -> Result<SoftLabels> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("soft.csv");
        fs_err::write(&path, text).unwrap();
        read(&path, &["sad".to_owned(), "happy".to_owned()], images, Path::new("train.csv"))
    }

    /// Rows 0 and 2 of a file.
    fn images() -> Images {
        Images { rows: vec![0, 2], ..Images::default() }
    }

    #[test]
    fn weights_are_normalized_and_in_image_order() {
        let votes = "happy,note,id,sad\n3,x,2,1\n1,,1,0\n0.5,,0,0.5\n";
        let soft = read_text(votes, &images()).unwrap();
        assert_eq!((soft.weights.as_slice(), soft.classes), (&[0.5, 0.5, 0.25, 0.75][..], 2));
        let probabilities = read_text("id,emotion,sad,happy\n0,0,1e-1,.1\n2,1,25e-2,0.75\n", &images()).unwrap();
        assert_eq!((&probabilities, probabilities.hash()), (&soft, soft.hash()));
        let other = read_text("id,sad,happy\n0,1,1\n2,1,2\n", &images()).unwrap();
        assert_ne!(other.hash(), soft.hash());
        let named = Images { ids: Some(vec!["b".into(), "a".into()]), ..images() };
        assert_eq!(read_text("id,sad,happy\na,0,1\nb,1,0\n", &named).unwrap().weights, [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(
            read_text("id,sad,happy\n0,5e-324,0\n2,1e9,1e9\n", &images()).unwrap().weights,
            [1.0, 0.0, 0.5, 0.5]
        );
    }

    #[test]
    fn errors_name_the_line() {
        let message = |rows: &str| read_text(&format!("id,sad,happy\n{rows}"), &images()).unwrap_err().to_string();
        let number = "expected a vote or a probability, 0 to 1e9";
        for cell in ["nan", "inf", "-1", "", "x", "1e10", "-0.1"] {
            let text = message(&format!("0,1,0\n2,{cell},1\n"));
            assert!(text.contains(&format!("soft.csv: line 3, column sad: {cell:?}; {number}")), "{text}");
        }
        for (rows, expected) in [
            ("0,1,0\n2,0,0\n", "soft.csv: line 3: all votes are 0"),
            ("0,1,0\n1,0,0\n", "soft.csv: line 3: all votes are 0"),
            ("0,1,0\n2,1,0\n0,1,0\n", "soft.csv: line 4, column id: duplicate id \"0\""),
            ("0,1,0\n", "soft.csv: no row for id \"2\", a training image of train.csv; expected one row per"),
            ("0,1\n", "soft.csv: line 2: 2 fields; the header has 3"),
        ] {
            let text = message(rows);
            assert!(text.contains(expected), "{text}");
        }
        let text = read_text("id,sad\n0,1\n", &images()).unwrap_err().to_string();
        assert!(text.contains("soft.csv: line 1: no column happy; expected id,sad,happy"), "{text}");
        let named = Images { ids: Some(vec!["a".into(), "a".into()]), ..images() };
        let text = read_text("id,sad,happy\na,1,0\n", &named).unwrap_err().to_string();
        assert!(text.contains("train.csv: column id: duplicate id \"a\""), "{text}");
    }
}
