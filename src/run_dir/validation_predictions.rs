//! `validation.csv`: what a run's model made of each validation face, for whoever must defend its figures.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::data::dataset::Dataset;
use crate::metrics::predictions::Outputs;
use crate::util::error::input;
use crate::util::files::{check_regular_file, write_atomically};

/// What is read again of `validation.csv`: enough to compare two models face by face.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers {
    /// Hash of each validation face.
    pub faces: Vec<String>,
    /// Whether the model's class is the label.
    pub right: Vec<bool>,
}

impl Answers {
    /// Writes `row,face,label,predicted,copy` and a column of probability for each class; `copy` is 1 for a face that also
    /// stands among the training rows.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write(path: &Path, data: &Dataset, outputs: &Outputs, classes: &[String]) -> Result<()> {
        let faces = &data.validation;
        let mut text = format!("row,face,label,predicted,copy,{}\n", classes.join(","));
        let rows = faces.rows.iter().zip(&faces.hashes).zip(data.validation_labels()).zip(&data.validation_seen);
        let answers = outputs.predicted().into_iter().zip(outputs.probabilities.chunks(outputs.classes.max(1)));
        for ((((row, face), label), copy), (predicted, probabilities)) in rows.zip(answers) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{row},{face},{label},{predicted},{}", u8::from(*copy));
            for probability in probabilities {
                let _ = write!(text, ",{probability}");
            }
            text.push('\n');
        }
        write_atomically(path, text.as_bytes())
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// An input error with the line that is something else.
    pub fn read(path: &Path) -> Result<Self> {
        check_regular_file(path, "the validation faces of a run")?;
        let mut reader = ::csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut answers = Self::default();
        for (number, record) in reader.records().enumerate() {
            let record = record.ok().filter(|record| record.len() > 5);
            let fields = record.as_ref().and_then(|record| Some((record.get(1)?, record.get(2)?, record.get(3)?)));
            let Some((face, label, predicted)) = fields else {
                let (shown, line) = (path.display(), number + 2);
                return Err(input(format!(
                    "{shown}: line {line}: expected row,face,label,predicted,copy and probabilities"
                )));
            };
            answers.faces.push(face.to_owned());
            answers.right.push(label == predicted);
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::{FaceHash, Faces};

    #[test]
    fn answers_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("validation.csv");
        let validation = Faces {
            rows: vec![3, 8],
            hashes: vec![FaceHash::of(b"a"), FaceHash::of(b"b")],
            labels: Some(vec![1, 1]),
            ..Faces::default()
        };
        let data = Dataset::of_validation(validation, vec![false, true]);
        let outputs =
            Outputs { logits: vec![0.0, 1.0, 2.0, 0.0], probabilities: vec![0.25, 0.75, 0.875, 0.125], classes: 2 };
        Answers::write(&path, &data, &outputs, &["sad".into(), "happy".into()]).unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        assert!(text.starts_with("row,face,label,predicted,copy,sad,happy\n3,"), "{text}");
        assert!(text.ends_with(",1,0,1,0.875,0.125\n"), "{text}");
        let back = Answers::read(&path).unwrap();
        assert_eq!(back.right, [true, false]);
        assert_eq!(back.faces, [FaceHash::of(b"a").to_string(), FaceHash::of(b"b").to_string()]);
        fs_err::write(&path, "row,face\n1,2\n").unwrap();
        assert!(Answers::read(&path).unwrap_err().to_string().contains("line 2: expected row,face"));
    }
}
