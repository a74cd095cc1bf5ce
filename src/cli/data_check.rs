//! `grimace data check`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::common::{ClassArgs, check_standard_input, print, print_json};
use crate::data::advice::Advice;
use crate::data::check::{CheckReport, FileReport, check_files};
use crate::data::config::OnBadRow;
use crate::data::read;
use crate::data::read_options::{LabelPolicy, ReadOptions};
use crate::report::Console;
use crate::report::text_table::{table, thousands};
use crate::util::error::{Outcome, input};
use crate::util::files::input_name;

/// `grimace data check`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data check data/my_emotion_train.csv data/my_emotion_test.csv\n\nExit codes: 0, also with findings; 1 for findings with --strict; 2 for rows that cannot be read."
)]
pub struct DataCheckArgs {
    /// CSV files and folders of images; duplicates are found within and across them; - reads standard
    /// input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Classes and labels
    #[command(flatten)]
    pub classes: ClassArgs,
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
    let (classes, label_names) = args.classes.resolve(&args.files.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
    let options = ReadOptions {
        label_names: &label_names,
        on_bad_row: OnBadRow::Skip,
        advice: Advice::CommandLine,
        ..ReadOptions::new(&classes, LabelPolicy::Optional)
    };
    let files = args
        .files
        .iter()
        .map(|path| Ok((path.clone(), read::read_allow_empty(path, options)?)))
        .collect::<Result<Vec<_>>>()?;
    let is_unused = |label: &&String| files.iter().all(|(_, images)| images.unused_labels.contains(label));
    let unused: Vec<String> = label_names.labels().iter().filter(is_unused).cloned().collect();
    Advice::CommandLine.unused_labels(&unused).iter().try_for_each(|note| Console::default().line(note))?;
    let report = check_files(&files, &classes)?;
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
    let mut text = format!("{}\n", input_name(&file.file).display());
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
