//! Plain-text tables: text aligned left, numbers right, two spaces between columns.

use indicatif::HumanCount;
use unicode_width::UnicodeWidthStr as _;

/// Lays out `rows`, of which the first is the header: the first column is text, the others are
/// numbers. Rows may have fewer cells than the header.
pub fn table(rows: &[Vec<String>]) -> String {
    table_with_text(rows, &[0])
}

/// [`table`] with text in these columns, counted from 0.
pub fn table_with_text(rows: &[Vec<String>], text_columns: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                // Not by a format's width, which counts characters and ends at 65,535.
                let padding = " ".repeat(width.saturating_sub(cell.width()));
                if text_columns.contains(&column) { format!("{cell}{padding}") } else { format!("{padding}{cell}") }
            })
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Formats a count with thousands separators: `12,345`.
pub fn thousands(count: usize) -> String {
    HumanCount(count as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_line_up() {
        assert_eq!(table(&[row(&["class", "rows"]), row(&["fear", "7"])]), "class  rows\nfear      7\n");
    }

    #[test]
    fn text_columns_are_aligned_left() {
        let rows = [row(&["run", "epochs", "state"]), row(&["a", "7", "done"]), row(&["bcde", "12", "interrupted"])];
        assert_eq!(
            table_with_text(&rows, &[0, 2]),
            "run   epochs  state\na          7  done\nbcde      12  interrupted\n"
        );
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let rows = [row(&["class", "rows", "喜び"]), row(&["恐れる", "7", "1"]), row(&["ira\u{301}", "28", "2"])];
        assert_eq!(table(&rows), "class   rows  喜び\n恐れる     7     1\nira\u{301}       28     2\n");
    }
}
