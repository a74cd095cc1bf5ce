//! What `grimace data audit` reports: text and page.

use std::path::PathBuf;

use anyhow::Result;

use super::common::own_command;
use super::data_audit::DataAuditArgs;
use crate::data::images::Images;
use crate::inference::audit::{Audit, MIN_FACE_SCORE, Problem};
use crate::report::html::{AuditPage, AuditSheet, Fact};
use crate::report::plot::{Cell, sheet};
use crate::report::text_table::{table, thousands};
use crate::util::files::input_name;

/// The part of the labels that are probable errors above which a warning says that many may not be.
const MANY_ERRORS: f64 = 0.1;

/// Images of a contact sheet.
const MAX_SHOWN: usize = 100;

/// What makes the result mean less.
pub fn warnings(found: &Audit) -> Vec<String> {
    let Some(labels) = &found.labels else { return Vec::new() };
    let mut warnings = Vec::new();
    if labels.trained_on > 0 {
        warnings.push(format!(
            "the run was trained on {} of the labeled images; their labels are not checked: use --folds",
            thousands(labels.trained_on)
        ));
    }
    if labels.errors as f64 > MANY_ERRORS * labels.checked as f64 {
        warnings.push(format!(
            "the networks disagree with {} of {} labels, and predict {:.0}% of them: either many labels are wrong, or many in \
             the list are mistakes of the networks. Work through it from the top, and stop where it is no longer worth it",
            thousands(labels.errors),
            thousands(labels.checked),
            100.0 * labels.predicted
        ));
    }
    if labels.unknown > 0 {
        warnings.push(format!(
            "{} labeled images have no prediction; their labels are not checked",
            thousands(labels.unknown)
        ));
    }
    warnings
}

/// Names and numbers of findings.
fn facts(found: &Audit) -> Vec<Fact> {
    let mut facts = vec![
        ("images", found.images),
        ("exact duplicates of another row", found.exact_duplicates),
        ("near duplicates of another image", found.near_duplicates),
        ("groups of duplicates", found.groups),
        ("blank images", found.blank),
        ("images of low contrast", found.low_contrast),
    ];
    if let Some(count) = found.without_face {
        facts.push(("images without a face", count));
    }
    if let Some(labels) = &found.labels {
        facts.extend([("labels checked", labels.checked), ("probable label errors", labels.errors)]);
    }
    facts.push(("rows proposed to be left out", found.proposed));
    facts.into_iter().map(|(name, count)| (name.to_owned(), thousands(count))).collect()
}

const ACROSS: [&str; 4] = ["first", "second", "exact", "near"];

fn across_rows(found: &Audit) -> Vec<Vec<String>> {
    let row = |across: &crate::inference::audit::SplitDuplicates| {
        vec![across.from.clone(), across.to.clone(), thousands(across.exact), thousands(across.near)]
    };
    found.across_splits.iter().map(row).collect()
}

/// The result for the terminal.
pub fn describe(found: &Audit, classes: &[String]) -> String {
    let mut text = table(&facts(found).into_iter().map(|(name, count)| vec![name, count]).collect::<Vec<_>>());
    if !found.across_splits.is_empty() {
        text += "\nduplicates across splits: rows of the second whose image is also in the first, exactly or nearly\n";
        let rows: Vec<Vec<String>> =
            std::iter::once(ACROSS.map(String::from).to_vec()).chain(across_rows(found)).collect();
        text += &table(&rows);
    }
    let Some(labels) = &found.labels else { return text };
    let name = |class: u8| classes.get(usize::from(class)).cloned().unwrap_or_default();
    let mut pairs: Vec<_> = labels.by_class.iter().collect();
    pairs.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    text += "\nprobable label errors, the most frequent\n";
    let header = ["label", "suggested", "images"].map(String::from).to_vec();
    let rows =
        pairs.iter().take(10).map(|((label, other), count)| vec![name(*label), name(*other), thousands(**count)]);
    text + &table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

/// The result as a page.
///
/// # Errors
/// An image that cannot be read, a plot that cannot be drawn.
pub fn page(args: &DataAuditArgs, files: &[(PathBuf, Images)], found: &Audit, classes: &[String]) -> Result<String> {
    let mut caveats = warnings(found);
    if found.labels.is_some() {
        caveats.push(
            "A probable label error is one that the networks confidently disagree with: look at it before you trust \
             either. Ambiguous expressions are among them."
                .to_owned(),
        );
    }
    let errors = found
        .labels
        .as_ref()
        .map_or(String::new(), |labels| format!(", {} probable label errors", thousands(labels.errors)));
    let data: Vec<String> = args.data.iter().map(|path| input_name(path).display().to_string()).collect();
    let provenance =
        [("data", data.join(", ")), ("Grimace", env!("CARGO_PKG_VERSION").to_owned()), ("command", own_command()?)];
    let page = AuditPage {
        result: format!(
            "{} images: {} exact and {} near duplicates{errors}",
            thousands(found.images),
            thousands(found.exact_duplicates),
            thousands(found.near_duplicates)
        ),
        caveats: &caveats,
        facts: facts(found),
        head: ACROSS.map(String::from).to_vec(),
        rows: across_rows(found),
        sheets: sheets(files, found, classes)?,
        provenance: provenance.map(|(name, value)| (name.to_owned(), value)).to_vec(),
    };
    Ok(page.to_html())
}

/// The files with their numbers, if there are several.
fn numbered(files: &[(PathBuf, Images)]) -> String {
    if files.len() < 2 {
        return String::new();
    }
    let name = |(number, (path, _)): (i32, &(PathBuf, Images))| format!("{number} is {}", input_name(path).display());
    format!(" File {}.", (1..).zip(files).map(name).collect::<Vec<_>>().join(", "))
}

/// Titles of the contact sheets, and the findings on each.
const SHEETS: [(&str, &[Problem]); 6] = [
    ("Probable label errors", &[Problem::LabelError]),
    ("Images in several splits", &[Problem::ExactAcrossSplits, Problem::NearAcrossSplits]),
    ("Duplicates with conflicting labels", &[Problem::ConflictingLabels]),
    ("Duplicates within a split", &[Problem::NearDuplicate, Problem::ExactDuplicate]),
    ("Images without a face", &[Problem::NoFace]),
    ("Images without contrast", &[Problem::Blank, Problem::LowContrast]),
];

fn sheets(files: &[(PathBuf, Images)], found: &Audit, classes: &[String]) -> Result<Vec<AuditSheet>> {
    let mut sheets = Vec::new();
    for (title, problems) in SHEETS {
        let mut all: Vec<_> = found.findings.iter().filter(|finding| problems.contains(&finding.problem)).collect();
        // The images of a group side by side; the order of others stays.
        all.sort_by_key(|finding| finding.group);
        let mut cells = Vec::new();
        for finding in all.iter().take(MAX_SHOWN) {
            let (file, position) = finding.place;
            let Some((_, images)) = files.get(file) else { continue };
            let class = |class: Option<u8>| class.and_then(|class| classes.get(usize::from(class)).cloned());
            let label = class(images.labels.as_ref().and_then(|labels| labels.get(position).copied()));
            let row = images.rows.get(position).copied().unwrap_or_default();
            let place = if files.len() > 1 { format!("file {}: {row}", file + 1) } else { format!("row {row}") };
            let second = match (class(finding.suggested), finding.group, finding.problem) {
                (Some(suggested), ..) => format!("{suggested} {:+.2}", finding.score),
                (None, Some(group), _) => format!("group {group}"),
                (None, None, Problem::NoFace) => format!("{:.2}", finding.score),
                (None, None, _) => format!("{:.1}", finding.score),
            };
            cells.push(Cell {
                image: images.image(position)?,
                title: label.unwrap_or_else(|| "no label".to_owned()),
                lines: vec![second, place],
            });
        }
        if cells.is_empty() {
            continue;
        }
        let second = match problems {
            [Problem::LabelError] => {
                "the suggested class, and its probability minus that of the label, as in review.csv".to_owned()
            }
            [Problem::NoFace] => format!("the score of the best face, 0 to 1; it counts from {MIN_FACE_SCORE}"),
            [Problem::Blank, _] => "the standard deviation of its pixels".to_owned(),
            _ => "the number of its group of duplicates".to_owned(),
        };
        let place = if files.len() > 1 { "its file and row" } else { "its row" };
        let caption = format!(
            "The first {} of {}. Bold: the label. Below: {second}; {place}.{}",
            thousands(cells.len()),
            thousands(all.len()),
            numbered(files)
        );
        sheets.push(AuditSheet { title: title.to_owned(), caption, png: sheet("", &cells)?.png });
    }
    Ok(sheets)
}
