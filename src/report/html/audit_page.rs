//! The report of `grimace data audit`.

use maud::{Markup, html};

use super::{Fact, facts, inline_png, page, table};

/// Content of the page.
pub struct AuditPage<'a> {
    /// The result in a sentence.
    pub result: String,
    /// What the result does not say.
    pub caveats: &'a [String],
    /// Facts in boxes: numbers of images and findings.
    pub facts: Vec<Fact>,
    /// Header of the table of duplicates across splits.
    pub head: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
    /// Contact sheets of the findings.
    pub sheets: Vec<AuditSheet>,
    /// Data, versions, command.
    pub provenance: Vec<Fact>,
}

/// Images with the same finding.
pub struct AuditSheet {
    /// Heading of the section.
    pub title: String,
    /// What the images and their lines are.
    pub caption: String,
    /// The images.
    pub png: Vec<u8>,
}

impl AuditPage<'_> {
    /// The page as HTML, in one file without external parts.
    pub fn to_html(&self) -> String {
        page("Grimace: audit of data", &self.body())
    }

    fn body(&self) -> Markup {
        let cells = |row: &Vec<String>| row.iter().map(|cell| html! { (cell) }).collect::<Vec<Markup>>();
        let rows: Vec<_> = self.rows.iter().map(|row| (None, cells(row))).collect();
        html! {
            h1 { "Grimace: audit of data" }
            p.result { (self.result) }
            @if !self.caveats.is_empty() { div.note { @for caveat in self.caveats { p { (caveat) } } } }
            (facts(&self.facts))
            @if !rows.is_empty() {
                h2 { "Duplicates across splits" }
                p { "Rows of the second split whose image is also in the first one, exactly or nearly." }
                (table(&self.head, &rows))
            }
            @for sheet in &self.sheets {
                h2 { (sheet.title) }
                (inline_png(&sheet.png, &sheet.caption))
            }
            h2 { "Provenance" }
            (facts(&self.provenance))
        }
    }
}
