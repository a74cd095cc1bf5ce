//! Rows of a CSV and files of a folder that could not be read.

use std::fmt;

use super::advice::Advice;
use crate::util::error::input;

/// Number of bad rows listed in an error message.
const MAX_LISTED: usize = 5;

/// Rows or files that could not be read: all are counted, the first 1000 are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRows {
    kept: Vec<BadRow>,
    count: usize,
}

/// A row or a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Where it is.
    pub place: Place,
    /// What is wrong and what was expected.
    pub problem: String,
}

/// Where a bad row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a CSV.
    Line {
        /// Line in the file, from 1, at which the row starts.
        line: u64,
        /// Name of the column; empty if the whole row is bad.
        column: &'static str,
    },
    /// In a folder: its path in it.
    File(String),
    /// In a packed file: the label of an image.
    Image {
        /// Row of the image in the file that was packed, from 0.
        row: u32,
    },
}

impl BadRows {
    /// Bounds the memory that a hostile file can take.
    const MAX_KEPT: usize = 1000;

    /// Adds a row.
    pub fn push(&mut self, row: BadRow) {
        self.count += 1;
        if !self.is_full() {
            self.kept.push(row);
        }
    }

    /// The rows that `is_kept` accepts, of the first 1000.
    pub fn filter(self, is_kept: impl Fn(&BadRow) -> bool) -> Self {
        let mut filtered = Self::default();
        self.kept.into_iter().filter(is_kept).for_each(|row| filtered.push(row));
        filtered
    }

    /// Whether further rows are only counted.
    pub fn is_full(&self) -> bool {
        self.kept.len() >= Self::MAX_KEPT
    }

    /// The first bad row.
    pub fn first(&self) -> Option<&BadRow> {
        self.kept.first()
    }

    /// The first 1000 bad rows.
    pub fn kept(&self) -> &[BadRow] {
        &self.kept
    }

    /// How many rows were skipped, and where the first is; `None` if none was.
    pub fn describe(&self) -> Option<String> {
        let first = self.first()?;
        let noun = first.place.noun();
        Some(match (self.count, &first.place) {
            (1, _) => format!("skipped 1 bad {noun}: {first}"),
            (count, Place::Line { .. }) => format!("skipped {count} bad {noun}s, the first at {first}"),
            (count, Place::File(_)) => format!("skipped {count} bad {noun}s, the first: {first}"),
            (count, Place::Image { .. }) => format!("skipped {count} bad {noun}s, the first: {first}"),
        })
    }

    /// Number of bad rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The error for bad rows of the file or folder `name`: the first few, and a count.
    pub fn to_error(&self, name: &str, advice: Advice) -> anyhow::Error {
        let Some(first) = self.first() else { return input(format!("{name}: no bad rows")) };
        let listed = |row: &BadRow| match row.place {
            Place::Line { .. } | Place::Image { .. } => format!("{name}: {row}"),
            Place::File(_) => format!("{}/{row}", name.trim_end_matches('/')),
        };
        let mut text = self.kept.iter().take(MAX_LISTED).map(listed).collect::<Vec<_>>().join("\n");
        let noun = first.place.noun();
        if self.count > MAX_LISTED {
            text += &format!("\nand {} more bad {noun}s", self.count - MAX_LISTED);
        }
        let fix = match first.place {
            Place::Line { .. } => "fix the file",
            Place::Image { .. } => "map the label as above",
            Place::File(_) => "fix or remove them",
        };
        input(format!("{text}\n{fix}, or {} to skip such {noun}s", advice.skip_bad_rows()))
    }
}

impl Place {
    fn noun(&self) -> &'static str {
        match self {
            Self::Line { .. } | Self::Image { .. } => "row",
            Self::File(_) => "file",
        }
    }
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line { line, column: "" } => write!(f, "line {line}: {}", self.problem),
            Place::Line { line, column } => write!(f, "line {line}, column {column}: {}", self.problem),
            Place::File(path) => write!(f, "{path}: {}", self.problem),
            Place::Image { row } => write!(f, "row {row}: {}", self.problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_places_and_counts() {
        let bad = |places: Vec<Place>| {
            let mut bad = BadRows::default();
            places.into_iter().for_each(|place| bad.push(BadRow { place, problem: "is empty".into() }));
            bad
        };
        let lines = bad((2..9).map(|line| Place::Line { line, column: "pixels" }).collect());
        assert_eq!(lines.describe().unwrap(), "skipped 7 bad rows, the first at line 2, column pixels: is empty");
        let error = lines.to_error("x.csv", Advice::Config).to_string();
        assert!(error.starts_with("x.csv: line 2, column pixels: is empty\nx.csv: line 3"), "{error}");
        let end = "and 2 more bad rows\nfix the file, or set data.on_bad_row = \"skip\" to skip such rows";
        assert!(error.ends_with(end), "{error}");
        let files = bad(vec![Place::File("happy/a.jpg".into())]);
        assert_eq!(files.describe().unwrap(), "skipped 1 bad file: happy/a.jpg: is empty");
        let error = files.to_error("faces/", Advice::CommandLine).to_string();
        let expected = "faces/happy/a.jpg: is empty\nfix or remove them, or add --on-bad-row skip to skip such files";
        assert_eq!(error, expected);
        assert_eq!(bad(Vec::new()).describe(), None);
    }
}
