//! `report.html` of a study. `tune/page.rs` fills [`StudyReport`].

use std::path::Path;

use anyhow::Result;
use maud::{Markup, html};

use super::{Fact, facts, inline_svg, page, table};
use crate::report::plot::{self, Coordinate, Measured, TrialLine};
use crate::util::files::write_atomically;

/// Content of the report.
pub struct StudyReport<'a> {
    /// Directory of the study.
    pub folder: &'a Path,
    /// The result in a sentence or two.
    pub result: String,
    /// Limitations of the result.
    pub caveats: &'a [String],
    /// Facts in boxes.
    pub facts: Vec<Fact>,
    /// What is maximized.
    pub metric: &'a str,
    /// Fresh seeds of the best and the base config: header and rows.
    pub confirmation: Option<(Vec<String>, Vec<Vec<String>>)>,
    /// Scores in the order in which they were measured.
    pub scores: Vec<Measured>,
    /// Axes and lines of the parallel coordinates.
    pub coordinates: (Vec<Coordinate>, Vec<TrialLine>),
    /// Each key with the share that it explains, the largest first.
    pub importance: Vec<(String, Option<f64>)>,
    /// How the shares are computed.
    pub importance_method: &'a str,
    /// Header of the table of trials.
    pub head: Vec<String>,
    /// Its rows: cells, of which the first names the folder; whether it has a report; whether it is
    /// the best.
    pub rows: Vec<(Vec<String>, bool, bool)>,
    /// Versions, seeds, command.
    pub provenance: Vec<Fact>,
}

impl StudyReport<'_> {
    /// Writes `report.html`, and its plots as SVG and PNG.
    ///
    /// # Errors
    /// An I/O error with the path, or a plot that cannot be rasterized.
    pub fn write(&self) -> Result<()> {
        let progress = plot::search_progress(&self.scores, self.metric)?;
        let coordinates = plot::parallel_coordinates(&self.coordinates.0, &self.coordinates.1)?;
        let importance = plot::importance(&self.importance)?;
        progress.write(self.folder, "progress")?;
        coordinates.write(self.folder, "coordinates")?;
        importance.write(self.folder, "importance")?;
        let plots = [
            inline_svg(&progress.svg, "Every score, and the best so far, by the epochs that all trials have trained."),
            inline_svg(&coordinates.svg, "Values and scores: a line for each trial. Failed trials are left out."),
            inline_svg(&importance.svg, self.importance_method),
        ];
        write_atomically(&self.folder.join("report.html"), page("Grimace: tune", &self.body(&plots)).as_bytes())
    }

    fn body(&self, [progress, coordinates, importance]: &[Markup; 3]) -> Markup {
        let plain = |cells: &Vec<String>| cells.iter().map(|cell| html! { (cell) }).collect::<Vec<_>>();
        let confirmed = |rows: &[Vec<String>]| rows.iter().map(|cells| (None, plain(cells))).collect::<Vec<_>>();
        let trial = |(cells, has_report, is_best): &(Vec<String>, bool, bool)| {
            let mut shown = plain(cells);
            if let Some((first, name)) = shown.first_mut().zip(cells.first()).filter(|_| *has_report) {
                *first = html! { a href=(format!("{name}/report.html")) { (name) } };
            }
            (is_best.then_some("best"), shown)
        };
        let trials: Vec<_> = self.rows.iter().map(trial).collect();
        html! {
            h1 { "Grimace: tune" }
            p.result { (self.result) }
            div.note { @for caveat in self.caveats { p { (caveat) } } }
            (facts(&self.facts))
            @if let Some((head, rows)) = &self.confirmation {
                h2 { "Confirmation with fresh seeds" }
                (table(head, &confirmed(rows)))
            }
            h2 { "Search" }
            (progress)
            div.legible { (coordinates) }
            h2 { "Importance" }
            (importance)
            h2 { "Trials" }
            (table(&self.head, &trials))
            h2 { "Provenance" }
            (facts(&self.provenance))
        }
    }
}
