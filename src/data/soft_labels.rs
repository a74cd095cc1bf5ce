//! `data.soft_labels`: a weight per training image and class, such as the probabilities of a
//! teacher network (Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network") or
//! the votes of annotators (Barsoum, Zhang, Canton Ferrer, Zhang 2016, FER+).

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::Result;

use super::images::{Images, TRAINING, is_usage};
use super::label_map::{LabelMap, LabelTarget};
use crate::data::csv::columns::Header;
use crate::data::csv::records::Records;
use crate::data::packed;
use crate::util::error::input;
use crate::util::text::{count, short};

/// Maximum of a vote, so that no sum overflows.
const MAX_WEIGHT: f64 = 1e9;

/// Columns that are no votes, whatever `data.labels` lists.
const OTHER_COLUMNS: [&str; 5] = ["id", "emotion", "usage", "image name", "pixels"];

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

    /// The class with the largest weight of each image; of equal ones, the first.
    pub fn labels(&self) -> Vec<u8> {
        let argmax = |row: &[f32]| {
            let best = row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (class, weight)| {
                if *weight > best.1 { (class, *weight) } else { best }
            });
            u8::try_from(best.0).unwrap_or(u8::MAX)
        };
        self.weights.chunks(self.classes.max(1)).map(argmax).collect()
    }
}

/// A file of soft labels: one row of normalized weights, or none, per row that was kept.
#[derive(Debug)]
pub struct VoteFile {
    classes: usize,
    /// Name of the file, for messages.
    name: String,
    /// By id, or by row index if the file has no ids.
    rows: HashMap<String, Option<Vec<f32>>>,
    has_ids: bool,
}

/// The images with soft labels, and their weights.
#[derive(Debug)]
pub struct Labeled {
    /// Positions of the images that have a vote for a class, in order.
    pub kept: Vec<usize>,
    /// Their weights, in this order.
    pub soft: SoftLabels,
}

impl VoteFile {
    /// Reads the CSV, or the packed file, at `path` for the rows of `all`, the images of the whole training file
    /// `train`.
    ///
    /// The CSV has one column per class with votes or probabilities, 0 to 1e9, named as the class or
    /// as a label of `data.labels`; columns of one class are added up. Other columns are ignored.
    /// Rows are normalized to sum to 1. A row belongs to the image with the same `id`, as written by
    /// `grimace predict` (the `id` in `train`, or the row index from 0). Without a column `id` there
    /// must be one row per row of `train`, in its order, as in FER+'s `fer2013new.csv`; rows with
    /// a Usage that `train` does not have are dropped.
    ///
    /// # Errors
    /// Input errors with file and line: a class without a column, an invalid number, a duplicate id,
    /// without ids another number or order of rows than `train`.
    pub fn read(path: &Path, map: &LabelMap, all: &Images, train: &Path) -> Result<Self> {
        all.check_ids(train)?;
        if packed::is_packed(path) {
            let votes = packed::read_votes(path)?;
            let (classes, name, has_ids) = (map.classes().len(), votes.name.clone(), votes.ids.is_some());
            return Ok(Self { classes, name, rows: votes.by_key(map)?, has_ids });
        }
        let expected = format!("id,{}", map.classes().join(","));
        let mut records = Records::open(path, "a CSV of soft labels", &expected, |header| {
            class_columns(header, map, &expected).map(drop)
        })?;
        let columns = class_columns(records.header(), map, &expected)?;
        let id_column = records.header().find_id()?;
        let mut rows = HashMap::new();
        match id_column {
            Some(column) => {
                let wanted: BTreeSet<String> = all.row_ids().into_iter().collect();
                while records.advance()? {
                    let weights = read_weights(&mut records, map, &columns)?;
                    let id = records.cell(column).to_owned();
                    if wanted.contains(&id) && rows.insert(id.clone(), weights).is_some() {
                        return Err(records.error(&format!(", column id: duplicate id {:?}", short(&id, 40))));
                    }
                }
            }
            None => rows = read_by_position(&mut records, map, &columns, all, train)?,
        }
        let name = records.name().to_owned();
        Ok(Self { classes: map.classes().len(), name, rows, has_ids: id_column.is_some() })
    }

    /// The soft labels of `images`. Images whose row has no vote for any class are left out.
    ///
    /// # Errors
    /// An input error for an image without a row, and if no image has a vote.
    pub fn select(&self, images: &Images, train: &Path) -> Result<Labeled> {
        let ids = if self.has_ids { images.row_ids() } else { images.rows.iter().map(u32::to_string).collect() };
        let (mut kept, mut weights) = (Vec::new(), Vec::with_capacity(ids.len() * self.classes));
        for (position, id) in ids.iter().enumerate() {
            let row = self.rows.get(id).ok_or_else(|| {
                let (name, id, train) = (&self.name, short(id, 40), train.display());
                input(format!(
                    "{name}: no row for id {id:?}, a training image of {train}; expected one row per training image, \
                     as written by grimace predict RUN --data {train} --out FILE --probabilities"
                ))
            })?;
            if let Some(row) = row {
                kept.push(position);
                weights.extend_from_slice(row);
            }
        }
        if kept.is_empty() {
            return Err(input(format!(
                "{}: no training image of {} has a vote for a class of data.classes",
                self.name,
                train.display()
            )));
        }
        Ok(Labeled { kept, soft: SoftLabels { weights, classes: self.classes } })
    }
}

/// The class of each column with votes.
fn class_columns(header: &Header, map: &LabelMap, expected: &str) -> Result<Vec<(usize, usize)>> {
    let mut columns = Vec::new();
    for (position, name) in header.names().iter().enumerate() {
        if OTHER_COLUMNS.contains(&name.to_lowercase().as_str()) {
            continue;
        }
        if let Some(LabelTarget::Class(class)) = map.resolve(name) {
            header.require(name, expected)?;
            columns.push((position, usize::from(class)));
        }
    }
    for (number, class) in map.classes().iter().enumerate() {
        if !columns.iter().any(|(_, found)| *found == number) {
            let error = header.require(class, expected).err();
            let error = error.map_or_else(String::new, |error| error.to_string());
            return Err(input(format!(
                "{error}; rename its column, or set data.labels = {{ NAME = {class:?} }} with the column's name"
            )));
        }
    }
    Ok(columns)
}

/// The normalized weights of the current record; `None` if all are 0.
fn read_weights(records: &mut Records, map: &LabelMap, columns: &[(usize, usize)]) -> Result<Option<Vec<f32>>> {
    let mut votes = vec![0.0; map.classes().len()];
    // As in spreadsheets of countries with decimal commas, which separate fields by semicolons.
    let has_decimal_comma = records.header().separator == b';';
    for (column, class) in columns {
        let text = records.cell(*column);
        let number = if has_decimal_comma { text.replacen(',', ".", 1).parse::<f64>() } else { text.parse::<f64>() };
        let Some(vote) = number.ok().filter(|vote| (0.0..=MAX_WEIGHT).contains(vote)) else {
            let name = records.header().names().get(*column).cloned().unwrap_or_default();
            let problem = format!(", column {name}: {:?}; expected a vote or a probability, 0 to 1e9", short(text, 40));
            return Err(records.error(&problem));
        };
        if let Some(slot) = votes.get_mut(*class) {
            *slot += vote;
        }
    }
    let sum: f64 = votes.iter().sum();
    Ok((sum > 0.0).then(|| votes.iter().map(|vote| (vote / sum) as f32).collect()))
}

/// Reads a file without ids, whose rows are those of `train` in its order.
fn read_by_position(
    records: &mut Records,
    map: &LabelMap,
    columns: &[(usize, usize)],
    all: &Images,
    train: &Path,
) -> Result<HashMap<String, Option<Vec<f32>>>> {
    let usage_column = records.header().find("Usage")?;
    let usages: BTreeSet<&String> = all.usages.iter().flatten().collect();
    let is_in_train = |usage: &str| match all.usages {
        Some(_) => usages.iter().any(|known| is_usage(usage, known)),
        // A file of training rows only has no need of a Usage.
        None => is_usage(usage, TRAINING),
    };
    // Of a file that may have any number of rows, only as many as the training file has are kept.
    let wanted = all.file_rows as usize;
    let (mut every, mut in_train) = (Vec::new(), Vec::new());
    let (mut found, mut found_in_train) = (0_usize, 0_usize);
    while records.advance()? {
        let weights = read_weights(records, map, columns)?;
        let usage = usage_column.map_or("", |column| records.cell(column));
        if usage_column.is_some() && is_in_train(usage) {
            found_in_train += 1;
            if found_in_train <= wanted {
                in_train.push((usage.to_owned(), weights.clone()));
            }
        }
        found += 1;
        if found <= wanted {
            every.push((usage.to_owned(), weights));
        }
    }
    let read = match (found == wanted, found_in_train == wanted) {
        (true, _) => every,
        (false, true) => in_train,
        (false, false) => {
            let (name, display) = (records.name(), train.display());
            return Err(input(format!(
                "{name}: {} without a column id, but {display} has {wanted}; expected one row per row of {display}, in \
                 its order, or a column id",
                count(found, "row")
            )));
        }
    };
    let (name, display) = (records.name(), train.display());
    if let (Some(_), Some(usages)) = (usage_column, &all.usages) {
        for (row, usage) in all.rows.iter().zip(usages) {
            if let Some((found, _)) = read.get(*row as usize)
                && !is_usage(found, usage)
            {
                return Err(input(format!(
                    "{name}: Usage {:?} in the row of row {row} of {display}, which has {:?}; expected the rows of \
                     {display} in its order, or a column id",
                    short(found, 40),
                    short(usage, 40)
                )));
            }
        }
    }
    Ok(read.into_iter().enumerate().map(|(row, (_, weights))| (row.to_string(), weights)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::label_map::{CLASSES, LabelNames};

    fn map(classes: &[&str], names: &str) -> LabelMap {
        let names = if names.is_empty() { LabelNames::Classes } else { LabelNames::parse(names).unwrap() };
        LabelMap::new(&classes.iter().map(|class| (*class).to_owned()).collect::<Vec<_>>(), &names)
    }

    fn read_with(text: &str, images: &Images, map: &LabelMap) -> Result<Labeled> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("soft.csv");
        fs_err::write(&path, text).unwrap();
        let train = Path::new("train.csv");
        VoteFile::read(&path, map, images, train)?.select(images, train)
    }

    fn read_text(text: &str, images: &Images) -> Result<SoftLabels> {
        read_with(text, images, &map(&["sad", "happy"], "")).map(|labeled| labeled.soft)
    }

    /// Rows 0 and 2 of a file of three.
    fn images() -> Images {
        Images { rows: vec![0, 2], file_rows: 3, ..Images::default() }
    }

    #[test]
    fn weights_are_normalized_and_in_image_order() {
        let votes = "happy,note,id,sad\n3,x,2,1\n1,,1,0\n0.5,,0,0.5\n";
        let soft = read_text(votes, &images()).unwrap();
        assert_eq!((soft.weights.as_slice(), soft.classes), (&[0.5, 0.5, 0.25, 0.75][..], 2));
        assert_eq!(soft.labels(), [0, 1], "the first of equal weights");
        let probabilities = read_text("id,emotion,sad,happy\n0,0,1e-1,.1\n2,1,25e-2,0.75\n", &images()).unwrap();
        assert_eq!((&probabilities, probabilities.hash()), (&soft, soft.hash()));
        let semicolons = read_text("ID;Sad;HAPPY\n0;0,1;0,1\n2;0,25;0,75\n", &images()).unwrap();
        assert_eq!(semicolons, soft, "decimal commas, names in another case");
        let other = read_text("id,sad,happy\n0,1,1\n2,1,2\n", &images()).unwrap();
        assert_ne!(other.hash(), soft.hash());
        let named = Images { ids: Some(vec!["b".into(), "a".into()]), ..images() };
        assert_eq!(read_text("id,sad,happy\na,0,1\nb,1,0\n", &named).unwrap().weights, [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(
            read_text("id,sad,happy\n0,5e-324,0\n2,1e9,1e9\n", &images()).unwrap().weights,
            [1.0, 0.0, 0.5, 0.5]
        );
    }

    /// Votes as FER+ publishes them.
    const FER_PLUS: &str = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n\
        Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0\n\
        Training,,0,0,0,0,0,0,0,1,0,9\n\
        PublicTest,fer0000002.png,0,9,0,0,0,0,0,1,0,0\n\
        PrivateTest,fer0000003.png,0,0,10,0,0,0,0,0,0,0\n";

    #[test]
    fn fer_plus_is_read_as_published() {
        let usages = |usages: &[&str]| Some(usages.iter().map(|usage| (*usage).to_owned()).collect());
        let fer = |count: u32| Images { rows: (0..count).collect(), file_rows: count, ..Images::default() };
        let seven = map(&CLASSES, "");
        let all = Images { usages: usages(&["Training", "Training", "PublicTest", "PrivateTest"]), ..fer(4) };
        let found = read_with(FER_PLUS, &all, &seven).unwrap();
        assert_eq!(found.kept, [0, 2, 3], "row 1 has no vote for a class");
        assert_eq!(found.soft.weights[..7], [0.3, 0.2, 0.0, 0.0, 0.1, 0.0, 0.4]);
        assert_eq!(found.soft.labels(), [6, 3, 5]);
        // The file without its PrivateTest rows, and Kaggle's train.csv.
        let public = Images { usages: usages(&["Training", "Training", "PublicTest"]), ..fer(3) };
        assert_eq!(read_with(FER_PLUS, &public, &seven).unwrap().kept, [0, 2]);
        assert_eq!(read_with(FER_PLUS, &fer(2), &seven).unwrap().kept, [0]);
        let eight = map(&[&CLASSES[..], &["contempt"]].concat(), "");
        let found = read_with(FER_PLUS, &all, &eight).unwrap();
        assert_eq!((found.kept.len(), found.soft.labels()), (4, vec![6, 7, 3, 5]));
        let merged = LabelNames::parse("happy=good,surprise=good,sad=bad,angry=bad").unwrap();
        let merged = LabelMap::new(&merged.default_classes(), &merged);
        assert_eq!(read_with(FER_PLUS, &all, &merged).unwrap().soft.weights, [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);

        let message = |images: &Images| read_with(FER_PLUS, images, &seven).unwrap_err().to_string();
        assert!(message(&fer(3)).contains("4 rows without a column id, but train.csv has 3; expected one row per row"));
        let misnamed = read_text("image_id,sad,happy\n0,1,0\n1,0,1\n2,1,0\n", &images()).unwrap_err();
        assert!(misnamed.to_string().contains("no column id, but \"image_id\"; if it is id, rename it"), "{misnamed}");
        let moved = Images { usages: usages(&["Training", "PublicTest", "Training", "PrivateTest"]), ..fer(4) };
        assert!(
            message(&moved).contains("Usage \"Training\" in the row of row 1 of train.csv, which has \"PublicTest\"")
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
            ("0,0,0\n2,0,0\n", "soft.csv: no training image of train.csv has a vote"),
            ("0,1,0\n2,1,0\n0,1,0\n", "soft.csv: line 4, column id: duplicate id \"0\""),
            ("0,1,0\n", "soft.csv: no row for id \"2\", a training image of train.csv; expected one row per"),
            ("0,1\n", "soft.csv: line 2: 2 fields; the header has 3"),
        ] {
            let text = message(rows);
            assert!(text.contains(expected), "{text}");
        }
        let text = read_text("id,sad\n0,1\n", &images()).unwrap_err().to_string();
        assert!(
            text.contains("line 1: no column happy; found \"id\", \"sad\"; expected id,sad,happy; rename"),
            "{text}"
        );
        let named = Images { ids: Some(vec!["a".into(), "a".into()]), ..images() };
        let text = read_text("id,sad,happy\na,1,0\n", &named).unwrap_err().to_string();
        assert!(text.contains("train.csv: column id: duplicate id \"a\""), "{text}");
    }
}
