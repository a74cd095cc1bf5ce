//! `grimace data check`

use anyhow::Result;

use super::{print, print_json};
use crate::cli::Check;
use crate::config::{self, CLASSES, OnBadRow};
use crate::data::check::{FileReport, Report, check};
use crate::data::columns::{Labels, ReadOptions};
use crate::data::csv;
use crate::error::{Outcome, input};
use crate::report::table::{table, thousands};

/// Bad rows shown for each file before they are only counted.
const SHOWN: usize = 10;

pub fn run(args: &Check) -> Result<Outcome> {
    let classes = args.classes.clone().unwrap_or_else(|| CLASSES.map(String::from).to_vec());
    config::check_classes(&classes).map_err(|problem| input(format!("--classes: {problem}")))?;
    let options = ReadOptions { classes: &classes, labels: Labels::IfPresent, on_bad_row: OnBadRow::Skip };
    let files =
        args.files.iter().map(|path| Ok((path.clone(), csv::read_any(path, options)?))).collect::<Result<Vec<_>>>()?;
    let report = check(&files, &classes);
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

fn rows(count: usize) -> String {
    if count == 1 { "1 row".into() } else { format!("{} rows", thousands(count)) }
}

fn describe(report: &Report) -> String {
    let mut text: String = report.files.iter().map(describe_file).collect();
    text += &format!("over all files\n  faces with conflicting labels  {}\n", thousands(report.conflicting_labels));
    if !report.copies_across.is_empty() {
        text += "\nexact copies across splits: rows of the second whose face stands in the first\n";
        let line = |across: &crate::data::check::Across| {
            vec![format!("  {} -> {}", across.from, across.to), thousands(across.rows)]
        };
        text += &table(&report.copies_across.iter().map(line).collect::<Vec<_>>());
    }
    text
}

fn describe_file(file: &FileReport) -> String {
    let mut text = format!("{}\n", file.file.display());
    let mut lines = vec![vec!["  rows".to_owned(), thousands(file.rows)]];
    let share = |count: usize| format!("{:.1}%", 100.0 * count as f64 / file.rows.max(1) as f64);
    for class in file.classes.iter().flatten() {
        lines.push(vec![format!("    {}", class.class), thousands(class.rows), share(class.rows)]);
    }
    for (usage, count) in &file.usages {
        lines.push(vec![format!("  Usage {usage}"), thousands(*count), share(*count)]);
    }
    lines.push(vec!["  blank faces".into(), thousands(file.blank)]);
    lines.push(vec!["  exact copies of an earlier row".into(), thousands(file.copies)]);
    lines.push(vec!["  rows that cannot be read".into(), thousands(file.bad_row_count)]);
    text += &table(&lines);
    for bad in file.bad_rows.iter().take(SHOWN) {
        text += &format!("    {bad}\n");
    }
    if file.bad_row_count > SHOWN {
        text += &format!("    and {} more\n", thousands(file.bad_row_count - SHOWN));
    }
    text + "\n"
}
