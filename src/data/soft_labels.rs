//! `data.soft_labels`: for each training image a weight of every class, such as another network's probabilities (Hinton,
//! Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network") or the votes of several people (Barsoum, Zhang,
//! Canton Ferrer, Zhang 2016, FER+).

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;

use super::images::Images;
use crate::data::csv::records::Table;
use crate::util::error::input;
use crate::util::text::short;

/// The greatest vote: no sum of them overflows.
const MAX_WEIGHT: f64 = 1e9;

/// Shares of the classes for the training images.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftLabels {
    /// float32 [N, classes], row-major, in the order of the images; each row sums to 1.
    pub soft: Vec<f32>,
    /// Number of classes.
    pub classes: usize,
}

impl SoftLabels {
    /// Hash of the soft: the same for the same soft of the same images, whatever else their file holds.
    pub fn hash(&self) -> String {
        let bytes: Vec<u8> = self.soft.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        blake3::hash(&bytes).to_hex().to_string()
    }
}

/// Reads the soft labels of `images`, which are those of `train`, from the CSV at `path`: the column `id` as `grimace predict`
/// names an image (its `id` in `train`, or else its row there from 0), and a column of votes or probabilities for each
/// class by its name, 0 to 1e9, which are scaled to sum to 1. Other columns are not looked at; rows of other ids are, but not kept.
///
/// # Errors
/// Input errors that name file and line: a missing column, a cell that is no such number, a row that sums to 0, an id twice;
/// a training image without a row.
pub fn read(path: &Path, classes: &[String], images: &Images, train: &Path) -> Result<SoftLabels> {
    images.check_ids(train)?;
    let mut table = Table::open(path, "a CSV of soft labels", &format!("id,{}", classes.join(",")))?;
    let id_place = table.column("id")?;
    let places = classes.iter().map(|class| table.column(class)).collect::<Result<Vec<usize>>>()?;
    let names = images.names();
    let positions: HashMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
    let mut rows: Vec<Option<Vec<f32>>> = vec![None; names.len()];
    while table.advance()? {
        let mut votes = Vec::with_capacity(classes.len());
        for (class, place) in classes.iter().zip(&places) {
            let text = table.cell(*place);
            let Some(vote) = text.parse::<f64>().ok().filter(|vote| (0.0..=MAX_WEIGHT).contains(vote)) else {
                let problem =
                    format!(", column {class}: {:?}; expected a vote or a probability, 0 to 1e9", short(text, 40));
                return Err(table.refuse(&problem));
            };
            votes.push(vote);
        }
        let sum: f64 = votes.iter().sum();
        if sum <= 0.0 {
            return Err(table.refuse(": no class has a vote; expected at least one number above 0"));
        }
        let id = table.cell(id_place);
        let Some(row) = positions.get(id).and_then(|position| rows.get_mut(*position)) else { continue };
        if row.replace(votes.iter().map(|vote| (vote / sum) as f32).collect()).is_some() {
            let problem = format!(", column id: {:?} stands there twice", short(id, 40));
            return Err(table.refuse(&problem));
        }
    }
    let mut soft = Vec::with_capacity(names.len() * classes.len());
    for (row, id) in rows.into_iter().zip(&names) {
        soft.extend(row.ok_or_else(|| {
            let (shown, id, train) = (path.display(), short(id, 40), train.display());
            input(format!(
                "{shown}: no row for id {id:?}, a training image of {train}; expected one for each, as \
                 grimace predict RUN --data {train} --out {shown} --probabilities writes them"
            ))
        })?);
    }
    Ok(SoftLabels { soft, classes: classes.len() })
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
    fn shares_come_in_the_order_of_images_and_sum_to_1() {
        let votes = "happy,note,id,sad\n3,x,2,1\n1,,1,0\n0.5,,0,0.5\n";
        let soft = read_text(votes, &images()).unwrap();
        assert_eq!((soft.soft.as_slice(), soft.classes), (&[0.5, 0.5, 0.25, 0.75][..], 2));
        let probabilities = read_text("id,emotion,sad,happy\n0,0,1e-1,.1\n2,1,25e-2,0.75\n", &images()).unwrap();
        assert_eq!((&probabilities, probabilities.hash()), (&soft, soft.hash()));
        let other = read_text("id,sad,happy\n0,1,1\n2,1,2\n", &images()).unwrap();
        assert_ne!(other.hash(), soft.hash());
        let named = Images { ids: Some(vec!["b".into(), "a".into()]), ..images() };
        assert_eq!(read_text("id,sad,happy\na,0,1\nb,1,0\n", &named).unwrap().soft, [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(read_text("id,sad,happy\n0,5e-324,0\n2,1e9,1e9\n", &images()).unwrap().soft, [1.0, 0.0, 0.5, 0.5]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let message = |rows: &str| read_text(&format!("id,sad,happy\n{rows}"), &images()).unwrap_err().to_string();
        let number = "expected a vote or a probability, 0 to 1e9";
        for cell in ["nan", "inf", "-1", "", "x", "1e10", "-0.1"] {
            let text = message(&format!("0,1,0\n2,{cell},1\n"));
            assert!(text.contains(&format!("soft.csv: line 3, column sad: {cell:?}; {number}")), "{text}");
        }
        for (rows, wanted) in [
            ("0,1,0\n2,0,0\n", "soft.csv: line 3: no class has a vote"),
            ("0,1,0\n1,0,0\n", "soft.csv: line 3: no class has a vote"),
            ("0,1,0\n2,1,0\n0,1,0\n", "soft.csv: line 4, column id: \"0\" stands there twice"),
            ("0,1,0\n", "soft.csv: no row for id \"2\", a training image of train.csv; expected one for each"),
            ("0,1\n", "soft.csv: line 2: 2 fields; the header has 3"),
        ] {
            let text = message(rows);
            assert!(text.contains(wanted), "{text}");
        }
        let text = read_text("id,sad\n0,1\n", &images()).unwrap_err().to_string();
        assert!(text.contains("soft.csv: line 1: no column happy; expected id,sad,happy"), "{text}");
        let named = Images { ids: Some(vec!["a".into(), "a".into()]), ..images() };
        let text = read_text("id,sad,happy\na,1,0\n", &named).unwrap_err().to_string();
        assert!(text.contains("train.csv: column id: \"a\" stands there twice"), "{text}");
    }
}
