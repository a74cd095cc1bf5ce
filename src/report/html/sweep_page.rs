//! `report.html` of a sweep. `sweep/html_report.rs` fills [`SweepReport`].

use std::path::Path;

use anyhow::Result;
use maud::{Markup, html};

use super::{Fact, facts, inline_svg, page, table};
use crate::report::plot::{self, Bar};
use crate::util::files::{read_small_text, write_atomically};

/// Max bytes of a run's plot that is put into the page.
const MAX_PLOT_BYTES: u64 = 1 << 24;

/// Content of the report.
pub struct SweepReport<'a> {
    /// Directory of the sweep.
    pub folder: &'a Path,
    /// The main result in a sentence or two: the best model, its accuracy, the baseline.
    pub result: String,
    /// Limitations of the result.
    pub caveats: &'a [String],
    /// Explanation of the table's columns.
    pub legend: &'a [&'a str],
    /// Facts in boxes.
    pub facts: Vec<Fact>,
    /// Header of the table.
    pub head: Vec<String>,
    /// Rows of the table and of the plot.
    pub rows: Vec<SweepRow>,
    /// All runs.
    pub runs: Vec<SweepRun>,
    /// Directory of the best run, relative to the sweep's.
    pub best_run: Option<&'a str>,
    /// Provenance of the results: versions, seed, hashes, command.
    pub provenance: Vec<Fact>,
}

/// A model: its row of the table and of the plot.
pub struct SweepRow {
    /// Cells of the table.
    pub cells: Vec<String>,
    /// Row of the plot; none for a model without a value.
    pub bar: Option<Bar>,
    /// Whether it is the baseline.
    pub is_baseline: bool,
    /// Whether it has the best run.
    pub is_best: bool,
}

/// A run of the sweep.
pub struct SweepRun {
    /// Directory, relative to the sweep's.
    pub folder: String,
    /// Seed, best and last validation accuracy, state.
    pub cells: Vec<String>,
    /// Whether it has a `report.html`.
    pub has_report: bool,
}

impl SweepReport<'_> {
    /// Writes `comparison.svg`, `comparison.png` and `report.html`.
    pub fn write(&self) -> Result<()> {
        let bars: Vec<Bar> = self.rows.iter().filter_map(|row| row.bar.clone()).collect();
        let mut plots = Vec::new();
        if !bars.is_empty() {
            let comparison = plot::comparison(&bars)?;
            comparison.write(self.folder, "comparison")?;
            let caption = "Mean validation accuracy and standard deviation of each model. Dots are single runs; for the forest, folds.";
            plots.push(inline_svg(&comparison.svg, caption));
        }
        if let Some(best) = self.best_run {
            for (name, caption) in [
                ("curves", "Training curves of the best run."),
                ("confusion", "Confusion matrix of the best run on the validation images."),
            ] {
                let path = self.folder.join(best).join(format!("{name}.svg"));
                // The page is useful without them.
                if let Ok(svg) = read_small_text(&path, MAX_PLOT_BYTES, "a plot") {
                    plots.push(inline_svg(&svg, caption));
                }
            }
        }
        write_atomically(&self.folder.join("report.html"), page("Grimace: sweep", &self.body(&plots)).as_bytes())
    }

    fn body(&self, plots: &[Markup]) -> Markup {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let class = if row.is_baseline { Some("baseline") } else { row.is_best.then_some("best") };
                (class, row.cells.iter().map(|cell| html! { (cell) }).collect())
            })
            .collect();
        let head = ["run", "seed", "best val. accuracy", "last val. accuracy", "state"].map(String::from);
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
            h1 { "Grimace: sweep" }
            p.result { (self.result) }
            div.note { @for caveat in self.caveats { p { (caveat) } } }
            (facts(&self.facts))
            h2 { "Comparison" }
            (table(&self.head, &rows))
            ul { @for line in self.legend { li { (line) } } }
            @for plot in plots { (plot) }
            h2 { "Runs" }
            (table(&head, &runs))
            h2 { "Provenance" }
            (facts(&self.provenance))
        }
    }
}
