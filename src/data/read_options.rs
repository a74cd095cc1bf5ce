//! How images are read: their classes, labels and unreadable ones.

use super::advice::Advice;
use super::config::OnBadRow;
use super::label_map::LabelNames;

/// Options for reading a CSV or a folder of images.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions<'a> {
    /// Class names; labels are 0..classes.len().
    pub classes: &'a [String],
    /// `data.labels`: which class a label belongs to.
    pub label_names: &'a LabelNames,
    /// Whether labels are required.
    pub labels: LabelPolicy,
    /// `data.group`: the column with the group of each row.
    pub group: Option<&'a str>,
    /// What to do with a row or an image that cannot be read.
    pub on_bad_row: OnBadRow,
    /// How advice in errors names an option.
    pub advice: Advice,
}

impl<'a> ReadOptions<'a> {
    /// Options for these classes: their labels are class numbers or names, a bad row is an error,
    /// and advice names keys of a config.
    pub fn new(classes: &'a [String], labels: LabelPolicy) -> Self {
        let (label_names, on_bad_row) = (&LabelNames::Classes, OnBadRow::Error);
        Self { classes, label_names, labels, group: None, on_bad_row, advice: Advice::Config }
    }
}

/// How to treat labels: the column `emotion` of a CSV, the class folders of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelPolicy {
    /// Every image must have a valid one.
    Required,
    /// They may be absent altogether; if present, they must be valid.
    Optional,
    /// They are not read.
    Ignored,
}
