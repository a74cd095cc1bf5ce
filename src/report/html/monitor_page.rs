//! The page of `grimace monitor`.

use anyhow::Result;
use maud::{Markup, html};

use super::{Fact, facts, inline_svg, page, table};
use crate::report::plot::{self, Histogram};

/// Content of the page.
pub struct MonitorPage<'a> {
    /// The result in a sentence: whether there is drift, and in what.
    pub result: String,
    /// What the result does not say.
    pub caveats: &'a [String],
    /// Facts in boxes: numbers of images, estimated accuracy.
    pub facts: Vec<Fact>,
    /// Header of the table of signals.
    pub head: Vec<String>,
    /// Its rows: cells, and whether the signal drifts.
    pub rows: Vec<(Vec<String>, bool)>,
    /// The histogram of each signal.
    pub histograms: Vec<Histogram>,
    /// Explanation of the table's columns.
    pub legend: &'a [&'a str],
    /// Run, data, versions, command.
    pub provenance: Vec<Fact>,
}

impl MonitorPage<'_> {
    /// The page as HTML, in one file without external parts.
    ///
    /// # Errors
    /// When a plot cannot be rasterized.
    pub fn to_html(&self) -> Result<String> {
        let plot = plot::drift(&self.histograms)?;
        let caption = "Fraction of the images in each bin, whose ends are the deciles of the reference images, and in each \
                       predicted class.";
        Ok(page("Grimace: monitor", &self.body(&inline_svg(&plot.svg, caption))))
    }

    fn body(&self, plot: &Markup) -> Markup {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|(cells, is_drift)| (is_drift.then_some("best"), cells.iter().map(|cell| html! { (cell) }).collect()))
            .collect();
        html! {
            h1 { "Grimace: monitor" }
            p.result { (self.result) }
            @if !self.caveats.is_empty() { div.note { @for caveat in self.caveats { p { (caveat) } } } }
            (facts(&self.facts))
            h2 { "Signals" }
            (table(&self.head, &rows))
            ul { @for line in self.legend { li { (line) } } }
            (plot)
            h2 { "Provenance" }
            (facts(&self.provenance))
        }
    }
}
