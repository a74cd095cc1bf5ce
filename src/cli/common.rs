//! Output, provenance and input that several commands share.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::data::advice::Advice;
use crate::data::config::{DataConfig, LabelSource, OnBadRow, check_classes};
use crate::data::images::Images;
use crate::data::label_map::{CLASSES, LabelMap, LabelNames};
use crate::data::read_options::{LabelPolicy, ReadOptions};
use crate::data::{labels, read};
use crate::report::Console;
use crate::run_dir::RunDir;
use crate::util::error::input;
use crate::util::files::{
    Output, OutputRules, input_name, is_standard_input, is_standard_output, write_standard_output,
};
use crate::util::validate::InvalidValue;

/// Prints a result to stdout.
pub fn print(text: &str) -> Result<()> {
    write_standard_output(text.as_bytes())
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

/// Which rows of `--data` are read.
#[derive(Debug, Default, Args)]
pub struct RowArgs {
    /// Read only rows with this Usage; of a folder, the folder of a split, such as test
    #[arg(long, requires = "data")]
    pub usage: Option<String>,
    /// What to do with a row that cannot be read [default: the run's
    /// data.on_bad_row]
    #[arg(long, value_name = "ACTION", requires = "data")]
    pub on_bad_row: Option<OnBadRow>,
}

/// Classes and labels of data without a run or a config.
#[derive(Debug, Args)]
pub struct ClassArgs {
    /// Class names in the order of their labels, separated by commas [default: those of a folder
    /// or a packed file, or FER2013's classes]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub classes: Option<Vec<String>>,
    /// The class of each label: LABEL=CLASS,... or the classes of the numbers 0, 1, ...; skip leaves
    /// rows out; repeatable
    #[arg(long, value_name = "MAP", value_parser = LabelNames::parse, allow_hyphen_values = true)]
    pub label_map: Vec<LabelNames>,
}

impl ClassArgs {
    /// The classes and the map of labels of the data at `paths`: those of `--classes`; or those of the
    /// first folder or packed file; or those that `--label-map` names; or FER2013's.
    ///
    /// # Errors
    /// Input errors that name the option.
    pub fn resolve(&self, paths: &[&Path]) -> Result<(Vec<String>, LabelNames)> {
        let classes = match &self.classes {
            Some(classes) => classes.iter().map(|class| class.trim().to_owned()).collect(),
            None => self.default_classes(paths)?,
        };
        check_classes(&classes)
            .map_err(|problem| input(InvalidValue { key: "--classes".to_owned(), ..problem }.to_string()))?;
        let label_names = merge_label_maps(&LabelNames::Classes, &self.label_map, &classes)?;
        Ok((classes, label_names))
    }

    fn default_classes(&self, paths: &[&Path]) -> Result<Vec<String>> {
        let fer2013 = CLASSES.map(String::from);
        let maps = self.label_map.iter().fold(LabelNames::Classes, |merged, map| merged.with(map, &fer2013));
        if let Some(classes) = paths.iter().find_map(|path| read::default_classes(path, &maps)) {
            return Ok(classes);
        }
        let classes = maps.default_classes();
        match classes.as_slice() {
            [only] => Err(input(format!(
                "--label-map names only the class {only:?}; expected LABEL=CLASS,... or CLASS,CLASS,... with all classes, \
                 or all of them with --classes"
            ))),
            _ => Ok(classes),
        }
    }
}

/// Where the labels of `--data` come from.
#[derive(Debug, Default, Args)]
pub struct LabelArgs {
    /// CSV of labels: id,emotion; - reads standard input
    #[arg(long, value_name = "CSV", requires = "data")]
    pub labels: Option<PathBuf>,
    /// The class of each label, in addition to the run's data.labels: LABEL=CLASS,... or the
    /// classes of the numbers 0, 1, ...; skip leaves rows out; repeatable
    #[arg(
        long,
        value_name = "MAP",
        value_parser = LabelNames::parse,
        allow_hyphen_values = true,
        requires = "data"
    )]
    pub label_map: Vec<LabelNames>,
}

/// [`Output::check`] for a command that reads the runs at `runs`. Their own files, and those of any
/// run in whose directory the output would be, are never overwritten, even with `--force`.
///
/// # Errors
/// Those of [`Output::check`]; input errors for an output path that belongs to a run, and for a run
/// that cannot be opened.
pub fn check_run_output(out: &Path, runs: &[PathBuf], rules: OutputRules<'_>) -> Result<Output> {
    if !is_standard_output(out) {
        runs.iter().try_for_each(|run| RunDir::open(run)?.check_not_owned(out))?;
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Ok(other) = RunDir::open(folder) {
            other.check_not_owned(out)?;
        }
    }
    Output::check(out, rules)
}

/// Refuses to read standard input for two of `paths`.
///
/// # Errors
/// An input error.
pub fn check_standard_input(paths: &[&Path]) -> Result<()> {
    if paths.iter().filter(|path| is_standard_input(path)).count() > 1 {
        return Err(input("-: standard input can be read only once; give a file for all inputs but one"));
    }
    Ok(())
}

/// Reads images for a model trained on `data`, with its classes; the options in `rows` override
/// `data`. Reports skipped rows on stderr.
pub fn read_images(path: &Path, data: &DataConfig, labels: LabelPolicy, rows: &RowArgs) -> Result<Images> {
    read_images_as(path, data, &data.labels, labels, rows)
}

/// [`read_images`] with another map of labels than that of `data`.
fn read_images_as(
    path: &Path,
    data: &DataConfig,
    label_names: &LabelNames,
    labels: LabelPolicy,
    rows: &RowArgs,
) -> Result<Images> {
    let options = ReadOptions {
        label_names,
        on_bad_row: rows.on_bad_row.unwrap_or(data.on_bad_row),
        advice: Advice::CommandLine,
        ..ReadOptions::new(&data.classes, labels)
    };
    let images = read::read(path, options)?;
    let (mut console, path) = (Console::default(), input_name(path));
    images.notes.iter().try_for_each(|note| console.line(note))?;
    if let Some(skipped) = images.skipped.describe() {
        console.line(&format!("{}: {skipped}", path.display()))?;
    }
    match &rows.usage {
        Some(usage) => images.with_usage(usage, path),
        None => Ok(images),
    }
}

/// The map of a run, or none, with every `--label-map` added to it.
///
/// # Errors
/// An input error for an entry that names no class.
pub fn merge_label_maps(base: &LabelNames, maps: &[LabelNames], classes: &[String]) -> Result<LabelNames> {
    let merged = maps.iter().fold(base.clone(), |merged, map| merged.with(map, classes));
    maps.iter()
        .try_for_each(|map| map.check(classes, Advice::CommandLine))
        .map_err(|problem| input(problem.to_string()))?;
    Ok(merged)
}

/// Reports labels of `--label-map` that no row has; those of the run's own map may have none.
fn note_unused(args: &LabelArgs, unused: &[String]) -> Result<()> {
    let given: Vec<String> = args.label_map.iter().flat_map(LabelNames::labels).collect();
    let unused: Vec<String> = unused.iter().filter(|label| given.contains(label)).cloned().collect();
    Advice::CommandLine.unused_labels(&unused).iter().try_for_each(|note| Console::default().line(note))
}

/// Reads images and their labels, from the file `--labels` or else from the images' own column, for
/// a model trained on `data`.
pub fn read_labeled_images(
    path: &Path,
    args: &LabelArgs,
    rows: &RowArgs,
    data: &DataConfig,
) -> Result<(Images, Vec<u8>)> {
    check_standard_input(&[Some(path), args.labels.as_deref()].into_iter().flatten().collect::<Vec<_>>())?;
    let label_names = &merge_label_maps(&data.labels, &args.label_map, &data.classes)?;
    let column = if args.labels.is_some() { LabelPolicy::Ignored } else { LabelPolicy::Optional };
    let images = read_images_as(path, data, label_names, column, rows)?;
    match (&args.labels, &images.labels) {
        (Some(labels), _) => {
            images.check_ids(input_name(path))?;
            let map = LabelMap::new(&data.classes, label_names);
            let found = labels::read_labels(labels, &images.row_ids(), &map)?;
            note_unused(args, &map.unused())?;
            let kept: Vec<usize> =
                found.iter().enumerate().filter(|(_, label)| label.is_some()).map(|(row, _)| row).collect();
            if kept.is_empty() {
                let labels = input_name(labels).display();
                return Err(input(format!("{labels}: the label map leaves out all labels")));
            }
            if kept.len() < found.len() {
                let (out, all) = (found.len() - kept.len(), found.len());
                Console::default().line(&format!(
                    "{}: the label map leaves out {out} of {all} images",
                    input_name(labels).display()
                ))?;
            }
            Ok((images.select(&kept), found.into_iter().flatten().collect()))
        }
        (None, Some(labels)) => {
            note_unused(args, &images.unused_labels)?;
            if data.label_source == LabelSource::SoftLabels {
                let name = input_name(path).display();
                Console::default().line(&format!(
                    "{name}: scored on the column emotion; the run was trained on the labels of data.soft_labels"
                ))?;
            }
            let labels = labels.clone();
            Ok((images, labels))
        }
        (None, None) => {
            let missing = if path.is_dir() { "class folders" } else { "column emotion" };
            let name = input_name(path).display();
            Err(input(format!("{name}: has no labels: no {missing}; give them with --labels CSV (id,emotion)")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_is_read_once() {
        let check = |paths: &[&str]| check_standard_input(&paths.iter().map(Path::new).collect::<Vec<_>>());
        assert!(check(&[]).is_ok() && check(&["-", "x.csv"]).is_ok() && check(&["x.csv", "x.csv"]).is_ok());
        for paths in [["-", "-"], ["/dev/stdin", "-"]] {
            assert!(check(&paths).unwrap_err().to_string().contains("only once"));
        }
    }
}
