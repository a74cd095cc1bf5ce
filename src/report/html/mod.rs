//! `report.html` of a run and of a sweep, and the page of a comparison: each one self-contained file. The main result comes first,
//! plots and tables follow.

mod audit_page;
mod comparison_page;
mod monitor_page;
mod run_page;
mod study_page;
mod sweep_page;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plot::{GRID, INK, png_data_url};

pub use audit_page::{AuditPage, AuditSheet};
pub use comparison_page::ComparisonReport;
pub use monitor_page::MonitorPage;
pub use run_page::{MAX_MISTAKES, MistakeHeat, RunReport};
pub use study_page::StudyReport;
pub use sweep_page::{SweepReport, SweepRow, SweepRun};

/// Name and value of a fact in a box.
pub type Fact = (String, String);

/// Light and dark theme by the reader's setting; no scripts, no fonts, no external URLs.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --paper: #ffffff; --card: #f6f8fa; --grid: #d0d7de; --mark: #0550ae; --warn: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117; --card: #161b22; --grid: #30363d; --mark: #79c0ff; --warn: #d29922; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.15rem; font-weight: 600; color: var(--soft); margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
.result { font-size: 1.55rem; line-height: 1.3; font-weight: 600; margin: 0 0 1rem; }
p, .note { max-width: 60rem; }
.note p { margin: .3rem 0; }
.note { border-left: .25rem solid var(--warn); background: var(--card); padding: .6rem 1rem; margin: 1rem 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.25rem 0; padding: 0; }
.facts div { background: var(--card); border-radius: .4rem; padding: .6rem .8rem; }
.facts dt { font-size: .8rem; color: var(--soft); }
.facts dd { margin: 0; font-size: 1.1rem; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { padding: .35rem .5rem; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.best td { font-weight: 600; color: var(--mark); }
tr.baseline td { color: var(--soft); font-style: italic; }
a { color: var(--mark); }
figure { margin: 1.25rem 0; }
figure svg, figure img { max-width: 100%; height: auto; display: block; }
figure img { background: #ffffff; }
.legible figure svg { min-width: 40rem; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .4rem; }
pre { background: var(--card); padding: 1rem; border-radius: .4rem; overflow-x: auto; font-size: .85rem; }
.path { overflow-wrap: anywhere; }
";

/// A complete page.
fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Without one a browser asks the server for its favicon.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    page.into_string() + "\n"
}

/// A plot as part of the page, with text and grid in the colors of the page's theme.
fn inline_svg(svg: &str, caption: &str) -> Markup {
    let start = svg.find("<svg").unwrap_or(0);
    let themed = svg.get(start..).unwrap_or_default().replace(INK, "currentColor").replace(GRID, "var(--grid)");
    html! {
        figure role="img" aria-label=(caption) { (PreEscaped(themed)) figcaption { (caption) } }
    }
}

/// A PNG as part of the page.
fn inline_png(png: &[u8], caption: &str) -> Markup {
    html! {
        figure { img src=(png_data_url(png)) alt=(caption); figcaption { (caption) } }
    }
}

/// Facts in boxes.
fn facts(pairs: &[Fact]) -> Markup {
    html! {
        dl.facts { @for (name, value) in pairs { div { dt { (name) } dd { (value) } } } }
    }
}

/// A table; each row may have a CSS class.
fn table(head: &[String], rows: &[(Option<&str>, Vec<Markup>)]) -> Markup {
    html! {
        div.wide { table {
            thead { tr { @for cell in head { th { (cell) } } } }
            tbody { @for (class, cells) in rows {
                tr class=[*class] { @for cell in cells { td { (cell) } } }
            } }
        } }
    }
}

/// A fraction as percent: `62.6%`.
fn percent(fraction: f64) -> String {
    format!("{:.1}%", 100.0 * fraction)
}

/// A fraction and its 95% interval as percent: `62.6% (95% CI 61.0% to 64.2%)`.
fn percent_with_interval(fraction: f64, interval: Option<(f64, f64)>) -> String {
    let interval =
        interval.map_or(String::new(), |(low, high)| format!(" (95% CI {} to {})", percent(low), percent(high)));
    percent(fraction) + &interval
}
