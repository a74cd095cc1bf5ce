//! Plain-text tables: first column to the left, the others to the right, two spaces between.

/// Lays out `rows`, the first being the header. Rows may have fewer cells than the header.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                // By hand: a format's width ends at 65,535.
                let room = " ".repeat(width.saturating_sub(cell.chars().count()));
                if column == 0 { format!("{cell}{room}") } else { format!("{room}{cell}") }
            })
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A number with thousands set apart: `28,709`.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        assert_eq!(table(&[row(&["class", "rows"]), row(&["fear", "7"])]), "class  rows\nfear      7\n");
        assert_eq!(
            (thousands(7), thousands(28_709), thousands(1_000_000)),
            ("7".into(), "28,709".into(), "1,000,000".into())
        );
    }
}
