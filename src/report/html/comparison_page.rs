//! The page of `grimace compare`.

use anyhow::Result;
use maud::{Markup, html};

use super::{Fact, facts, inline_svg, page, percent, percent_with_interval, table};
use crate::metrics::{ClassComparison, Evaluation, PairedComparison};
use crate::report::comparison_text::{
    CLASS_HEADER, class_rows, dedup_verdict, describe_mcnemar, method, metric_rows, p_value, verdict,
};
use crate::report::plot::{self, Difference};
use crate::report::text_table::thousands;

/// Content of the page.
pub struct ComparisonReport<'a> {
    /// Path and description of the runs, A and B.
    pub runs: [(String, String); 2],
    /// What images they are compared on.
    pub images: &'a str,
    /// Metrics of each run.
    pub evaluations: &'a [Evaluation; 2],
    /// The second run minus the first.
    pub paired: &'a PairedComparison,
    /// What makes the comparison mean less.
    pub warnings: &'a [String],
}

impl ComparisonReport<'_> {
    /// The page.
    ///
    /// # Errors
    /// When a plot cannot be rasterized.
    pub fn page(&self) -> Result<String> {
        let plot = plot::differences(&self.differences(), "A", "B")?;
        let caption = "B minus A with 95% intervals: accuracy of all images, and recall of each class. An interval \
                       that does not include 0 is a significant difference of its row alone.";
        let figure = inline_svg(&plot.svg, caption);
        let [(first, _), (second, _)] = &self.runs;
        Ok(page(&format!("Grimace: {first} and {second}"), &self.body(&figure)))
    }

    /// The rows of the plot.
    fn differences(&self) -> Vec<Difference> {
        let all = &self.paired.accuracy;
        let total = |name: &str, value, low, high| Difference {
            name: name.to_owned(),
            value,
            interval: (low, high),
            is_total: true,
        };
        let mut rows = vec![total("all images", all.difference, all.low, all.high)];
        if let Some(dedup) = &self.paired.dedup {
            let found = &dedup.accuracy;
            rows.push(total("deduplicated", found.difference, found.low, found.high));
        }
        rows.extend(self.paired.per_class.iter().filter_map(|class| {
            let found = class.difference?;
            let interval = (found.low, found.high);
            Some(Difference { name: class.class.clone(), value: found.difference, interval, is_total: false })
        }));
        rows
    }

    fn facts(&self) -> Vec<Fact> {
        let paired = self.paired;
        let [a, b] = self.evaluations;
        let accuracy = |e: &Evaluation| percent_with_interval(e.accuracy, e.accuracy_interval);
        [
            ("accuracy of A", accuracy(a)),
            ("accuracy of B", accuracy(b)),
            ("McNemar p", p_value(paired.mcnemar.p)),
            ("images", thousands(paired.rows)),
            ("same predicted class", percent(paired.agreement)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    fn body(&self, figure: &Markup) -> Markup {
        let [(first, first_description), (second, second_description)] = &self.runs;
        let metrics = ["", "A", "B", "B - A (95% CI)"].map(String::from);
        let cells = |row: &[String]| row.iter().map(|cell| html! { (cell) }).collect::<Vec<Markup>>();
        let metric_rows: Vec<_> =
            metric_rows(self.evaluations, self.paired).iter().map(|row| (None, cells(row))).collect();
        let class_rows: Vec<_> = class_rows(&self.paired.per_class)
            .iter()
            .zip(&self.paired.per_class)
            .map(|(row, class)| (is_significant(class).then_some("best"), cells(row)))
            .collect();
        html! {
            h1 { "Grimace: comparison of two runs" }
            p.result { (verdict(self.paired)) }
            @if let Some(verdict) = dedup_verdict(self.paired) { p { (verdict) } }
            @if !self.warnings.is_empty() {
                div.note { @for warning in self.warnings { p { "Warning: " (warning) "." } } }
            }
            p.path { b { "A: " (first) } ": " (first_description) }
            p.path { b { "B: " (second) } ": " (second_description) }
            p.path { "On " (thousands(self.paired.rows)) " images: " (self.images) "." }
            (facts(&self.facts()))
            h2 { "Differences" }
            // On a narrow screen it scrolls, as tables do, instead of shrinking.
            div.wide.legible { (figure) }
            h2 { "Metrics" }
            (table(&metrics, &metric_rows))
            h2 { "The same images" }
            p { (describe_mcnemar(&self.paired.mcnemar).join(" ")) }
            div.wide { (self.contingency()) }
            h2 { "Recall by class" }
            (table(&CLASS_HEADER.map(String::from), &class_rows))
            p {
                "p is McNemar's, for each class alone; p (Holm) is adjusted for the number of classes. Highlighted: p "
                "(Holm) below 0.05."
            }
            h2 { "Method" }
            p { (method(self.paired).join(" ")) }
        }
    }

    /// How often each run is correct where the other one is, or is not.
    fn contingency(&self) -> Markup {
        let found = &self.paired.mcnemar;
        html! {
            table {
                thead { tr { th {} th { "B correct" } th { "B wrong" } } }
                tbody {
                    tr { td { "A correct" } td { (thousands(found.both_correct)) } td { (thousands(found.only_first)) } }
                    tr { td { "A wrong" } td { (thousands(found.only_second)) } td { (thousands(found.both_wrong)) } }
                }
            }
        }
    }
}

fn is_significant(class: &ClassComparison) -> bool {
    class.rows > 0 && class.p_adjusted < 0.05
}
