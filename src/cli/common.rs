//! Output, provenance and input that several commands share.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::data::advice::Advice;
use crate::data::config::DataConfig;
use crate::data::csv::columns::{LabelColumn, ReadOptions};
use crate::data::images::Images;
use crate::data::label_map::LabelMap;
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
    let options = ReadOptions {
        label_names: &data.labels,
        on_bad_row: data.on_bad_row,
        advice: Advice::CommandLine,
        ..ReadOptions::new(&data.classes, labels)
    };
    let images = csv::read(path, options)?;
    images.notes.iter().try_for_each(|note| Console::default().line(note))?;
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
    match (labels, &images.labels) {
        (Some(labels), _) => {
            images.check_ids(path)?;
            let found = labels::read_labels(labels, &images.row_ids(), &LabelMap::new(&data.classes, &data.labels))?;
            let kept: Vec<usize> = (0..found.len()).filter(|row| found.get(*row).is_some_and(Option::is_some)).collect();
            if kept.is_empty() {
                return Err(input(format!("{}: the label map leaves out all labels", labels.display())));
            }
            Ok((images.select(&kept), found.into_iter().flatten().collect()))
        }
        (None, Some(labels)) => {
            let labels = labels.clone();
            Ok((images, labels))
        }
        (None, None) => {
            Err(input(format!(
                "{}: has no column emotion; give the labels with --labels CSV (id,emotion)",
                path.display()
            )))
        }
    }
}
