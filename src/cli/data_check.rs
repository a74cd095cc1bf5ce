//! `grimace data check`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::common::{check_standard_input, print, print_json};
use crate::data::advice::Advice;
use crate::data::check::{CheckReport, FileReport, check_files};
use crate::data::config::{OnBadRow, check_classes};
use crate::data::csv;
use crate::data::csv::columns::{LabelColumn, ReadOptions};
use crate::data::label_map::LabelNames;
use crate::report::text_table::{table, thousands};
use crate::util::error::{Outcome, input};

/// `grimace data check`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data check data/my_emotion_train.csv data/my_emotion_test.csv\n\nExit codes: 0, also with findings; 1 for findings with --strict; 2 for rows that cannot be read."
)]
pub struct DataCheckArgs {
    /// CSV files; duplicates are found within and across them; - reads standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Class names in the order of their labels, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub classes: Option<Vec<String>>,
    /// The class of each label: LABEL=CLASS,... or the classes of the numbers 0, 1, ...; skip leaves
    /// rows out
    #[arg(long, value_name = "MAP", value_parser = LabelNames::parse)]
    pub label_map: Option<LabelNames>,
    /// Exit with 1 for blank images, duplicates or conflicting labels
    #[arg(long)]
    pub strict: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Bad rows printed for each file; the others are counted.
const MAX_SHOWN: usize = 10;

pub fn run(args: &DataCheckArgs) -> Result<Outcome> {
    check_standard_input(&args.files.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
    let label_names = args.label_map.clone().unwrap_or_default();
    let classes = args.classes.clone().unwrap_or_else(|| label_names.default_classes());
    check_classes(&classes).map_err(|problem| input(format!("--classes: {problem}")))?;
    label_names.check(&classes).map_err(|problem| input(format!("--label-map: {problem}")))?;
    let options = ReadOptions {
        label_names: &label_names,
        on_bad_row: OnBadRow::Skip,
        advice: Advice::CommandLine,
        ..ReadOptions::new(&classes, LabelColumn::Optional)
    };
    let files = args
        .files
        .iter()
        .map(|path| Ok((path.clone(), csv::read_allow_empty(path, options)?)))
        .collect::<Result<Vec<_>>>()?;
    let report = check_files(&files, &classes);
    if args.json {
        print_json(&report)?;
    } else {
        print(&describe(&report))?;
    }
    if report.has_bad_rows() {
        let bad: usize = report.files.iter().map(|file| file.bad_row_count).sum();
        return Err(input(format!("{} cannot be read", rows(bad))));
    }
    Ok(if args.strict && report.has_findings() { Outcome::Findings } else { Outcome::Done })
}

fn rows(number: usize) -> String {
    if number == 1 { "1 row".into() } else { format!("{} rows", thousands(number)) }
}

fn describe(report: &CheckReport) -> String {
    let mut text: String = report.files.iter().map(describe_file).collect();
    text += &format!("all files\n  images with conflicting labels  {}\n", thousands(report.conflicting_labels));
    if !report.duplicates_across.is_empty() {
        text += "\nexact duplicates across splits: rows of the second whose image is also in the first\n";
        let line = |across: &crate::data::check::SplitOverlap| {
            vec![format!("  {} -> {}", across.from, across.to), thousands(across.rows)]
        };
        text += &table(&report.duplicates_across.iter().map(line).collect::<Vec<_>>());
    }
    text
}

fn describe_file(file: &FileReport) -> String {
    let mut text = format!("{}\n", file.file.display());
    let mut lines = vec![vec!["  rows".to_owned(), thousands(file.rows)]];
    let percent = |count: usize| format!("{:.1}%", 100.0 * count as f64 / file.rows.max(1) as f64);
    for class in file.classes.iter().flatten() {
        lines.push(vec![format!("    {}", class.class), thousands(class.rows), percent(class.rows)]);
    }
    for (usage, count) in &file.usages {
        lines.push(vec![format!("  Usage {usage}"), thousands(*count), percent(*count)]);
    }
    lines.push(vec!["  blank images".into(), thousands(file.blank)]);
    lines.push(vec!["  exact duplicates of an earlier row".into(), thousands(file.duplicates)]);
    lines.push(vec!["  rows that cannot be read".into(), thousands(file.bad_row_count)]);
    text += &table(&lines);
    for note in &file.notes {
        text += &format!("  {note}\n");
    }
    for bad in file.bad_rows.iter().take(MAX_SHOWN) {
        text += &format!("    {bad}\n");
    }
    if file.bad_row_count > MAX_SHOWN {
        text += &format!("    and {} more\n", thousands(file.bad_row_count - MAX_SHOWN));
    }
    text + "\n"
}
