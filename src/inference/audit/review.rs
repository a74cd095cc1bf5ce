//! `review.csv`: the findings, a row for each image, to be edited and used as `data.exclude`.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Finding, Place};
use crate::data::images::Images;

/// The columns.
const HEADER: [&str; 9] = ["file", "row", "id", "label", "suggested", "reason", "score", "group", "exclude"];

/// The CSV: one row for each image with a finding, in the order of `findings`. An image with several
/// has all their reasons, the score of the first, and a 1 in `exclude` if one of them proposes it.
///
/// # Errors
/// None in practice: the CSV is written to memory.
pub fn review_csv(files: &[(PathBuf, Images)], findings: &[Finding], classes: &[String]) -> Result<Vec<u8>> {
    let mut order: Vec<Place> = Vec::new();
    let mut by_place: HashMap<Place, Vec<&Finding>> = HashMap::new();
    for finding in findings {
        let of_place = by_place.entry(finding.place).or_default();
        if of_place.is_empty() {
            order.push(finding.place);
        }
        of_place.push(finding);
    }
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER)?;
    for (file, position) in order {
        let (Some((path, images)), Some(found)) = (files.get(file), by_place.get(&(file, position))) else { continue };
        let name =
            |class: Option<u8>| class.and_then(|class| classes.get(usize::from(class)).cloned()).unwrap_or_default();
        let reasons: Vec<&str> = found.iter().map(|finding| finding.problem.describe()).collect();
        let group = found.iter().find_map(|finding| finding.group);
        let excluded = found.iter().any(|finding| finding.exclude);
        writer.write_record([
            path.display().to_string(),
            images.rows.get(position).map(ToString::to_string).unwrap_or_default(),
            images.ids.as_ref().and_then(|ids| ids.get(position).cloned()).unwrap_or_default(),
            name(images.labels.as_ref().and_then(|labels| labels.get(position).copied())),
            name(found.iter().find_map(|finding| finding.suggested)),
            reasons.join("; "),
            found.first().map(|finding| format!("{:.4}", finding.score)).unwrap_or_default(),
            group.map(|group| group.to_string()).unwrap_or_default(),
            if excluded { "1" } else { "" }.to_owned(),
        ])?;
    }
    writer.into_inner().context("cannot build the CSV in memory")
}
