//! Output, provenance and input that several commands share.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::data::config::DataConfig;
use crate::data::csv::columns::{LabelColumn, ReadOptions};
use crate::data::images::Images;
use crate::data::{csv, labels};
use crate::report::Console;
use crate::util::error::input;

/// Prints a result to stdout.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        // `grimace ... | head` closes the pipe early, which is not an error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}

/// Prints a result to stdout as one JSON object.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// The command line of this process, quoted for a shell, for the provenance of runs.
pub fn own_command() -> Result<String> {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    Ok(shlex::try_join(words.iter().map(String::as_str))?)
}

/// Reads images for a model trained on `data`, with its classes and `on_bad_row`; only rows of
/// `usage` if it is given.
pub fn read_images(path: &Path, data: &DataConfig, labels: LabelColumn, usage: Option<&str>) -> Result<Images> {
    let images = csv::read(path, ReadOptions { classes: &data.classes, labels, on_bad_row: data.on_bad_row })?;
    if let Some(first) = images.skipped.first() {
        let count = images.skipped.count();
        Console::default().line(&format!("{}: skipped {count} bad rows, the first at {first}", path.display()))?;
    }
    match usage {
        Some(usage) => images.with_usage(usage, path),
        None => Ok(images),
    }
}

/// Reads images and their labels, from the file `labels` or else from the images' own column, for a
/// model trained on `data`.
pub fn read_labeled_images(
    path: &Path,
    labels: Option<&Path>,
    usage: Option<&str>,
    data: &DataConfig,
) -> Result<(Images, Vec<u8>)> {
    let column = if labels.is_some() { LabelColumn::Ignored } else { LabelColumn::Optional };
    let images = read_images(path, data, column, usage)?;
    let labels = match (labels, &images.labels) {
        (Some(labels), _) => {
            images.check_ids(path).and_then(|()| labels::read_labels(labels, &images.row_ids(), data.classes.len()))?
        }
        (None, Some(labels)) => labels.clone(),
        (None, None) => {
            return Err(input(format!(
                "{}: has no column emotion; give the labels with --labels CSV (id,emotion)",
                path.display()
            )));
        }
    };
    Ok((images, labels))
}
