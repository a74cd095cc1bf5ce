//! The report of a sweep.

use std::path::Path;

use anyhow::Result;
use maud::{Markup, html};

use super::{Figure, facts, inline_svg, page, table};
use crate::report::plot::{self, Bar};
use crate::util::files::{read_small_text, write_atomically};

/// Bytes of the largest picture of a run that is put into the page.
const MAX_PICTURE: u64 = 1 << 24;

/// What a report is made of.
pub struct SweepReport<'a> {
    /// The directory of the sweep.
    pub folder: &'a Path,
    /// The answer in a sentence or two: which model, how good, against what.
    pub answer: String,
    /// What must be said beside it.
    pub caveats: &'a [String],
    /// What the columns of the table are.
    pub legend: &'a str,
    /// Figures in boxes.
    pub facts: Vec<Figure>,
    /// Head of the table.
    pub head: Vec<String>,
    /// The rows of the table, and of the picture.
    pub rows: Vec<SweepRow>,
    /// All runs.
    pub runs: Vec<SweepRun>,
    /// Directory of the best run within the sweep's.
    pub best_run: Option<&'a str>,
    /// Where the figures come from.
    pub provenance: Vec<Figure>,
}

/// A model.
pub struct SweepRow {
    /// Its row of the table.
    pub cells: Vec<String>,
    /// Its bar of the picture, unless it has no value.
    pub bar: Option<Bar>,
    /// Whether it is the forest.
    pub is_baseline: bool,
    /// Whether the best run is one of its.
    pub is_best: bool,
}

/// A run.
pub struct SweepRun {
    /// Its directory within the sweep's.
    pub folder: String,
    /// Seed, best and last accuracy, state.
    pub cells: Vec<String>,
    /// Whether it has a report of its own.
    pub has_report: bool,
}

impl SweepReport<'_> {
    /// Writes `comparison.svg`, `comparison.png` and `report.html`.
    ///
    /// # Errors
    /// An I/O error with the path; a picture that cannot be drawn.
    pub fn write(&self) -> Result<()> {
        let bars: Vec<Bar> = self.rows.iter().filter_map(|row| row.bar.clone()).collect();
        let mut pictures = Vec::new();
        if !bars.is_empty() {
            let comparison = plot::comparison(&bars)?;
            comparison.write(self.folder, "comparison")?;
            let caption =
                "Mean accuracy of each model with its standard deviation; dots are single runs, for the forest folds.";
            pictures.push(inline_svg(&comparison.svg, caption));
        }
        if let Some(best) = self.best_run {
            for (name, caption) in [
                ("curves", "The best run by epoch."),
                ("confusion", "The best run: validation faces by true and predicted class."),
            ] {
                let path = self.folder.join(best).join(format!("{name}.svg"));
                // They are the run's own; a page without them is better than none.
                if let Ok(svg) = read_small_text(&path, MAX_PICTURE, "a picture") {
                    pictures.push(inline_svg(&svg, caption));
                }
            }
        }
        write_atomically(&self.folder.join("report.html"), page("Grimace: a sweep", &self.body(&pictures)).as_bytes())
    }

    fn body(&self, pictures: &[Markup]) -> Markup {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let class = if row.is_baseline { Some("baseline") } else { row.is_best.then_some("best") };
                (class, row.cells.iter().map(|cell| html! { (cell) }).collect())
            })
            .collect();
        let head = ["run", "seed", "best", "last", "state"].map(String::from);
        let runs: Vec<_> = self
            .runs
            .iter()
            .map(|run| {
                let name = if run.has_report {
                    html! { a href=(format!("{}/report.html", run.folder)) { (run.folder) } }
                } else {
                    html! { (run.folder) }
                };
                let class = (Some(run.folder.as_str()) == self.best_run).then_some("best");
                (class, std::iter::once(name).chain(run.cells.iter().map(|cell| html! { (cell) })).collect())
            })
            .collect();
        html! {
            h1 { "Grimace: a sweep" }
            p.answer { (self.answer) }
            div.note { @for caveat in self.caveats { p { (caveat) } } }
            (facts(&self.facts))
            h2 { "Comparison" }
            (table(&self.head, &rows))
            p { (self.legend) }
            @for picture in pictures { (picture) }
            h2 { "Runs" }
            (table(&head, &runs))
            h2 { "Where the figures come from" }
            (facts(&self.provenance))
        }
    }
}
