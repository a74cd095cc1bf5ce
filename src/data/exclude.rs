//! `data.exclude`: a CSV of rows of the training file to leave out, such as the `review.csv` of
//! `grimace data audit`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use anyhow::Result;

use super::csv::records::Records;
use super::images::Images;
use crate::util::error::input;
use crate::util::files::{check_regular_file, is_same_file};
use crate::util::text::{count, short};

/// Columns of the file, for messages.
const EXPECTED: &str = "row,id,exclude";

/// Files that a message names.
const MAX_NAMED: usize = 3;

/// Cells of the column `exclude` that leave a row out.
const YES: [&str; 4] = ["1", "yes", "true", "x"];

/// Cells of the column `exclude` that keep a row.
const NO: [&str; 4] = ["", "0", "no", "false"];

/// The images without those whose rows the CSV at `path` leaves out. `train` is their file.
///
/// A row is named by its index from 0 in the column `row`, by the column `id` (the id in `train`, or
/// the row index if it has no ids), or by both, which must then agree. With a column `exclude`, only
/// rows with 1, yes, true or x in it are left out; without it, all rows that are named, and the file may
/// then have no other column, in case `exclude` is misspelled. With a column `file`, only rows of
/// `train` count, and there must be one, unless no row is to be left out. Rows of `train` that cannot be
/// read, or that `data.labels` leaves out, may be named.
///
/// # Errors
/// Input errors with file and line: a row that does not exist, a row without `row` and `id`, another
/// word in `exclude`; rows of other files only; also if no image is left.
pub fn apply(path: &Path, images: Images, train: &Path, notes: &mut Vec<String>) -> Result<Images> {
    let found = Exclusions::read(path, &images, train)?;
    let (name, display) = (path.display(), train.display());
    let files: Vec<&str> = found.files.iter().take(MAX_NAMED).map(String::as_str).collect();
    let files = files.join(", ") + if found.files.len() > MAX_NAMED { ", ..." } else { "" };
    if found.elsewhere > 0 && !found.is_of_train {
        return Err(input(format!(
            "{name}: has no row of {display}: its column file has {files}; if that is the same data, remove the column \
             or write {display} into it, and if no row is to be left out, remove data.exclude"
        )));
    }
    let kept: Vec<usize> = (0..images.len()).filter(|position| !found.positions.contains(position)).collect();
    if kept.is_empty() {
        return Err(input(format!("{name}: leaves out all {} of {display}", count(images.len(), "row"))));
    }
    let mut note = format!("{name}: leaves out {} of {display}", count(images.len() - kept.len(), "row"));
    if found.elsewhere > 0 {
        note += &format!("; {} of other files ({files})", count(found.elsewhere, "row"));
    }
    notes.push(note);
    Ok(if kept.len() == images.len() { images } else { images.select(&kept) })
}

/// What a file leaves out.
#[derive(Debug, Default)]
struct Exclusions {
    /// Positions of images.
    positions: HashSet<usize>,
    /// Rows to leave out of other files.
    elsewhere: usize,
    /// These files.
    files: BTreeSet<String>,
    /// Whether any row is of the training file, to be left out or not.
    is_of_train: bool,
}

/// Positions of the columns.
struct Columns {
    row: Option<usize>,
    id: Option<usize>,
    exclude: Option<usize>,
    file: Option<usize>,
}

impl Exclusions {
    fn read(path: &Path, images: &Images, train: &Path) -> Result<Self> {
        check_regular_file(path, "a CSV of rows to leave out")?;
        let mut records = Records::open(path, "a CSV of rows to leave out", EXPECTED, |header| {
            match (header.find("row")?, header.find("id")?) {
                // Its message names the columns that there are.
                (None, None) => header.require("row or id", EXPECTED).map(drop),
                _ => Ok(()),
            }
        })?;
        let header = records.header();
        let columns = Columns {
            row: header.find("row")?,
            id: header.find("id")?,
            exclude: header.find("exclude")?,
            file: header.find("file")?,
        };
        if let (None, Some(other)) = (columns.exclude, header.first_other_than(&["row", "id", "file"])) {
            return Err(input(format!(
                "{}: line 1: no column exclude, but {:?}; add exclude, with 1 in the rows to leave out, or keep only row, id \
                 and file, to leave out all rows",
                path.display(),
                short(other, 40)
            )));
        }
        if columns.id.is_some() {
            images.check_ids(train)?;
        }
        let places = Places::new(images, train);
        let mut is_train: HashMap<String, bool> = HashMap::new();
        let mut found = Self::default();
        while records.advance()? {
            let is_excluded = is_excluded(&mut records, columns.exclude)?;
            let file = columns.file.map_or("", |column| records.cell(column));
            let is_train = *is_train
                .entry(file.to_owned())
                .or_insert_with(|| file.is_empty() || Path::new(file) == train || is_same_file(Path::new(file), train));
            found.is_of_train |= is_train;
            if !is_excluded {
                continue;
            }
            if !is_train {
                found.files.insert(short(file, 100));
                found.elsewhere += 1;
                continue;
            }
            match places.find(&records, &columns) {
                Ok(position) => found.positions.extend(position),
                Err(problem) => return Err(records.error(&problem)),
            }
        }
        Ok(found)
    }
}

/// Whether the current record is one to leave out.
fn is_excluded(records: &mut Records, column: Option<usize>) -> Result<bool> {
    let Some(column) = column else { return Ok(true) };
    let cell = records.cell(column).to_lowercase();
    let word = without_decimals(&cell);
    match (YES.contains(&word), NO.contains(&word)) {
        (true, _) => Ok(true),
        (false, true) => Ok(false),
        (false, false) => {
            let problem = format!(
                ", column exclude: {:?}; expected 1 to leave the row out, or 0 or nothing to keep it",
                short(&cell, 40)
            );
            Err(records.error(&problem))
        }
    }
}

/// A number without the decimals that a spreadsheet may write, as in 1.0.
fn without_decimals(cell: &str) -> &str {
    cell.strip_suffix(".0").unwrap_or(cell)
}

/// Where the images of a file are.
struct Places<'a> {
    images: &'a Images,
    train: &'a Path,
    by_row: HashMap<u32, usize>,
    by_id: HashMap<String, usize>,
}

impl<'a> Places<'a> {
    fn new(images: &'a Images, train: &'a Path) -> Self {
        let by_row = images.rows.iter().enumerate().map(|(position, row)| (*row, position)).collect();
        let by_id = images.row_ids().into_iter().enumerate().map(|(position, id)| (id, position)).collect();
        Self { images, train, by_row, by_id }
    }

    /// The position of the image that the current record names; `None` for a row that exists but is
    /// not among the images.
    fn find(&self, records: &Records, columns: &Columns) -> Result<Option<usize>, String> {
        let cell = |column: Option<usize>| column.map(|column| records.cell(column)).filter(|cell| !cell.is_empty());
        let display = self.train.display();
        match (cell(columns.row), cell(columns.id)) {
            (None, None) => {
                Err(": the cells row and id are empty; expected the index of the row from 0, or its id".to_owned())
            }
            (Some(row), id) => {
                let rows = self.images.file_rows;
                let index =
                    without_decimals(row).parse::<u32>().ok().filter(|index| *index < rows).ok_or_else(|| {
                        let last = rows.saturating_sub(1);
                        format!(", column row: {:?}; {display} has the rows 0 to {last}", short(row, 40))
                    })?;
                let position = self.by_row.get(&index).copied();
                match (id, position.and_then(|position| self.images.ids.as_ref()?.get(position))) {
                    (Some(id), Some(found)) if id != found => Err(format!(
                        ", column id: {:?}, but row {index} of {display} has the id {:?}: the file has changed; audit it \
                         again, or remove the column row",
                        short(id, 40),
                        short(found, 40)
                    )),
                    _ => Ok(position),
                }
            }
            (None, Some(id)) => match self.by_id.get(id) {
                Some(position) => Ok(Some(*position)),
                None => Err(format!(", column id: no image of {display} has the id {:?}", short(id, 40))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::PIXELS;

    /// Rows 0, 1, 3 and 4 of a file of five: row 2 was skipped.
    fn images(ids: bool) -> Images {
        let names = ["a", "b", "d", "e"].map(String::from).to_vec();
        let images = Images { rows: vec![0, 1, 3, 4], file_rows: 5, ids: ids.then_some(names), ..Images::default() };
        Images { pixels: vec![0; 4 * PIXELS].into(), ..images }.with_hashes().unwrap()
    }

    fn apply_text(text: &str, ids: bool) -> Result<(Vec<u32>, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exclude.csv");
        fs_err::write(&path, text).unwrap();
        let mut notes = Vec::new();
        let images = apply(&path, images(ids), Path::new("data/train.csv"), &mut notes)?;
        Ok((images.rows, notes.join("\n")))
    }

    #[test]
    fn rows_are_left_out_by_index_or_id() {
        for (text, ids, left) in [
            ("row\n1\n1\n4\n", false, vec![0, 3]),
            ("ROW;exclude;note\n1;1;x\n2;1;skipped when it was read\n4;;x\n", false, vec![0, 3, 4]),
            ("id\n4\n", false, vec![0, 1, 3]),
            ("id\ne\n", true, vec![0, 1, 3]),
            ("row,id\n4,e\n,a\n3,\n", true, vec![1]),
            ("row,exclude\n0,\n1,1\n3,0\n4,Yes\n", false, vec![0, 3]),
            ("row,exclude\n0.0,1.0\n1,FALSE\n", false, vec![1, 3, 4]),
            ("file,row,exclude\nother.csv,1,1\ndata/train.csv,3,0\n", false, vec![0, 1, 3, 4]),
            ("file,row,exclude\nother.csv,1,0\n", false, vec![0, 1, 3, 4]),
            ("row\n", false, vec![0, 1, 3, 4]),
            ("file,row\n,0\ndata/train.csv,1\nother.csv,3\n", false, vec![3, 4]),
        ] {
            assert_eq!(apply_text(text, ids).unwrap().0, left, "{text}");
        }
        let note = apply_text("file,row\ndata/train.csv,1\nother.csv,3\n", false).unwrap().1;
        assert!(note.ends_with("leaves out 1 row of data/train.csv; 1 row of other files (other.csv)"), "{note}");
    }

    #[test]
    fn rows_that_do_not_exist_are_errors_with_their_line() {
        for (text, ids, part) in [
            ("row\n0\n5\n", false, "exclude.csv: line 3, column row: \"5\"; data/train.csv has the rows 0 to 4"),
            ("row\n-1\n", false, "line 2, column row: \"-1\""),
            ("id\nz\n", true, "line 2, column id: no image of data/train.csv has the id \"z\""),
            ("row,id\n1,a\n", true, "line 2, column id: \"a\", but row 1 of data/train.csv has the id \"b\""),
            ("row,id\n0,a\n,\n", true, "line 3: the cells row and id are empty"),
            ("row,exclude\n0,1\n1,maybe\n", false, "line 3, column exclude: \"maybe\"; expected 1"),
            ("name\nx\n", false, "line 1: no column row or id; found \"name\""),
            ("row\n0\n1\n3\n4\n", false, "leaves out all 4 rows"),
            (
                "file,row\ntrain.csv,1\nb,2\n",
                false,
                "has no row of data/train.csv: its column file has b, train.csv; if",
            ),
            ("row,excluded\n1,1\n", false, "line 1: no column exclude, but \"excluded\"; add exclude"),
            ("row\n1.5\n", false, "line 2, column row: \"1.5\""),
        ] {
            let message = apply_text(text, ids).unwrap_err().to_string();
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}
