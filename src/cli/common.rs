//! One file per command: wiring, no logic.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::data::config::DataConfig;
use crate::data::csv::columns::{Labels, ReadOptions};
use crate::data::images::Images;
use crate::data::{csv, labels};
use crate::report::Console;
use crate::util::error::input;

/// Prints a result to stdout.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        // `grimace ... | head` closes the pipe early; that is the reader's choice.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}

/// Prints a result to stdout as one JSON object.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// The command line of this process, for the record.
pub fn own_command() -> String {
    std::env::args_os().map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Reads images for what was trained on `data`, bad rows as that says; rows of `usage` only where one is named.
pub fn read_images(path: &Path, data: &DataConfig, labels: Labels, usage: Option<&str>) -> Result<Images> {
    let images = csv::read(path, ReadOptions { classes: &data.classes, labels, on_bad_row: data.on_bad_row })?;
    if let Some(first) = images.skipped.first() {
        let count = images.skipped.count();
        Console::default().line(&format!("{}: {count} bad rows left out, the first at {first}", path.display()))?;
    }
    match usage {
        Some(usage) => images.with_usage(usage, path),
        None => Ok(images),
    }
}

/// Reads images and their labels for what was trained on `data`: those of the file `labels`, or else of the images' own.
pub fn read_labeled_images(
    path: &Path,
    labels: Option<&Path>,
    usage: Option<&str>,
    data: &DataConfig,
) -> Result<(Images, Vec<u8>)> {
    let wanted = if labels.is_some() { Labels::Ignored } else { Labels::IfPresent };
    let images = read_images(path, data, wanted, usage)?;
    let labels = match (labels, &images.labels) {
        (Some(labels), _) => {
            images.check_ids(path).and_then(|()| labels::read_labels(labels, &images.names(), data.classes.len()))?
        }
        (None, Some(labels)) => labels.clone(),
        (None, None) => {
            let shown = path.display();
            return Err(input(format!(
                "{shown}: has no column emotion, so there is nothing to compare with; give the labels with --labels CSV (id,emotion)"
            )));
        }
    };
    Ok((images, labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_from_a_shell() {
        assert_eq!(quoted("runs/a-1"), "runs/a-1");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
